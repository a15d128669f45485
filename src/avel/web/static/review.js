// One file: its player, its events, and everything that corrects them.
import { get, job } from "./api.js";
import { announce, ask, button, byId, bytesWords, count, el, lengthWords, problem, toast } from "./dom.js";
import { Moments, showModel, showNotes } from "./about_file.js";
import { EventForm } from "./event_form.js";
import { Editor } from "./editor.js";
import { Saving } from "./saving.js";
import { Actions } from "./actions.js";
import { mac } from "./shortcuts.js";
import { Player } from "./player.js";
import { EventTable } from "./event_table.js";
import { Timeline } from "./timeline.js";
import { DecisionSliders } from "./decision_sliders.js";

const HINT = [
  [["Space"], "play"],
  [["N", "P"], "next, previous event"],
  [["E"], "new"],
  [["I", "O"], "begin, end here"],
  [["L"], "label"],
  [["Del"], "delete"],
  [[mac ? "⌘ S" : "Ctrl S"], "save"],
  [["?"], "all keys"],
];

export class Review {
  constructor(about, jobs) {
    Object.assign(this, { about, jobs, id: null, job: null, data: null, request: null, number: 0 });
    this.editor = new Editor({ duration: 0, step: 1 });
    this.player = new Player();
    const actions = new Actions(this);
    this.timeline = new Timeline(this.editor, this.player, {
      pick: (id, options) => actions.pick(id, options),
      place: (label, start, end) => actions.place(label, start, end),
      relabel: () => actions.relabel(),
    });
    this.moments = new Moments(this.player);
    this.table = new EventTable(this.editor, this.player, (id) => actions.pick(id));
    this.saving = new Saving(about, this.editor, () => this.stored());
    this.sliders = new DecisionSliders({ changed: (settings) => this.decide(settings) });
    this.saving.decision = () => this.sliders.moved;
    this.form = new EventForm(this.editor, this.player, {
      suggest: () => actions.labels(),
      acts: {
        play: () => actions.play(),
        split: () => actions.split(),
        merge: () => actions.merge(),
        remove: () => actions.remove(),
        add: () => actions.add(),
        back: () => actions.focus(),
      },
    });
    this.editor.addEventListener("change", (event) => this.render(event.detail));
    this.player.addEventListener("time", (event) => this.time(event.detail));
    this.player.addEventListener("step", (event) => actions.toEvent(event.detail));
    byId("hint").replaceChildren(
      ...HINT.flatMap(([keys, what]) => [...keys.map((k) => el("kbd", {}, k)), ` ${what} `]),
    );
    const docked = new ResizeObserver(() => this.fit());
    for (const id of ["timeline", "about-file"]) docked.observe(byId(id));
    addEventListener("beforeunload", (event) => {
      if (this.id && this.editor.dirty && this.editor.touched) event.preventDefault();
    });
  }

  // The timeline is docked to the foot of the window: the player gets the height that is left.
  fit() {
    const upper = document.querySelector("#review .upper"),
      { style } = byId("review");
    style.setProperty("--above", `${Math.round(upper.getBoundingClientRect().top + scrollY)}px`);
    style.setProperty("--docked", `${byId("timeline").offsetHeight}px`);
  }

  // ---- coming and going
  async leave() {
    if (this.id && this.data && !(await this.saving.leave())) return false;
    Object.assign(this, { id: null, data: null, job: null });
    this.player.clear();
    this.request?.abort();
    return true;
  }

  async show(id) {
    this.id = id;
    byId("about-file").replaceChildren();
    this.parts(false);
    let current;
    try {
      current = await get(job(id));
    } catch (error) {
      return this.fail(error);
    }
    if (this.id !== id) return;
    this.changed(current, true);
  }

  fail(error) {
    const { id } = this;
    this.data = null;
    this.parts(false);
    byId("title").textContent = this.job?.name ?? "Not found";
    const again = button("retry", "", () => this.show(id), { text: "Try again" });
    byId("about-file").replaceChildren(
      problem(error),
      el(
        "div",
        { className: "buttons" },
        again,
        el("a", { className: "button wide", href: "#/" }, "All files"),
      ),
    );
  }

