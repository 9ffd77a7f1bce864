"""Rules that decide without a model: small talk, questions too vague to look up, and when a person takes over."""

from __future__ import annotations

import re

_FLAGS = re.IGNORECASE | re.VERBOSE

# What follows decides: "a human-readable export" and "an agent API key" ask for no person.
_ASKS_FOR_PERSON = re.compile(
    r"""\b(?:
        (?:(?:speak|talk|chat)\ (?:to|with)|escalate(?:\ this|\ it)?\ to
          |(?:connect|transfer|pass|put|hand)\ me(?:\ on|\ over|\ through)?\ (?:to|with))
        \ (?:a\ |an\ |the\ |your\ )?(?:real\ |live\ |actual\ |human\ )*
        (?:person|human(?:\ being)?|agent|representative|rep|someone|somebody|operator|employee|staff(?:\ member)?
          |supervisor|manager)
      | (?:want|need|get\ me|give\ me|prefer)\ (?:a\ |an\ |the\ )?(?:real\ |live\ |actual\ |human\ )*
        (?:person|human(?:\ being)?|agent|representative)
      | (?:real|live|actual|human)\ (?:person|human|agent)
      | human\ (?:support|help)
    )(?=\s*(?:[.,;:!?)]|$|(?:to|please|now|who|instead|for|about|and|on|here|right|not|asap|today|because)\b))""",
    _FLAGS,
)

_SMALL_TALK = re.compile(
    r"""^(?:(?:
        hi|hello|hey|greetings|good\ (?:morning|afternoon|evening|day)|there|all|everyone|team|again
      | thanks?(?:\ you)?(?:\ so|\ very)?(?:\ much)?|thx|cheers|a\ lot|ok(?:ay)?
      | great|perfect|awesome|super|wonderful|brilliant|excellent|lovely|nice(?:\ one)?|cool|got\ it|all\ good
      | for\ (?:the|your|all(?:\ the)?)\ (?:help|support|quick\ (?:help|reply|answer)|answer)
      | bye|good\ ?bye|you\ too|(?:and\ )?have\ a\ (?:nice|good|great)\ (?:day|one|evening|weekend)
      | (?:no,?\ )?that(?:'s|\ is|\ was)\ all|that\ help(?:s|ed)|that\ work(?:s|ed)|that\ did\ (?:it|the\ trick)
      | (?:it|everything)\ works(?:\ now|\ again)?
      | is\ (?:any|some)(?:one|body)\ there|how\ are\ you(?:\ doing)?(?:\ today)?|i'm\ good
    )[\s,.!?:)\U0001F300-\U0001FAFF]*)+$""",
    _FLAGS,
)
_SMALL_TALK_CHARACTERS = 120

# Cannot be looked up by itself: it names neither a part of the product nor a wish.
_VAGUE = re.compile(
    r"""^(?:(?:please|can\ you|could\ you|i\ need|hi,?|hello,?)\ )*(?:
        help(?:\ me)?(?:\ please)?
      | it\ (?:doesn'?t|does\ not|isn'?t|is\ not|won'?t|will\ not|stopped|just)\ ?
        (?:work(?:ing|s)?(?:\ any\ ?more)?|load(?:ing)?|open(?:ing)?)?
      | it'?s\ (?:broken|not\ working|stuck|wrong)|not\ working|it(?:\ is|'s)?\ fail(?:s|ed|ing)?
      | (?:something|everything)\ (?:is|went|seems)\ (?:wrong|broken|off)
      | (?:i\ have|there\ is|there's|i've\ got)\ (?:a\ |an\ )?(?:problem|issue|question|error)
      | (?:i\ )?(?:can't|cannot)\ (?:do|get)\ it(?:\ to\ work)?
      | there(?:'s|\ is)\ (?:a\ |an\ )?(?:problem|issue|error)(?:\ again)?
      | how\ do\ i\ do\ (?:it|this|that)|why(?:\ not)?|what\ now|problem|issue|error
    )[\s.!?]*$""",
    _FLAGS,
)


def asks_for_person(question: str) -> bool:
    """Say whether the customer asks for a person."""
    return bool(_ASKS_FOR_PERSON.search(question))


def is_small_talk(question: str) -> bool:
    """Say whether this is a greeting, thanks or goodbye and nothing more."""
    text = question.strip()
    return len(text) <= _SMALL_TALK_CHARACTERS and bool(_SMALL_TALK.match(text))


def is_vague(question: str) -> bool:
    """Say whether nothing in the question can be looked up, as in "it doesn't work"."""
    return bool(_VAGUE.match(question.strip()))
