/** One turn on the page: the question, the answer as it streams in, its sources and its feedback. */

import { el, icon } from "./dom.js";
import { renderAnswer } from "./text.js";

const ACTION_LABELS = { decline: "Offered a person", follow_up: "Asked back", handoff: "Handed over" };

/**
 * `openPassage(turnId, citation, opener)` shows a source, `rate(feedback)` sends feedback,
 * `changed()` runs after each redraw, so that the page can follow the growing text.
 */
export function createTurn(question, { openPassage, rate, changed }) {
  const body = el("div", { class: "answer-text", "aria-busy": "true" });
  const below = el("div", { class: "below" });
  const node = el(
    "article",
    { class: "turn", "aria-label": "Question and answer" },
    el("div", { class: "question" }, el("span", { class: "unseen" }, "You: "), question),
    el("div", { class: "answer" }, body, below),
  );
  let text = "";
  let frame = 0;

  function draw(makeChip) {
    cancelAnimationFrame(frame);
    frame = 0;
    body.replaceChildren(renderAnswer(text, makeChip));
    changed();
  }

  function settle(...nodes) {
    body.removeAttribute("aria-busy");
    draw(pendingChip);
    below.replaceChildren(...nodes);
    changed();
  }

  return {
    node,
    get text() {
      return text;
    },
    /** Show the typing indicator; also clears what a failed attempt left. */
    wait() {
      text = "";
      below.replaceChildren();
      body.setAttribute("aria-busy", "true");
      body.replaceChildren(typingIndicator());
      changed();
    },
    add(piece) {
      text += piece;
      if (text.trim()) frame ||= requestAnimationFrame(() => draw(pendingChip));
    },
    finish({ turn_id: turnId, action, citations = [] }) {
      body.removeAttribute("aria-busy");
      const open = (citation) => (event) => openPassage(turnId, citation, event.currentTarget);
      const cited = new Map(citations.map((citation) => [citation.n, citation]));
      draw((n) => (cited.has(n) ? chip(cited.get(n), open) : null));
      below.replaceChildren(
        ...(citations.length ? [sourceList(citations, open)] : []),
        el("div", { class: "after" }, actionLabel(action), ratingButtons(turnId, rate)),
      );
      changed();
    },
    stop() {
      settle(el("p", { class: "label" }, "Stopped"));
    },
    fail(message, retry) {
      const again = el("button", { type: "button", class: "small", on: { click: retry } }, "Try again");
      settle(el("div", { class: "failure", role: "alert" }, el("span", {}, message), again));
    },
  };
}

const typingIndicator = () =>
  el("span", { class: "typing", role: "img", "aria-label": "Writing an answer" }, el("i"), el("i"), el("i"));

/** Until the last chunk says what is cited, a marker is only a number. */
const pendingChip = (n) => el("span", { class: "cite" }, String(n));

const chip = (citation, open) =>
  el(
    "button",
    {
      type: "button",
      class: "cite",
      "aria-label": `Source ${citation.n}: ${citation.title}`,
      "aria-haspopup": "dialog",
      on: { click: open(citation) },
    },
    String(citation.n),
  );

function sourceList(citations, open) {
  const item = (citation) =>
    el(
      "li",
      {},
      el(
        "button",
        { type: "button", class: "source", "aria-haspopup": "dialog", on: { click: open(citation) } },
        el("span", { class: "number" }, String(citation.n)),
        el("span", { class: "title" }, citation.title),
      ),
    );
  return el("ul", { class: "sources", "aria-label": "Sources" }, ...citations.map(item));
}

const actionLabel = (action) =>
  action in ACTION_LABELS ? el("span", { class: "label" }, ACTION_LABELS[action]) : null;

/** Thumbs up and down; a thumb down opens a field for the better answer. */
function ratingButtons(turnId, rate) {
  const note = el("p", { class: "note", role: "status" });
  const place = el("div");
  const buttons = { up: thumb("up", "Good answer"), down: thumb("down", "Bad answer") };
  const press = (rating) => {
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", name === rating);
  };

  async function send(feedback, thanks) {
    note.textContent = "";
    try {
      await rate({ turn_id: turnId, ...feedback });
      note.textContent = thanks;
      return true;
    } catch {
      note.textContent = "That could not be saved. Please try again.";
      return false;
    }
  }

  async function choose(rating) {
    press(rating);
    place.replaceChildren();
    if (rating === "down") place.append(correctionForm((correction) => send({ rating, correction }, "Thank you.")));
    if (!(await send({ rating }, rating === "up" ? "Thank you." : ""))) {
      press(null);
      place.replaceChildren();
    }
  }

  for (const [rating, button] of Object.entries(buttons)) button.addEventListener("click", () => choose(rating));
  return el("div", { class: "rating" }, buttons.up, buttons.down, note, place);
}

const thumb = (direction, label) =>
  el("button", { type: "button", class: "thumb", "aria-label": label, "aria-pressed": "false", title: label }, icon(direction));

/** `save(text)` resolves to whether it was saved; the form goes away only then. */
function correctionForm(save) {
  const field = el("textarea", { rows: "2", maxlength: "4000" });
  const form = el(
    "form",
    { class: "correction" },
    el("label", {}, "What should the answer have been? ", el("span", { class: "quiet" }, "Optional"), field),
    el("button", { type: "submit", class: "small" }, "Send"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const correction = field.value.trim();
    if (!correction || (await save(correction))) form.remove();
  });
  return form;
}