  deleted(id) {
    if (id === this.id) this.fail({ got: "This file was removed from the list." });
  }

  // What the server says of the job that is shown.
  changed(current, first = false) {
    if (current.id !== this.id) return;
    const before = this.job;
    this.job = current;
    this.head();
    if (current.state === "done") {
      if (first || before?.state !== "done")
        this.open().catch((error) => error.name !== "AbortError" && this.fail(error));
      return;
    }
    this.data = null;
    this.parts(false);
    const box = byId("about-file");
    if (current.state === "failed" || current.state === "cancelled") {
      box.replaceChildren(
        problem(current.error ?? { got: "This file was cancelled." }),
        el(
          "div",
          { className: "buttons" },
          button("retry", "", () => this.jobs.retry(current.id), { text: "Try again" }),
        ),
      );
      return;
    }
    const share = current.progress?.total ? current.progress.done / current.progress.total : null;
    const words =
      current.state === "queued"
        ? "It waits in the queue."
        : share === null
          ? "It is being read."
          : `${Math.floor(100 * share)} % done${current.progress.seconds_left ? `, ${lengthWords(Math.ceil(current.progress.seconds_left))} left` : ""}`;
    if (!box.querySelector(".waiting"))
      box.replaceChildren(
        el(
          "div",
          { className: "card waiting" },
          el("progress", { max: 1, "aria-label": "Progress" }),
          el("p", {}),
          button("cancel", "", () => this.jobs.cancel(this.id), { text: "Cancel" }),
        ),
      );
    const bar = box.querySelector("progress");
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    box.querySelector("p").textContent = words;
  }

  parts(on) {
    for (const part of byId("review").children)
      if (part.id !== "about-file") part.classList.toggle("away", !on);
  }

  head() {
    const { job: current } = this;
    byId("title").textContent = current.name;
    byId("title").title = current.name;
    document.title = `${current.name} · avel`;
    byId("facts").replaceChildren(
      ...[current.duration !== null && lengthWords(current.duration), bytesWords(current.size), current.model]
        .filter(Boolean)
        .map((t) => el("li", {}, t)),
    );
    const key = JSON.stringify([
      current.id,
      current.state === "done",
      this.jobs.beside(current.id, -1),
      this.jobs.beside(current.id, 1),
    ]);
    if (key === this.headed && byId("job-next")) return; // the buttons keep their focus
    this.headed = key;
    const go = (sign, words, by, id) =>
      button(sign, words, () => this.beside(by), { id, disabled: !this.jobs.beside(current.id, by) });
    byId("actions").replaceChildren(
      ...(current.state === "done" ? this.saving.parts : []),
      go("back", "Previous file (Shift+P)", -1, "job-previous"),
      go("forward", "Next file (Shift+N)", 1, "job-next"),
    );
  }

  async open() {
    const { id, job: current } = this;
    const [data, thumbs] = await Promise.all([
      get(job(id, "/timeline")),
      get(job(id, "/thumbs")).catch(() => []),
    ]);
    if (this.id !== id) return;
    this.data = null; // nothing of the file before is drawn on this one's rows
    this.editor.load([]);
    Object.assign(this.editor, {
      duration: data.duration,
      step: data.step,
      last: Math.max(data.duration, data.step),
    });
    this.data = data;
    this.editor.model.clear();
    this.editor.addModelEvents(data.events);
    showNotes(data);
    showModel(data);
    this.parts(true);
    this.player.load(current, data, thumbs);
    this.timeline.load(current, data);
    this.sliders.load(data, {
      models: this.about.models,
      current: current.model,
      again: (model) => this.again(model),
    });
    this.moments.load(thumbs);
    await this.saving.load(id);
    this.player.show();
  }

