"""LangChain's messages as ours."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from bot.errors import BotError
from prompts.messages import Message, Role
from prompts.neutralise import neutralise


class UnsupportedInput(BotError):
    """Say what LangChain handed over that a model of text cannot take."""


def to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Map LangChain's messages to ours, with control tokens neutralised."""
    if not messages:
        raise UnsupportedInput("There is no message. Give at least the user's.")
    # Blocks are joined first: a control token may be spread over two of them.
    return [Message(_role(message), neutralise(_text(message))) for message in messages]


def _role(message: BaseMessage) -> Role:
    match message:
        case SystemMessage():
            return "system"
        case HumanMessage():
            return "user"
        case AIMessage() if not (message.tool_calls or message.invalid_tool_calls):
            return "assistant"
    kind = "tool call" if isinstance(message, AIMessage) else f"message of type '{message.type}'"
    raise UnsupportedInput(f"The history holds a {kind}; this model takes system, human and AI messages of text.")


def _text(message: BaseMessage) -> str:
    """Join the text of a message as its `.text` does, and refuse what that would leave out."""
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") != "text":
            raise UnsupportedInput(
                f"A message holds a block of type '{block.get('type')}'; this model reads text alone."
            )
    return str(message.text)
