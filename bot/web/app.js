/** The chat page: the conversation, the composer, and the line that says what the answers rest on. */

import { ApiError, getConfig, sendFeedback, streamChat } from "./api.js";
import { byId, createAnnouncer, el } from "./dom.js";
import { createIdentity } from "./identity.js";
import { createPassagePanel } from "./passage.js";
import { createTurn } from "./turn.js";

const LONGEST_QUESTION = 4000; // characters; the server refuses more
const COUNT_FROM = 3500;
const MODE_NAMES = { tandem: "Hybrid", "tandem-rag": "RAG", "tandem-finetuned": "Fine-tuned", "tandem-prompt": "Prompt" };

const embedded = new URLSearchParams(location.search).get("embed") === "1" && window.parent !== window;
const state = {
  config: {},
  conversationId: null,
  streaming: null, // the AbortController of the answer under way
  milliseconds: null,
};

const announcer = createAnnouncer(byId("announcer"));
const identity = createIdentity({
  changed: startConversation,
  failed: (error) => showNotice(`Signing in failed. ${shown(error)}`),
});
const panel = createPassagePanel(identity.token);
const question = byId("question");

// ---- The conversation -----------------------------------------------------------------------------------------

function startConversation() {
  state.streaming?.abort();
  setStreaming(null);
  state.conversationId = null;
  panel.close();
  announcer.reset();
  byId("turns").replaceChildren();
  byId("empty").hidden = false;
}

function ask(words) {
  const turn = createTurn(words, {
    openPassage: panel.open,
    rate: async (feedback) => sendFeedback(feedback, await identity.token()),
    changed: followText,
  });
  byId("empty").hidden = true;
  byId("turns").append(turn.node);
  stuckToEnd = true;
  return answer(turn, words);
}

/** Stream one answer into `turn`; "Try again" comes back here. */
async function answer(turn, words) {
  if (state.streaming) return;
  const controller = new AbortController();
  setStreaming(controller);
  announcer.reset();
  turn.wait();
  try {
    const result = await receive(turn, words, controller.signal);
    turn.finish(result);
    announcer.finish(turn.text, spokenSources(result.citations));
    await noteResult(result);
  } catch (error) {
    if (controller.signal.aborted) {
      turn.stop();
      if (state.streaming === controller) announcer.finish(turn.text, "Stopped.");
    } else turn.fail(shown(error), () => answer(turn, words));
  } finally {
    if (state.streaming === controller) setStreaming(null);
  }
}

/** Feed the pieces to `turn`; resolves to the `tandem` fields of the answer. */
async function receive(turn, words, signal) {
  const request = { model: byId("mode").value || "tandem", messages: [{ role: "user", content: words }] };
  if (state.conversationId) request.metadata = { conversation_id: state.conversationId };
  const result = {};
  const token = await identity.token();
  signal.throwIfAborted();
  for await (const chunk of streamChat(request, { token, signal })) {
    signal.throwIfAborted();
    Object.assign(result, chunk.tandem);
    // An answer that is stopped half way still belongs to its conversation.
    state.conversationId = result.conversation_id ?? state.conversationId;
    const piece = chunk.choices?.[0]?.delta?.content;
    if (!piece) continue;
    turn.add(piece);
    announcer.progress(turn.text);
  }
  return result;
}

function setStreaming(controller) {
  const hadFocus = document.activeElement === byId("stop");
  state.streaming = controller;
  byId("send").hidden = Boolean(controller);
  byId("stop").hidden = !controller;
  if (hadFocus) question.focus();
}

function spokenSources(citations = []) {
  if (!citations.length) return "";
  return `Sources: ${citations.map(({ n, title }) => `${n}, ${title}`).join("; ")}.`;
}

function showNotice(message) {
  byId("empty").hidden = true;
  byId("turns").append(el("div", { class: "failure", role: "alert" }, message));
}

const shown = (error) => (error instanceof ApiError ? error.message : "Something went wrong on this page.");

// ---- Following the text ---------------------------------------------------------------------------------------

let stuckToEnd = true;

/** Keep the newest line in view, unless the reader has scrolled up. */
function followText() {
  const scroller = byId("conversation");
  if (stuckToEnd) scroller.scrollTop = scroller.scrollHeight;
}

function watchScrolling() {
  const scroller = byId("conversation");
  scroller.addEventListener("scroll", () => {
    stuckToEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  });
}

