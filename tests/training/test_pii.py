"""Personal data: what is found, what stays because it is the company's, and that stand-ins are consistent."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.training.talks import talk
from training.conversations import Conversation
from training.pii import Company, Finder, Kind, Replacer, learn_company
from training.pii.links import without_user_data
from training.pii.patterns import is_iban, luhn
from training.pii.stand_ins import StandIns

FINDER = Finder()


def found(text: str, asked: str = "", **more: Any) -> list[tuple[str, str]]:
    return [(s.kind, text[s.start : s.end]) for s in FINDER.find(text, asked, **more)]


def replaced(*talks: Conversation, knowledge: tuple[str, ...] = (), names: dict[str, str] | None = None) -> list[str]:
    """Return the first conversation's messages, learned from all of them."""
    replacer = Replacer(learn_company(talks, knowledge), (names or {}).get)
    return [m.content for m in replacer.replace(talks[0])[0].messages]


# What is found


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("email", "Write to maria.lopez+x@acme.co.uk, please.", "maria.lopez+x@acme.co.uk"),
        ("email", "<jos\u00e9@acme.com>", "jos\u00e9@acme.com"),
        ("url", "My site is http://www.lopez-shop.de/.", "http://www.lopez-shop.de/"),
        ("url", "see www.lopez-shop.de", "www.lopez-shop.de"),
        ("card", "My card 4539 1488 0343 6467 is lost.", "4539 1488 0343 6467"),
        ("card", "cc 371449635398431", "371449635398431"),
        ("iban", "IBAN DE89 3704 0044 0532 0130 00 it is", "DE89 3704 0044 0532 0130 00"),
        ("iban", "gb82west12345698765432", "gb82west12345698765432"),
        ("ssn", "My SSN is 455-99-6622.", "455-99-6622"),
        ("ssn", "social security number: 455996622", "455996622"),
        ("ip", "You block 86.231.85.193 again", "86.231.85.193"),
        ("ip", "from 4f8a:c99e:dc86:faf9:5988:5f63:375e:8a2a", "4f8a:c99e:dc86:faf9:5988:5f63:375e:8a2a"),
        ("phone", "Call me at (212) 555-0142.", "(212) 555-0142"),
        ("phone", "My number is +49 30 901820", "+49 30 901820"),
        ("phone", "my mobile: 07700 900123", "07700 900123"),
        ("phone", "They do not answer at 20-32-85-26", "20-32-85-26"),
        ("phone", "phone 6502530000 is mine", "6502530000"),
        ("birth_date", "I was born on 3 March 1985.", "3 March 1985"),
        ("birth_date", "DOB: 03/04/1985", "03/04/1985"),
        ("address", "Ship it to 42 Wallaby Way, Sydney.", "42 Wallaby Way, Sydney"),
        ("address", "I live at 221b Baker Street, London NW1 6XE", "221b Baker Street, London NW1 6XE"),
        ("address", "1600 Park Pkwy, Mountain View, CA 94043", "1600 Park Pkwy, Mountain View, CA 94043"),
        ("address", "We sit at Hauptstra\u00dfe 5, Berlin", "Hauptstra\u00dfe 5, Berlin"),
        ("address", "P.O. Box 101 please", "P.O. Box 101"),
        ("name", "My name is Kenjirou.", "Kenjirou"),
        ("name", "I spoke with Donald van der Voet.", "Donald van der Voet"),
        ("name", "Dear Ms. Querry,\nit works.", "Querry"),
        ("name", "Thanks,\nZelmira Okonkwo-Blix", "Zelmira Okonkwo-Blix"),
        ("name", "please ask maria about it", "maria"),
        ("name", "It was Bill Peterson who paid.", "Bill Peterson"),
        ("name", "Hi Will, it works now.", "Will"),
        ("name", "Maria's seat is gone", "Maria"),
    ],
)  # fmt: skip
def test_it_is_found_whole(kind: Kind, text: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize(
    ("asked", "text", "value"),
    [
        ("What is your name?", "sure, Zelmira", ("name", "Zelmira")),
        ("May I have your phone number?", "6502530000", ("phone", "6502530000")),
        ("And your date of birth?", "It is 5/19/1997", ("birth_date", "5/19/1997")),
    ],
)
def test_what_was_asked_tells_what_the_reply_is(asked: str, text: str, value: tuple[str, str]) -> None:
    assert found(text) == [] and found(text, asked) == [value]


def test_a_customers_date_of_long_ago_is_a_birth() -> None:
    assert found("It's 5/19/1977", year=2026) == [("birth_date", "5/19/1977")]
    assert found("We pay since 5/19/2021", year=2026) == [] and found("It's 5/19/1977") == []


@pytest.mark.parametrize(
    "text",
    [
        "The Pro plan costs $1,200.00 per year for 25 users, as of 2026-11-03.",
        "Order 113542617735902 and invoice number 732201349959 are open.",
        "The code is 4532480804343549.",  # the check digit is wrong
        "Update to version 10.2.3.4, please.",
        "Use 127.0.0.1 or the netmask 255.255.255.0.",
        "Prices change on 1 January 2027; refunds take 5-10 days.",
        "We answer 24/7 via phone at any time.",
        "After 12 failures in a row, a rule is turned off within 24 hours.",
        "Choose Settings > General, then Page, Bill and Mark.",
        "- Automation\n- Segmentation\n- Ticket Support",
        "The menus are in English, German and French; data stays in Germany and Ireland.",
        "I'm Unable to log in. This is Urgent. Hi there, thanks again!",
        "Enter the file name Report and the project name Sprint.",
        "Will you call? May I? Can Page views be exported?",
        "Limits: 100 requests a minute, 10,000 a day; error 429 follows.",
        "2 bedroom apartment on floor 13, 10 minutes by bus, 4 star place to stay",
    ],
)
def test_facts_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_check_digits() -> None:
    assert luhn("4242 4242 4242 4242") and not luhn("4242424242424241")
    assert is_iban("GB82 WEST 1234 5698 7654 32") and not is_iban("GB82 WEST 1234 5698 7654 33") and not is_iban("GB82")


def test_long_lines_take_no_time_that_grows_with_their_square() -> None:
    """A pattern that goes wild would meet the suite's time limit here."""
    for text in ("12 " + "word " * 4000, "1 2 3 " * 3000, "a" * 40_000, "Aaa Bbb " * 3000, "1" * 15_000, "a.b" * 8000):
        FINDER.find(text)


# Stand-ins


def test_the_same_value_gets_the_same_stand_in_and_others_get_others() -> None:
    one, two, three, four = replaced(
        talk(
            "a",
            "I am Maria Lopez, maria@acme.com. My boss is jo@acme.com.",
            "Hi Maria, we wrote to Maria@acme.com.",
            "and jo@acme.com?",
            "Ms. Lopez, jo@acme.com has it too.",
        )  # fmt: skip
    )
    first, second = re.findall(r"\S+@[\w.]+\w", one)
    assert first != second and first.split("@")[1] == second.split("@")[1]
    assert first in two and three == f"and {second}?" and second in four
    name = re.search(r"I am (\S+) (\S+),", one)
    assert name and two.startswith(f"Hi {name[1]}, ") and four.startswith(f"Ms. {name[2]}, ")
    assert not re.search(r"(?i)maria|lopez|acme|\bjo\b", " ".join((one, two, three, four)))


def test_stand_ins_of_one_conversation_are_not_those_of_another() -> None:
    said = ["I am Maria Lopez.", "Hi Maria, hello."]
    assert replaced(talk("a", *said)) == replaced(talk("a", *said)) != replaced(talk("b", *said))


@pytest.mark.parametrize(
    ("kind", "value", "like"),
    [
        ("phone", "+49 30 901820", r"\+1 \d{3} 555 01\d\d"), ("phone", "(212) 736-5000", r"\(\d{3}\) 555-01\d\d"),
        ("card", "4539 1488 0343 6467", r"4000 00\d\d \d{4} \d{4}"), ("ssn", "455-99-6622", r"9\d\d-0\d-\d{4}"),
        ("ip", "86.231.85.193", r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+"), ("ip", "4f8a::1", r"2001:db8::\w+"),
        ("birth_date", "5/19/1977", r"\d\d/\d\d/19\d\d"), ("birth_date", "1977-05-19", r"19\d\d-\d\d-\d\d"),
        ("birth_date", "May 9, 1977", r"[A-Z][a-z]{2} \d+, 19\d\d"), ("birth_date", "19 March 1977", r"\d+ \w+ 19\d\d"),
        ("address", "4 Oak Road, Leeds", r"\d+ \w+ \w+, \w+"), ("name", "maria", r"[a-z]+"), ("name", "MIA", r"[A-Z]+"),
        ("name", "J. Lopez", r"[A-Z]\. [A-Z]\w+"), ("email", "m@acme.com", r"[a-z.]+@example\.(?:com|org|net)"),
        ("url", "https://lopez.de/me?x=1", r"https://[\w-]+\.example"), ("url", "www.lopez.de", r"[\w-]+\.example"),
    ],
)  # fmt: skip
def test_a_stand_in_looks_like_what_it_stands_for(kind: Kind, value: str, like: str) -> None:
    stand_ins = StandIns("c", value)
    made = stand_ins.of(value, kind)
    assert re.fullmatch(like, made) and made != value and stand_ins.of(value, kind) == made


def test_check_digits_of_stand_ins_are_right() -> None:
    stand_ins = StandIns("c", "")
    assert luhn(stand_ins.of("4539148803436467", "card"))
    for value in ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"):
        made = stand_ins.of(value, "iban")
        assert is_iban(made) and made[:2] == value[:2] and (" " in made) == (" " in value)


def test_names_do_not_run_out() -> None:
    stand_ins = StandIns("c", "")
    made = {stand_ins.of(f"Person{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10]}", "name") for n in range(100)}
    assert len(made) == 100


# The company's own


def test_what_several_customers_are_told_is_the_companys() -> None:
    reply = "Write to help@brightfold.com or see https://brightfold.com/help/export?ref=mail, or call +1 800 555 0199."
    talks = [talk(f"c{n}", "How do I reach you?", reply, customer_id=f"cus_{n}") for n in range(3)]
    assert replaced(*talks)[1] == reply


def test_what_one_customer_is_told_again_and_again_is_not() -> None:
    reply = "Thanks! We wrote to m.lopez@acme.com."
    talks = [talk(f"c{n}", "Hello?", reply, customer_id="cus_1") for n in range(5)]
    assert "acme" not in replaced(*talks)[1]
    talks = [talk(f"c{n}", "I am m.lopez@acme.com", reply) for n in range(5)]
    assert "acme" not in " ".join(replaced(*talks))


def test_what_stands_in_the_companys_texts_stays() -> None:
    text = "Brightfold, 12 Market Street, Springfield. Call (415) 555-2671. Our robot is called Maria."
    conversation = talk("c", "Where are you?", "At 12 Market Street, Springfield; (415) 555-2671. Ask Maria.")
    assert replaced(conversation, knowledge=(text,))[1] == conversation.messages[1].content
    changed = replaced(conversation)[1]
    assert "Maria" not in changed and "Market" not in changed


def test_what_a_reply_calls_ours_stays() -> None:
    reply = "You can reach us at +1 415 555 2671 or support@brightfold.com, and see https://brightfold.com/status."
    assert replaced(talk("c", "Hello?", reply))[1] == reply
    assert "2671" not in replaced(talk("c", "Hello?", "We will call you at +1 415 555 2671."))[1]


def test_links_keep_the_company_and_lose_the_customer() -> None:
    link = "https://app.brightfold.com/users/maria?plan=pro&token=s3cr3t&next=%2Fhome"
    made = without_user_data(link)
    assert made.startswith("https://app.brightfold.com/users/x") and "plan=pro" in made and "next=%2Fhome" in made
    assert "maria" not in made and "s3cr3t" not in made and made == without_user_data(link)
    assert without_user_data("https://me:pw@a.com/docs/export") == "https://a.com/docs/export"
    assert without_user_data("https://a.com/docs/export?page=2") == "https://a.com/docs/export?page=2"
    assert replaced(talk("c", "Hello?", f"Open {link} now."))[1] == f"Open {made} now."


def test_terms_and_common_words_of_the_corpus_are_no_names() -> None:
    talks = [talk(f"c{n}", "How?", f"Open the Max Plan page {n} in Jenkins, then choose Victor.") for n in range(3)]
    assert replaced(*talks)[1] == talks[0].messages[1].content


# Whole conversations


def test_the_customers_own_name_is_known_from_the_record() -> None:
    conversation = talk("c", "It is down again, says Wuthering.", "Hi Zsofka, sorry!", customer_id="cus_1")
    user, reply = replaced(conversation, names={"cus_1": "Zsofka Wuthering"})
    assert "Wuthering" not in user and "Zsofka" not in reply and reply.startswith("Hi ")


def test_record_correction_and_prompt_go_along() -> None:
    prompt = [
        {"role": "system", "content": "You are a support agent for Maria Ltd."},
        {"role": "user", "content": "I am Yulan Brook, yulan@acme.com"},
        {
            "role": "user",
            "content": "Documentation:\n[1] Write to help@b.com.\n\n- name: Yulan Brook\n\nQuestion: How?",
        },
    ]
    reply = {
        "content": "Hi Yulan, write to help@b.com.", "correction": "Dear Yulan, write to help@b.com.", "prompt": prompt,
        "passages": [{"document": "a.md", "text": "Write to help@b.com."}],
        "record": {"name": "Yulan Brook", "email": "yulan@acme.com", "plan": "Pro", "seats": 3, "notes": ["ask Yulan"]},
    }  # fmt: skip
    conversation = talk("c", "How do I write to you?", reply)
    after, _ = Replacer(learn_company([conversation])).replace(conversation)
    made = after.messages[1]
    text = json.dumps(made.model_dump(mode="json"))
    assert "Yulan" not in text and "acme" not in text and text.count("help@b.com") == 4
    assert made.record and made.prompt and made.correction
    first, last = made.record["name"].split()
    assert made.content == f"Hi {first}, write to help@b.com." and made.correction.startswith(f"Dear {first},")
    assert f"- name: {first} {last}" in made.prompt[2]["content"] and made.record["email"] in made.prompt[1]["content"]
    assert made.prompt[0] == prompt[0] and (made.record["plan"], made.record["seats"]) == ("Pro", 3)
    assert made.record["notes"] == [f"ask {first}"] and made.passages == conversation.messages[1].passages


def test_a_conversation_without_anything_personal_stays_as_it_is() -> None:
    conversation = talk("c", "How do I export my data?", "Under Settings, choose Export.")
    after, stand_ins = Replacer(Company()).replace(conversation)
    assert after is conversation and len(stand_ins) == 0 and stand_ins.apply({"a": ["x", 1]}) == {"a": ["x", 1]}


def test_stand_ins_reach_a_record_that_is_looked_up_later() -> None:
    conversation = talk("c", "I am Donald van der Voet, call +1 212 736 5000", "Hi Donald, we will.")
    after, stand_ins = Replacer(Company()).replace(conversation)
    name = re.search(r"I am (.+), call (.+)$", after.messages[0].content)
    assert name
    record = {"name": "Donald van der Voet", "phone": "+1 212 736 5000", "tickets": ("Donald asks",), "n": 1}
    assert stand_ins.apply(record) == {
        "name": name[1], "phone": name[2], "tickets": (f"{name[1].split()[0]} asks",), "n": 1,
    }  # fmt: skip


# Real figures

DATA = Path(os.environ.get("TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "pii"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="TEST_DATA holds no pii")
def test_recall_and_precision_on_labelled_sentences() -> None:
    """Floors a little below what benchmarks/pii.py prints for the held-out half."""
    from benchmarks.pii import load, measure

    table = measure(FINDER, load(DATA)[1])
    assert table["email"].recall == table["iban"].recall == table["card"].recall == 1.0
    assert table["name"].recall > 0.75 and table["name"].precision > 0.75
