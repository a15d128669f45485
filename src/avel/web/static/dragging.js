// What a pointer does on the timeline: seek, choose, drag an edge or an event, draw a new one.
import { el } from "./dom.js";

const FAR = 4; // pixels before a press becomes a drag

export class Dragging {
  constructor(timeline) {
    Object.assign(this, { timeline, editor: timeline.editor, tracks: timeline.tracks, drag: null });
    const { tracks } = this;
    tracks.addEventListener("pointerdown", (event) => this.down(event));
    tracks.addEventListener("pointermove", (event) => (this.drag ? this.move(event) : this.hover(event)));
    tracks.addEventListener("pointerup", (event) => this.up(event));
    tracks.addEventListener("pointercancel", () => this.end());
    tracks.addEventListener("focusin", (event) => {
      const single = event.target.closest(".single:focus-visible");
      if (!single) return;
      const { left: clientX, bottom: clientY } = single.getBoundingClientRect();
      this.showTip({ clientX, clientY: clientY - 12 }, single.dataset.tip, [single.dataset.times]);
    });
    tracks.addEventListener("focusout", () => this.drag || (timeline.tip.hidden = true));
    tracks.addEventListener("pointerleave", () => this.drag || (timeline.tip.hidden = true));
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
        if (event.key !== "Escape" || !this.drag) return;
        event.stopImmediatePropagation();
        this.end();
      },
      true,
    );
  }

  down(event) {
    const lane = event.target.closest(".lane");
    this.dragged = false;
    if (!lane || event.button !== 0 || this.drag) return;
    const box = event.target.closest(".event"),
      edge = event.target.closest(".edge");
    const id = box ? Number(box.dataset.id) : null,
      mouse = event.pointerType === "mouse";
    const editable = lane.dataset.label !== undefined;
    const grabbed = this.editor.events.find((e) => e.id === id);
    let action = "seek";
    if (grabbed && (mouse || id === this.editor.selected))
      action = edge ? (edge.classList.contains("start") ? "start" : "end") : "move";
    else if (!grabbed && mouse) action = editable ? "new" : "scrub";
    this.drag = {
      action,
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
    if (action === "scrub") this.timeline.player.seek(this.drag.from);
  }

  move(event) {
    const { drag } = this;
    if (event.pointerId !== drag.pointer) return;
    if (!drag.moved && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < FAR) return;
    if (drag.action === "seek") return;
    if (!drag.moved) {
      drag.moved = true;
      this.tracks.setPointerCapture(drag.pointer);
      this.tracks.classList.add("dragging");
      if (drag.grabbed) this.editor.select(drag.id);
    }
    const t = this.timeline.secondsAt(event);
    if (drag.action === "scrub") return this.timeline.player.seek(t);
    this.scroll(event);
    this.preview(this.wanted(t, event), event);
  }

  // Where the event would be: {start, end, label}.
  wanted(t, event) {
    const { drag, editor } = this,
      free = event.shiftKey || event.altKey,
      snap = (at) => editor.snap(at, free);
    if (drag.action === "new") {
      const [a, b] = [drag.from, t].sort((x, y) => x - y);
      // a new event holds every segment that was touched
      const grid = free ? 0.01 : editor.step,
        start = Math.floor(a / grid + 1e-6) * grid,
        end = Math.ceil(b / grid - 1e-6) * grid;
      return { ...editor.placed({}, start, Math.max(end, start + grid)), label: drag.lane.dataset.label };
    }
    const { start, end, label } = drag.grabbed;
    if (drag.action === "start")
      return {
        start: Math.min(snap(t), end - (free ? editor.least : Math.min(editor.step, end - start))),
        end,
        label,
      };
    if (drag.action === "end")
      return {
        start,
        end: Math.max(snap(t), start + (free ? editor.least : Math.min(editor.step, end - start))),
        label,
      };
    const length = end - start,
      at = Math.min(Math.max(0, snap(start + t - drag.from)), editor.last - length);
    const under = document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".lane");
    return { ...editor.placed({}, at, at + length), label: under?.dataset.label || label };
  }

  preview(now, event) {
    const { drag, timeline } = this;
    drag.now = now;
    drag.box ??= drag.grabbed
      ? timeline.boxOf(drag.id)
      : drag.lane.appendChild(el("i", { className: "event drawn" }));
    const home = now.label ? timeline.rows.get(now.label)?.lane : drag.lane;
    if (home && drag.box.parentElement !== home) home.append(drag.box);
    for (const [k, v] of Object.entries(timeline.at(now.start, now.end))) drag.box.style.setProperty(k, v);
    const words = (t) => timeline.player.words(t, t % 1 ? 2 : 1);
    this.showTip(event, `${words(now.start)} – ${words(now.end)}`, [
      now.label || "another label",
      `${+(now.end - now.start).toFixed(2)} s`,
    ]);
    // the picture at the edge that moves; of an end the last one within
    const edge =
      drag.action === "end" ? Math.max(now.start, now.end - 0.04) : drag.action === "new" ? null : now.start;
    if (edge !== null && edge !== drag.shown) timeline.player.seek((drag.shown = edge));
  }

  up(event) {
    const { drag, timeline, editor } = this;
    if (!drag || event.pointerId !== drag.pointer) return;
    const now = drag.now;
    this.end();
    // a finger's tap is a click, too: were it taken here, that click would hit what moved under it
    if (!drag.moved) return void (event.pointerType === "mouse" && this.tap(event));
    this.dragged = true; // some browsers send a click, too
    if (!now) return;
    if (drag.action === "new") return timeline.hooks.place(now.label, now.start, now.end);
    const relabelled = now.label !== drag.grabbed.label;
    editor.change(
      drag.id,
      { ...now, ...(relabelled ? { score: 1 } : {}) },
      relabelled ? `label “${now.label}”` : `“${now.label}” moved`,
    );
    timeline.boxOf(drag.id)?.focus({ preventScroll: true });
  }

  tap(event) {
    const box = event.target.closest(".event"),
      { timeline } = this;
    if (box) return timeline.hooks.pick(Number(box.dataset.id), { focus: true });
    if (event.target.closest(".single")) return; // it seeks to its start
    if (!event.target.closest(".lane") || event.detail === 0) return;
    this.editor.select(null);
    timeline.player.seek(timeline.secondsAt(event));
  }

  end() {
    // whatever wasn't committed is as it was
    const { drag, timeline } = this;
    if (!drag) return;
    this.drag = null;
    this.tracks.classList.remove("dragging");
    timeline.tip.hidden = true;
    if (drag.box?.classList.contains("drawn")) drag.box.remove();
    else if (drag.box) timeline.filled.delete(drag.box);
    if (drag.moved) timeline.render();
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
    const single = event.target.closest(".single");
    if (single) return this.showTip(event, single.dataset.tip, [single.dataset.times]);
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
    this.showTip(
      event,
      timeline.player.words(t),
      shown.map(([label, value]) => `${label} ${(value / 1000).toFixed(2)}`),
    );
  }

  showTip(event, head, lines) {
    const { tip } = this.timeline,
      box = this.tracks.getBoundingClientRect();
    tip.replaceChildren(el("b", {}, head), ...lines.map((line) => el("div", {}, line)));
    tip.style.left = `${event.clientX - box.left}px`;
    tip.style.top = `${Math.max(30, event.clientY - box.top + 18)}px`;
    tip.classList.toggle("left", event.clientX > innerWidth * 0.6);
    tip.hidden = false;
  }
}
