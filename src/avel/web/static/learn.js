// The card about training: the labelled files, the training as it runs, and the models that came of it.
import { call, get, post } from "./api.js";
import { announce, ask, button, byId, count, el, problem, toast } from "./dom.js";

const POLL = 1000; // milliseconds between two requests while a training runs
const FEWEST = 3;

const share = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);

// What a running training does, in words.
export function stageWords({ stage, done, total }) {
  const epochs = `epoch ${done} of ${total}`;
  if (stage === "extract") return `Extracting features: ${done} of ${count(total, "file")}`;
  if (stage === "evaluate") return "Comparing the models";
  if (stage.startsWith("fold")) return `Cross-validation, ${stage}: ${epochs}`;
  return stage === "all clips" ? `Training on all clips: ${epochs}` : `Training: ${epochs}`;
}

export class LearnCard {
  // `changed()` is called when the models in `about` have changed, `use(name)` chooses one for new files.
  constructor(about, { changed, use }) {
    Object.assign(this, { about, changed, use, timer: 0, training: null, dataset: null, compared: null });
    document.addEventListener("visibilitychange", () => this.follow());
  }

  get running() {
    return this.training?.state === "running";
  }

  async show() {
    if (!this.about.dataset) return;
    try {
      [this.dataset, this.training] = await Promise.all([get("dataset"), get("training")]);
    } catch {
      return;
    }
    this.render();
    this.follow();
  }

  // Ask again while a training runs and the page can be seen.
  follow() {
    clearTimeout(this.timer);
    if (!this.running || document.hidden || byId("home").hidden) return;
    this.timer = setTimeout(async () => {
      try {
        await this.update(await get("training"));
      } catch {
        /* the list says that the server can't be reached */
      }
      this.follow();
    }, POLL);
  }

  async update(training) {
    const ended = this.running && training.state !== "running";
    this.training = training;
    if (ended && training.state === "done") await this.refresh();
    if (!ended && this.running && byId("training-bar")) this.showProgress();
    else this.render();
    if (!ended) return;
    announce(
      training.state === "done" ? `${training.model} is trained.` : `The training is ${training.state}.`,
    );
    (byId("train") ?? byId("learn-title")).focus({ preventScroll: true });
  }

  async refresh() {
    Object.assign(this.about, await get("about"));
    this.changed();
  }

  async act(work) {
    try {
      await work();
    } catch (error) {
      toast([error.got, error.hint].filter(Boolean).join(": "), { bad: true });
      await this.show();
    }
  }

  begin() {
    return this.act(async () => {
      await this.update(await post("training", { model: this.compared?.value || null }));
      this.follow();
      byId("cancel-training")?.focus({ preventScroll: true });
    });
  }

  cancel() {
    return this.act(async () => this.update(await call("DELETE", "training")));
  }

  async remove(name) {
    const answer = await ask("Delete this model?", `${name} is deleted; results that it gave stay.`, [
      ["", "Keep it"],
      ["yes", "Delete", "danger"],
    ]);
    if (answer !== "yes") return;
    await this.act(async () => {
      await call("DELETE", `training/${encodeURIComponent(name)}`);
      await this.refresh();
      await this.show();
      byId("learn-title").focus({ preventScroll: true });
    });
  }

  render() {
    const { dataset, training } = this,
      box = byId("learn");
    box.hidden = !dataset.labelled && !training.models.length && training.state === "none";
    if (box.hidden) return;
    box.replaceChildren(
      el(
        "div",
        { className: "card-head" },
        el("h2", { id: "learn-title", tabIndex: -1 }, this.title()),
        !this.running && this.controls(),
      ),
      el(
        "div",
        { className: "learn" },
        this.running ? this.progress() : this.outcome(),
        training.models.map((model, number) => this.model(model, number === 0)),
        (dataset.notes ?? []).map((t) => el("p", { className: "soft" }, t)),
        this.commands(),
      ),
    );
    if (this.running) this.showProgress();
  }

