"""Phrases that decide without a model, and look-alikes that must not."""

from __future__ import annotations

import pytest

from bot.handoff import asks_for_person, is_small_talk, is_vague


@pytest.mark.parametrize(
    "question",
    [
        "Can I talk to a human?",
        "I want to speak with an agent, please.",
        "Please connect me to a real person",
        "transfer me to your manager",
        "Put me through to someone",
        "I need a human",
        "LIVE AGENT",
        "get me a representative now",
        "The export fails again and I'd like to speak to somebody about it.",
    ],
)
def test_asks_for_a_person(question: str) -> None:
    assert asks_for_person(question)


@pytest.mark.parametrize(
    "question",
    [
        "Where is my agent key?",
        "How many people can edit a board?",
        "Can a manager see private projects?",
        "Does the app talk to Salesforce?",
        "How do I chat with my team?",
        "How do I transfer ownership to another member?",
        "Who is the person assigned to a task?",
        "I need a human-readable export.",
        "I need an agent API key.",
        "I own the project. Can I transfer it to someone else in my workspace?",
    ],
)
def test_does_not_ask_for_a_person(question: str) -> None:
    assert not asks_for_person(question)


@pytest.mark.parametrize(
    "question",
    ["Hi", "hello!", "Good morning", "Thanks a lot :)", "thank you so much for your help!", "ok great, thanks",
     "Bye 👋",
     "That's all, have a nice day.", "How are you today?", "Super, that did it. Cheers!", "perfect, it works now"],
)  # fmt: skip
def test_small_talk(question: str) -> None:
    assert is_small_talk(question)


@pytest.mark.parametrize(
    "question",
    ["thanks, but how do I export?", "Hello, how much is Pro?", "hi export", "Great, but it still fails",
     "Good morning, I cannot sign in", "history", "", "it works on my phone only",
     "that works, but how?", "Nice charts, where are they?", "Thanksgiving hours?", "hi " * 60],
)  # fmt: skip
def test_more_than_small_talk(question: str) -> None:
    assert not is_small_talk(question)


@pytest.mark.parametrize(
    "question",
    ["It doesn't work", "help me please", "It's broken!", "I have a problem.", "why?", "Something went wrong"],
)
def test_vague(question: str) -> None:
    assert is_vague(question)


@pytest.mark.parametrize(
    "question",
    ["The export doesn't work", "It doesn't work on Android", "help me export", "I have a problem with my invoice",
     "Why is the app slow?", "problem with sync"],
)  # fmt: skip
def test_not_vague(question: str) -> None:
    assert not is_vague(question)
