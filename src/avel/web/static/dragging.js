// What a pointer does on the timeline: seek, choose, drag an edge or an event, draw a new one.
import { el } from "./dom.js";

const FAR = 4; // pixels before a press becomes a drag

export class Dragging {
  constructor(timeline) {
    Object.assign(this, { timeline, editor: timeline.editor, tracks: timeline.tracks, held: null });
    const { tracks } = this;
    tracks.addEventListener("pointerdown", (event) => this.down(event));
    tracks.addEventListener("pointermove", (event) => (this.held ? this.move(event) : this.hover(event)));
    tracks.addEventListener("pointerup", (event) => this.up(event));
    tracks.addEventListener("pointercancel", () => this.end());
    tracks.addEventListener("focusin", (event) => {
      const apart = event.target.closest(".apart:focus-visible");
      if (!apart) return;
      const { left: clientX, bottom: clientY } = apart.getBoundingClientRect();
      this.tell({ clientX, clientY: clientY - 12 }, apart.dataset.tip, [apart.dataset.times]);
    });
    tracks.addEventListener("focusout", () => this.held || (timeline.tip.hidden = true));
    tracks.addEventListener("pointerleave", () => this.held || (timeline.tip.hidden = true));
    tracks.addEventListener("click", (event) => {
      // by keyboard, or by a finger's tap
      if (!this.dragged && (event.detail === 0 || event.pointerType !== "mouse")) this.tap(event);
    });
    tracks.addEventListener(
      "dblclick",
      (event) => event.target.closest(".event") && timeline.hooks.relabel(),
    );
    addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Escape" || !this.held) return;
        event.stopImmediatePropagation();
        this.end();
      },
      true,
    );
  }

  down(event) {
    const lane = event.target.closest(".lane");
    this.dragged = false;
    if (!lane || event.button !== 0 || this.held) return;
    const box = event.target.closest(".event"),
      edge = event.target.closest(".edge");
    const id = box ? Number(box.dataset.id) : null,
      mouse = event.pointerType === "mouse";
    const own = lane.dataset.label !== undefined;
    const grabbed = this.editor.events.find((e) => e.id === id);
    let does = "seek";
    if (grabbed && (mouse || id === this.editor.selected))
      does = edge ? (edge.classList.contains("start") ? "start" : "end") : "move";
    else if (!grabbed && mouse) does = own ? "new" : "scrub";
    this.held = {
      does,
      id,
      grabbed,
      lane,
      x: event.clientX,
      y: event.clientY,
      from: this.timeline.secondsAt(event),
      moved: false,
      pointer: event.pointerId,
    };
    if (mouse) event.preventDefault(); // no selecting of text…
    document.activeElement?.closest("input, textarea")?.blur(); // …but fields still end what they do
    if (does === "scrub") this.timeline.player.seek(this.held.from);
  }

  move(event) {
    const { held } = this;
    if (event.pointerId !== held.pointer) return;
    if (!held.moved && Math.hypot(event.clientX - held.x, event.clientY - held.y) < FAR) return;
    if (held.does === "seek") return;
    if (!held.moved) {
      held.moved = true;
      this.tracks.setPointerCapture(held.pointer);
      this.tracks.classList.add("dragging");
      if (held.grabbed) this.editor.select(held.id);
    }
    const t = this.timeline.secondsAt(event);
    if (held.does === "scrub") return this.timeline.player.seek(t);
    this.scroll(event);
    this.preview(this.wanted(t, event), event);
  }

  // Where the event would be: {start, end, label}.
  wanted(t, event) {
    const { held, editor } = this,
      free = event.shiftKey || event.altKey,
      snap = (at) => editor.snap(at, free);
    if (held.does === "new") {
      const [a, b] = [held.from, t].sort((x, y) => x - y);
      // a new event holds every segment that was touched
      const grid = free ? 0.01 : editor.step,
        start = Math.floor(a / grid + 1e-6) * grid,
        end = Math.ceil(b / grid - 1e-6) * grid;
      return { ...editor.placed({}, start, Math.max(end, start + grid)), label: held.lane.dataset.label };
    }
    const { start, end, label } = held.grabbed;
    if (held.does === "start")
      return {
        start: Math.min(snap(t), end - (free ? editor.least : Math.min(editor.step, end - start))),
        end,
        label,
      };
    if (held.does === "end")
      return {
        start,
        end: Math.max(snap(t), start + (free ? editor.least : Math.min(editor.step, end - start))),
        label,
      };
    const length = end - start,
      at = Math.min(Math.max(0, snap(start + t - held.from)), editor.last - length);
    const under = document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".lane");
    return { ...editor.placed({}, at, at + length), label: under?.dataset.label || label };
  }

  preview(now, event) {
    const { held, timeline } = this;
    held.now = now;
    held.box ??= held.grabbed
      ? timeline.boxOf(held.id)
      : held.lane.appendChild(el("i", { className: "event drawn" }));
    const home = now.label ? timeline.rows.get(now.label)?.lane : held.lane;
    if (home && held.box.parentElement !== home) home.append(held.box);
    for (const [k, v] of Object.entries(timeline.at(now.start, now.end))) held.box.style.setProperty(k, v);
    const words = (t) => timeline.player.words(t, t % 1 ? 2 : 1);
    this.tell(event, `${words(now.start)} – ${words(now.end)}`, [
      now.label || "another label",
      `${+(now.end - now.start).toFixed(2)} s`,
    ]);
    // the picture at the edge that moves; of an end the last one within
    const edge =
      held.does === "end" ? Math.max(now.start, now.end - 0.04) : held.does === "new" ? null : now.start;
    if (edge !== null && edge !== held.seen) timeline.player.seek((held.seen = edge));
  }

  up(event) {
    const { held, timeline, editor } = this;
    if (!held || event.pointerId !== held.pointer) return;
    const now = held.now;
    this.end();
    // a finger's tap is a click, too: were it taken here, that click would hit what moved under it
    if (!held.moved) return void (event.pointerType === "mouse" && this.tap(event));
    this.dragged = true; // some browsers send a click, too
    if (!now) return;
    if (held.does === "new") return timeline.hooks.place(now.label, now.start, now.end);
    const relabelled = now.label !== held.grabbed.label;
    editor.change(
      held.id,
      { ...now, ...(relabelled ? { score: 1 } : {}) },
      relabelled ? `label “${now.label}”` : `“${now.label}” moved`,
    );
    timeline.boxOf(held.id)?.focus({ preventScroll: true });
  }

  tap(event) {
    const box = event.target.closest(".event"),
      { timeline } = this;
    if (box) return timeline.hooks.pick(Number(box.dataset.id), { focus: true });
    if (event.target.closest(".apart")) return; // it goes to its own begin
    if (!event.target.closest(".lane") || event.detail === 0) return;
    this.editor.select(null);
    timeline.player.seek(timeline.secondsAt(event));
  }

  end() {
    // whatever wasn't committed is as it was
    const { held, timeline } = this;
    if (!held) return;
    this.held = null;
    this.tracks.classList.remove("dragging");
    timeline.tip.hidden = true;
    if (held.box?.classList.contains("drawn")) held.box.remove();
    else if (held.box) timeline.filled.delete(held.box);
    if (held.moved) timeline.render();
  }

  scroll(event) {
    const box = this.timeline.scroller.getBoundingClientRect();
    if (event.clientX > box.right - 24) this.timeline.scroller.scrollLeft += 16;
    if (event.clientX < box.left + 24) this.timeline.scroller.scrollLeft -= 16;
  }

  hover(event) {
    const { timeline } = this;
    if (event.pointerType !== "mouse" || !event.target.closest(".lane"))
      return void (timeline.tip.hidden = true);
    const apart = event.target.closest(".apart");
    if (apart) return this.tell(event, apart.dataset.tip, [apart.dataset.times]);
    const t = timeline.secondsAt(event),
      { bin, lanes } = timeline.data.scores ?? { bin: 1, lanes: [] };
    const index = Math.floor(t / bin + 1e-6);
    const best = lanes
      .filter((l) => l.values.length)
      .map((l) => [l.label, l.values[Math.min(index, l.values.length - 1)]]);
    const over = event.target.closest(".lane").dataset.label;
    const shown = over
      ? best.filter(([label]) => label === over)
      : best.sort((a, b) => b[1] - a[1]).slice(0, 4);
    this.tell(
      event,
      timeline.player.words(t),
      shown.map(([label, value]) => `${label} ${(value / 1000).toFixed(2)}`),
    );
  }

  tell(event, head, lines) {
    const { tip } = this.timeline,
      box = this.tracks.getBoundingClientRect();
    tip.replaceChildren(el("b", {}, head), ...lines.map((line) => el("div", {}, line)));
    tip.style.left = `${event.clientX - box.left}px`;
    tip.style.top = `${Math.max(30, event.clientY - box.top + 18)}px`;
    tip.classList.toggle("left", event.clientX > innerWidth * 0.6);
    tip.hidden = false;
  }
}
