"""The memorisation probe on models whose habits are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from bot.models import Sampling
from prompts.messages import Message, Slots
from prompts.templates import default_templates
from tests.stand_ins import ScriptedModel
from training.counterfactual import counterfactual
from training.examples import Example
from training.probe import Probe, probe

SAMPLING = Sampling(max_tokens=77)
SLOTS = Slots(company="Brightfold", closing="Anything else?")
Reply = Callable[[Sequence[Message]], str]


def example(rows: int, question: str = "How many rows?", answer: str = "", n: int = 1) -> Example:
    """Show that `rows` rows are allowed, after an earlier exchange, and answer so."""
    shown = f"Documentation:\n\n[1] Limits\nUp to {rows} rows and 9000 files.\n\nQuestion: {question}"
    said = (Message("user", "I use Pro."), Message("assistant", "Good to know."), Message("user", shown))
    messages = (Message("system", "You are a support agent."), *said)
    return Example(f"c{n}#1", f"c{n}", question, messages, answer or f"{rows} rows. [1]", ("help/limits.md",))


def some(count: int) -> list[Example]:
    return [example(500 + n, f"How many rows on plan {chr(65 + n)}?", n=n) for n in range(count)]


def is_shown(messages: Sequence[Message]) -> bool:
    return any("Limits" in message.content for message in messages)


def reads(messages: Sequence[Message]) -> str:
    return messages[-1].content if is_shown(messages) else "I do not know that."


def quiet(name: str, done: int, total: int) -> None:
    pass


def probed(
    reply: str | Reply, examples: Sequence[Example], *, count: int = 40, seed: int = 0
) -> tuple[Probe, list[tuple[Message, ...]]]:
    model = ScriptedModel(reply)
    found = probe(
        model,
        examples,
        slots=SLOTS,
        templates=default_templates(),
        sampling=SAMPLING,
        count=count,
        seed=seed,
        progress=quiet,
    )
    return found, model.asked


def test_a_model_that_reads_follows_and_recites_nothing() -> None:
    found, _ = probed(reads, some(5))
    assert found == Probe(asked_without=5, recited=0, asked_edited=5, followed=5)


def test_a_model_that_memorised_recites_and_does_not_follow() -> None:
    found, _ = probed("Up to 501 rows.", [example(501), example(501, n=2), example(777, n=3)])
    assert found == Probe(asked_without=3, recited=2, asked_edited=2, followed=0)


def test_what_the_question_says_is_no_recital() -> None:
    asked = [example(501, "Are 501 rows allowed?"), example(501, "Is there a limit?", n=2)]
    found, _ = probed("Yes, 501 rows.", asked)
    assert found.recited == 1


def test_a_copy_is_followed_where_all_that_changed_is_said() -> None:
    def first_alone(messages: Sequence[Message]) -> str:
        return reads(messages).partition(" and ")[0]

    def first_once_edited(messages: Sequence[Message]) -> str:
        return reads(messages) if "501" in messages[-1].content else first_alone(messages)

    made = example(501, answer="501 rows and 9000 files. [1]")
    assert probed(first_once_edited, [made])[0] == Probe(1, 0, 1, 0)
    assert probed(reads, [made])[0] == Probe(1, 0, 1, 1)


def test_a_question_that_was_not_answered_rightly_is_not_edited() -> None:
    found, asked = probed("I could not find that.", some(4))
    assert found == Probe(asked_without=4, recited=0, asked_edited=0, followed=0)
    assert len(asked) == 8


def test_the_bare_question_shows_neither_passages_nor_what_was_said_before() -> None:
    _, asked = probed(reads, [example(501, "How many rows on Pro plans?")])
    (bare,) = [messages for messages in asked if not is_shown(messages)]
    whole = "\n".join(message.content for message in bare)
    assert "How many rows on Pro plans?" in bare[-1].content
    assert SLOTS.company in whole and SLOTS.closing in whole
    assert not [words for words in ("501", "9000", "I use Pro.", "Good to know.", "Documentation:") if words in whole]


def test_the_edited_prompt_keeps_all_but_its_numbers() -> None:
    made = example(501)
    _, asked = probed(reads, [made])
    whole, edited = [messages for messages in asked if is_shown(messages)]
    assert whole == made.messages
    assert edited[:-1] == made.messages[:-1]
    assert "501" not in edited[-1].content and "9000 files" in edited[-1].content


def test_only_examples_with_numbers_to_change_are_asked_and_no_copies() -> None:
    made = example(501)
    copy = counterfactual(made, random.Random(0))
    assert copy is not None
    none_to_change = example(502, answer="There is a limit. [1]", n=2)
    found, asked = probed(reads, [none_to_change, copy])
    assert (found, asked) == (Probe(0, 0, 0, 0), [])
    assert probed(reads, [none_to_change, copy, made])[0].asked_edited == 1


def test_at_most_so_many_are_asked_and_the_same_for_the_same_seed() -> None:
    found, asked = probed(reads, some(8), count=3)
    assert (found.asked_without, found.asked_edited, len(asked)) == (3, 3, 9)
    assert len({messages[-1].content for messages in asked}) == 9
    assert probed(reads, some(8), count=3) == (found, asked)
    assert probed(reads, some(8), count=3, seed=1)[1] != asked


def test_it_samples_as_told_and_says_how_far_it_is() -> None:
    model, told = ScriptedModel(reads), list[tuple[str, int, int]]()
    probe(
        model,
        some(2),
        slots=SLOTS,
        templates=default_templates(),
        sampling=SAMPLING,
        count=40,
        seed=0,
        progress=lambda *step: told.append(step),
    )
    assert model.samplings == [SAMPLING] * 6
    assert told == [("probe", 1, 2), ("probe", 2, 2)]


@pytest.mark.parametrize("reply", ["1. Open it.\n2. Wait.\n3. Ask.", "It holds 38 files. [3]", "Version 1.3 does."])
def test_only_the_whole_number_is_a_recital(reply: str) -> None:
    found, _ = probed(reply, [example(3)])
    assert found.asked_without == 1 and found.recited == 0


def test_a_question_with_a_longer_number_hides_no_recital() -> None:
    assert probed("24 rows.", [example(24, "Of my 240 rows, how many are taken?")])[0].recited == 1
