"""Curation: what each stage drops, changes and leaves, in the order that the funnel prints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.talks import talk
from training.curate import Curated, CurateSettings, curate, stars
from training.duplicates import exact_duplicates, near_duplicates

PLAIN = CurateSettings(replace_pii=False)
LONG = "You export all of your projects under Settings, then Export, and choose the format that you like best. " * 2


def names(curated: Curated) -> list[str]:
    return [c.conversation_id for c in curated.conversations]


def dropped(curated: Curated) -> dict[str, int]:
    return {stage.name: stage.dropped for stage in curated.funnel if stage.dropped}


def test_nothing_goes_in_and_nothing_comes_out() -> None:
    curated = curate([], CurateSettings())
    assert curated.conversations == () and {stage.left for stage in curated.funnel} == {0}


def test_the_funnel_has_its_stages_in_order() -> None:
    curated = curate([talk("a", "How?", "Thus it goes."), talk("b", "", "Thus it goes.")], CurateSettings())
    assert [stage.name for stage in curated.funnel] == [
        "logs", "empty or broken", "other languages", "too short or too long", "exact duplicates", "near duplicates",
        "rated down", "corrections put in", "personal data replaced",
    ]  # fmt: skip
    assert [stage.left for stage in curated.funnel] == [2, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "said",
    [
        ["How?"],
        [{"content": "Hello", "role": "assistant"}, {"content": "Who is there?", "role": "user"}],
        ["How?", ""],
        ["How?", " \n\t"],
        ["\x00\x1b\u200b", "Thus it goes."],
        ["How?", "Thus it goes.", "\x07", "Once more."],
    ],
)
def test_empty_and_broken_conversations_go(said: list[Any]) -> None:
    assert dropped(curate([talk("a", *said)], PLAIN)) == {"empty or broken": 1}


def test_other_languages_go_and_short_texts_stay() -> None:
    german = talk("de", "Wie kann ich alle meine Projekte herunterladen?", "Öffnen Sie die Einstellungen, dann Export.")
    short = talk("short", "Hola", "Buenos dias")
    english = talk("en", "How do I download all of my projects?", "Open the settings, then choose Export.")
    assert names(curate([german, short, english], PLAIN)) == ["short", "en"]
    both = CurateSettings(languages=("en", "de"), replace_pii=False)
    assert names(curate([german, short, english], both)) == ["de", "short", "en"]
    every = CurateSettings(languages=(), replace_pii=False)
    assert len(curate([german, short, english], every).conversations) == 3


def test_replies_that_are_too_short_or_too_long() -> None:
    talks = [talk("short", "How?", "So."), talk("fits", "How?", "Thus.", "And?", "Thus it goes."),
             talk("long", "How?", "Open the settings. " * 120)]  # fmt: skip
    assert names(curate(talks, PLAIN)) == ["fits"]
    assert names(curate(talks, CurateSettings(min_reply_words=1, max_reply_words=400, replace_pii=False))) == [
        "short", "fits", "long",
    ]  # fmt: skip


def test_exact_duplicates_leave_the_best() -> None:
    same = ["How?", "Thus it goes."]
    talks = [
        talk("a", *same), talk("b", "how?", "Thus  it goes."), talk("other", "Why?", "Because it does."),
        talk("liked", *same, rating=5), talk("down", *same, rating="down"),
    ]  # fmt: skip
    curated = curate(talks, PLAIN)
    assert names(curated) == ["other", "liked"] and dropped(curated) == {"exact duplicates": 3}
    corrected = talk("mended", "How?", {"content": "Thus it goes.", "correction": "So it goes now."})
    assert names(curate([*talks, corrected], PLAIN)) == ["other", "mended"]


def test_near_duplicates_go_and_short_questions_that_repeat_stay() -> None:
    talks = [
        talk("a", "How do I export?", LONG + "Good luck."),
        talk("near", "How do I export?", LONG + "Good luck to you."),
        talk("half", "How do I export?", "Please open the page of your profile and look for the button on its left."),
    ]
    curated = curate(talks, PLAIN)
    assert names(curated) == ["a", "half"] and dropped(curated) == {"near duplicates": 1}
    assert len(curate(talks, CurateSettings(near_duplicates=1.1, replace_pii=False)).conversations) == 3


def test_near_duplicates_are_all_found() -> None:
    """Compare with every pair, on texts of all similarities."""
    texts = [" ".join(f"w{n}" for n in range(start, start + 40)) for start in range(0, 60)]
    texts += [text.replace("w20 ", f"x{n} ") for n, text in enumerate(texts)]
    for threshold in (0.5, 0.8, 0.9):
        expected: dict[int, int] = {}
        sets = [{tuple(text.split()[n : n + 3]) for n in range(38)} for text in texts]
        for n, one in enumerate(sets):
            for m in range(n):
                if m not in expected and len(one & sets[m]) / len(one | sets[m]) >= threshold:
                    expected[n] = m
                    break
        assert near_duplicates(texts, threshold) == expected and expected
    assert exact_duplicates(["A  b", "c", "a b"]) == {2: 0}
    assert near_duplicates([], 0.9) == {} and near_duplicates(["a", "a b", "A"], 0.9) == {2: 0}


@pytest.mark.parametrize("rating", ["down", "Bad", 1, 2.0, "2", "1/5", "2 stars"])
def test_down_rated_conversations_go_unless_they_were_corrected(rating: Any) -> None:
    bad = talk("bad", "How?", "Thus it goes.", rating=rating)
    mended = talk("mended", "Why?", {"content": "No idea at all.", "correction": "Because it does."}, rating=rating)
    curated = curate([bad, mended], PLAIN)
    assert names(curated) == ["mended"] and dropped(curated) == {"rated down": 1}
    assert curated.conversations[0].messages[1].content == "Because it does."


@pytest.mark.parametrize("rating", ["up", 3, 5.0, "4/5", "no idea", None])
def test_other_ratings_stay(rating: Any) -> None:
    assert names(curate([talk("a", "How?", "Thus it goes.", rating=rating)], PLAIN)) == ["a"]


def test_stars() -> None:
    assert [stars(r) for r in ("up", "down", "3 of 5", 2, None, "soso")] == [5.0, 1.0, 3.0, 2, None, None]


def test_a_conversation_ends_before_the_reply_that_was_rated_down() -> None:
    bad = {"content": "No idea at all.", "rating": "down"}
    begun = talk("begun", "How?", "Thus it goes.", "And?", bad, "Hm?", "As I said.")
    curated = curate([begun, talk("bad", "How so?", bad)], PLAIN)
    assert names(curated) == ["begun"]
    assert [m.content for m in curated.conversations[0].messages] == ["How?", "Thus it goes."]
    stage = next(stage for stage in curated.funnel if stage.name == "rated down")
    assert (stage.left, stage.dropped, stage.changed) == (1, 1, 1)


def test_corrections_take_the_place_of_replies() -> None:
    mended = {"content": "No idea at all.", "rating": "down", "correction": "Under Settings."}
    blank = {"content": "Thus it goes.", "correction": "  "}
    curated = curate([talk("a", "How?", mended, "And?", blank)], PLAIN)
    first, second = curated.conversations[0].messages[1::2]
    assert (first.content, first.correction, first.rating) == ("Under Settings.", None, "up")
    assert second.content == "Thus it goes."
    stage = next(stage for stage in curated.funnel if stage.name == "corrections put in")
    assert (stage.dropped, stage.changed) == (0, 1)


def test_personal_data_is_replaced_and_what_was_invented_is_handed_over() -> None:
    talks = [talk("a", "I am Maria Lopez, maria@acme.com", "Hi Maria, all is well.", customer_id="cus_1"),
             talk("b", "How do I export my data?", "Hi Noor, under Settings.", customer_id="cus_2")]  # fmt: skip
    curated = curate(talks, CurateSettings(), names_of={"cus_2": "Noor Halim"}.get)
    text = " ".join(m.content for c in curated.conversations for m in c.messages)
    assert not any(word in text for word in ("Maria", "Lopez", "acme", "Noor")) and "under Settings" in text
    name = curated.stand_ins["b"].apply("Noor Halim").split()[0]
    assert curated.conversations[1].messages[1].content == f"Hi {name}, under Settings."
    assert curated.funnel[-1].changed == 2


def test_the_same_comes_out_again() -> None:
    talks = [talk(f"c{n}", f"How do I do {n}? I am Maria.", f"Hi Maria, thus it goes {n}.") for n in range(20)]
    assert curate(talks, CurateSettings()).conversations == curate(talks, CurateSettings()).conversations
    seen: list[tuple[str, int, int]] = []
    curate(talks, CurateSettings(), progress=lambda *step: seen.append(step))
    assert seen[-1][1:] == (seen[-1][2], seen[-1][2])