  title() {
    const { clips, labelled } = this.dataset;
    if (labelled <= clips) return `Learn from ${count(clips, "corrected file")}`;
    return `Learn from ${count(labelled, "labelled file")}${clips ? `, ${clips} of them corrected here` : ""}`;
  }

  controls() {
    const before = this.compared?.value;
    this.compared = el(
      "select",
      { id: "compared", className: "field", "aria-label": "Compare with" },
      this.about.models.map((m) => el("option", { value: m.name, selected: m.name === before }, `compare with ${m.name}`)),
    );
    return el(
      "div",
      { className: "buttons" },
      this.about.models.length > 1 && this.compared,
      button("tune", "Train a model on the labelled files, and compare it", () => this.begin(), {
        text: "Train",
        id: "train",
        className: "primary",
        disabled: this.dataset.labelled < FEWEST,
      }),
    );
  }

  progress() {
    return el(
      "div",
      { className: "progress", id: "training-progress" },
      el("progress", { id: "training-bar", "aria-labelledby": "training-stage" }),
      el("span", { id: "training-stage" }),
      button("cancel", "", () => this.cancel(), { text: "Cancel", id: "cancel-training" }),
    );
  }

  showProgress() {
    const { done, total } = this.training,
      bar = byId("training-bar");
    bar.max = Math.max(1, total);
    if (total) bar.value = done;
    else bar.removeAttribute("value");
    byId("training-stage").textContent = stageWords(this.training);
  }

  outcome() {
    const { state, error } = this.training;
    if (state === "failed") return problem(error);
    if (state === "cancelled") return el("p", { className: "soft" }, "The training was cancelled.");
    return state === "none" && el("p", { className: "soft" }, "A model can be trained on the labelled files.");
  }

  // A trained model with its figures beside the other model's.
  model({ name, result }, open) {
    const { clips, recordings, folds, systems, notes } = result,
      own = systems.find((s) => s.role === "new");
    const how = folds
      ? `${count(clips, "clip")} of ${count(recordings, "file")}, mean of ${folds} folds: no clip is evaluated by a model that was trained on it.`
      : `${count(clips, "clip")} of ${count(recordings, "file")}.`;
    const figures = `segment accuracy ${share(own.segment_accuracy)}, event F1 ${share(own.event_f1)}`;
    return el(
      "details",
      { className: "trained", open, data: { model: name } },
      el("summary", {}, el("b", {}, name), el("span", { className: "soft" }, figures)),
      el(
        "table",
        { className: "figures" },
        el("caption", { className: "soft" }, how),
        el("thead", {}, el("tr", {}, ["Model", "Segment accuracy", "Event F1"].map((t) => el("th", { scope: "col" }, t)))),
        el(
          "tbody",
          {},
          systems.map((s) =>
            el(
              "tr",
              { className: s.role },
              el("th", { scope: "row" }, s.role === "baseline" ? `${s.name} (baseline)` : s.name),
              el("td", {}, share(s.segment_accuracy)),
              el("td", {}, share(s.event_f1)),
            ),
          ),
        ),
      ),
      notes.map((t) => el("p", { className: "soft" }, t)),
      el(
        "div",
        { className: "buttons" },
        button("check", `Use ${name} for new files`, () => this.choose(name), { text: "Use for new files" }),
        button("trash", `Delete ${name}`, () => this.remove(name)),
      ),
    );
  }

  choose(name) {
    this.use(name);
    toast(`New files are localized with ${name}.`);
  }

  commands() {
    const commands = this.dataset.commands.join("\n");
    const copy = () =>
      navigator.clipboard?.writeText(commands).then(
        () => toast("Copied."),
        () => toast("This browser doesn’t let the page copy: choose the text by hand.", { bad: true }),
      );
    return el(
      "details",
      { className: "commands" },
      el("summary", {}, "On the command line"),
      el(
        "p",
        { className: "soft" },
        "The data set is ",
        el("code", {}, this.dataset.path ?? ""),
        "; these commands train on it:",
      ),
      el("pre", { tabIndex: 0 }, commands),
      button("", "Copy the commands", copy, { text: "Copy" }),
    );
  }
}
