// The timeline: a row for each label with its curve and its events, a ruler, the sound.
import { address } from "./api.js";
import { SingleModality } from "./single_modality.js";
import { byId, button, count, el, lengthWords } from "./dom.js";
import { Dragging } from "./dragging.js";
import { rulerStep } from "/static/report/shared.js";

const HUES = [262, 38, 158, 318, 85, 205, 5, 128, 288, 62, 180, 340]; // as avel.report.view has them
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(attributes)) element.setAttribute(k, v);
  return element;
};

export class Timeline {
  // `hooks`: pick(event), place(lane's label, start, end).
  constructor(editor, player, hooks) {
    Object.assign(this, {
      editor,
      player,
      hooks,
      zoom: 1,
      lanes: [],
      rows: new Map(),
      ghosts: null,
      threshold: null,
      filled: new WeakMap(), // by event's element: what it shows
    });
    this.tracks = byId("tracks");
    this.scroller = byId("scroller");
    this.out = button("minus", "Zoom out (−)", () => this.setZoom(this.zoom / 2), { id: "zoom-out" });
    this.in = button("add", "Zoom in (+)", () => this.setZoom(this.zoom * 2), { id: "zoom-in" });
    this.singleModality = new SingleModality(this.tracks, {
      seek: (t) => player.seek(t),
      words: (t, decimals) => player.words(t, decimals),
      at: (start, end) => this.at(start, end),
      changed: () => player.show(),
    });
    byId("zoom").replaceChildren(this.singleModality.button, this.out, this.in);
    this.dragging = new Dragging(this);
    this.scroller.addEventListener("scroll", () => {
      this.edge = this.scroller.scrollLeft / this.zoomedWidth;
      if (Math.abs(this.scroller.scrollLeft - this.ruled) > this.scroller.clientWidth * 0.7) this.rule();
    });
    this.scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    // What was at the left edge stays there: a scrollbar that appears is a new size too.
    new ResizeObserver(() => {
      if (!this.duration) return;
      const gutter = this.tracks.clientWidth - this.width;
      this.setZoom(this.zoom, this.edge * this.duration, gutter);
    }).observe(this.scroller);
  }

  load(job, data) {
    Object.assign(this, {
      data,
      duration: data.duration,
      zoom: 1,
      lanes: [],
      ghosts: null,
      threshold: data.decision?.threshold ?? null,
    });
    this.rows.clear();
    this.ruler = el("div", {
      className: "lane ruler",
      id: "ruler",
      role: "slider",
      tabIndex: 0,
      "aria-label": "Position",
      "aria-valuemin": "0",
      "aria-valuemax": this.duration.toFixed(3),
      "aria-valuenow": "0",
    });
    this.cursor = el("div", { className: "cursor", id: "cursor", "aria-hidden": "true" });
    this.tip = el("div", { className: "tip", id: "tip", hidden: true });
    this.fresh = el(
      "div",
      { className: "track class-row new-row" },
      el("div", { className: "label" }, el("b", {}, "New label"), el("small", {}, "drag here")),
      el(
        "div",
        { className: "lane", data: { label: "" } },
        el("span", { className: "invite" }, "Drag here to add an event of another label"),
      ),
    );
    const sound =
      job.has_audio &&
      el(
        "div",
        { className: "track sound-row" },
        el("div", { className: "label" }, el("b", {}, "Sound"), el("small", {}, "0.1 – 7.5 kHz")),
        el(
          "div",
          { className: "lane" },
          el("img", {
            className: "spectrogram",
            src: address(job.id, "/spectrogram.png"),
            alt: "Log-mel spectrogram of the sound",
            draggable: false,
            onerror: (e) => e.target.closest(".track").remove(),
          }),
        ),
      );
    const strips = (data.strips ?? []).map((s) =>
      el(
        "div",
        { className: "track strip-row" },
        el("div", { className: "label" }, el("b", {}, s.label), el("small", {}, s.summary)),
        el(
          "div",
          { className: "lane", role: "img", "aria-label": `${s.label} ${s.summary}` },
          s.spans.map(([left, width]) =>
            el("i", { className: "span", style: { left: `${left}%`, width: `${width}%` } }),
          ),
        ),
      ),
    );
    this.tracks.replaceChildren(
      ...[
        el("div", { className: "track ruler-row" }, el("div", { className: "label" }), this.ruler),
        this.fresh,
        sound,
        ...strips,
        this.cursor,
        this.tip,
      ].filter(Boolean),
    );
    this.render();
    this.setZoom(1);
  }

  // Curves and rows of another decision; `ghosts` are events shown in outline.
  update(data, ghosts) {
    this.data = data;
    this.threshold = data.decision?.threshold ?? null;
    this.ghosts = ghosts;
    this.render();
  }

