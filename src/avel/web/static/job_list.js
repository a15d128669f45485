// The list of files: waiting, running, done, failed.
import { download, get, job, post, call } from "./api.js";
import {
  announce,
  ask,
  bytesWords,
  button,
  byId,
  count,
  el,
  icon,
  lengthWords,
  problem,
  toast,
} from "./dom.js";

const STATES = {
  queued: ["waiting", "clock"],
  running: ["running", "clock"],
  done: ["found", "check"],
  failed: ["failed", "warn"],
  cancelled: ["cancelled", "cancel"],
};
const SHOWN = {
  all: ["All", () => true],
  open: ["To correct", (j) => j.state === "done" && !j.corrected],
  corrected: ["Corrected", (j) => j.corrected],
  busy: ["In work", (j) => j.state === "queued" || j.state === "running"],
  failed: ["Failed", (j) => j.state === "failed" || j.state === "cancelled"],
};
const ORDERS = {
  newest: ["Newest first", null],
  unsure: ["Least sure first", (a, b) => doubt(b) - doubt(a)],
};
const PAGE = 100;

// How unsure the model is of a file: by its event of the lowest score; corrected files come last.
const doubt = (j) => (j.state !== "done" || j.corrected ? -1 : j.min_score === null ? 0 : 1 - j.min_score);

// "12 s left", "3 min left"
const left = (seconds) =>
  seconds === null || seconds === undefined ? "" : `${lengthWords(Math.max(1, Math.round(seconds)))} left`;

function when(value) {
  const time = new Date(typeof value === "number" ? value * 1000 : value);
  if (Number.isNaN(time.getTime())) return "";
  const today = time.toDateString() === new Date().toDateString();
  return time.toLocaleString(
    [],
    today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" },
  );
}

export class JobList {
  constructor(about) {
    this.about = about;
    this.jobs = new Map(); // by id, newest first
    this.total = 0;
    this.rows = new Map();
    this.only = "all";
    this.text = "";
    this.visible = false;
    this.build();
  }

  build() {
    this.filters = el(
      "div",
      { className: "filters", role: "group", "aria-label": "Which files" },
      Object.entries(SHOWN).map(([name, [words]]) =>
        el(
          "button",
          {
            type: "button",
            className: "filter",
            data: { name },
            "aria-pressed": String(name === this.only),
            onclick: () => {
              this.only = name;
              this.render();
            },
          },
          words,
          el("span", { className: "tally" }),
        ),
      ),
    );
    this.search = el("input", {
      type: "search",
      className: "field",
      placeholder: "Find by name",
      "aria-label": "Find files by name",
      oninput: () => {
        this.text = this.search.value.toLocaleLowerCase();
        this.render();
      },
    });
    this.order = el(
      "select",
      { className: "field", id: "order", "aria-label": "Order of the files", onchange: () => this.render() },
      Object.entries(ORDERS).map(([value, [words]]) => el("option", { value }, words)),
    );
    const formats = this.about.formats.filter((f) => f.reads);
    const all = el(
      "select",
      {
        className: "field",
        id: "export-all",
        "aria-label": "Export all files as one archive",
        onchange: () => {
          this.exportAll(all.value);
          all.value = "";
        },
      },
      el("option", { value: "" }, "Export all as…"),
      formats.map((f) => el("option", { value: f.name }, f.title)),
    );
    byId("jobs-head").append(this.filters, this.search, this.order, all);
  }

  async exportAll(format) {
    toast("The archive is being made.");
    try {
      await download(`export?format=${encodeURIComponent(format)}`);
    } catch (error) {
      toast([error.got, error.hint].filter(Boolean).join(" "), { bad: true });
    }
  }

  // All files in the chosen order.
  ordered() {
    const compare = ORDERS[this.order.value][1];
    return compare ? [...this.jobs.values()].sort(compare) : [...this.jobs.values()];
  }

  // The list as the server has it; as many as were shown before.
  async load(limit = Math.max(PAGE, Math.min(this.jobs.size, 500))) {
    const first = await get(`jobs?offset=0&limit=${Math.min(limit, PAGE)}`);
    const jobs = [...first.jobs];
    while (jobs.length < Math.min(limit, first.total)) {
      const next = await get(`jobs?offset=${jobs.length}&limit=${PAGE}`);
      if (!next.jobs.length) break;
      jobs.push(...next.jobs);
    }
    this.total = first.total;
    this.jobs = new Map(jobs.map((j) => [j.id, j]));
    this.troubled(first.troubles);
    this.render();
  }

