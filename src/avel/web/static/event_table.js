// The events as a table; a click goes there.
import { byId, el, lengthWords } from "./dom.js";

const MOST = 2000; // rows; the timeline and what is saved hold all

export class EventTable {
  constructor(editor, player, pick) {
    Object.assign(this, { editor, player, pick, rows: new Map(), rowStates: new WeakMap() });
    this.body = el("tbody", {
      onclick: (event) => {
        const row = event.target.closest("tr[data-event]");
        if (row) pick(Number(row.dataset.event));
      },
    });
    const head = (words, kind = "") => el("th", { scope: "col", className: kind }, words);
    this.table = el(
      "table",
      {},
      el(
        "thead",
        {},
        el("tr", {}, head("Event"), head("Time"), head("Length", "number"), head("Score", "number")),
      ),
      this.body,
    );
    this.empty = el(
      "p",
      { className: "empty" },
    );
    byId("events-scroll").replaceChildren(this.table, this.empty);
  }

  // `finding`: events of a single modality, where none of both was found.
  render(hue, finding = "") {
    const message = finding || "No event that is both seen and heard was found.";
    this.empty.textContent = `${message} Lower the threshold, or add one: drag on a row of the timeline.`;
    const { events, selected } = this.editor;
    this.table.hidden = !events.length;
    this.empty.hidden = events.length > 0;
    byId("events-title").textContent = events.length ? `Events (${events.length})` : "Events";
    const trs = events
      .slice(0, MOST)
      .map((event) => this.shown(event, hue(event.label), event.id === selected));
    this.rows = new Map(trs.map((row, i) => [events[i].id, row]));
    const same =
      trs.length === this.body.children.length && trs.every((row, i) => row === this.body.children[i]);
    if (!same) {
      const focused = document.activeElement;
      this.body.replaceChildren(...trs);
      if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
    }
    if (selected !== this.scrolled) this.reveal(this.rows.get(selected));
    this.scrolled = selected;
  }

  // Scrolls the list, never the page: the pointer may be about to draw on the timeline.
  reveal(row) {
    if (!row) return;
    const list = byId("events-scroll"),
      shown = list.getBoundingClientRect(),
      { top, bottom } = row.getBoundingClientRect();
    const above = shown.top + this.table.tHead.offsetHeight - top;
    if (above > 0) list.scrollTop -= above;
    else if (bottom > shown.bottom) list.scrollTop += bottom - shown.bottom;
  }

  // The event's row, the same element as before where nothing of it has changed.
  shown(event, hue, chosen) {
    const before = this.rows.get(event.id),
      state = this.rowStates.get(before);
    if (state?.event === event && state.hue === hue && state.chosen === chosen) return before;
    const same = state?.event === event && state.hue === hue,
      row = same ? before : this.row(event, hue);
    this.rowStates.set(row, { event, hue, chosen });
    row.classList.toggle("chosen", chosen);
    row.querySelector("button").setAttribute("aria-pressed", String(chosen));
    if (before && !same) {
      const focused = before.contains(document.activeElement);
      before.replaceWith(row);
      if (focused) row.querySelector("button").focus();
    }
    return row;
  }

  row(event, hue) {
    const detail = this.editor.detail(event);
    const times = `${this.words(event.start)} – ${this.words(event.end)}`;
    return el(
      "tr",
      { data: { event: event.id }, style: { "--h": hue } },
      el(
        "th",
        { scope: "row" },
        el(
          "button",
          { type: "button", className: "row", "aria-label": `${event.label} at ${times}` },
          el("i", { className: "dot" }),
          el("span", { title: event.label }, event.label),
        ),
        detail ? el("small", { className: "detail" }, detail) : "",
      ),
      el("td", { className: "time" }, times),
      el("td", { className: "number" }, lengthWords(+(event.end - event.start).toFixed(2))),
      el(
        "td",
        { className: "number score" },
        this.editor.byModel(event)
          ? [
              el("span", {}, this.editor.scoreWords(event)),
              el("i", { className: "bar" }, el("i", { style: { width: `${100 * event.score}%` } })),
            ]
          : el("span", { className: "soft", title: "Corrected by a person: no score of the model" }, "by hand"),
      ),
    );
  }

  words(t) {
    return this.player.words(t, Number.isInteger(t) ? 0 : Number.isInteger(t * 10) ? 1 : 2);
  }

  mark(t) {
    // the rows of what goes on now
    for (const event of this.editor.events) {
      this.rows.get(event.id)?.classList.toggle("on", event.start <= t + 1e-4 && t + 1e-4 < event.end);
    }
  }
}