  hue(label) {
    return this.lanes.find((l) => l.label === label)?.hue ?? 0;
  }

  // The rows: those of the scores, and those of labels that only a person gave.
  arrange() {
    const scored = this.data.scores?.lanes ?? [];
    const used = new Set([...this.editor.events, ...(this.ghosts ?? [])].map((e) => e.label));
    const known = new Map(scored.map((l) => [l.label, l.values]));
    const lanes = this.lanes.filter((l) => used.has(l.label) || known.has(l.label));
    const taken = new Set(lanes.map((l) => l.label)),
      hues = new Set(lanes.map((l) => l.hue));
    for (const label of [...known.keys(), ...used]) {
      if (taken.has(label)) continue;
      taken.add(label);
      const wished = scored.find((l) => l.label === label)?.hue;
      const hue =
        wished !== undefined && !hues.has(wished)
          ? wished
          : (HUES.find((h) => !hues.has(h)) ?? HUES[taken.size % HUES.length]);
      hues.add(hue);
      lanes.push({ label, hue });
    }
    this.lanes = lanes.map((l) => ({ ...l, values: known.get(l.label) ?? l.values ?? [] }));
  }

  render() {
    this.arrange();
    const wanted = new Set(this.lanes.map((l) => l.label)),
      events = Map.groupBy(this.editor.events, (e) => e.label);
    let above = this.ruler.parentElement;
    for (const [label, row] of this.rows)
      if (!wanted.has(label)) {
        row.box.remove();
        this.rows.delete(label);
      }
    for (const [i, lane] of this.lanes.entries()) {
      if (!this.rows.has(lane.label)) this.rows.set(lane.label, this.makeRow(lane));
      const row = this.rows.get(lane.label);
      if (above.nextElementSibling !== row.box) above.after(row.box);
      above = row.box;
      this.fillRow(row, lane, events.get(lane.label) ?? [], i);
    }
    this.singleModality.load(this.data.single_modality ?? [], this.fresh);
  }

  makeRow({ label, hue }) {
    const badge = el("kbd", { className: "badge" }),
      summary = el("small", {}),
      lane = el("div", { className: "lane", data: { label } });
    const box = el(
      "div",
      { className: "track class-row", style: { "--h": hue }, role: "group", "aria-label": label },
      el("div", { className: "label" }, el("b", { title: label }, badge, label), summary),
      lane,
    );
    return { box, badge, summary, lane, events: new Map(), drawn: null };
  }

  fillRow(row, { label, values }, events, i) {
    row.badge.textContent = i < 9 ? String(i + 1) : "";
    row.badge.hidden = i >= 9;
    if (row.drawn !== values || row.threshold !== this.threshold) {
      row.lane.querySelector("svg")?.remove();
      if (values.length) row.lane.prepend(this.curve(label, values));
      row.drawn = values;
      row.threshold = this.threshold;
    }
    const ids = new Set(events.map((e) => e.id));
    const spent = lengthWords(events.reduce((sum, e) => sum + e.end - e.start, 0));
    row.summary.textContent = events.length
      ? `${count(events.length, "event")}, ${spent}`
      : values.length
        ? `at most ${(Math.max(...values) / 1000).toFixed(2)}`
        : "";
    for (const [id, box] of row.events)
      if (!ids.has(id)) {
        box.remove();
        row.events.delete(id);
      }
    for (const event of events) {
      if (!row.events.has(event.id)) row.events.set(event.id, this.makeEvent(event));
      const box = row.events.get(event.id);
      if (box.parentElement !== row.lane) row.lane.append(box);
      this.fillEvent(box, event);
    }
    row.lane.querySelectorAll(".ghost").forEach((g) => g.remove());
    const ghosts = (this.ghosts ?? []).filter((g) => g.label === label);
    row.lane.append(...ghosts.map((g) => el("i", { className: "ghost", style: this.at(g.start, g.end) })));
  }

  at(start, end) {
    const whole = this.duration || 1,
      left = Math.min(start / whole, 1),
      right = Math.min(end / whole, 1);
    return { left: `${100 * left}%`, width: `${100 * (right - left)}%` };
  }

  makeEvent(event) {
    return el(
      "button",
      { type: "button", className: "event", data: { id: event.id } },
      el("i", { className: "edge start", "aria-hidden": "true" }),
      el("span", {}),
      el("i", { className: "edge end", "aria-hidden": "true" }),
    );
  }

