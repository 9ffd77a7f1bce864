/**
 * Put the chat on any page:
 *   <script src="https://chat.example.com/widget.js" data-token="..." data-label="Help" async></script>
 * `data-token` (optional) is the customer's JWT; change the attribute when you renew it. `data-label` names the button.
 */
(() => {
  "use strict";
  const script = document.currentScript;
  const chatUrl = new URL("./?embed=1", script.src);
  const label = script.dataset.label || "Help";
  const phone = window.matchMedia("(max-width: 599px)");
  let frame = null;
  let ready = false;
  let open = false;

  // Set one by one as important: no rule of the page may reach in, and no style attribute meets a strict CSP.
  function style(node, properties) {
    node.style.setProperty("all", "initial", "important");
    for (const [name, value] of Object.entries(properties)) node.style.setProperty(name, value, "important");
  }

  function svg(tag, attributes, parent) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    parent.append(node);
    return node;
  }

  function makeButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-haspopup", "dialog");
    const drawing = svg("svg", { viewBox: "0 0 24 24", width: "26", height: "26", "aria-hidden": "true" }, button);
    drawing.style.setProperty("pointer-events", "none", "important");
    svg("path", { fill: "none", stroke: "#fff", "stroke-width": "1.8", "stroke-linecap": "round", "stroke-linejoin": "round" }, drawing);
    button.addEventListener("click", () => (open ? close() : show()));
    button.addEventListener("focus", drawButton);
    button.addEventListener("blur", drawButton);
    return button;
  }

  function drawButton() {
    const focused = button.matches(":focus-visible");
    style(button, {
      "align-items": "center",
      background: "#0f6b52",
      "border-radius": "50%",
      bottom: "20px",
      "box-shadow": "0 2px 6px rgb(0 0 0 / 20%), 0 8px 24px rgb(0 0 0 / 16%)",
      cursor: "pointer",
      // On a phone the chat fills the window and brings its own close button.
      display: open && phone.matches ? "none" : "flex",
      height: "56px",
      "justify-content": "center",
      outline: focused ? "3px solid #fff" : "none",
      "outline-offset": "-6px",
      position: "fixed",
      right: "20px",
      width: "56px",
      "z-index": "2147483647",
    });
    button.setAttribute("aria-expanded", String(open));
    button.setAttribute("aria-label", open ? `${label}: close the chat` : label);
    button.title = label;
    const speech = "M12 4c-4.7 0-8.5 3.1-8.5 7 0 2 1 3.8 2.6 5l-.6 3.5 3.7-1.8c.9.2 1.8.3 2.8.3 4.7 0 8.5-3.1 8.5-7S16.7 4 12 4z";
    button.querySelector("path").setAttribute("d", open ? "m6.5 6.5 11 11m0-11-11 11" : speech);
  }

  function makeFrame() {
    const node = document.createElement("iframe");
    node.src = chatUrl.href;
    node.title = `${label}: chat`;
    node.referrerPolicy = "no-referrer";
    node.id = "tandem-chat";
    button.setAttribute("aria-controls", node.id);
    document.body.append(node);
    return node;
  }

  function drawFrame() {
    if (!frame) return;
    const place = phone.matches
      ? { inset: "0", width: "100%", height: "100%", "border-radius": "0" }
      : { right: "20px", bottom: "88px", width: "400px", height: "min(660px, calc(100vh - 108px))", "border-radius": "16px" };
    style(frame, {
      ...place,
      border: "0",
      "box-shadow": "0 4px 12px rgb(0 0 0 / 10%), 0 16px 48px rgb(0 0 0 / 20%)",
      display: open ? "block" : "none",
      position: "fixed",
      "z-index": "2147483646",
    });
  }

  function draw() {
    drawButton();
    drawFrame();
  }

  function show() {
    open = true;
    frame ||= makeFrame();
    draw();
    frame.focus();
    if (ready) giveToken();
  }

  function close() {
    open = false;
    draw();
    button.focus();
  }

  // To exactly the chat's own origin: should the frame have gone elsewhere, the token does not follow.
  function giveToken() {
    frame.contentWindow.postMessage({ type: "tandem:token", token: script.dataset.token || null }, chatUrl.origin);
  }

  function onMessage(event) {
    if (!frame || event.source !== frame.contentWindow || event.origin !== chatUrl.origin) return;
    if (event.data?.type === "tandem:ready") {
      ready = true;
      giveToken();
    } else if (event.data?.type === "tandem:close" && open) close();
  }

  const button = makeButton();
  draw();
  window.addEventListener("message", onMessage);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && open) close();
  });
  phone.addEventListener("change", draw);
  if (document.body) document.body.append(button);
  else document.addEventListener("DOMContentLoaded", () => document.body.append(button));
})();
