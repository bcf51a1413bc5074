// The classes: a check box in its colour, a name and the share of the picture each.

export class Legend {
  constructor(list, changed) {
    this.list = list;
    this.changed = changed;
    this.rows = [];
  }

  // label_set: { classes, palette }; hidden: Set of ids, changed in place.
  fill({ classes, palette }, hidden) {
    this.hidden = hidden;
    this.rows = classes.map((name, id) => this.row(name, palette[id], id));
    this.list.replaceChildren(...this.rows.map(({ item }) => item));
  }

  row(name, [red, green, blue], id) {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !this.hidden.has(id) });
    box.addEventListener("change", () => {
      if (box.checked) this.hidden.delete(id);
      else this.hidden.add(id);
      this.changed();
    });
    const share = span("share", "");
    label.style.setProperty("--colour", `rgb(${red} ${green} ${blue})`);
    label.append(box, span("name", name), share);
    item.append(label);
    return { item, label, box, share };
  }

  every(checked) {
    this.rows.forEach(({ box }, id) => {
      box.checked = checked;
      if (checked) this.hidden.delete(id);
      else this.hidden.add(id);
    });
    this.changed();
  }

  // of: class id → share of the picture, 0–1.
  shares(of) {
    this.rows.forEach(({ label, share }, id) => {
      const part = of(id);
      share.textContent = part === 0 ? "" : part < 0.01 ? "< 1 %" : `${Math.round(100 * part)} %`;
      label.style.setProperty("--share", part);
    });
  }
}

export function span(kind, text) {
  return Object.assign(document.createElement("span"), { className: kind, textContent: text });
}
