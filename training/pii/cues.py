"""Words behind which a name of a person is to be expected."""

from __future__ import annotations

import re
from collections.abc import Iterator

TOKEN = r"(?<!\w)[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_]))*(?!\w)"  # one word of a name
TITLE = r"(?:mr|mrs|ms|miss|mx|dr|prof|herr|frau|señora?|monsieur|madame)\b\.?"
_NAME = rf"(?P<name>{TOKEN}\.?(?: {TOKEN}\.?){{0,3}})"
_INTRODUCED = re.compile(
    r"(?:(?P<sure>\b(?:my|his|her|their|whose|partner['’]s|wife['’]s|husband['’]s|boss['’]s|full|first|last|middle"
    r"|maiden|sur)[ -]?name(?:['’]s| is| was|:)?|\bnamed?(?: him| her| them)|\bcalls? me|\bcalled me|\bname:"
    rf"|\bin the name of|\bunder the name|\b{TITLE})"
    r"|(?P<perhaps>\b(?:i am|i['’]m|this is|it is|it['’]s|here is|speaking (?:to|with)|speak (?:to|with)"
    r"|talk(?:ed)? (?:to|with)|contact|ask for|on behalf of|attn:?|assigned to|regards to"
    r"|my (?:boss|manager|colleague|coworker|co-worker|wife|husband|partner|son|daughter|assistant|friend|accountant"
    r"|mother|father|brother|sister|ceo|cto)),?))\s+(?=\S)",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(  # than a person's
    r"\b(?:file|project|workspace|user|plan|domain|host|company|team|field|column|group|product|device|brand|event"
    r"|folder|board|list|tag|key|business|display|template|task|channel|role|class|table|server)\s*$",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"(?:(?<=\n)|^|(?<=[.!?] ))[ \t]*(?:hi|hello|hey|hiya|dear|good (?:morning|afternoon|evening|day)"
    r"|thanks(?: again)?|thank you(?: so much| very much)?|welcome(?: back)?|cheers|sorry)[ ,]+"
    rf"(?:{TITLE} )?{_NAME}(?=[ \t]*(?:[,!.:;?–-]|\n|$))",
    re.IGNORECASE,
)
_SIGNED = re.compile(
    r"(?:regards|best|wishes|sincerely|cheers|thanks|thank you|yours(?: truly| sincerely| faithfully)?|greetings"
    rf"|respectfully)[,.!]?[ \t]*\n+[ \t]*{_NAME}(?=[ \t]*(?:\n|$|,|\|))",
    re.IGNORECASE,
)
_DASHED = re.compile(rf"\n[ \t]*[-–—~]+[ \t]*(?P<name>{TOKEN}(?: {TOKEN}){{0,2}})\s*\Z")
_ASKED = re.compile(
    r"\b(?:your (?:full |first |last )?name|who am i (?:speaking|talking)|name (?:on|of) the (?:account|card)|what name"
    r"|under what name|whose name)\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"(?:(?:sure|yes|ok(?:ay)?|of course|hi|hello|oh|sorry|i am|i['’]m|it(?:['’]s| is)|name:?)[,.! ]+)*", re.IGNORECASE
)
_REPLY = re.compile(r"[^.?!\n:]{0,30}[?:]\s*(?:\w+:\s*)?")
_SHORT = 8  # words of a message that may be nothing but the name that was asked for


def announced(text: str, asked: str) -> Iterator[tuple[int, bool]]:
    """Yield where a name is to be expected, and whether hardly anything else can stand there."""
    for match in _INTRODUCED.finditer(text):
        if not _OTHER_NAME.search(text[max(0, match.start() - 20) : match.start()]):
            yield match.end(), match["sure"] is not None
    for pattern in (_GREETING, _SIGNED):
        for match in pattern.finditer(text):
            yield match.start("name"), True
    if dashed := _DASHED.search(text):
        yield dashed.start("name"), False
    if _ASKED.search(asked[-160:]) and len(text.split()) <= _SHORT:
        lead = _LEAD.match(text)
        yield lead.end() if lead else 0, True
    for match in _ASKED.finditer(text):  # question and reply in one text
        if reply := _REPLY.match(text, match.end()):
            yield reply.end(), True
