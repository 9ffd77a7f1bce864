/** Build DOM nodes. Text always goes in as text, never as HTML. */

export const byId = (id) => document.getElementById(id);

/** Create `<tag>`; attributes that are false or null are left out, `on` holds the event listeners. */
export function el(tag, { on = {}, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const [type, listener] of Object.entries(on)) node.addEventListener(type, listener);
  node.append(...children.filter((child) => child != null));
  return node;
}

/** One of the symbols at the top of index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** A link that leaves the chat standing and tells the other site nothing about it. */
export const outsideLink = (href, ...children) =>
  el("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children);

/** Speak streamed text to screen readers sentence by sentence. */
export function createAnnouncer(region) {
  let spoken = 0;
  const say = (text) => text.trim() && region.append(el("p", {}, text.replace(/[*`#]/g, "").trim()));
  return {
    reset() {
      spoken = 0;
      region.replaceChildren();
    },
    /** `text` is the whole answer so far. */
    progress(text) {
      const end = Math.max(...[". ", "? ", "! ", "\n"].map((mark) => text.lastIndexOf(mark))) + 1;
      if (end <= spoken) return;
      say(text.slice(spoken, end));
      spoken = end;
    },
    finish(text, remark = "") {
      say(text.slice(spoken));
      say(remark);
      spoken = text.length;
    },
  };
}
