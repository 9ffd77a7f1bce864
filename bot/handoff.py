"""Rules that decide without a model: small talk, and when a person takes over."""

from __future__ import annotations

import re

_PERSON = r"(?:person|human(?: being)?|agent|representative|rep|someone|somebody|operator|employee|staff(?: member)?|real person|live agent|supervisor|manager)"
_ASKS_FOR_PERSON = re.compile(
    rf"\b(?:(?:speak|talk|chat|connect(?: me)?|transfer(?: me)?|put me through|pass me(?: on)?|hand me over|escalate)"
    rf"(?: this| it)? (?:to|with) (?:a |an |the |your )?(?:real |live |actual |human )?{_PERSON}"
    rf"|(?:want|need|get me|give me|prefer) (?:a |an |the )?(?:real |live |actual |human )*(?:person|human|agent|representative)\b"
    rf"|(?:real|live|actual) (?:person|human|agent)|human (?:agent|support|help))\b",
    re.IGNORECASE,
)
_GREETING = r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|greetings)"
_THANKS = r"(?:thanks?(?: you)?(?: so| very)?(?: much)?|thank you|thx|cheers|great|perfect|awesome|bye|goodbye|good bye|ok(?:ay)?)"
_MORE = r"(?:there|all|everyone|team|again|a lot|for (?:the|your|all(?: the)?) (?:help|support|quick (?:help|reply|answer)|answer)|that (?:helps|helped|worked|is all|was all)|that's all|(?:and )?have a (?:nice|good|great) (?:day|one|evening|weekend)|how are you(?: doing)?(?: today)?|i'm good|no(?:,)? that's all|you too)"
_SMALL_TALK = re.compile(
    rf"^(?:{_GREETING}|{_THANKS}|{_MORE})(?:[\s,.!?:)]+(?:{_GREETING}|{_THANKS}|{_MORE}))*[\s,.!?:)\U0001F300-\U0001FAFF]*$",
    re.IGNORECASE,
)
# Cannot be looked up by itself: it names neither a part of the product nor a wish.
_VAGUE = re.compile(
    r"^(?:(?:please |can you |could you |i need |hi,? |hello,? )*"
    r"(?:help(?: me)?(?: please)?|it (?:does ?n[o']?t|is ?n[o']?t|won't|stopped|just) ?(?:work(?:ing|s)?(?: any ?more)?|load(?:ing)?|open(?:ing)?)?"
    r"|it'?s (?:broken|not working|stuck|wrong)|(?:something|everything) (?:is|went|seems) (?:wrong|broken|off)"
    r"|(?:i have|there is|there's|i've got) (?:a |an )?(?:problem|issue|question|error)|not working|it(?: is|'s)? ?fail(?:s|ed|ing)?"
    r"|(?:i )?(?:can't|cannot) (?:do|get) it(?: to work)?|how do i do (?:it|this|that)|why(?: not)?|what now|problem|issue|error))"
    r"[\s.!?]*$",
    re.IGNORECASE,
)


def asks_for_person(question: str) -> bool:
    """Say whether the customer asks for a person."""
    return bool(_ASKS_FOR_PERSON.search(question))


def is_small_talk(question: str) -> bool:
    """Say whether this is a greeting, thanks or goodbye and nothing more."""
    return len(question) <= 120 and bool(_SMALL_TALK.match(question.strip()))


def is_vague(question: str) -> bool:
    """Say whether nothing in the question can be looked up, as in "it doesn't work"."""
    return bool(_VAGUE.match(question.strip()))
