// Elements made of text, never of markup: whatever a file is called, it stays text.

const SVG = "http://www.w3.org/2000/svg";

// An element. `properties`: DOM properties; `on…` functions listen; names with "-" and `role` are
// attributes; `style` an object of CSS properties; null and false are left out.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || !(name in element) || name === "list")
      element.setAttribute(name, value === true ? "" : value);
    else element[name] = value;
  }
  element.append(
    ...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== ""),
  );
  return element;
}

const paths = {
  add: "M5 12h14M12 5v14",
  attention: "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12Z",
  back: "m14 6-6 6 6 6",
  cancel: "m6 6 12 12M18 6 6 18",
  check: "m5 12.5 4.5 4.5L19 7.5",
  clock: "M12 7v5l3.5 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z",
  down: "m6 9.5 6 6 6-6",
  export: "M12 4v11m-5-4.5 5 5 5-5M5 20h14",
  folder: "M3 7a2 2 0 0 1 2-2h4l2 2.5h8a2 2 0 0 1 2 2V18a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2Z",
  info: "M12 11v5m0-8.5v.5M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z",
  keys: "M3 7h18v10H3ZM7 10.5h.01M11 10.5h.01M15 10.5h.01M8 13.8h8",
  merge: "M4 8h6v8H4M20 8h-6v8h6M8 12h8",
  minus: "M5 12h14",
  next: "m9 5 7 7-7 7M19 5v14",
  pen: "m4 20 1-4L16.5 4.5l3 3L8 19Z",
  play: "M8 5.5v13l10.5-6.5Z",
  previous: "M15 5 8 12l7 7M5 5v14",
  forward: "m10 6 6 6-6 6",
  redo: "M19 8.5H10a5 5 0 0 0 0 10h4M15.5 5 19 8.5 15.5 12",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3M19.5 4v4h-4",
  save: "M5 5h11l3 3v11H5ZM8.5 5v4.5h6V5M8.5 19v-5.5h7V19",
  split: "M12 4v16M4 9h4.5v6H4M20 9h-4.5v6H20",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
  tune: "M4 8h9m4 0h3M4 16h3m4 0h9M13 8a2 2 0 1 0 4 0 2 2 0 0 0-4 0ZM7 16a2 2 0 1 0 4 0 2 2 0 0 0-4 0Z",
  undo: "M5 8.5h9a5 5 0 0 1 0 10h-4M8.5 5 5 8.5 8.5 12",
  up: "m6 14.5 6-6 6 6",
  upload: "M12 16V5m-5 5 5-5 5 5M5 20h14",
  warn: "M12 3 2.5 20h19L12 3Zm0 6v5m0 2.5v.5",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"),
    path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", paths[name]);
  svg.append(path);
  if (name === "attention") {
    const pupil = document.createElementNS(SVG, "circle");
    for (const [k, v] of [
      ["cx", 12],
      ["cy", 12],
      ["r", 2.8],
    ])
      pupil.setAttribute(k, v);
    svg.append(pupil);
  }
  return svg;
}

// A button with an icon; `text` is shown, or else only its `title` names it.
export function button(name, title, onclick, { text = "", ...properties } = {}) {
  const kind = `button${text ? " wide" : ""}${properties.className ? ` ${properties.className}` : ""}`;
  return el(
    "button",
    { type: "button", title, "aria-label": text ? null : title, ...properties, className: kind, onclick },
    name && icon(name),
    text && el("span", {}, text),
  );
}

export const byId = (id) => document.getElementById(id);

// What has happened, for those who don't see it.
export function announce(text) {
  const box = byId("announcer");
  box.textContent = "";
  setTimeout(() => (box.textContent = text), 30);
}

// A short word at the foot of the page; with `action` a button.
export function toast(text, { action = "", act = null, bad = false, seconds = 6 } = {}) {
  const close = () => box.remove();
  const box = el(
    "div",
    { className: `toast${bad ? " bad" : ""}`, role: bad ? "alert" : "status" },
    el("span", {}, text),
    action &&
      el(
        "button",
        {
          type: "button",
          className: "link",
          onclick: () => {
            close();
            act();
          },
        },
        action,
      ),
    button("cancel", "Close this message", close),
  );
  byId("toasts").replaceChildren(...[...byId("toasts").children].slice(-2), box);
  if (!bad) setTimeout(close, seconds * 1000);
}

// A sentence whose `commands` are set as such.
export const prose = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));

// An error in its three parts.
export function problem(error) {
  return el(
    "div",
    { className: "callout bad", role: "alert" },
    icon("warn"),
    el(
      "div",
      {},
      el("p", {}, el("b", {}, prose(error.got || "Something went wrong."))),
      error.expected && el("p", {}, el("span", { className: "part" }, "Expected: "), prose(error.expected)),
      error.hint && el("p", {}, el("span", { className: "part" }, "Hint: "), prose(error.hint)),
    ),
  );
}

// A question in a dialog; the answer is the chosen button's value, "" when it was closed.
export function ask(title, text, answers) {
  return new Promise((resolve) => {
    const box = el(
      "dialog",
      { className: "dialog", "aria-labelledby": "ask-title" },
      el(
        "form",
        { method: "dialog" },
        el("h2", { id: "ask-title" }, title),
        text && el("p", {}, text),
        el(
          "div",
          { className: "answers" },
          answers.map(([value, words, kind]) =>
            el(
              "button",
              { value, className: `button wide${kind ? ` ${kind}` : ""}`, autofocus: kind === "primary" },
              words,
            ),
          ),
        ),
      ),
    );
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue);
    });
    document.body.append(box);
    box.showModal();
  });
}

export function bytesWords(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  for (; count >= 1000 && k < units.length - 1; k++) count /= 1000;
  return `${count >= 100 || k === 0 ? Math.round(count) : count.toFixed(1)} ${units[k]}`;
}

export function lengthWords(seconds) {
  if (seconds < 60) return `${Math.round(seconds * 100) / 100} s`;
  const whole = Math.round(seconds),
    h = Math.floor(whole / 3600),
    m = Math.floor(whole / 60) % 60,
    s = whole % 60;
  return [h && `${h} h`, m && `${m} min`, !h && s && `${s} s`].filter(Boolean).join(" ");
}

export const count = (n, word, many = `${word}s`) => `${n} ${n === 1 ? word : many}`;
