// What is only heard or only seen: quiet rows below the events, which a switch hides.
import { el } from "./dom.js";

export class SingleModality {
  // `seek(seconds)` goes to an instant; `words(seconds)` writes it; `at(start, end)` places it.
  constructor(tracks, { seek, words, at, changed }) {
    Object.assign(this, { tracks, seek, words, at, changed, lanes: [], drawn: "", shown: true });
    this.button = el(
      "button",
      {
        type: "button",
        className: "button wide",
        id: "single",
        title: "Show or hide what is only heard or only seen (H)",
        "aria-pressed": "true",
        hidden: true,
        onclick: () => this.toggle(),
      },
      el("i", { className: "knob", "aria-hidden": "true" }),
      "Only heard or seen",
    );
  }

  toggle() {
    this.shown = !this.shown;
    this.button.setAttribute("aria-pressed", String(this.shown));
    this.tracks.classList.toggle("no-single", !this.shown);
    this.changed();
  }

  // Draws the lanes after a row; what hasn't changed stays, and keeps the focus.
  load(lanes, above) {
    const key = JSON.stringify(lanes);
    this.lanes = lanes;
    this.button.hidden = !lanes.length;
    if (key === this.drawn && this.tracks.querySelector(".single-row")) return;
    this.drawn = key;
    this.tracks.querySelectorAll(".single-row").forEach((row) => row.remove());
    above.after(...lanes.map((lane) => this.row(lane)));
  }

  row({ label, summary, rows }) {
    const button = (e) => {
      const times = [e.start, e.end].map((t) => this.words(t, t % 1 ? 1 : 0)).join(" – ");
      return el(
        "button",
        {
          type: "button",
          className: "single",
          style: this.at(e.start, e.end),
          "aria-label": `${label}: ${e.label}, ${times}, score ${e.score.toFixed(2)}`,
          data: { tip: `${e.label} ${e.score.toFixed(2)}`, times },
          onclick: () => this.seek(e.start),
        },
        el("span", {}, e.label),
      );
    };
    return el(
      "div",
      { className: "track single-row", role: "group", "aria-label": `${label}, ${summary}` },
      el("div", { className: "label", "aria-hidden": "true" }, el("b", {}, label), el("small", {}, summary)),
      el(
        "div",
        { className: "lane" },
        rows.map((row) => el("div", { className: "single-events" }, row.map(button))),
      ),
    );
  }

  // What goes on at an instant, in words: "speech (heard, not seen)".
  on(t) {
    if (!this.shown) return [];
    return this.lanes.flatMap(({ label, rows }) =>
      rows
        .flat()
        .filter((e) => e.start <= t + 1e-4 && t + 1e-4 < e.end)
        .map((e) => `${e.label} (${label.toLowerCase()})`),
    );
  }
}
