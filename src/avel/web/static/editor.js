// The events under correction, with their undo history: plain data, no page.

const round = (t) => Math.round(t * 1000) / 1000;
const sorted = (events) =>
  [...events].sort((a, b) => a.start - b.start || a.end - b.end || a.label.localeCompare(b.label));

// What is compared and saved of events, as text; they are never changed in place, so the text is cached.
const texts = new WeakMap();
function bare(events) {
  if (!texts.has(events))
    texts.set(events, JSON.stringify(sorted(events).map((e) => [e.start, e.end, e.label])));
  return texts.get(events);
}
const LONGEST_LABEL = 200;

// Characters that no label may hold, and blanks at its ends, are dropped.
const cleanLabel = (text) =>
  text
    .replace(/\p{Cc}/gu, " ")
    .trim()
    .slice(0, LONGEST_LABEL);

const key = ({ start, end, label }) => `${start} ${end} ${label}`;

export class Editor extends EventTarget {
  // `step`: seconds of a segment. Emits "change" whenever events, selection or history changed.
  constructor({ duration, step }) {
    super();
    Object.assign(this, { duration, step, events: [], selected: null, touched: false });
    this.last = Math.max(duration, step);
    this.done = [];
    this.undone = [];
    this.savedText = bare([]);
    this.number = 0;
    this.model = new Map(); // the details of the model's events by key, by whatever decision
  }

  // Events of the model: others are a person's, and have no score.
  addModelEvents(events) {
    for (const event of events) this.model.set(key(event), event.detail);
  }
  byModel(event) {
    return this.model.has(key(event));
  }
  // An event's score in words; "" for a person's event.
  scoreWords(event) {
    return this.byModel(event) ? event.score.toFixed(2) : "";
  }

  // "mostly heard, heard 1.2 s later"; "" where the model doesn't tell, and for a person's event.
  detail(event) {
    return this.model.get(key(event)) ?? "";
  }

  // Events of the server, with numbers of their own; nothing before them can be brought back.
  load(events) {
    this.events = this.numbered(events);
    this.savedText = bare(this.events);
    Object.assign(this, { done: [], undone: [], selected: null, touched: false });
    this.emitChange();
  }

  numbered(events) {
    return sorted(events).map((e) => ({ ...e, id: ++this.number }));
  }

  // Whether the events differ from those that the server has.
  get dirty() {
    return bare(this.events) !== this.savedText;
  }
  get current() {
    return this.events.find((e) => e.id === this.selected) ?? null;
  }

  saved(events = this.events) {
    this.savedText = bare(events);
    this.touched = this.dirty && this.touched;
    this.emitChange();
  }

  emitChange(what = "") {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  select(id) {
    if (id === this.selected) return;
    this.selected = id;
    this.emitChange();
  }

  // One change: `events` take the place of those here. Changes with the same `run` that follow
  // one another, such as nudges, are undone as one.
  commit(what, events, { selected = this.selected, run = null, hand = true } = {}) {
    const last = this.done.at(-1);
    if (!(run && last?.run === run)) {
      this.done.push({ what, run, events: this.events, selected: this.selected, touched: this.touched });
      if (this.done.length > 500) this.done.shift();
    }
    this.undone = [];
    Object.assign(this, { events: sorted(events), selected, touched: this.touched || hand });
    this.emitChange(what);
  }

  swap(from, to, words) {
    const state = from.pop();
    if (!state) return;
    to.push({
      what: state.what,
      run: null,
      events: this.events,
      selected: this.selected,
      touched: this.touched,
    });
    Object.assign(this, { events: state.events, touched: state.touched || this.dirty });
    this.selected = this.events.some((e) => e.id === state.selected) ? state.selected : null;
    this.emitChange(`${words}: ${state.what}`);
  }
  undo() {
    this.swap(this.done, this.undone, "undone");
  }
  redo() {
    this.swap(this.undone, this.done, "done again");
  }

  // The nearest edge of a segment, or, when free, the nearest hundredth.
  snap(t, free = false) {
    const grid = free ? 0.01 : this.step;
    const edge = Math.round(t / grid) * grid;
    // a file's end is an edge, too, wherever it falls
    const best = !free && Math.abs(t - this.duration) < Math.abs(t - edge) ? this.duration : edge;
    return round(Math.min(Math.max(0, best), this.last));
  }

  get least() {
    return Math.min(0.01, this.last);
  }

  // An event with new edges, at least `least` long and within the file.
  placed(event, start, end) {
    const a = round(Math.min(Math.max(0, start), this.last - this.least));
    return { ...event, start: a, end: round(Math.max(Math.min(end, this.last), a + this.least)) };
  }

  change(id, values, what, options) {
    const events = this.events.map((e) => (e.id === id ? { ...e, ...values } : e));
    const same = bare(events) === bare(this.events);
    if (!same) this.commit(what, events, { selected: id, ...options });
    return !same;
  }

  setEdges(id, start, end, options) {
    const event = this.events.find((e) => e.id === id);
    if (!event) return false;
    const { start: a, end: b } = this.placed(event, start, end);
    return this.change(id, { start: a, end: b }, `“${event.label}” moved`, options);
  }

  setLabel(id, text) {
    const label = cleanLabel(text);
    return Boolean(label) && this.change(id, { label, score: 1 }, `label “${label}”`);
  }

  add(label, start, end) {
    const event = { ...this.placed({ label: cleanLabel(label), score: 1 }, start, end), id: ++this.number };
    if (event.label) this.commit(`“${event.label}” added`, [...this.events, event], { selected: event.id });
    return event;
  }

  remove(id) {
    const at = this.events.findIndex((e) => e.id === id);
    if (at < 0) return;
    const rest = this.events.filter((e) => e.id !== id);
    this.commit(`“${this.events[at].label}” deleted`, rest, {
      selected: rest[Math.min(at, rest.length - 1)]?.id ?? null,
    });
  }

  // Two events of one, at an instant within it.
  split(id, t) {
    const event = this.events.find((e) => e.id === id),
      at = round(t);
    if (!event || at < event.start + this.least || at > event.end - this.least) return false;
    const second = { ...event, start: at, id: ++this.number };
    const events = this.events.map((e) => (e.id === id ? { ...e, end: at } : e));
    this.commit(`“${event.label}” split`, [...events, second], { selected: second.id });
    return true;
  }

  // An event and the next one of its label become one.
  merge(id) {
    const event = this.events.find((e) => e.id === id);
    const next =
      event && this.events.find((e) => e.id !== id && e.label === event.label && e.start >= event.start);
    if (!next) return false;
    const whole = { ...event, end: Math.max(event.end, next.end), score: Math.max(event.score, next.score) };
    const events = this.events.filter((e) => e.id !== next.id).map((e) => (e.id === id ? whole : e));
    this.commit(`two “${event.label}” merged`, events, { selected: id });
    return true;
  }

  // Other events in place of all, e.g. those of another threshold.
  replace(events, what, options = {}) {
    if (bare(events) === bare(this.events)) return false;
    this.commit(what, this.numbered(events), { selected: null, ...options });
    return true;
  }

  toSave() {
    return this.events.map(({ start, end, label, score }) => ({ start, end, label, score }));
  }
}
