/** The panel with a cited passage: at the side on a wide window, a bottom sheet on a phone. */

import { ApiError, getPassage } from "./api.js";
import { byId, el, outsideLink } from "./dom.js";

const narrow = window.matchMedia("(max-width: 959px)");

/** `getToken()` resolves to the bearer token, or null. */
export function createPassagePanel(getToken) {
  const panel = byId("passage");
  const title = byId("passage-title");
  const body = byId("passage-body");
  let opener = null;
  let loading = null;

  async function open(turnId, citation, trigger) {
    mark(opener, false);
    opener = trigger;
    mark(opener, true);
    show({ ...citation, updated: null, heading: null });
    body.replaceChildren(el("p", { class: "quiet" }, "Loading…"));
    panel.hidden = false;
    sheet();
    title.focus();
    await load(turnId, citation);
  }

  async function load(turnId, citation) {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    try {
      const passage = await getPassage(turnId, citation.n, { token: await getToken(), signal });
      const nodes = passageNodes(passage);
      // A passage that opens with its own heading needs no second one above it.
      const heading = nodes[0]?.textContent === passage.heading ? null : passage.heading;
      show({ ...passage, heading });
      body.replaceChildren(...nodes);
    } catch (error) {
      if (signal.aborted) return;
      const message = error instanceof ApiError ? error.message : "The passage could not be shown.";
      const again = el("button", { type: "button", class: "small", on: { click: () => load(turnId, citation) } }, "Try again");
      body.replaceChildren(el("div", { class: "failure", role: "alert" }, el("span", {}, message), again));
    }
  }

  function show({ title: name, source, document: id, heading, updated, url }) {
    title.textContent = name || id;
    byId("passage-where").textContent = [source, id].filter(Boolean).join(" / ");
    const facts = [];
    if (heading && heading !== name) facts.push(el("span", {}, heading));
    if (updated) facts.push(el("span", {}, `Updated ${longDate(updated)}`));
    if (/^https?:\/\//.test(url || "")) facts.push(outsideLink(url, "Open the page"));
    byId("passage-facts").replaceChildren(...facts);
  }

  function close() {
    loading?.abort();
    panel.hidden = true;
    sheet();
    mark(opener, false);
  }

  /** Close at the reader's wish: the focus goes back to where they came from. False when nothing was open. */
  function dismiss() {
    if (panel.hidden) return false;
    close();
    opener.focus();
    return true;
  }

  /** As a sheet the panel covers the chat, which must not take the focus meanwhile. */
  function sheet() {
    const covering = !panel.hidden && narrow.matches;
    byId("backdrop").hidden = !covering;
    byId("chat").inert = covering;
    panel.setAttribute("aria-modal", covering);
  }

  narrow.addEventListener("change", sheet);
  byId("passage-close").addEventListener("click", dismiss);
  byId("backdrop").addEventListener("click", dismiss);
  return { open, close, dismiss };
}

const mark = (button, isOpen) => button?.setAttribute("aria-expanded", isOpen);

/**
 * The passage's `html` is rendered by the server with raw HTML disabled: the only HTML this page puts in.
 * It is parsed in an inert document first, so that no image of another site is ever requested.
 */
function passageNodes({ html, text }) {
  if (!html) return [el("p", { class: "as-typed" }, text)];
  const parsed = new DOMParser().parseFromString(html, "text/html");
  for (const image of parsed.querySelectorAll("img")) image.replaceWith(image.alt);
  for (const link of parsed.querySelectorAll("a[href]")) {
    const href = link.getAttribute("href");
    // A relative link means a place in the source, which this server does not have.
    link.replaceWith(/^https?:\/\//.test(href) ? outsideLink(href, ...link.childNodes) : link.textContent);
  }
  for (const wide of parsed.querySelectorAll("table, pre")) {
    const frame = el("div", { class: "wide", tabindex: "0" });
    wide.replaceWith(frame);
    frame.append(wide);
  }
  return [...parsed.body.childNodes];
}

function longDate(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? iso : new Intl.DateTimeFormat("en", { dateStyle: "long" }).format(date);
}
