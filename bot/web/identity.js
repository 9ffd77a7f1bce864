/** Who asks: a token from the address, from the embedding page, or from the demo's sign-in. Kept in memory only. */

import { getCustomers, signIn } from "./api.js";
import { byId, el } from "./dom.js";

/** `changed()` runs when another person asks from now on; `failed(error)` when the demo's sign-in fails. */
export function createIdentity({ changed, failed }) {
  let token = Promise.resolve(null); // a promise, so that a question asked during sign-in waits for it
  let subject = null;

  /** A renewed token of the same person keeps the conversation. */
  function take(given) {
    const previous = subject;
    subject = subjectOf(given);
    token = Promise.resolve(given);
    if (subject !== previous) changed();
  }

  /** Take the token of `#token=...` once and remove it from the address: it is neither bookmarked nor shared. */
  function takeFromAddress() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!given) return false;
    history.replaceState(history.state, "", location.pathname + location.search);
    take(given);
    return true;
  }

  /**
   * An embedding page gives its token by postMessage. The one origin check: the message must come from the window
   * that frames this page (`event.source === window.parent`). Any site may frame the chat, so its origin is not
   * compared; a site can only hand over a token it already holds, and nothing of the chat is sent back to it.
   */
  function listenToParent() {
    window.addEventListener("message", (event) => {
      if (event.source !== window.parent || event.data?.type !== "tandem:token") return;
      take(typeof event.data.token === "string" && event.data.token ? event.data.token : null);
    });
    tellParent("tandem:ready");
  }

  async function offerCustomers() {
    const groups = new Map();
    const customers = (await getCustomers()).sort((a, b) => a.name.localeCompare(b.name));
    for (const customer of customers) {
      groups.set(customer.tier, [...(groups.get(customer.tier) ?? []), customerOption(customer)]);
    }
    byId("who").append(
      el("option", { value: "visitor" }, "Visitor"),
      el("option", { value: "agent", "data-note": "Internal documents are included" }, "Staff (sees internal documents)"),
      ...[...groups].map(([tier, options]) => el("optgroup", { label: capitalised(tier) }, ...options)),
    );
    byId("who").addEventListener("change", choose);
    byId("who-field").hidden = false;
  }

  async function choose() {
    const who = byId("who");
    const signingIn = signInAs(who.value);
    token = signingIn;
    changed();
    showWho();
    try {
      await signingIn;
    } catch (error) {
      if (token !== signingIn) return; // someone else was chosen meanwhile
      token = Promise.resolve(null);
      who.value = "visitor";
      showWho();
      failed(error);
    }
  }

  return { token: () => token, takeFromAddress, listenToParent, tellParent, offerCustomers };
}

/** These messages carry no data, so it does not matter who frames the page. */
const tellParent = (type) => window.parent.postMessage({ type }, "*");

/** Read `sub` without checking the signature: it only tells two people apart, the server decides who they are. */
function subjectOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub ?? token;
  } catch {
    return token;
  }
}

async function signInAs(value) {
  if (value === "visitor") return null;
  return signIn(value === "agent" ? { role: "agent" } : { customer_id: value });
}

const customerOption = ({ customer_id, name, tier, plan }) =>
  el("option", { value: customer_id, "data-note": `Chatting as ${[name, tier, plan].filter((part) => part && part !== "none").join(", ")}` }, `${name} (${tier})`);

function showWho() {
  byId("chatting-as").textContent = byId("who").selectedOptions[0].dataset.note ?? "";
}

const capitalised = (word) => word.charAt(0).toUpperCase() + word.slice(1);