  // What keeps the jobs from going on, shown on every view until it is over.
  troubled(list) {
    const key = JSON.stringify(list);
    if (key === this.troubles) return;
    this.troubles = key;
    byId("server-trouble").replaceChildren(...list.map(problem));
  }

  async loadMore() {
    const { jobs, total } = await get(`jobs?offset=${this.jobs.size}&limit=${PAGE}`);
    this.total = total;
    for (const j of jobs) this.jobs.set(j.id, j);
    this.render();
  }

  changed(j) {
    const before = this.jobs.get(j.id);
    if (before) this.jobs.set(j.id, j);
    else {
      this.jobs = new Map([[j.id, j], ...this.jobs]);
      this.total += 1;
    }
    if (before && before.state !== j.state && ["done", "failed"].includes(j.state)) {
      announce(`${j.name}: ${j.state === "done" ? count(j.events ?? 0, "event") : "failed"}`);
    }
    this.render();
  }

  forget(id) {
    if (this.jobs.delete(id)) this.total -= 1;
    this.render();
  }

  show() {
    this.visible = true;
    byId("title").textContent = "Files";
    byId("title").title = "";
    byId("actions").replaceChildren();
    this.render();
    this.learnCard?.show();
  }

  // The next file that can be corrected, as the list was last filtered; -1: the one before.
  beside(id, direction) {
    const wanted =
      this.only === "corrected" || this.only === "open" ? SHOWN[this.only][1] : (j) => j.state === "done";
    const fits = (j) => j.id === id || (wanted(j) && j.name.toLocaleLowerCase().includes(this.text));
    const ids = this.ordered().filter(fits).map((j) => j.id);
    return ids[ids.indexOf(id) + direction] ?? null;
  }

  render() {
    const all = this.ordered();
    this.visible = !byId("home").hidden;
    const busy = all.filter(SHOWN.busy[1]).length;
    if (!this.visible) return;
    document.title = busy ? `(${busy}) avel` : "avel";
    byId("facts").replaceChildren(
      ...[count(this.total, "file"), busy && `${busy} in work`].filter(Boolean).map((t) => el("li", {}, t)),
    );
    byId("home").classList.toggle("bare", !all.length);
    for (const one of this.filters.children) {
      const many = all.filter(SHOWN[one.dataset.name][1]).length;
      one.setAttribute("aria-pressed", String(one.dataset.name === this.only));
      one.lastChild.textContent = many ? String(many) : "";
    }
    const chosen = all.filter(
      (j) => SHOWN[this.only][1](j) && j.name.toLocaleLowerCase().includes(this.text),
    );
    this.place(chosen);
    const missing = this.total - this.jobs.size;
    byId("more").replaceChildren(
      ...[
        !chosen.length && all.length > 0 && el("p", { className: "empty" }, "No file is like that."),
        missing > 0 && button("down", "", () => this.loadMore(), { text: `Show more (${missing} older)` }),
      ].filter(Boolean),
    );
  }