// ---- The composer ---------------------------------------------------------------------------------------------

function submit(event) {
  event?.preventDefault();
  const words = question.value.trim();
  if (!words || state.streaming || excess() > 0) return;
  question.value = "";
  fitQuestion();
  ask(words);
}

/** Characters as the server counts them: an emoji is one. */
const excess = () => [...question.value.trim()].length - LONGEST_QUESTION;

function fitQuestion() {
  const over = excess();
  const counter = byId("counter");
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
  question.setAttribute("aria-invalid", over > 0);
  counter.classList.toggle("over", over > 0);
  if (over > 0) counter.textContent = `Too long by ${over.toLocaleString("en")} ${over === 1 ? "character" : "characters"}`;
  else if (over > COUNT_FROM - LONGEST_QUESTION) counter.textContent = `${-over} characters left`;
  else counter.textContent = "";
  byId("send").disabled = over > 0 || !question.value.trim();
}

function onKey(event) {
  // Enter that ends an input method's composition chooses a word, it does not send.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
}

function onEscape(event) {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  if (!panel.dismiss() && embedded) identity.tellParent("tandem:close");
}

// ---- What the answers rest on ---------------------------------------------------------------------------------

async function noteResult({ generation, milliseconds }) {
  state.milliseconds = milliseconds;
  showAbout();
  // The knowledge was refreshed while the page stood open.
  if (generation && generation !== state.config.generation) {
    state.config = await getConfig().catch(() => state.config);
    showAbout();
  }
}

function showAbout() {
  const { generation, knowledge_updated_at: updatedAt, release } = state.config;
  const parts = [];
  if (generation) parts.push(`Knowledge ${generation}${updatedAt ? `, refreshed ${age(updatedAt)}` : ""}`);
  if (release) parts.push(`Release ${release}`);
  if (state.milliseconds?.total != null) parts.push(`${(state.milliseconds.total / 1000).toFixed(1)} s`);
  byId("about").textContent = parts.join(" · ");
  const { retrieve, first_token: first } = state.milliseconds ?? {};
  byId("about").title = first == null ? "" : `Retrieval ${retrieve ?? 0} ms, first words after ${first} ms`;
}

function age(iso) {
  const minutes = Math.max(0, Math.round((Date.now() - new Date(iso)) / 60000));
  if (minutes < 1) return "just now";
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
  if (minutes < 60) return relative.format(-minutes, "minute");
  if (minutes < 48 * 60) return relative.format(-Math.round(minutes / 60), "hour");
  return relative.format(-Math.round(minutes / 1440), "day");
}

// ---- Start ----------------------------------------------------------------------------------------------------

function showConfig({ company, greeting, suggestions = [], modes = [], demo }) {
  document.title = `${company} Support`;
  byId("company").textContent = company;
  byId("greeting").textContent = greeting;
  const suggestion = (words) =>
    el("li", {}, el("button", { type: "button", on: { click: () => state.streaming || ask(words) } }, words));
  byId("suggestions").replaceChildren(...suggestions.map(suggestion));
  byId("mode").replaceChildren(...modes.map((mode) => el("option", { value: mode }, MODE_NAMES[mode] ?? mode)));
  byId("mode-field").hidden = !demo || embedded || modes.length < 2;
  showAbout();
}

function listen() {
  byId("composer").addEventListener("submit", submit);
  byId("stop").addEventListener("click", () => state.streaming?.abort());
  byId("new").addEventListener("click", () => {
    startConversation();
    question.focus();
  });
  byId("close").addEventListener("click", () => identity.tellParent("tandem:close"));
  question.addEventListener("input", fitQuestion);
  question.addEventListener("keydown", onKey);
  document.addEventListener("keydown", onEscape);
  watchScrolling();
  setInterval(showAbout, 60_000);
}

async function start() {
  listen();
  fitQuestion();
  const given = identity.takeFromAddress();
  byId("close").hidden = !embedded;
  if (embedded) identity.listenToParent();
  // On a touch screen focus would bring up the keyboard unasked.
  if (matchMedia("(hover: hover)").matches) question.focus();
  try {
    state.config = await getConfig();
    showConfig(state.config);
    if (state.config.demo && !embedded && !given) await identity.offerCustomers();
  } catch (error) {
    showNotice(shown(error));
  }
}

start();
