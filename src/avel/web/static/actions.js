// Actions on the events of a file, by keyboard and by other parts of the page.
import { toast } from "./dom.js";
import { nameOf } from "./shortcuts.js";

export class Actions {
  // `review`: the file's view, with its editor, player, timeline, form and saving.
  constructor(review) {
    Object.assign(this, { review, editor: review.editor, player: review.player });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  get timeline() {
    return this.review.timeline;
  }
  get current() {
    return this.editor.current;
  }
  pick(id, { focus = false } = {}) {
    const event = this.editor.events.find((e) => e.id === id);
    if (!event) return;
    this.editor.select(id);
    this.player.seek(event.start);
    if (focus) this.focus();
  }
  focus() {
    (this.timeline.boxOf(this.editor.selected) ?? this.timeline.ruler)?.focus({ preventScroll: true });
  }
  play() {
    if (this.current) this.player.span(this.current.start, this.current.end);
  }
  split() {
    if (this.current && !this.editor.split(this.current.id, this.player.position))
      toast("Go to a place within the event to split it there.");
  }
  merge() {
    if (this.current && !this.editor.merge(this.current.id))
      toast(`No later event is called “${this.current.label}”.`);
  }
  remove() {
    if (this.current) {
      this.editor.remove(this.current.id);
      this.focus();
    }
  }
  relabel() {
    if (this.current) {
      this.review.form.label.input.focus();
      this.review.form.label.open();
    }
  }

  likely() {
    return this.timeline.lanes[0]?.label ?? this.review.data.classes[0] ?? "event";
  }
  labels() {
    return [...new Set([...this.editor.events.map((e) => e.label), ...this.review.data.classes])];
  }

  add() {
    this.place(this.current?.label ?? this.likely());
  }

  // A new event; without times a segment at the position, without a label one is asked for.
  place(label, start = this.segment(), end = start + this.editor.step) {
    const named = label || `event ${this.editor.events.length + 1}`;
    this.editor.add(named, start, end);
    this.focus();
    if (!label) this.relabel();
  }

  segment() {
    // where the one at the position begins
    const { step, last } = this.editor;
    return Math.max(0, Math.min(Math.floor(this.player.position / step + 1e-3) * step, last - step));
  }

  edge(name) {
    const { current: event, editor } = this,
      t = editor.snap(this.player.position, true);
    if (!event) return;
    const good = name === "start" ? t < event.end : t > event.start;
    if (!good)
      return toast(
        name === "start"
          ? "The position lies behind the event’s end."
          : "The position lies before the event’s beginning.",
      );
    editor.setEdges(event.id, name === "start" ? t : event.start, name === "end" ? t : event.end);
  }

  nudge(by, which) {
    const { current: event, editor } = this,
      move = by * editor.step,
      run = `${which} ${event.id}`;
    if (which === "move") {
      const start = Math.min(Math.max(0, event.start + move), editor.last - (event.end - event.start));
      editor.setEdges(event.id, start, start + event.end - event.start, { run });
    } else if (which === "start")
      editor.setEdges(
        event.id,
        Math.min(event.start + move, event.end - Math.min(editor.step, event.end - event.start)),
        event.end,
        { run },
      );
    else
      editor.setEdges(
        event.id,
        event.start,
        Math.max(event.end + move, event.start + Math.min(editor.step, event.end - event.start)),
        { run },
      );
    this.player.seek(which === "end" ? Math.max(0, this.current.end - 0.04) : this.current.start);
    this.focus();
  }

  toEvent(direction) {
    const { events } = this.editor,
      t = this.player.position,
      at = events.findIndex((e) => e.id === this.editor.selected);
    // with none chosen, an event that begins here counts too: the one at 0 has nothing before it
    const ahead = at < 0 ? -0.01 : 0.01;
    const beyond =
      direction > 0
        ? events.find((e) => e.start > t + ahead)
        : (events.findLast((e) => e.start < t - 0.3) ??
          (at < 0 ? events.findLast((e) => e.start <= t + 0.01) : undefined));
    const next = at >= 0 && Math.abs(events[at].start - t) < 0.05 ? events[at + direction] : beyond;
    if (next) this.pick(next.id, { focus: true });
  }

  // ---- keys
  key(event) {
    if (!this.review.data || document.querySelector("dialog[open]")) return;
    const name = nameOf(event),
      { target } = event;
    const always = {
      "ctrl+s": () => this.review.saving.store(),
      "ctrl+Enter": () => this.review.saveAndNext(),
    };
    const typing = target.closest("input:not([type=range]):not([type=checkbox]), textarea, select, .menu");
    const act = always[name] ?? (typing ? null : this.acts(target)[name]);
    if (!act) return;
    event.preventDefault();
    if (typing) target.blur(); // what was typed counts, before it is saved
    act();
    if (typing) this.focus();
  }

  acts(target) {
    const on = target.closest(".event") && this.current,
      slider = target.closest("input[type=range]");
    const step = (by) => () => this.player.seek(this.player.position + by * this.editor.step);
    const actions = {
      "ctrl+z": () => this.editor.undo(),
      "ctrl+shift+z": () => this.editor.redo(),
      "ctrl+y": () => this.editor.redo(),
      n: () => this.toEvent(1),
      p: () => this.toEvent(-1),
      "shift+n": () => this.review.beside(1),
      "shift+p": () => this.review.beside(-1),
      a: () => this.player.toggleAttention(),
      h: () => this.timeline.singleModality.toggle(),
      e: () => this.add(),
      r: () => this.play(),
      i: () => this.edge("start"),
      o: () => this.edge("end"),
      l: () => this.relabel(),
      s: () => this.split(),
      m: () => this.merge(),
      Delete: () => this.remove(),
      Backspace: () => this.remove(),
      Escape: () => {
        this.editor.select(null);
        this.timeline.ruler.focus({ preventScroll: true });
      },
      "+": () => this.timeline.setZoom(this.timeline.zoom * 2),
      "=": () => this.timeline.setZoom(this.timeline.zoom * 2),
      "-": () => this.timeline.setZoom(this.timeline.zoom / 2),
    };
    for (let k = 1; k <= 9; k++) actions[String(k)] = () => this.byNumber(k - 1);
    if (!slider && !target.closest("audio, video, .scroll, pre")) {
      Object.assign(
        actions,
        on
          ? {
              ArrowLeft: () => this.nudge(-1, "move"),
              ArrowRight: () => this.nudge(1, "move"),
              "alt+ArrowLeft": () => this.nudge(-1, "start"),
              "alt+ArrowRight": () => this.nudge(1, "start"),
              "shift+ArrowLeft": () => this.nudge(-1, "end"),
              "shift+ArrowRight": () => this.nudge(1, "end"),
            }
          : { ArrowLeft: step(-1), ArrowRight: step(1) },
      );
    }
    if (target.closest("#ruler"))
      Object.assign(actions, {
        Home: () => this.player.seek(0),
        End: () => this.player.seek(this.player.duration),
      });
    if (!target.closest("button:not(.event), a, summary, audio, video"))
      actions[" "] = () => this.player.toggle();
    return actions;
  }

  // Row k's label for the chosen event; without one a new event of it.
  byNumber(k) {
    const label = this.timeline.lanes[k]?.label;
    if (!label) return;
    if (this.current) {
      this.editor.setLabel(this.current.id, label);
      this.focus();
    } else this.place(label);
  }
}
