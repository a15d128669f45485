// How files come in: dropped, chosen or pasted; server_files.js takes those that lie on the server.
import { once, upload } from "./api.js";
import { openServerFiles } from "./server_files.js";
import { announce, bytesWords, button, byId, count, el, icon, problem, toast } from "./dom.js";

const KEPT = "avel-model";
const remembered = () => {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
};
const remember = (name) => {
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    /* private windows */
  }
};
const pause = (seconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });

export class Uploads {
  constructor(about, jobs) {
    Object.assign(this, { about, jobs, waiting: [], busy: false });
    const known = about.models.map((m) => m.name);
    this.model = known.includes(remembered())
      ? remembered()
      : ((about.models.find((m) => m.default) ?? about.models[0])?.name ?? "");
    this.build();
    this.listen();
  }

  build() {
    const input = el("input", {
      type: "file",
      id: "file",
      multiple: true,
      accept: "video/*,audio/*,.mkv,.ts,.mts,.avi,.wmv,.flv,.mxf",
      className: "hush",
      "aria-label": "Choose files",
      onchange: () => {
        this.take([...input.files]);
        input.value = "";
      },
    });
    const { limits, roots } = this.about;
    byId("drop").replaceChildren(
      icon("upload"),
      el(
        "div",
        {},
        el("p", { className: "big" }, "Drop videos or sound files anywhere on this page"),
        el(
          "p",
          { className: "soft" },
          `up to ${bytesWords(limits.upload_bytes)} and ${limits.minutes} minutes each`,
        ),
      ),
      el(
        "div",
        { className: "buttons" },
        input,
        button("upload", "", () => input.click(), { text: "Choose files", className: "primary" }),
        roots.length > 0 &&
          button("folder", "", () => openServerFiles(this.about, this.jobs, this.model), {
            text: "From the server",
            "aria-haspopup": "dialog",
          }),
      ),
    );
    this.sending = el("ul", { className: "jobs sending", "aria-label": "Being sent" });
    byId("choices").after(this.sending);
    this.showModels();
  }

  // A model for new files, remembered by the browser.
  choose(name) {
    this.model = name;
    remember(name);
    this.showModels();
  }

  // The models that can be chosen; one that is gone is chosen no longer.
  showModels() {
    const { models } = this.about;
    if (!models.some((m) => m.name === this.model)) this.model = (models.find((m) => m.default) ?? models[0])?.name ?? "";
    const caution = el("p", { className: "caution", id: "caution" });
    const select = el(
      "select",
      {
        id: "model",
        className: "field",
        "aria-describedby": "caution",
        onchange: () => {
          this.model = select.value;
          remember(this.model);
          warn();
        },
      },
      this.about.models.map((m) => el("option", { value: m.name, selected: m.name === this.model }, m.name)),
    );
    const warn = () => {
      const model = this.about.models.find((m) => m.name === this.model);
      caution.replaceChildren(
        ...(model?.caution
          ? [icon("warn"), el("span", {}, model.caution)]
          : [
              el(
                "span",
                { className: "soft" },
                model ? `knows ${count(model.classes.length, "class", "classes")}` : "",
              ),
            ]),
      );
    };
    warn();
    byId("choices").replaceChildren(el("label", { for: "model" }, "Model"), select, caution);
  }

  listen() {
    let depth = 0;
    const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const veil = (on) => (byId("veil").hidden = !on);
    addEventListener("dragenter", (e) => {
      if (files(e)) {
        e.preventDefault();
        depth += 1;
        veil(true);
      }
    });
    addEventListener("dragover", (e) => {
      if (files(e)) {
        e.preventDefault();
        e.dataTransfer.dropEffect = "copy";
      }
    });
    addEventListener("dragleave", (e) => {
      if (files(e) && (depth -= 1) <= 0) {
        depth = 0;
        veil(false);
      }
    });
    addEventListener("drop", (e) => {
      if (!files(e)) return;
      e.preventDefault();
      depth = 0;
      veil(false);
      const items = [...e.dataTransfer.items].filter((i) => i.kind === "file");
      const folders = items.filter((i) => i.webkitGetAsEntry?.()?.isDirectory).length;
      if (folders) toast("Folders can’t be dropped: choose the files within.", { bad: true });
      this.take(
        items
          .filter((i) => !i.webkitGetAsEntry?.()?.isDirectory)
          .map((i) => i.getAsFile())
          .filter(Boolean),
      );
    });
    addEventListener("paste", (e) => {
      if (e.clipboardData?.files.length) this.take([...e.clipboardData.files]);
    });
    addEventListener("beforeunload", (e) => {
      if (this.waiting.length) e.preventDefault();
    });
  }

