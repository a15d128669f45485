// The keys, as the dialog tells them; docs/serve.md has the same table.
import { button, el } from "./dom.js";

export const mac = /Mac|iPhone|iPad/.test(navigator.platform);
const mod = mac ? "⌘" : "Ctrl";

const KEYS = [
  [
    "Play",
    [
      [["Space"], "play, pause"],
      [["R"], "play the chosen event"],
      [["←", "→"], "step by a segment"],
      [["N", "P"], "next, previous event: choose it and go there"],
      [["A"], "show or hide where the model looks"],
      [["H"], "show or hide what is only heard or only seen"],
      [["+", "−"], "zoom the timeline"],
    ],
  ],
  [
    "Correct",
    [
      [["E"], "new event here"],
      [["I", "O"], "begin, end the chosen event here"],
      [["←", "→"], "on an event: move it by a segment"],
      [["Alt ←", "Alt →"], "on an event: move its beginning"],
      [["Shift ←", "Shift →"], "on an event: move its end"],
      [["L"], "change its label"],
      [["1", "…", "9"], "give it the label of that row; none chosen: a new event of it here"],
      [["S"], "split it here"],
      [["M"], "merge it with the next of its label"],
      [["Delete"], "delete it"],
      [["Esc"], "choose none"],
    ],
  ],
  [
    "Keep",
    [
      [[`${mod} Z`], "undo"],
      [[`${mod} Shift Z`], "redo"],
      [[`${mod} S`], "save"],
      [[`${mod} Enter`], "save, and open the next file"],
      [["Shift N", "Shift P"], "next, previous file"],
      [["?"], "these keys"],
    ],
  ],
];

export function showShortcuts() {
  if (document.querySelector("dialog[open]")) return;
  const box = el(
    "dialog",
    { className: "dialog keys", "aria-labelledby": "keys-title" },
    el(
      "div",
      { className: "dialog-head" },
      el("h2", { id: "keys-title" }, "Keys"),
      button("cancel", "Close", () => box.close()),
    ),
    el(
      "div",
      { className: "key-groups" },
      KEYS.map(([title, rows]) =>
        el(
          "section",
          {},
          el("h3", {}, title),
          el(
            "dl",
            {},
            rows.map(([keys, what]) => [
              el(
                "dt",
                {},
                keys.map((k) => (k === "…" ? "…" : el("kbd", {}, k))),
              ),
              el("dd", {}, what),
            ]),
          ),
        ),
      ),
    ),
    el(
      "p",
      { className: "soft" },
      "With the mouse: drag an event’s edge or the whole event, drag on an empty part of a row for a new one. Edges keep to segments; hold Shift or Alt to set them freely.",
    ),
  );
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => event.target === box && box.close());
  document.body.append(box);
  box.showModal();
}

// What a key is called in a table of keys: "ctrl+z", "shift+ArrowLeft", "e".
export function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.altKey ? "alt+" : ""}${event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(key)) ? "shift+" : ""}${key}`;
}
