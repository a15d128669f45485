// What surrounds the events of a file: what is to be known of it, its model, its moments.
import { byId, el, icon } from "./dom.js";

export function showNotes({ cautions, notes }) {
  const box = (sign, kind, name, texts) =>
    el(
      "aside",
      { className: `callout ${kind}`, "aria-label": name },
      icon(sign),
      el(
        "div",
        {},
        texts.map((t) => el("p", {}, t)),
      ),
    );
  byId("about-file").replaceChildren(
    ...(cautions.length ? [box("warn", "warn", "About the model", cautions)] : []),
    ...(notes.length ? [box("info", "", "About this file", notes)] : []),
  );
}

export function showModel({ model }) {
  const rows = Object.entries(model.rows);
  byId("model-card").hidden = !rows.length;
  byId("model-rows").replaceChildren(
    ...rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
  );
}

// Pictures of the file, each with where the model looks and what goes on.
export class Moments {
  constructor(player) {
    Object.assign(this, { player, stills: [], near: null });
  }

  load(thumbs) {
    const { maps } = this.player;
    byId("moments-card").hidden = !thumbs.length;
    byId("legend").hidden = !maps;
    this.near = null;
    this.stills = thumbs.map(({ time, url }) => this.still(time, url, maps));
    byId("moments").replaceChildren(...this.stills.map((s) => s.box));
  }

  still(time, url, maps) {
    const heat = maps ? el("canvas", { "aria-hidden": "true" }) : null,
      what = el("span", { className: "what" });
    if (heat) maps.draw(heat, maps.at(time));
    const box = el(
      "button",
      { type: "button", className: "moment", onclick: () => this.player.seek(time) },
      el("span", { className: "frame" }, el("img", { src: url, alt: "", loading: "lazy" }), heat),
      el("span", { className: "caption" }, el("span", { className: "at" }, this.player.words(time)), what),
    );
    return { time, box, what };
  }

  render(events, hue) {
    for (const { time, box, what } of this.stills) {
      const event = events.find((e) => e.start <= time && time < e.end);
      what.replaceChildren(...(event ? [el("i", { className: "dot" }), el("span", {}, event.label)] : []));
      box.style.setProperty("--h", event ? hue(event.label) : 0);
      box.setAttribute("aria-label", `Jump to ${this.player.words(time)}${event ? `, ${event.label}` : ""}`);
    }
  }

  mark(t) {
    // the one nearest to the position
    const nearer = (a, b) => (!a || Math.abs(b.time - t) < Math.abs(a.time - t) ? b : a);
    const near = this.stills.reduce(nearer, null);
    if (near === this.near) return;
    this.near?.box.classList.remove("on");
    near?.box.classList.add("on");
    this.near = near;
  }
}
