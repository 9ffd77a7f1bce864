"""Drive the chat page in a real Chromium against the running demo server (fixture `live_server`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser

DESKTOP = (1280, 800)
PHONE = (390, 844)
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
# Keeps every distinct length of the newest answer while it streams; polling from Python could miss some.
WATCH_LENGTHS = """() => {
    window.lengths = [];
    const note = () => {
        const answer = [...document.querySelectorAll('.answer-text[aria-busy]')].at(-1);
        const length = answer ? answer.textContent.length : 0;
        if (length && length !== window.lengths.at(-1)) window.lengths.push(length);
    };
    new MutationObserver(note).observe(
        document.getElementById('turns'), { childList: true, subtree: true, characterData: true });
}"""


def missing(what: str) -> None:
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is missing: pip install playwright")
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        missing("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def clean_page(browser: Any, address: str, size: tuple[int, int]) -> Iterator[Any]:
    """Open the page; afterwards check that it logged no error and asked no other origin for anything."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    try:
        page.goto(address)
        page.locator("#suggestions button").first.wait_for()
        yield page
        assert errors == []
        elsewhere = [url for url in requested if urlsplit(url).scheme != "data" and not url.startswith(f"{address}/")]
        assert elsewhere == []
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, live_server: str) -> Iterator[Any]:
    with clean_page(browser, live_server.rstrip("/"), DESKTOP) as opened:
        yield opened


@pytest.fixture
def phone(browser: Any, live_server: str) -> Iterator[Any]:
    with clean_page(browser, live_server.rstrip("/"), PHONE) as opened:
        yield opened


def ask(page: Any, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


def wait_for_answer(page: Any) -> None:
    page.get_by_role("button", name="Good answer").last.wait_for()


def ask_as_maria(page: Any) -> None:
    page.get_by_label("Chat as").select_option("cus_42")
    ask(page, "How do I export my data?")


def passage_text(page: Any) -> str:
    # Not wait_for_function: the page's CSP forbids the eval behind it.
    body = page.locator("#passage-body")
    body.get_by_text("Loading…").wait_for(state="detached")
    return str(body.inner_text()).strip()


def overflow(page: Any) -> int:
    """How many pixels the page, or the conversation in it, is wider than its window."""
    return int(
        page.evaluate(
            """() => Math.max(...['html', '#conversation', '#passage .passage-scroll'].map((name) => {
                const node = document.querySelector(name);
                return node.scrollWidth - node.clientWidth;
            }))"""
        )
    )


def test_answer_streams_and_its_citation_opens_the_passage(page: Any) -> None:
    page.evaluate(WATCH_LENGTHS)
    ask_as_maria(page)
    wait_for_answer(page)
    lengths = page.evaluate("window.lengths")
    assert len(lengths) >= 2
    assert lengths[-1] > lengths[0]

    marker = page.locator("button.cite").first
    marker.click()
    panel = page.get_by_role("dialog")
    panel.wait_for()
    assert len(passage_text(page)) > 20
    assert panel.get_by_role("heading").first.inner_text().strip()
    assert panel.get_by_role("alert").count() == 0

    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    assert marker.evaluate("node => node === document.activeElement")


def test_thumbs_up_is_posted_and_shows_as_pressed(page: Any) -> None:
    ask_as_maria(page)
    wait_for_answer(page)
    thumb = page.get_by_role("button", name="Good answer")
    assert thumb.get_attribute("aria-pressed") == "false"
    with page.expect_response("**/v1/feedback") as posted:
        thumb.click()
    sent = posted.value.request.post_data_json
    assert posted.value.ok
    assert sent["rating"] == "up"
    assert sent["turn_id"]
    assert thumb.get_attribute("aria-pressed") == "true"


def test_thumbs_down_sends_what_the_answer_should_have_been(page: Any) -> None:
    ask_as_maria(page)
    wait_for_answer(page)
    with page.expect_response("**/v1/feedback"):
        page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("What should the answer have been?").fill("Use the export button.")
    with page.expect_response("**/v1/feedback") as posted:
        page.locator(".correction").get_by_role("button", name="Send").click()
    assert posted.value.request.post_data_json["correction"] == "Use the export button."
    page.locator(".correction").wait_for(state="detached")


def test_stop_ends_the_stream_and_the_next_question_is_answered(page: Any) -> None:
    ask(page, "How do I export my data?")
    page.locator(".answer-text p").first.wait_for()
    page.get_by_role("button", name="Stop the answer").click()
    page.get_by_text("Stopped", exact=True).wait_for()
    ask(page, "How do I export my data?")
    wait_for_answer(page)
    assert page.locator(".turn").count() == 2


def test_another_person_starts_a_new_conversation(page: Any) -> None:
    ask_as_maria(page)
    wait_for_answer(page)
    with page.expect_response("**/demo/sign-in"):
        page.get_by_label("Chat as").select_option("agent")
    assert page.locator(".turn").count() == 0
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "How do I export my data?")
    assert "conversation_id" not in asked.value.post_data_json.get("metadata", {})
    assert asked.value.headers["authorization"].startswith("Bearer ")
    wait_for_answer(page)


def test_too_long_a_question_is_stopped_before_sending(page: Any) -> None:
    ask(page, "x" * 4001)
    page.get_by_text("Too long by 1 character", exact=True).wait_for()
    assert page.get_by_role("button", name="Send").is_disabled()
    assert page.locator(".turn").count() == 0


def test_token_leaves_the_address(page: Any, live_server: str) -> None:
    token = page.evaluate(
        """async () => (await (await fetch('demo/sign-in', {
            method: 'POST', headers: { 'Content-Type': 'application/json' },
            body: JSON.stringify({ customer_id: 'cus_42' }) })).json()).token"""
    )
    page.goto("about:blank")  # else the new hash alone would not load the page again
    page.goto(f"{live_server.rstrip('/')}/#token={token}")
    page.locator("#suggestions button").first.wait_for()
    assert "#" not in page.url
    with page.expect_request("**/v1/chat/completions") as asked:
        ask(page, "How do I export my data?")
    assert asked.value.headers["authorization"] == f"Bearer {token}"
    wait_for_answer(page)


def test_phone_has_no_horizontal_overflow(phone: Any) -> None:
    assert overflow(phone) == 0
    ask_as_maria(phone)
    wait_for_answer(phone)
    assert overflow(phone) == 0
    phone.locator("button.cite").first.click()
    assert passage_text(phone)
    assert overflow(phone) == 0
    phone.keyboard.press("Escape")
    ask(phone, "https://example.com/" + "long" * 80)
    phone.get_by_role("button", name="Send").wait_for()
    assert overflow(phone) == 0


def test_widget_opens_the_chat_passes_its_token_and_closes(page: Any, live_server: str) -> None:
    # The page itself plays the host: its CSP allows a script and a frame of its own origin.
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.src = 'widget.js';
            script.dataset.token = 'token-of-the-host';
            document.head.append(script);
        }"""
    )
    launcher = page.get_by_role("button", name="Help")
    launcher.click()
    frame = page.frame_locator("#tandem-chat")
    frame.locator("#suggestions button").first.wait_for()
    assert launcher.get_attribute("aria-expanded") == "true"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body="data: [DONE]\n\n"))
    with page.expect_request("**/v1/chat/completions") as asked:
        frame.get_by_label("Your question").fill("Hello")
        frame.get_by_label("Your question").press("Enter")
    assert asked.value.headers["authorization"] == "Bearer token-of-the-host"
    frame.get_by_label("Your question").press("Escape")
    page.locator("#tandem-chat").wait_for(state="hidden")
    assert launcher.evaluate("node => node === document.activeElement")
