"""Encoding and packing: what is supervised is the answer and its end, and a pack holds each example unchanged."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import weights
from bot.models.local import TokenCounter
from prompts.build import build_messages
from prompts.messages import Message
from prompts.render import render
from prompts.tokenizer import ChatTokenizer
from tests.prompts.samples import CHUNKS, CUSTOMER, HISTORY, SLOTS
from training.encode import _WORTH, Encoded, Pack, encode, pack
from training.examples import Example

MESSAGES = build_messages("And as CSV?", CHUNKS, CUSTOMER, HISTORY, slots=SLOTS).messages
ANSWERS = [
    "Hi Ada,\n\nAn export holds 10,000 rows. [2]\n\nAnything else?",
    "1. Open **Menu**.\n2. Press Export. [1]",
    "Grüße — 漢字 🙂👩\u200d💻",
    "x",
    "",
]


def example(answer: str, messages: tuple[Message, ...] = MESSAGES) -> Example:
    return Example("c1#1", "c1", "And as CSV?", messages, answer)


# Encoding


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_supervised_is_the_answer_and_its_end(smollm: ChatTokenizer, answer: str) -> None:
    encoded = encode(example(answer), smollm)
    *said, end = encoded.ids[encoded.start :]
    assert smollm.decode(said) == answer and end == smollm.eos_id
    assert encoded.supervised == len(said) + 1


@pytest.mark.parametrize("messages", [MESSAGES, build_messages("Why?", None, None).messages, (Message("user", "Hi"),)])
def test_the_prompt_is_the_one_that_the_model_is_given(smollm: ChatTokenizer, messages: tuple[Message, ...]) -> None:
    encoded = encode(example("Yes.", messages), smollm)
    assert list(encoded.ids[: encoded.start]) == smollm.encode_messages(messages)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_whole_is_what_the_template_makes_of_a_finished_chat(smollm: ChatTokenizer, answer: str) -> None:
    whole = smollm.encode(render((*MESSAGES, Message("assistant", answer)), smollm, reply=False))
    ids = list(encode(example(answer), smollm).ids)
    assert whole[: len(ids)] == ids
    assert smollm.decode(whole[len(ids) :]).strip() == ""


# The model's vocabulary lacks some bytes: control signs and the rarest planes are lost to it.
@given(answer=st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=("Cc", "Cn", "Co", "Cs")), max_size=60))
def test_any_text_can_be_an_answer(smollm: ChatTokenizer, answer: str) -> None:
    encoded = encode(example(answer, (Message("user", "Hi"),)), smollm)
    assert smollm.decode(encoded.ids[encoded.start : -1]) == answer


def test_prompts_are_counted_as_they_are_encoded(smollm: ChatTokenizer) -> None:
    counted = TokenCounter(weights.chat_model_folder())
    assert counted.count_tokens(MESSAGES) == len(smollm.encode_messages(MESSAGES))
    assert counted.name and counted.context_tokens >= 2048


# Packing


def unpacked(packs: Sequence[Pack]) -> Counter[tuple[tuple[int, ...], int]]:
    """Put each branch behind its prefix again."""
    return Counter(
        (one.prefix + branch, len(one.prefix) + start)
        for one in packs
        for branch, start in zip(one.branches, one.starts, strict=True)
    )


def packed_right(examples: Sequence[Encoded], limit: int) -> list[Pack]:
    packs = pack(examples, limit)
    assert unpacked(packs) == Counter((e.ids, e.start) for e in examples), "each example once, with its prefix"
    for one in packs:
        assert one.tokens <= limit or (len(one.branches) == 1 and not one.prefix), (
            "only a long example is over the limit"
        )
        assert len(one.branches) == len(one.starts) > 0
        for branch, start in zip(one.branches, one.starts, strict=True):
            assert 1 <= start < len(branch), "the token before the answer predicts it, and stands in the branch"
        assert one.useful == sum(len(one.prefix) + len(branch) for branch in one.branches)
    assert sum(one.tokens for one in packs) <= sum(one.useful for one in packs) == sum(len(e.ids) for e in examples)
    return packs


def encoded(prompt: Sequence[int], answer: Sequence[int]) -> Encoded:
    return Encoded((*prompt, *answer), len(prompt))


TRUNKS = [tuple(random.Random(n).choices(range(50), k=200)) for n in range(2)]
ENCODED = st.builds(
    lambda trunk, shared, rest, answer: encoded((*TRUNKS[trunk][:shared], *rest), answer),
    trunk=st.integers(0, 1),
    shared=st.integers(0, 200),
    rest=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    answer=st.lists(st.integers(0, 3), min_size=1, max_size=30),
)


@given(st.lists(ENCODED, max_size=20), st.integers(20, 900))
def test_a_pack_holds_each_example_unchanged(examples: list[Encoded], limit: int) -> None:
    packed_right(examples, limit)


@given(st.lists(ENCODED, max_size=12), st.randoms(use_true_random=False))
def test_packs_do_not_depend_on_the_order_of_examples(examples: list[Encoded], chance: random.Random) -> None:
    mixed = chance.sample(examples, len(examples))
    assert Counter(pack(mixed, 500)) == Counter(pack(examples, 500))


def test_a_shared_prompt_is_computed_once() -> None:
    examples = [encoded((*TRUNKS[0], n, n), (n, 1, 2)) for n in range(10)]
    (one,) = packed_right(examples, 1000)
    assert one.prefix == TRUNKS[0] and one.tokens == 200 + 10 * 5 and one.useful == 10 * 205


def test_a_prefix_ends_before_the_prompt_does() -> None:
    """Examples may be equal, or one prompt the beginning of another with its answer."""
    same = encoded(TRUNKS[0], (1, 2))
    (one,) = packed_right([same, same, same], 1000)
    assert one.prefix == TRUNKS[0][:-1]
    longer = encoded((*TRUNKS[0], 1, 2, 3), (4,))
    (one,) = packed_right([same, longer], 1000)
    assert one.prefix == TRUNKS[0][:-1]


def test_what_is_hardly_alike_shares_nothing() -> None:
    near, far = _WORTH, _WORTH - 1
    for shared, packs in ((near, 1), (far, 0)):
        examples = [encoded((*TRUNKS[0][:shared], 60 + n, 61), (1,)) for n in range(2)]
        assert sum(bool(one.prefix) for one in packed_right(examples, 1000)) == packs


def test_a_newcomer_never_shortens_a_prefix_at_a_loss() -> None:
    """Ten examples share 200 tokens; one that shares 60 of them would make the ten longer by 140 each."""
    examples = [encoded((*TRUNKS[0], n, n), (n, 1)) for n in range(10)]
    lone = encoded((*TRUNKS[0][:60], 99, 99), (1,))
    for order in ([*examples, lone], [lone, *examples]):
        packs = packed_right(order, 5000)
        assert TRUNKS[0] in {one.prefix for one in packs}


def test_what_shares_nothing_fills_packs() -> None:
    examples = [encoded(random.Random(n).choices(range(1000, 9000), k=99), (1,)) for n in range(20)]
    packs = packed_right(examples, 500)
    assert len(packs) == 4 and all(one.tokens == 500 and not one.prefix for one in packs)


def test_a_long_example_has_a_pack_of_its_own() -> None:
    long = encoded(TRUNKS[0] * 5, (1,))
    packs = packed_right([long, long, encoded(TRUNKS[1], (1,))], 500)
    assert sorted(one.tokens for one in packs) == [201, 1001, 1001]


def test_nothing_makes_no_packs() -> None:
    assert pack([], 500) == []
