// The form above the timeline: the chosen event's label and times, and what can be done to it.
import { button, byId, el, lengthWords } from "./dom.js";
import { LabelField } from "./label_field.js";

// Seconds of "1:02.5", "62.5" or "1:00:02"; NaN for anything else.
function secondsOf(text) {
  const parts = text.trim().replace(",", ".").split(":");
  if (!parts.every((p) => /^\d+(\.\d+)?$/.test(p)) || parts.length > 3) return NaN;
  return parts.reduce((sum, p) => sum * 60 + Number(p), 0);
}

export class EventForm {
  // `acts`: play, split, merge, remove, add, back (gives the focus back to the event).
  constructor(editor, player, { suggest, acts }) {
    Object.assign(this, { editor, player });
    this.label = new LabelField({
      suggest,
      chosen: (text) => editor.setLabel(editor.selected, text),
      name: "Label of the chosen event",
    });
    this.label.input.id = "event-label";
    this.label.input.addEventListener("left", acts.back);
    const time = (name, words) =>
      el("input", {
        className: "field time",
        id: `event-${name}`,
        inputMode: "decimal",
        autocomplete: "off",
        "aria-label": words,
        onfocus: (e) => e.target.select(),
        onchange: () => this.timed(name),
        onkeydown: (e) => {
          const by = { ArrowUp: 1, ArrowDown: -1 }[e.key];
          if (by) {
            e.preventDefault();
            this.nudge(name, by * (e.shiftKey ? 0.1 : editor.step));
          }
          if (e.key === "Enter") {
            this.timed(name);
            acts.back();
          }
          if (e.key === "Escape") {
            this.show(true);
            acts.back();
          }
        },
      });
    this.start = time("start", "Beginning");
    this.end = time("end", "End");
    this.length = el("span", { className: "soft length" });
    this.form = el(
      "div",
      { className: "event-form", role: "group", "aria-label": "The chosen event" },
      this.label.box,
      el("span", { className: "times" }, this.start, "–", this.end),
      this.length,
      el(
        "span",
        { className: "buttons" },
        button("play", "Play the event (R)", acts.play, { id: "play-event" }),
        button("split", "Split at the position (S)", acts.split, { id: "split" }),
        button("merge", "Merge with the next of its label (M)", acts.merge, { id: "merge" }),
        button("trash", "Delete the event (Delete)", acts.remove, { id: "delete" }),
      ),
    );
    this.invite = el(
      "span",
      { className: "soft invitation" },
      "Choose an event to change it, drag its edges, or drag on a row for a new one.",
    );
    byId("event-tools").replaceChildren(
      this.form,
      this.invite,
      button("add", "New event at the position (E)", acts.add, { text: "New event", id: "new-event" }),
    );
    editor.addEventListener("change", () => this.show());
    this.show();
  }

  show(force = false) {
    const event = this.editor.current;
    this.form.hidden = !event;
    this.invite.hidden = Boolean(event);
    if (!event) return;
    this.label.set(event.label);
    for (const [box, t] of [
      [this.start, event.start],
      [this.end, event.end],
    ]) {
      if (force || document.activeElement !== box || this.nudged) box.value = this.words(t);
      box.setAttribute("aria-invalid", "false");
    }
    this.length.textContent = lengthWords(event.end - event.start);
  }

  words(t) {
    return this.player.words(t, Math.abs(t * 10 - Math.round(t * 10)) > 1e-6 ? 3 : 1);
  }

  timed(name) {
    const event = this.editor.current,
      box = this[name],
      t = secondsOf(box.value);
    if (!event) return;
    const good =
      Number.isFinite(t) && t <= this.editor.last && (name === "start" ? t < event.end : t > event.start);
    box.setAttribute("aria-invalid", String(!good));
    if (good)
      this.editor.setEdges(event.id, name === "start" ? t : event.start, name === "end" ? t : event.end);
  }

  nudge(name, by) {
    const event = this.editor.current;
    this.nudged = true;
    if (name === "start")
      this.editor.setEdges(event.id, Math.min(event.start + by, event.end - this.editor.least), event.end, {
        run: `start ${event.id}`,
      });
    else this.editor.setEdges(event.id, event.start, event.end + by, { run: `end ${event.id}` });
    this.nudged = false;
    this.player.seek(name === "start" ? this.editor.current.start : this.editor.current.end);
  }
}
