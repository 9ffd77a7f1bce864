"""Grow conversations from the invented companies: values, wordings, customers and distractors drawn anew each time.

Run as: python -m training.grow examples/companies FILE [--conversations 2000] [--seed 0]

A scene is one company with one draw of its facts; several customers ask about it, and each question is shown what a
search of the company's passages finds. They ask what one passage answers, what two answer, what only their own record
tells, and what is not there.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.bootstrap import build_embedder
from bot.grounding import markers_of, plain_sentence, specifics_of
from bot.settings import Settings
from retrieval.documents import Chunk
from retrieval.embedders import Embedder
from retrieval.sentences import sentences_of
from training.companies import Asked, Company, filled, first_values, load_companies, passages_of
from training.conversations import Conversation, Logged, Shown, write_conversations
from training.renamed import Renamer
from training.shelf import Shelf, Wanted, weighty_words

_MARKER = re.compile(r"\[([\w-]+)\]")
_SLOT = re.compile(r"\{([^{}]*)\}")
_WORDS_SHOWN = (100, 150, 150, 150, 180)  # of all passages in a prompt; serving shows 150 unless it is set
_SHUFFLED = 0.1  # share of the prompts whose passages stand in no order: the order is evidence, but not all of it
_MORE_WORDS = 25  # of a sentence that is added to an answer
_RENAMED = 0.4  # share of the scenes that speak of other things than the company's files
_WORDS = 0.25  # share of their words that are other ones
_FOLLOWED = 0.35  # share of the conversations that go on where the company has a follow-up
_KINDS = ("asked",) * 14 + ("absent", "absent", "unanswerable") + ("record", "by", "ambiguous", "ticket")
_BRANCHES = 4  # customers in a scene
_KNOWN = 0.6  # share of customers with a record
_NAMES = """Ada Lind|Adrian Kovacs|Aisha Rahman|Amir Haddad|Ana Ribeiro|Anton Berg|Beatrix Noll|Ben Ashworth|
Bruno Salvi|Carla Mendes|Chidi Okafor|Clara Voss|Daniel Brandt|Dilan Kaya|Elena Petrova|Elif Demir|Emil Sand|
Esther Kamau|Farah Nasser|Felix Wagner|Fiona Doyle|Gabriel Costa|Greta Holm|Hana Sato|Hugo Marchand|Ida Nyberg|
Ines Duarte|Isaac Cohen|Ivy Tran|Jack Mercer|Jana Novak|Jonas Weber|Julia Lorenz|Kai Nakamura|Karim Saleh|
Lara Fontaine|Leon Hart|Lina Eriksen|Liam Byrne|Lucia Romano|Malik Jones|Mara Stoica|Marco Bianchi|Mei Chen|
Mila Horvat|Nadia Karim|Nils Olsen|Noor Aziz|Olga Ivanova|Omar Farouk|Paula Jimenez|Petra Maly|Priya Nair|
Rafael Souza|Rosa Keller|Ruth Adeyemi|Samir Patel|Sofia Greco|Sven Lund|Tara Singh|Theo Martin|Tomas Reyes|Uma Desai|
Vera Krause|Viktor Melnik|Yara Mansour|Yusuf Arslan|Zoe Palmer""".replace("\n", "").split("|")
_TICKET_ASKS = (
    "What is the status of my ticket about {subject}?",
    "any news on my last ticket?",
    "I wrote to you before. What became of it?",
    "Is the thing I reported already solved?",
    "where are you with my ticket",
    "Has somebody looked at my last request yet?",
)
_STATUS = {
    "open": "Your last ticket, “{subject}” of {date}, is open.",
    "pending": "Your last ticket, “{subject}” of {date}, is pending.",
    "resolved": "Your last ticket, “{subject}” of {date}, is resolved.",
}
_ABSENT = (
    "I could not find that in our documentation. Would you like me to pass you on to a colleague?",
    "I could not find an answer to that in our documentation. Shall I pass you on to a colleague?",
    "Our documentation does not say. Would you like a colleague to look into it?",
)
_SMALL_TALK = (
    (
        "hi|Hello!|hey there|Good morning|hello, anyone there?|hey|Good evening|Hi, can somebody help me?|hello there"
        "|hi, quick question|Good afternoon!|helloo|Hey, is this support?|Hi team|hello, I need some help".split("|"),
        "How can I help you today?",
    ),
    (
        "thanks!|Thank you, that helped|great, thx|perfect, thank you so much|ok thanks|cheers, that did it|Thank you!"
        "|super, thanks a lot|that works, thank you|awesome thx|Thanks for the quick answer".split("|"),
        "You are welcome. {closing}",
    ),
    (
        "bye|that's all, have a nice day|ok thanks, bye|No, that was all.|nothing else, goodbye|See you!".split("|"),
        "Thank you for writing to us. Have a good day!",
    ),
)


@dataclass(frozen=True, slots=True)
class _Customer:
    first_name: str | None
    record: dict[str, object] | None


def grow(companies: Sequence[Company], count: int, seed: int, embedder: Embedder) -> list[Conversation]:
    """Draw `count` conversations; the same companies, count, seed and embedder give the same ones."""
    draw = random.Random(seed)  # reproducible on purpose
    renamer = Renamer(passage.text for company in companies for passage in company.passages)
    shelves = {company.company: Shelf(passages_of(company, first_values(company)), embedder) for company in companies}
    used: Counter[str] = Counter()
    grown: list[Conversation] = []
    while len(grown) < count:
        for company in draw.sample(list(companies), len(companies)):
            grown += _Scene(company, shelves[company.company], draw, used, renamer).conversations(len(grown))
    return grown[:count]


class _Scene:
    def __init__(
        self, company: Company, shelf: Shelf, draw: random.Random, used: Counter[str], renamer: Renamer
    ) -> None:
        self._company = company
        self._shelf = shelf
        self._draw = draw
        self._used = used
        self._values = {name: draw.choice(values) for name, values in company.slots.items()}
        self._rename: Callable[[str], str] = lambda text: text
        self._passages = passages_of(company, self._values)
        if draw.random() < _RENAMED:
            self._rename = renamer.draw([chunk.embedded_text for chunk in self._passages], _WORDS, draw)
            self._passages = [
                replace(c, title=self._rename(c.title), heading=self._rename(c.heading), text=self._rename(c.text))
                for c in self._passages
            ]

    def conversations(self, number: int) -> Iterator[Conversation]:
        for _ in range(_BRANCHES):
            messages = self._messages(self._draw.choice(_KINDS))
            if messages:
                yield self._conversation(number, messages)
                number += 1
        if self._draw.random() < 0.35:
            yield self._conversation(number, self._without_knowledge(), knowledge="none")

    def _conversation(self, number: int, messages: list[Logged], knowledge: str | None = None) -> Conversation:
        return Conversation(
            conversation_id=f"grown_{number:05d}",
            messages=tuple(messages),
            company=self._company.company,
            closing=self._company.closing,
            tone=self._company.tone or None,
            knowledge="none" if knowledge else None,
        )

    def _messages(self, kind: str) -> list[Logged]:
        """Return the messages of one conversation; none where the scene offers nothing of this kind."""
        questions = self._company.questions
        match kind:
            case "asked":
                return self._asked([q for q in questions if q.passages and not (q.by or q.record)])
            case "by":
                return self._asked([q for q in questions if q.by], known=True)
            case "record":
                return self._asked([q for q in questions if q.record], known=True)
            case "absent":
                asked = [q for q in questions if q.passages and not (q.by or q.record)]
                return self._declined([Asked(ask=q.ask, passages=q.passages, answer=_ABSENT) for q in asked])
            case "unanswerable":
                return self._declined(self._company.unanswerable)
            case "ambiguous":
                return self._declined(self._company.ambiguous)
            case _:
                return self._ticket()

    def _asked(self, questions: Sequence[Asked], *, known: bool = False) -> list[Logged]:
        if not questions:
            return []
        asked = self._least_used(questions)
        customer = self._customer(known=known)
        messages = self._exchange(asked, customer)
        if asked.then and self._draw.random() < _FOLLOWED:
            before = (asked.ask[0], _MARKER.sub("", asked.texts[0]) if asked.texts else "")
            messages += self._exchange(asked.then, customer, before=before)
        return messages

    def _declined(self, questions: Sequence[Asked]) -> list[Logged]:
        """Ask what nothing answers; the passages that a question names are taken away."""
        return self._exchange(self._least_used(questions), self._customer(), closes=False) if questions else []

    def _ticket(self) -> list[Logged]:
        customer = self._customer(known=True, tickets=True)
        assert customer.record is not None
        tickets = customer.record["tickets"]
        assert isinstance(tickets, list)
        last = tickets[0]
        ask = self._draw.choice(_TICKET_ASKS).format(subject=last["subject"][0].lower() + last["subject"][1:])
        answer = _STATUS[last["status"]].format(subject=last["subject"], date=last["date"])
        return self._exchange(Asked(ask=(ask,), record=True, answer=answer), customer)

    def _without_knowledge(self) -> list[Logged]:
        """Small talk, and a question asked where nothing is shown: the weights hold no facts."""
        customer = self._customer()
        if self._draw.random() < 0.5:
            asks, text = self._draw.choice(_SMALL_TALK)
            question, reply = self._draw.choice(asks), text.format(closing=self._company.closing)
        else:
            question = self._fill(self._draw.choice(self._least_used(self._company.questions).ask), customer)
            reply = "I do not have that information here. Would you like me to pass you on to a colleague?"
        name = {"name": customer.record["name"]} if customer.record else None
        text = f"{_greeting(customer)}\n\n{reply}"
        return [Logged(role="user", content=question), Logged(role="assistant", content=text, record=name)]

    def _exchange(
        self, asked: Asked, customer: _Customer, *, before: tuple[str, str] | None = None, closes: bool = True
    ) -> list[Logged]:
        """Return question and reply, or nothing; `before` is what was asked and answered before, where it goes on."""
        wording = self._least_used_text(asked.ask)
        question = self._rename(self._fill(wording, customer))
        answer = self._answer(asked, customer)
        wanted = self._wanted(wording, before, answer if closes else "", () if closes else asked.passages)
        passages = {chunk.document: chunk for chunk in self._passages}
        shown = self._shelf.show(wanted, passages, question, self._draw.choice(_WORDS_SHOWN), self._draw)
        if self._draw.random() < _SHUFFLED:
            self._draw.shuffle(shown)
        numbers = {chunk.document: n for n, chunk in enumerate(shown, start=1)}
        text = self._rename(_MARKER.sub(lambda m: f"[{numbers[m[1]]}]", self._fill(answer, customer).strip()))
        marked = [shown[n - 1].embedded_text for n in markers_of(text)]
        seen = "\n".join([*marked, str(customer.record), question, *(before or ())])
        if not specifics_of(plain_sentence(text)) <= specifics_of(self._rename(seen)) | specifics_of(seen):
            return []  # a figure that stands nowhere: the passages would have to be longer
        if closes and asked.passages and not (asked.by or asked.record):
            text = self._with_more(text, wanted, shown)
        parts = [text] if before else [_greeting(customer), text]
        reply = Logged(
            role="assistant",
            content="\n\n".join([*parts, self._company.closing] if closes else parts),
            record=self._renamed(customer.record),
            passages=tuple(
                Shown(source=c.source, document=c.document, title=c.title, heading=c.heading, text=c.text)
                for c in shown
            ),
        )
        return [Logged(role="user", content=question), reply]

    def _wanted(self, wording: str, before: tuple[str, str] | None, answer: str, without: Collection[str]) -> Wanted:
        """Return what is searched with, in the words and values of the shelf."""
        first = first_values(self._company)
        queries = [filled(wording, first)]
        if before:
            asked, said = (filled(text, first) for text in before)
            queries += [f"{asked}\n{queries[0]}", f"{said}\n{queries[0]}"]
        return Wanted(tuple(queries), filled(answer, first), frozenset(without))

    def _with_more(self, answer: str, wanted: Wanted, shown: Sequence[Chunk]) -> str:
        """Add the closest sentence of the passage that the answer rests on, if it says more: it often settles it."""
        marker = re.search(r"\[(\d+)\]\s*$", answer)
        if "\n" in answer or not marker:
            return answer
        chunk = shown[int(marker[1]) - 1]
        said = weighty_words(answer)
        close = self._shelf.closeness(wanted)[chunk.document][1:]
        whole = sentences_of(next(c.text for c in self._passages if c.document == chunk.document))
        for place in sorted(range(len(whole)), key=lambda i: -float(close[i]))[:2]:
            text, words = whole[place].text, weighty_words(whole[place].text)
            plain = not whole[place].lead and "\n" not in text and text[-1] == "." and text[0].isupper()
            if plain and text in chunk.text and len(words & said) <= len(words) / 2:
                return f"{answer} {text} {marker[0].strip()}" if len(text.split()) <= _MORE_WORDS else answer
        return answer

    def _answer(self, asked: Asked, customer: _Customer) -> str:
        if asked.by:
            assert customer.record is not None
            return asked.answers[str(customer.record[asked.by])]
        return self._draw.choice(asked.texts)

    def _renamed(self, record: dict[str, object] | None) -> dict[str, object] | None:
        """Rename what a record holds, all but the customer's name."""

        def value(item: object) -> object:
            if isinstance(item, dict):
                return {key: value(inner) for key, inner in item.items()}
            if isinstance(item, list):
                return [value(inner) for inner in item]
            return self._rename(item) if isinstance(item, str) else item

        if record is None:
            return None
        kept = ("name", "tickets")
        return {k if k in kept else self._rename(k): v if k == "name" else value(v) for k, v in record.items()}

    def _customer(self, *, known: bool = False, tickets: bool = False) -> _Customer:
        if not known and self._draw.random() > _KNOWN:
            return _Customer(None, None)
        name = self._draw.choice(_NAMES)
        record: dict[str, object] = {"name": name}
        record |= {field: self._draw.choice(values) for field, values in self._company.record.items()}
        if tickets or self._draw.random() < 0.4:
            record["tickets"] = self._tickets()
        return _Customer(name.split()[0], record)

    def _tickets(self) -> list[dict[str, str]]:
        drawn = self._draw.sample(list(self._company.tickets), self._draw.randint(1, 2))
        dates = sorted((self._date() for _ in drawn), reverse=True)
        return [
            {"subject": t.subject, "status": self._draw.choice(list(_STATUS)), "date": date, "excerpt": t.text}
            for t, date in zip(drawn, dates, strict=True)
        ]

    def _date(self) -> str:
        return f"{self._draw.choice((2025, 2026))}-{self._draw.randint(1, 12):02d}-{self._draw.randint(1, 28):02d}"

    def _fill(self, text: str, customer: _Customer) -> str:
        values: Mapping[str, object] = self._values
        if customer.record:
            values = {**values, **{f"record.{k}": v for k, v in customer.record.items()}}
        return filled(text, values)

    def _least_used(self, questions: Sequence[Asked]) -> Asked:
        """Draw among those that were asked least, so that every question has its turn."""
        counts = [sum(self._used[text] for text in q.ask) / len(q.ask) for q in questions]
        return self._draw.choice([q for q, n in zip(questions, counts, strict=True) if n == min(counts)])

    def _least_used_text(self, texts: Sequence[str]) -> str:
        least = min(self._used[text] for text in texts)
        text = self._draw.choice([t for t in texts if self._used[t] == least])
        self._used[text] += 1
        return text


def _greeting(customer: _Customer) -> str:
    return f"Hi {customer.first_name}," if customer.first_name else "Hi,"


def main() -> int:
    """Write the conversations; returns the exit status."""
    parser = argparse.ArgumentParser(description="Grow conversations from invented companies.")
    parser.add_argument("companies", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    embedder = build_embedder(Settings())
    grown = grow(load_companies(given.companies), given.conversations, given.seed, embedder)
    write_conversations(given.out, grown)
    sys.stderr.write(f"{len(grown)} conversations in {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
