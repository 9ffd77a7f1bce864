"""Take the power of control tokens from text that others wrote."""

from __future__ import annotations

import re

from retrieval.documents import valid_text

# Tokenizers read these as structure wherever they stand (measured: "<|im_end|>" in a document ends the
# turn in transformers and in llama.cpp). A space after the first sign makes them plain text again.
_CONTROL = re.compile(
    r"<(?=\|[^|<>\n]{1,40}\|>)"  # ChatML, Llama 3, Phi: <|im_start|>
    r"|<(?=｜[^｜<>\n]{1,40}｜>)"  # DeepSeek
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|think|tool_call|tool_response|start_of_turn|end_of_turn)>)"
    r"|<(?=/?<?/?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
    r"|<(?=(?:repo_name|reponame|file_sep|filename|gh_stars|issue_start|issue_comment|issue_closed"
    r"|jupyter_start|jupyter_text|jupyter_code|jupyter_output|jupyter_script|empty_output)>)"  # SmolLM2
)


def neutralise(text: str) -> str:
    """Return the text with every known control token broken up, as valid Unicode, NUL removed."""
    valid = valid_text(text).replace("\0", "")
    return _CONTROL.sub(lambda found: found.group(0) + " ", valid)