  // ---- what is shown follows what is corrected
  render(what = "") {
    if (!this.data) return;
    this.timeline.render();
    const hue = (label) => this.timeline.hue(label);
    this.table.render(hue, this.data.finding);
    this.moments.render(this.editor.events, hue);
    this.shown = null;
    this.time(this.player.position);
    const { current } = this.editor;
    const times = current && `, ${this.player.words(current.start)} to ${this.player.words(current.end)}`;
    if (what) announce(`${what}${times ?? ""}`);
  }

  time(t) {
    if (!this.data) return;
    this.timeline.show(t);
    const on = this.editor.events.filter((e) => e.start <= t + 1e-4 && t + 1e-4 < e.end),
      single = this.timeline.singleModality.on(t),
      key = [...on.map((e) => e.id), "", ...single].join();
    if (key !== this.shown) {
      this.shown = key;
      this.table.mark(t);
      byId("now").replaceChildren(
        ...(on.length
          ? on.map((e) =>
              el(
                "span",
                { className: "chip", style: { "--h": this.timeline.hue(e.label) } },
                el("i", { className: "dot" }),
                el("span", {}, `${e.label} ${this.editor.scoreWords(e)}`.trim()),
              ),
            )
          : single.length
            ? []
            : [el("span", { className: "chip none" }, "no event")]),
        ...single.map((words) => el("span", { className: "chip quiet" }, el("span", {}, words))),
      );
    }
    this.moments.mark(t);
  }

  // ---- the decision
  async decide(settings) {
    const { id } = this,
      mine = ++this.number;
    this.request?.abort();
    this.request = new AbortController();
    const query = new URLSearchParams(Object.entries(settings).map(([k, v]) => [k, String(v)]));
    let data;
    try {
      data = await get(job(id, `/timeline?${query}`), { signal: this.request.signal });
    } catch (error) {
      if (error.name !== "AbortError") toast([error.got, error.hint].filter(Boolean).join(" "), { bad: true });
      return;
    }
    if (this.id !== id || mine !== this.number) return;
    this.sliders.show(data.decision);
    this.editor.addModelEvents(data.events);
    const free = !this.editor.touched && !this.saving.corrected;
    this.data = { ...data, cautions: this.data.cautions };
    this.timeline.update(data, free ? null : data.events);
    if (free) this.editor.replace(data.events, "another decision", { hand: false, run: "decide" });
    this.offer(free ? null : data.events);
    announce(count(data.events.length, "event"));
  }

  // Hand-made events are never taken away by a slider: its events are outlined, and offered.
  offer(events) {
    byId("offer")?.remove();
    const drop = () => {
      byId("offer")?.remove();
      this.timeline.update(this.data, null);
    };
    if (!events) return;
    byId("sliders").append(
      el(
        "div",
        { className: "offer", id: "offer", role: "status" },
        el("p", {}, `These settings find ${count(events.length, "event")}, outlined in the timeline.`),
        button(
          "check",
          "",
          () => {
            drop();
            this.editor.replace(events, "another decision");
          },
          { text: "Use them", id: "use-found" },
        ),
        button("cancel", "Leave them", drop),
      ),
    );
  }

  async again(model) {
    const corrected = this.saving.corrected || this.editor.touched;
    if (
      corrected &&
      (await ask("Detect again?", "What you corrected in this file may no longer fit the new events.", [
        ["", "Leave it"],
        ["yes", "Detect again", "primary"],
      ])) !== "yes"
    )
      return;
    this.editor.touched = false;
    this.changed(await this.jobs.retry(this.id, model));
  }

  beside(direction) {
    const id = this.jobs.beside(this.id, direction);
    if (id) location.hash = `#/job/${encodeURIComponent(id)}`;
    else toast(direction > 0 ? "That was the last file." : "That was the first file.");
  }

  async saveAndNext() {
    if (await this.saving.store()) this.beside(1);
  }

  stored() {
    if (this.job) this.jobs.changed({ ...this.job, corrected: this.saving.corrected });
    if (!this.saving.corrected && Object.keys(this.sliders.moved).length) {
      this.sliders.moved = {};
      this.sliders.report();
    }
    this.editor.emitChange();
  }
}