  // Files to be sent, one after the other; `headers` are those of an attempt that failed.
  take(files, headers = null) {
    if (!files.length) return;
    if (!location.hash || location.hash === "#/") byId("trouble").replaceChildren();
    else location.hash = "#/";
    for (const file of files) {
      const most = this.about.limits.upload_bytes;
      const one = { file, model: this.model, stop: new AbortController(), headers: headers ?? once() };
      one.bar = el("progress", { max: 1, "aria-label": `Sending ${file.name}` });
      one.message = el("span", {}, "waits to be sent");
      one.body = el(
        "div",
        { className: "what" },
        el("span", { className: "name", title: file.name }, file.name),
        el("div", { className: "progress" }, one.bar, one.message),
      );
      one.cancel = button("cancel", `Don’t send ${file.name}`, () => one.stop.abort());
      one.row = el(
        "li",
        { className: "job" },
        el("span", { className: "state" }, icon("upload"), el("span", {}, "sending")),
        one.body,
        el("div", { className: "buttons" }, one.cancel),
      );
      this.sending.append(one.row);
      if (file.size > most)
        this.refuse(one, {
          got: `${file.name} has ${bytesWords(file.size)}.`,
          expected: `at most ${bytesWords(most)}`,
          hint: this.about.roots.length
            ? "Put it into a folder of the server and choose it there, or cut it."
            : "Cut it, or start the server with a larger limit.",
        });
      else if (!file.size)
        this.refuse(one, {
          got: `${file.name} is empty.`,
          expected: "a video or a sound file",
          hint: "See whether it was copied whole.",
        });
      else this.waiting.push(one);
    }
    this.send();
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    for (let one; (one = this.waiting[0]); this.waiting.shift()) {
      try {
        this.jobs.changed(await this.sent(one));
        announce(`${one.file.name} is sent`);
        one.row.remove();
      } catch (error) {
        if (error.name === "AbortError") one.row.remove();
        else this.refuse(one, error);
      }
    }
    this.busy = false;
  }

  async sent(one) {
    for (;;) {
      if (one.stop.signal.aborted) throw new DOMException("called off", "AbortError");
      try {
        return await upload(
          one.file,
          one.model,
          (done, total) => {
            one.bar.value = done / total;
            one.message.textContent =
              done < total ? `${bytesWords(done)} of ${bytesWords(total)}` : "sent, being looked at";
          },
          one.stop.signal,
          one.headers,
        );
      } catch (error) {
        if (error.status !== 429 && !(error.status === 503 && error.wait)) throw error;
        one.bar.removeAttribute("value");
        one.message.textContent =
          error.status === 429
            ? "the queue is full: waits for its turn"
            : "the server can’t take it just now: waits";
        await pause(Math.min(Math.max(error.wait, 1), 60), one.stop.signal);
      }
    }
  }

  refuse(one, error) {
    one.row.classList.add("failed");
    one.row.querySelector(".state").replaceChildren(icon("warn"), el("span", {}, "not taken"));
    one.body.querySelector(".progress").remove();
    one.body.append(problem(error));
    const close = button("cancel", `Close the message about ${one.file.name}`, () => one.row.remove());
    const again = button("retry", `Send ${one.file.name} again`, () => {
      one.row.remove();
      this.take([one.file], one.headers);
    });
    one.cancel.replaceWith(...(error.status === 0 || error.status >= 500 ? [again] : []), close);
  }
}