  // Rows stay the same elements while their jobs change, so that focus stays.
  place(chosen) {
    const list = byId("jobs"),
      keep = new Set(chosen.map((j) => j.id));
    for (const [id, row] of this.rows)
      if (!keep.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    chosen.forEach((j, i) => {
      let row = this.rows.get(j.id);
      const key = JSON.stringify({ ...j, progress: null });
      if (!row) this.rows.set(j.id, (row = el("li", { className: "job", data: { id: j.id } })));
      if (row.dataset.key !== key) this.fill(row, j);
      row.dataset.key = key;
      this.progress(row, j);
      if (list.children[i] !== row) list.insertBefore(row, list.children[i] ?? null);
    });
  }

  fill(row, j) {
    const focused = row.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    const [words, sign] = STATES[j.state] ?? [j.state, "clock"];
    const state = j.corrected && j.state === "done" ? ["corrected", "pen"] : [words, sign];
    const facts = [
      j.state === "done" && count(j.events ?? 0, "event"),
      j.duration !== null && lengthWords(j.duration),
      bytesWords(j.size),
      j.model,
      when(j.created),
    ].filter(Boolean);
    const ready = j.state === "done";
    row.className = `job ${j.state}${j.corrected ? " corrected" : ""}`;
    row.replaceChildren(
      el("span", { className: "state" }, icon(state[1]), el("span", {}, state[0])),
      el("span", { className: "thumb" }, j.thumbnail && el("img", { src: j.thumbnail, alt: "", loading: "lazy" })),
      el(
        "div",
        { className: "what" },
        ready
          ? el(
              "a",
              {
                href: `#/job/${encodeURIComponent(j.id)}`,
                className: "name",
                title: j.name,
                data: { act: "open" },
              },
              j.name,
            )
          : el("span", { className: "name", title: j.name }, j.name),
        el(
          "span",
          { className: "details" },
          facts.map((t) => el("span", {}, t)),
        ),
        Object.keys(j.labels).length > 0 &&
          el(
            "span",
            { className: "labels" },
            Object.entries(j.labels).map(([label, n]) =>
              el("span", { className: "chip" }, n > 1 ? `${label} × ${n}` : label),
            ),
          ),
        el(
          "div",
          { className: "progress", hidden: true },
          el("progress", { max: 1, "aria-label": `Progress of ${j.name}` }),
          el("span", {}),
        ),
        j.state === "failed" && j.error && problem(j.error),
      ),
      el("div", { className: "buttons" }, this.actions(j)),
    );
    if (focused) (row.querySelector(`[data-act="${focused}"]`) ?? row.querySelector("a, button"))?.focus();
  }

  actions(j) {
    const act = (sign, words, name, does) =>
      button(sign, `${words} ${j.name}`, does, { data: { act: name } });
    return [
      ["queued", "running"].includes(j.state) && act("cancel", "Cancel", "cancel", () => this.cancel(j.id)),
      ["failed", "cancelled"].includes(j.state) && act("retry", "Try again", "retry", () => this.retry(j.id)),
      !["queued", "running"].includes(j.state) && act("trash", j.root ? "Remove" : "Delete", "delete", () => this.remove(j.id)),
    ];
  }

  progress(row, j) {
    const box = row.querySelector(".progress"),
      [bar, words] = box.children;
    const busy = j.state === "queued" || j.state === "running";
    box.hidden = !busy;
    if (!busy) return;
    const known = j.state === "running" && j.progress && j.progress.total > 0;
    if (known) bar.value = j.progress.done / j.progress.total;
    else bar.removeAttribute("value");
    bar.hidden = j.state === "queued";
    const share = known ? `${Math.floor((100 * j.progress.done) / j.progress.total)} %` : "being read";
    words.textContent =
      j.state === "running"
        ? [share, known && left(j.progress.seconds_left)].filter(Boolean).join(", ")
        : j.position
          ? j.position === 1
            ? "next in the queue"
            : `number ${j.position} in the queue`
          : "in the queue";
  }

  async cancel(id) {
    this.changed(await post(job(id, "/cancel"), {}));
  }

  async retry(id, model = null) {
    const again = await post(job(id, "/retry"), model ? { model } : {});
    this.changed(again);
    return again;
  }

  async remove(id) {
    const j = this.jobs.get(id);
    const results = `its events${j.corrected ? " and your corrections" : ""}`;
    const answer = j.root
      ? await ask(
          "Remove this file from the list?",
          `${j.name}: ${results} are deleted here. The file itself stays in ${j.root}.`,
          [
            ["", "Keep it"],
            ["yes", "Remove", "danger"],
          ],
        )
      : await ask("Delete this file?", `${j.name}: ${results} and the uploaded copy are deleted.`, [
          ["", "Keep it"],
          ["yes", "Delete", "danger"],
        ]);
    if (answer !== "yes") return;
    await call("DELETE", job(id));
    const rows = [...this.rows.keys()],
      next = this.rows.get(rows[rows.indexOf(id) + 1]);
    this.forget(id);
    (next?.querySelector("a, button") ?? byId("title")).focus();
    toast(j.root ? `${j.name} is removed from the list.` : `${j.name} is deleted.`);
  }
}
