// Saving a correction, conflicts, exports, labels from files.
import { call, download, get, job, post } from "./api.js";
import { announce, ask, button, count, el, toast } from "./dom.js";
import { mac } from "./shortcuts.js";

const mod = mac ? "⌘" : "Ctrl+";

export class Saving {
  constructor(about, editor, changed) {
    Object.assign(this, { about, editor, changed, id: null, revision: 0, savedAt: null, busy: null });
    this.state = el("span", { className: "saved", id: "saved" });
    this.undo = button("undo", `Undo (${mod}Z)`, () => editor.undo(), { id: "undo" });
    this.redo = button("redo", `Redo (${mod}Shift+Z)`, () => editor.redo(), { id: "redo" });
    this.save = button("save", `Save (${mod}S)`, () => this.store(), { text: "Save", id: "save" });
    this.decision = () => ({});
    this.importer = this.buildImporter();
    this.menu = this.buildMenu();
    editor.addEventListener("change", () => this.show());
  }

  get parts() {
    return [this.state, this.undo, this.redo, this.save, this.importer, this.opener, this.menu];
  }

  async load(id) {
    this.id = id;
    this.take(await get(job(id, "/annotations")));
  }

  // The server's state becomes the editor's.
  take({ revision, events, saved }) {
    Object.assign(this, { revision, savedAt: saved ?? null });
    this.editor.load(events);
  }

  get corrected() {
    return this.savedAt !== null;
  }

  show() {
    const { done, undone, dirty } = this.editor;
    this.undo.disabled = !done.length;
    this.redo.disabled = !undone.length;
    this.undo.title = done.length ? `Undo: ${done.at(-1).what} (${mod}Z)` : `Undo (${mod}Z)`;
    this.save.disabled = !dirty && this.corrected;
    this.save.title =
      dirty || this.corrected ? `Save (${mod}S)` : `All is right as it was found: save it so (${mod}S)`;
    this.save.classList.toggle("primary", dirty || !this.corrected);
    this.save.lastChild.textContent = dirty || this.corrected ? "Save" : "Confirm";
    this.state.textContent = dirty ? "not saved" : this.corrected ? "saved" : "as found";
    this.state.classList.toggle("dirty", dirty);
  }

  // True when saved; one after the other.
  async store() {
    if (this.busy) return this.busy;
    this.busy = this.put().finally(() => (this.busy = null));
    return this.busy;
  }

  async put() {
    const sent = this.editor.events;
    try {
      const saved = await call("PUT", job(this.id, "/annotations"), {
        revision: this.revision,
        events: this.editor.toSave(),
      });
      Object.assign(this, { revision: saved.revision, savedAt: saved.saved ?? Date.now() / 1000 });
      this.editor.saved(sent);
      announce("saved");
      this.changed();
      return true;
    } catch (error) {
      if (error.status === 409) return this.conflict();
      toast([error.got, error.hint].filter(Boolean).join(" "), { bad: true });
      return false;
    }
  }

  async conflict() {
    const theirs = await get(job(this.id, "/annotations"));
    const answer = await ask(
      "This file was saved elsewhere meanwhile",
      `There it has ${count(theirs.events.length, "event")}, here ${count(this.editor.events.length, "event")}. Which of them shall hold?`,
      [
        ["", "Decide later"],
        ["theirs", "Take theirs"],
        ["mine", "Keep mine", "primary"],
      ],
    );
    if (answer === "theirs") {
      this.take(theirs);
      this.changed();
      return true;
    }
    if (answer !== "mine") return false;
    this.revision = theirs.revision;
    return this.put();
  }

  // Back to the found events.
  async discard() {
    if (this.corrected || (this.editor.touched && this.editor.dirty)) {
      const answer = await ask("Back to what was found?", "What you corrected in this file will be gone.", [
        ["", "Keep it"],
        ["yes", "Back to what was found", "danger"],
      ]);
      if (answer !== "yes") return;
    }
    if (this.corrected) await call("DELETE", job(this.id, "/annotations"));
    await this.load(this.id);
    this.changed();
  }

