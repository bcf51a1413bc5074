// All cameras side by side: a picture, a name and a state each. Choosing one shows it alone.

import { span } from "./legend.js";
import { Picture } from "./picture.js";

export class Tiles {
  // chosen(camera): called when a tile is clicked.
  constructor(box, chosen) {
    Object.assign(this, { box, chosen, tiles: new Map(), look: null });
  }

  // cameras: [{ camera, name }]
  list(cameras) {
    for (const { camera, name } of cameras) {
      const tile = this.tiles.get(camera) ?? this.add(camera);
      if (tile.name.textContent !== name) tile.name.textContent = name;
    }
    // As square a grid as possible.
    this.box.style.setProperty("--columns", Math.ceil(Math.sqrt(this.tiles.size)));
  }

  add(camera) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "tile" });
    button.dataset.camera = camera;
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
    const [name, state] = [span("tile-name", ""), span("tile-state", "waiting")];
    const label = span("tile-label", "");
    label.append(name, state);
    button.append(canvas, label);
    button.addEventListener("click", () => this.chosen(camera));
    const tile = { button, name, state, picture: new Picture(canvas) };
    if (this.look) tile.picture.style(...this.look);
    this.tiles.set(camera, tile);
    this.box.append(button);
    return tile;
  }

  picture(camera) {
    return this.tiles.get(camera)?.picture;
  }

  get pictures() {
    return [...this.tiles.values()].map(({ picture }) => picture);
  }

  style(palette, settings) {
    this.look = [palette, { ...settings, split: 0 }];
    for (const { picture } of this.tiles.values()) picture.style(...this.look);
  }

  // of(camera): { state, words } for its label.
  showStates(of) {
    for (const [camera, tile] of this.tiles) {
      const { state, words } = of(camera);
      if (tile.state.textContent !== words) tile.state.textContent = words;
      tile.button.dataset.state = state;
    }
  }
}
