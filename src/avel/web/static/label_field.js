// A text field with suggestions: an ARIA combobox whose text is free.
import { el } from "./dom.js";

let number = 0;

// `suggest()` lists all suggestions; `chosen(text)` is called when a text is settled on.
export class LabelField {
  constructor({ suggest, chosen, name = "Label" }) {
    Object.assign(this, { suggest, chosen, value: "", active: -1, shown: [], id: `labels-${++number}` });
    this.input = el("input", {
      className: "field",
      type: "text",
      role: "combobox",
      "aria-label": name,
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": this.id,
      autocomplete: "off",
      spellcheck: false,
      maxLength: 200,
      onfocus: () => this.input.select(),
      onclick: () => this.open(),
      oninput: () => this.open(),
      onkeydown: (event) => this.key(event),
      onblur: () => this.settle(this.input.value),
    });
    this.list = el("ul", {
      id: this.id,
      role: "listbox",
      "aria-label": `${name}: suggestions`,
      hidden: true,
      onpointerdown: (event) => {
        event.preventDefault(); // the field keeps the focus
        const at = event.target.closest("[role=option]");
        if (at) this.settle(at.dataset.value);
      },
    });
    this.box = el("div", { className: "combo" }, this.input, this.list);
  }

  set(value) {
    this.value = value;
    if (document.activeElement !== this.input) this.input.value = value;
  }

  open() {
    const typed = this.input.value.trim().toLocaleLowerCase();
    const all = this.suggest();
    const fits = (text) => text.toLocaleLowerCase().includes(typed);
    this.shown = (typed === this.value.toLocaleLowerCase() ? all : all.filter(fits)).slice(0, 60);
    this.active = -1;
    this.list.replaceChildren(
      ...this.shown.map((text, i) =>
        el(
          "li",
          {
            id: `${this.id}-${i}`,
            role: "option",
            "aria-selected": String(text === this.value),
            data: { value: text },
          },
          text,
        ),
      ),
    );
    this.expand(this.shown.length > 0);
  }

  expand(on) {
    this.list.hidden = !on;
    this.input.setAttribute("aria-expanded", String(on));
    if (!on) this.input.removeAttribute("aria-activedescendant");
  }

  move(by) {
    if (this.list.hidden) return this.open();
    const rows = [...this.list.children];
    rows[this.active]?.classList.remove("active");
    this.active = (this.active + by + rows.length + (this.active < 0 && by < 0 ? 1 : 0)) % rows.length;
    rows[this.active].classList.add("active");
    rows[this.active].scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", rows[this.active].id);
  }

  key(event) {
    const keys = {
      ArrowDown: () => this.move(1),
      ArrowUp: () => this.move(-1),
      Enter: () => this.settle(this.shown[this.active] ?? this.input.value, true),
      Escape: () => {
        this.input.value = this.value;
        this.expand(false);
        this.leave();
      },
    };
    if (!keys[event.key] || event.isComposing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key]();
  }

  settle(text, leave = false) {
    this.expand(false);
    const wanted = text.trim();
    if (wanted && wanted !== this.value) this.chosen(wanted);
    this.input.value = wanted || this.value;
    if (leave) this.leave();
  }

  leave() {
    this.input.dispatchEvent(new CustomEvent("left", { bubbles: true }));
  }
}