  // ---- out and in
  buildImporter() {
    const file = el("input", {
      type: "file",
      className: "hush",
      tabIndex: -1,
      "aria-label": "Label file",
      id: "label-file",
      onchange: () => {
        if (file.files[0]) this.read(file.files[0]);
        file.value = "";
      },
    });
    const titles = this.about.formats.filter((f) => f.reads).map((f) => f.title);
    const importer = button("upload", `Import labels from a file: ${titles.join(", ")}`, () => file.click(), {
      text: "Import",
      id: "import",
    });
    return el("span", {}, file, importer);
  }

  buildMenu() {
    const writes = this.about.formats.filter((f) => f.writes);
    const item = (words, small, act) =>
      el(
        "button",
        {
          type: "button",
          className: "item",
          onclick: () => {
            menu.hidePopover();
            act();
          },
        },
        el("span", {}, words),
        el("small", {}, small),
      );
    const found = el("input", { type: "checkbox", id: "as-found" });
    const menu = el(
      "div",
      {
        className: "menu",
        popover: "auto",
        id: "export-menu",
        role: "group",
        "aria-label": "Export and more",
      },
      el("p", { className: "soft" }, "Export; corrections are saved first."),
      el(
        "div",
        { className: "formats" },
        writes.map((f) =>
          item(f.title, f.ending, () => this.export(f.name, found.checked ? "found" : "corrected")),
        ),
      ),
      el("label", { className: "check", for: "as-found" }, found, "as found, without corrections"),
      el("hr"),
      item("Back to what was found", "", () => this.discard()),
    );
    this.opener = button("export", "", () => {}, {
      text: "Export",
      id: "export",
      popovertarget: "export-menu",
    });
    menu.addEventListener("toggle", (event) => {
      if (event.newState !== "open") return;
      const at = this.opener.getBoundingClientRect();
      menu.style.top = `${Math.max(8, Math.min(at.bottom + 6, innerHeight - menu.offsetHeight - 8))}px`;
      menu.style.left = `${Math.max(8, Math.min(at.right - menu.offsetWidth, innerWidth - menu.offsetWidth - 8))}px`;
      menu.querySelector("button").focus();
    });
    menu.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const all = [...menu.querySelectorAll("button, input:not(.hush)")];
      all[(all.indexOf(document.activeElement) + by + all.length) % all.length].focus();
    });
    return menu;
  }

  async export(format, of) {
    // only a person's changes are saved: what the sliders decide is exported, and no correction
    const { dirty, touched } = this.editor;
    if (of === "corrected" && dirty && (touched || this.corrected) && !(await this.store())) return;
    const which = of === "corrected" && this.corrected ? "corrected" : "found";
    const decision = of === "corrected" ? this.decision() : {};
    const query = new URLSearchParams({ format, of: which, ...decision });
    const slow = format === "html" || format === "mp4";
    if (slow) toast("It is being made; that takes a while.");
    try {
      await download(job(this.id, `/export?${query}`));
    } catch (error) {
      toast([error.got, error.hint].filter(Boolean).join(" "), { bad: true });
    }
  }

  async read(file) {
    const form = new FormData();
    form.append("file", file, file.name);
    try {
      const { events, notes } = await post(`import?job=${encodeURIComponent(this.id)}`, form);
      this.editor.replace(events, `labels of ${file.name}`);
      toast(
        [
          `${count(events.length, "event")} of ${file.name} in place of those here.`,
          ...notes.slice(0, 3),
        ].join(" "),
        { action: "Undo", act: () => this.editor.undo() },
      );
    } catch (error) {
      toast([error.got, error.expected && `Expected: ${error.expected}.`, error.hint].filter(Boolean).join(" "), {
        bad: true,
      });
    }
  }

  // May the file be left? Asks where work would be lost.
  async leave() {
    if (!this.editor.dirty || !this.editor.touched) return true;
    const answer = await ask("Save what you corrected?", "This file has changes that aren’t saved.", [
      ["", "Stay"],
      ["drop", "Discard", "danger"],
      ["save", "Save", "primary"],
    ]);
    return answer === "drop" || (answer === "save" && this.store());
  }
}
