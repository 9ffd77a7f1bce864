/** Turn an answer's text into DOM nodes: a small, safe part of Markdown, and citation markers as chips. */

import { el, outsideLink } from "./dom.js";

const ITEM = /^(\s*)(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/;
const INLINE = new RegExp(
  [
    /`(?<code>[^`\n]+)`/,
    /\*\*(?<bold>.+?)\*\*/,
    /\[(?<label>[^\][]+)\]\((?<href>https?:\/\/[^\s)]+)\)/,
    /\[(?<cited>\d{1,2}(?:\s*,\s*\d{1,2})*)\]/,
    /(?<url>https?:\/\/[^\s<>"`]*[^\s<>"`.,;:!?)\]'*])/,
  ]
    .map((part) => part.source)
    .join("|"),
  "g",
);

/** `makeChip(n)` returns the node of citation n, or null where there is none; then the marker stays text. */
export function renderAnswer(text, makeChip) {
  const root = document.createDocumentFragment();
  let lists = []; // open lists, outermost first: { node, indent }
  let paragraph = null;
  let fence = null;

  for (const line of withoutBrokenMarker(text).split("\n")) {
    if (/^\s*```/.test(line)) {
      fence = fence ? null : appendTo(root, el("pre", { tabindex: "0" }, el("code"))).firstChild;
      [lists, paragraph] = [[], null];
    } else if (fence) {
      fence.append(`${line}\n`);
    } else if (!line.trim()) {
      paragraph = null; // a list stays open, its next item may follow after a blank line
    } else if (ITEM.test(line)) {
      paragraph = addItem(root, lists, line.match(ITEM), makeChip);
    } else if (paragraph) {
      paragraph.append(el("br"), ...inline(line.trim(), makeChip));
    } else {
      lists = [];
      paragraph = appendTo(root, el("p", {}, ...block(line.trim(), makeChip)));
    }
  }
  return root;
}

/** Add a list item below the open list of its indentation, opening and closing lists as needed. */
function addItem(root, lists, [, space, number, words], makeChip) {
  const tag = number ? "ol" : "ul";
  const indent = space.length;
  while (lists.length > 1 && lists.at(-1).indent > indent) lists.pop();
  let list = lists.at(-1);
  if (list && indent < list.indent + 2 && list.node.localName !== tag) {
    lists.pop();
    list = lists.at(-1);
  }
  if (!list || indent >= list.indent + 2) {
    const parent = list ? list.node.lastElementChild : root;
    list = { node: appendTo(parent, el(tag, { start: number })), indent };
    lists.push(list);
  }
  return appendTo(list.node, el("li", {}, ...inline(words, makeChip)));
}

/** A heading in a chat answer is a bold line: it must not join the page's outline. */
function block(line, makeChip) {
  const heading = line.match(/^#{1,6}\s+(.*)$/);
  return heading ? [el("strong", {}, ...inline(heading[1], makeChip))] : inline(line, makeChip);
}

function inline(text, makeChip) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const before = text.slice(end, match.index);
    nodes.push(...(match.groups.cited ? together(before, marked(match, makeChip)) : [before, ...marked(match, makeChip)]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

function marked(match, makeChip) {
  const { code, bold, label, href, cited, url } = match.groups;
  if (code) return [el("code", {}, code)];
  if (bold) return [el("strong", {}, ...inline(bold, makeChip))];
  if (href) return [outsideLink(href, label)];
  if (url) return [outsideLink(url, url)];
  const chips = cited.split(",").map((n) => makeChip(Number(n)));
  return chips.every((chip) => chip) ? chips : [match[0]];
}

/** Keep chips on the line of the word they support; a very long word must still be able to wrap. */
function together(before, chips) {
  const word = before.match(/[^\s]{0,24} *$/)[0];
  if (!word.trim()) return [before.replace(/ +$/, "\u00a0"), ...chips];
  return [before.slice(0, -word.length), el("span", { class: "together" }, word.replace(/ +$/, "\u00a0"), ...chips)];
}

/** While text streams in, its last marker may be half there: "[1". */
const withoutBrokenMarker = (text) => text.replace(/\s*\[[\d,\s]*$/, "");

function appendTo(parent, child) {
  parent.append(child);
  return child;
}
