// The sliders of the decision: what the saved scores give with another threshold.
import { byId, button, el } from "./dom.js";

const SECONDS = (v) => (v ? `${v} s` : "none");
const share = (v) => v.toFixed(2);

export class DecisionSliders {
  // `changed(settings)`: the sliders that were moved; {} for the model's own decision.
  constructor({ changed, model }) {
    Object.assign(this, { changed, model, moved: {}, used: {}, timer: 0 });
    this.rows = {};
  }

  load(timeline, { models, current, again }) {
    this.moved = {};
    this.step = timeline.step;
    const most = Math.max(10 * this.step, 10);
    const rows = [
      ["threshold", "Threshold", "the probability that a segment must reach", 0.01, 1, 0.01, share],
      ["low_threshold", "Keep down to", "an event goes on while it is at least this probable", 0.01, 1, 0.01, share],
      ["min_duration", "Smallest length", "shorter events are dropped", 0, most, this.step, SECONDS],
      ["max_gap", "Bridge gaps up to", "between two events of a class", 0, most, this.step, SECONDS],
    ];
    this.rows = Object.fromEntries(
      rows.map(([name, words, what, min, max, step, say]) => {
        const output = el("output", { for: `tune-${name}` });
        const input = el("input", {
          type: "range",
          id: `tune-${name}`,
          min,
          max,
          step,
          "aria-describedby": `what-${name}`,
          oninput: () => this.slid(name),
        });
        const row = el(
          "div",
          { className: "slider", title: what },
          el("label", { for: `tune-${name}` }, words),
          output,
          input,
          el("small", { id: `what-${name}` }, what),
        );
        return [name, { row, input, output, say }];
      }),
    );
    this.reset = button(
      "undo",
      "Back to the model’s own decision",
      () => {
        this.moved = {};
        this.report();
      },
      { text: "Reset", id: "tune-own" },
    );
    const select = el(
      "select",
      { className: "field", id: "other-model" },
      models.map((m) => el("option", { value: m.name, selected: m.name === current }, m.name)),
    );
    const find = button("retry", "", () => again(select.value), { text: "Detect again", id: "find-again" });
    byId("sliders").replaceChildren(
      ...Object.values(this.rows).map((r) => r.row),
      el(
        "div",
        { className: "tuning-foot" },
        this.reset,
        el("span", { className: "spring" }),
        el("label", { for: "other-model" }, "Model"),
        select,
        find,
      ),
    );
    byId("tuning").open = innerWidth < 1001 || innerHeight > 860; // low windows need the room
    this.show(timeline.decision ?? {});
  }

  // What the server decided by.
  show(decision) {
    this.used = decision;
    for (const [name, { input, output, say }] of Object.entries(this.rows)) {
      const top = decision.threshold ?? 0.5;
      const value =
        this.moved[name] ?? decision[name] ?? (name === "low_threshold" ? top : name === "threshold" ? 0.5 : 0);
      input.value = value;
      const open = (decision[name] ?? null) === null && this.moved[name] === undefined;
      output.textContent =
        open && name === "threshold" ? "model’s own" : open && name === "low_threshold" ? "off" : say(Number(value));
      input.setAttribute("aria-valuetext", output.textContent);
    }
    this.reset.disabled = !Object.keys(this.moved).length;
    const set = decision.threshold ?? null;
    byId("tuning-summary").textContent = set === null ? "the model’s own" : `threshold ${share(set)}`;
  }

  slid(name) {
    const { input } = this.rows[name];
    this.moved[name] = Number(input.value);
    const top = this.moved.threshold ?? this.used.threshold ?? 1;
    if (name === "threshold" && this.moved.low_threshold > top) this.moved.low_threshold = top;
    if (name === "low_threshold") this.moved.low_threshold = Math.min(this.moved.low_threshold, top);
    this.show({ ...this.used, ...this.moved });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.report(), 120);
  }

  report() {
    clearTimeout(this.timer);
    this.changed({ ...this.moved });
  }
}
