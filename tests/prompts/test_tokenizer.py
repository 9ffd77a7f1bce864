"""Rendering and encoding without transformers, and exactly as transformers does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from prompts.build import build_messages
from prompts.messages import Message
from prompts.render import render
from prompts.tokenizer import ChatTokenizer
from tests.prompts.samples import CHUNKS, CUSTOMER, HISTORY, SLOTS
from tests.stand_ins import ChatMLTemplate

QUESTION = (Message("user", "Hi"),)
TEXTS = [
    "Grüße 漢字 🙂👩\u200d💻 end",
    "1. One\n2. Two\n\n\tdone ",
    "naïve — “quotes” … €5",
    "    four  spaces\n\n\n",
    "",
]
CHATS: dict[str, tuple[Message, ...]] = {
    "user only": QUESTION,
    "system": (Message("system", "Be brief."), *QUESTION),
    "history": (Message("system", " Be brief.\n"), *HISTORY, *QUESTION),
    "ends with the assistant": HISTORY,
    "control tokens": (Message("user", "a<|im_end|>b<|endoftext|>"),),
    "white space": (Message("user", "\n x \n"), Message("assistant", ""), Message("user", " ")),
    "prompt": build_messages("And as CSV?", CHUNKS, CUSTOMER, HISTORY, slots=SLOTS).messages,
    "prompt without knowledge": build_messages("And?", None, None).messages,
    **{f"text {number}": (Message("user", text), Message("assistant", text)) for number, text in enumerate(TEXTS)},
}


# ---------------------------------------------------------------- render


def test_a_reply_begins_where_the_prompt_ends() -> None:
    assert render(QUESTION, ChatMLTemplate()) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(QUESTION, ChatMLTemplate(), reply=False) == "<|im_start|>user\nHi<|im_end|>\n"


def test_a_template_may_refuse_a_chat() -> None:
    template = ChatMLTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="roles must alternate"):
        render(QUESTION, template)


def test_a_template_may_use_loop_controls_and_its_special_tokens() -> None:
    template = ChatMLTemplate("{{ bos_token }}{% for m in messages %}{{ m.content }}{% break %}{% endfor %}")
    assert render((*QUESTION, *QUESTION), template) == "<|im_start|>Hi"


def test_lines_that_hold_only_a_block_leave_no_white_space() -> None:
    template = ChatMLTemplate(
        "{% for m in messages %}\n  {% if true %}\n{{ m.content }}!\n  {% endif %}\n{% endfor %}\n"
    )
    assert render((*QUESTION, *QUESTION), template) == "Hi!\nHi!\n"


def test_a_template_of_strangers_cannot_reach_python() -> None:
    template = ChatMLTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(Exception, match="unsafe"):
        render(QUESTION, template)


# ---------------------------------------------------------------- the folder


def test_the_template_may_stand_in_the_config_and_the_file_wins(tmp_path: Path) -> None:
    config: dict[str, Any] = {"chat_template": "from config", "eos_token": {"content": "</s>"}, "bos_token": None}
    config |= {"add_bos_token": True, "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = ChatTokenizer(tmp_path)
    assert tokenizer.chat_template == "from config"
    assert tokenizer.special_tokens == {"eos_token": "</s>", "pad_token": "<pad>"}
    (tmp_path / "chat_template.jinja").write_text("from file")
    assert ChatTokenizer(tmp_path).chat_template == "from file"


def test_a_tokenizer_that_would_add_its_own_tokens_adds_none(tmp_path: Path) -> None:
    made = Tokenizer(WordLevel({"<s>": 0, "hi": 1}, unk_token="<s>"))
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made.save(str(tmp_path / "tokenizer.json"))
    assert made.encode("hi").ids == [0, 1]
    assert ChatTokenizer(tmp_path).encode("hi") == [1]


def test_nothing_is_added_to_a_rendered_prompt(smollm: ChatTokenizer) -> None:
    ids = smollm.encode_messages(QUESTION)
    assert ids == smollm.encode(render(QUESTION, smollm))
    assert ids.count(smollm.eos_id) == 2  # this model's template brings a system message


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_encoding_and_decoding(smollm: ChatTokenizer, text: str) -> None:
    ids = smollm.encode(text)
    assert smollm.decode([*ids, smollm.eos_id]) == text
    pieces = list(smollm.decode_stream([*ids, smollm.eos_id]))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_lone_surrogate_can_be_encoded(smollm: ChatTokenizer) -> None:
    assert smollm.encode_messages(build_messages("broken \ud83d emoji", (), None).messages)


# ---------------------------------------------------------------- beside transformers


@pytest.fixture(scope="module")
def peer(smollm_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'train'")
    return transformers.AutoTokenizer.from_pretrained(str(smollm_folder))


@pytest.mark.slow
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("reply", [True, False])
def test_rendering_and_encoding_equal_those_of_transformers(
    smollm: ChatTokenizer, peer: Any, chat: str, reply: bool
) -> None:
    messages = CHATS[chat]
    plain = [{"role": message.role, "content": message.content} for message in messages]
    text = peer.apply_chat_template(plain, tokenize=False, add_generation_prompt=reply)
    assert render(messages, smollm, reply=reply) == text
    theirs = peer.apply_chat_template(plain, tokenize=True, add_generation_prompt=reply, return_dict=False)
    assert smollm.encode(render(messages, smollm, reply=reply)) == list(theirs)


@pytest.mark.slow
def test_special_tokens_equal_those_of_transformers(smollm: ChatTokenizer, peer: Any) -> None:
    assert smollm.eos_id == peer.eos_token_id
    assert {key: smollm.special_tokens[key] for key in peer.special_tokens_map} == peer.special_tokens_map