  fillEvent(box, event) {
    const chosen = event.id === this.editor.selected;
    const first = this.editor.selected === null && this.editor.events[0]?.id === event.id;
    const [shown, state] = this.filled.get(box) ?? [];
    if (shown === event && state === `${chosen} ${first}`) return;
    this.filled.set(box, [event, `${chosen} ${first}`]);
    for (const [k, v] of Object.entries(this.at(event.start, event.end))) box.style.setProperty(k, v);
    const score = this.editor.scoreWords(event);
    box.children[1].textContent = score;
    box.classList.toggle("chosen", chosen);
    box.tabIndex = chosen || first ? 0 : -1; // one stop for Tab; N, P and the table reach the others
    box.setAttribute("aria-pressed", String(chosen));
    box.setAttribute(
      "aria-label",
      `${event.label}, ${this.player.words(event.start)} to ${this.player.words(event.end)}, ${score ? `score ${score}` : "by hand"}`,
    );
  }

  boxOf(id) {
    return this.tracks.querySelector(`.event[data-id="${id}"]`);
  }

  // A value holds for its whole segment, so the curve is made of steps.
  curve(label, values) {
    const bin = this.data.scores.bin,
      place = (k) => ((100 * Math.min(k * bin, this.duration)) / (this.duration || 1)).toFixed(4);
    const line = values.map((v, k) => `${k ? "L" : "M"}${place(k)} ${1000 - v}H${place(k + 1)}`).join("");
    const svg = shape("svg", {
      class: "curve",
      viewBox: "0 0 100 1000",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Probability of ${label}`,
    });
    svg.append(
      shape("path", { class: "area", d: `${line}V1000H0Z` }),
      shape("path", { class: "line", d: line }),
    );
    if (this.threshold !== null)
      svg.append(shape("path", { class: "threshold", d: `M0 ${1000 - 1000 * this.threshold}H100` }));
    return svg;
  }

  // ---- position, ruler, zoom
  show(t) {
    if (!this.duration) return;
    this.tracks.style.setProperty("--t", Math.min(t / this.duration, 1));
    const on = this.editor.events
      .filter((e) => e.start <= t + 1e-4 && t + 1e-4 < e.end)
      .map((e) => e.label)
      .join(", ");
    this.ruler.setAttribute("aria-valuenow", t.toFixed(2));
    const words = [on, ...this.singleModality.on(t)].filter(Boolean).join(", ") || "no event";
    this.ruler.setAttribute("aria-valuetext", `${this.player.words(t)}, ${words}`);
    if (!this.dragging.drag) this.reveal(t);
  }

  get width() {
    return this.ruler.clientWidth || 1;
  }

  // Marks of what is in sight, and as much on either side: a file may last for hours.
  rule() {
    const step = rulerStep(this.duration, this.width),
      { scrollLeft, clientWidth } = this.scroller;
    const shown = (x) => (this.duration * x) / this.width;
    const from = Math.max(0, Math.floor(shown(scrollLeft - clientWidth) / step)) * step;
    const until = Math.min(this.duration, shown(scrollLeft + 2 * clientWidth));
    const marks = [];
    for (let t = from; t <= until + 1e-6; t += step) {
      const last = t && this.duration - t < step * 0.3;
      const left = `${this.duration ? (100 * t) / this.duration : 0}%`;
      marks.push(
        el(
          "span",
          { className: last ? "last" : t ? "" : "first", style: { left } },
          this.player.words(t, step < 1 ? 1 : 0),
        ),
      );
    }
    this.ruled = scrollLeft;
    this.ruler.replaceChildren(...marks);
  }

  // At the closest a tenth of a second is as wide as a fingertip.
  get most() {
    const finest = Math.min(0.1, this.editor.step);
    return Math.max(1, ((this.duration / finest) * 48) / (this.scroller.clientWidth || 1));
  }

  setZoom(wanted, keep = this.player.position, x = null) {
    if (!this.duration) return;
    this.zoom = Math.min(Math.max(1, wanted), this.most);
    this.tracks.style.width = `${this.zoom * 100}%`;
    const gutter = this.tracks.clientWidth - this.width;
    this.scroller.scrollLeft =
      gutter + (keep / this.duration) * this.width - (x ?? this.scroller.clientWidth / 2);
    this.zoomedWidth = this.width;
    this.edge = this.scroller.scrollLeft / this.width;
    this.rule();
    this.out.disabled = this.zoom <= 1;
    this.in.disabled = this.zoom >= this.most - 1e-6;
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const x = event.clientX - this.scroller.getBoundingClientRect().left;
    this.setZoom(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8), this.secondsAt(event), x);
  }

  reveal(t) {
    // keeps the cursor in sight of a timeline that is zoomed in
    if (this.zoom <= 1) return;
    const gutter = this.tracks.clientWidth - this.width,
      at = gutter + this.width * (t / this.duration);
    const left = this.scroller.scrollLeft + gutter,
      right = this.scroller.scrollLeft + this.scroller.clientWidth - 40;
    if (at < left || at > right) this.scroller.scrollLeft = at - gutter - 60;
  }

  secondsAt(event) {
    const box = this.ruler.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * this.duration;
  }
}
