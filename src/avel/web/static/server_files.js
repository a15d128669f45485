// Files that lie in a folder which the server may read: a dialog to choose some, or type a path.
import { get, once, post } from "./api.js";
import { bytesWords, button, count, el, icon, problem, toast } from "./dom.js";

const link = (words, onclick, kind = "") =>
  el("button", { type: "button", className: `link${kind}`, onclick }, words);

class ServerFiles {
  constructor(about, jobs, model) {
    Object.assign(this, { about, jobs, model, folder: "", root: about.roots[0].name, chosen: new Set() });
    this.path = el("input", {
      className: "field",
      id: "path",
      placeholder: "or type a path, e.g. 2024/street.mp4",
      "aria-label": "Path within the folder",
      oninput: () => this.tally(),
    });
    this.list = el("ul", { className: "files", "aria-label": "Files and folders" });
    this.crumbs = el("nav", { className: "crumbs", "aria-label": "Folder" });
    this.message = el("div", { className: "stack" });
    this.go = button("", "", null, { text: "Find events", className: "primary", type: "submit" });
    const roots = el(
      "select",
      {
        className: "field",
        "aria-label": "Which folder of the server",
        onchange: () => this.enter(roots.value),
      },
      about.roots.map((r) => el("option", { value: r.name }, r.name)),
    );
    this.dialog = el(
      "dialog",
      { className: "dialog wide", "aria-labelledby": "browse-title", onclose: () => this.dialog.remove() },
      el(
        "form",
        {
          onsubmit: (event) => {
            event.preventDefault();
            this.add();
          },
        },
        el(
          "div",
          { className: "dialog-head" },
          el("h2", { id: "browse-title" }, "Files on the server"),
          button("cancel", "Close", () => this.dialog.close()),
        ),
        el("div", { className: "where" }, about.roots.length > 1 && roots, this.crumbs),
        this.list,
        this.path,
        this.message,
        el(
          "div",
          { className: "answers" },
          el(
            "button",
            { type: "button", className: "button wide", onclick: () => this.dialog.close() },
            "Close",
          ),
          this.go,
        ),
      ),
    );
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.open("");
  }

  enter(root) {
    this.root = root;
    this.chosen.clear();
    this.open("");
  }

  async open(folder) {
    let content;
    try {
      content = await get(`files?root=${encodeURIComponent(this.root)}&folder=${encodeURIComponent(folder)}`);
    } catch (error) {
      this.message.replaceChildren(problem(error));
      return;
    }
    this.folder = folder;
    this.message.replaceChildren();
    this.show(content);
  }

  show({ folders, files, more }) {
    const parts = this.folder ? this.folder.split("/") : [];
    const up = parts.flatMap((part, i) => [
      " / ",
      link(part, () => this.open(parts.slice(0, i + 1).join("/"))),
    ]);
    this.crumbs.replaceChildren(
      link(this.root, () => this.open("")),
      ...up,
    );
    const all = () => {
      files.forEach((f) => this.chosen.add(f.path));
      this.show({ folders, files, more });
    };
    const rows = [
      files.length > 1 && link(`Choose all ${files.length} files`, all, " all"),
      ...folders.map((name) => this.folderRow(name)),
      ...files.map((file) => this.fileRow(file)),
      more && el("p", { className: "empty" }, "There is more than can be listed: type the path."),
      !folders.length && !files.length && el("p", { className: "empty" }, "No video or sound file is here."),
    ];
    this.list.replaceChildren(...rows.filter(Boolean).map((row) => el("li", {}, row)));
    this.tally();
  }

  folderRow(name) {
    const open = () => this.open(this.folder ? `${this.folder}/${name}` : name);
    return el("button", { type: "button", className: "folder", onclick: open }, icon("folder"), name);
  }

  fileRow({ path, name, size }) {
    const choose = (event) => {
      if (event.target.checked) this.chosen.add(path);
      else this.chosen.delete(path);
      this.tally();
    };
    const box = el("input", { type: "checkbox", checked: this.chosen.has(path), onchange: choose });
    return el(
      "label",
      {},
      box,
      el("span", { className: "name" }, name),
      el("span", { className: "soft" }, bytesWords(size)),
    );
  }

  tally() {
    const { size } = this.chosen;
    this.go.lastChild.textContent = size > 1 ? `Find events in ${size} files` : "Find events";
    this.go.disabled = !size && !this.path.value.trim();
  }

  // All that are chosen become jobs; the dialog stays where some were refused.
  async add() {
    const typed = this.path.value.trim(),
      paths = [...this.chosen, ...(typed ? [typed] : [])];
    const wrong = [];
    this.go.disabled = true;
    for (const path of paths) {
      try {
        const added = await post(
          "jobs/path",
          { root: this.root, path, model: this.model },
          { headers: once() },
        );
        this.jobs.changed(added);
        this.chosen.delete(path);
      } catch (error) {
        wrong.push(problem(error));
      }
    }
    this.message.replaceChildren(...wrong.slice(0, 5));
    if (paths.length > wrong.length) toast(`${count(paths.length - wrong.length, "file")} taken.`);
    if (!wrong.length) this.dialog.close();
    this.tally();
  }
}

export const openServerFiles = (about, jobs, model) => new ServerFiles(about, jobs, model);
