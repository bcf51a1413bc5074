// Draws a frame and its mask: colours, opacity, outlines, hidden classes and the split are this viewer's own.

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.colours = document.createElement("canvas");
    this.counts = new Uint32Array(256);
    this.fill = new Uint32Array(256);
    this.line = new Uint32Array(256);
    this.frame = null;
    this.split = 0;
  }

  // settings: { opacity 0–1, outlines, hidden: Set of ids, split 0–1: how much of the left is the frame alone }; palette: RGB triples by id.
  style(palette, settings) {
    this.fill.fill(0);
    this.line.fill(0);
    this.split = settings.split;
    palette.forEach(([red, green, blue], id) => {
      if (settings.hidden.has(id)) return;
      const colour = (blue << 16) | (green << 8) | red;  // ImageData is RGBA, read as little endian
      this.fill[id] = ((Math.round(255 * settings.opacity) << 24) | colour) >>> 0;
      this.line[id] = settings.outlines && settings.opacity > 0 ? ((0xe6 << 24) | lighter(red, green, blue)) >>> 0 : this.fill[id];
    });
    this.paint();
  }

  show(frame) {
    if (this.frame) this.frame.image.close();
    this.frame = frame;
    this.paint();
  }

  paint() {
    if (!this.frame) return;
    const { image, mask: [height, width], ids } = this.frame;
    const { canvas, context, colours } = this;
    if (canvas.width !== image.width || canvas.height !== image.height) {
      canvas.width = image.width;
      canvas.height = image.height;
    }
    if (colours.width !== width || colours.height !== height) {
      colours.width = width;
      colours.height = height;
      this.pixels = new ImageData(width, height);
    }
    this.colour(new Uint32Array(this.pixels.data.buffer), ids, height, width);
    colours.getContext("2d").putImageData(this.pixels, 0, 0);
    context.drawImage(image, 0, 0);
    const left = Math.round(this.split * canvas.width);
    if (left >= canvas.width) return;
    context.save();
    context.beginPath();
    context.rect(left, 0, canvas.width - left, canvas.height);
    context.clip();
    context.drawImage(colours, 0, 0, canvas.width, canvas.height);
    context.restore();
    if (left > 0) this.divide(context, left, canvas.height);
  }

  // The line between the original and the overlay, seen on light and dark.
  divide(context, left, height) {
    context.fillStyle = "#0a0d12";
    context.fillRect(left - 2, 0, 4, height);
    context.fillStyle = "#fff";
    context.fillRect(left - 1, 0, 2, height);
  }

  // One pass: counts classes, and outlines a pixel whose right or lower neighbour is of another class.
  colour(out, ids, height, width) {
    const { counts, fill, line } = this;
    counts.fill(0);
    for (let row = 0, at = 0; row < height; row++) {
      const below = row + 1 < height ? width : 0;
      for (let column = 0; column < width; column++, at++) {
        const id = ids[at];
        counts[id]++;
        const edge = ids[at + below] !== id || (column + 1 < width && ids[at + 1] !== id);
        out[at] = edge ? line[id] : fill[id];
      }
    }
  }

  // Share of the picture that each class covers, by id.
  share(id) {
    return this.frame ? this.counts[id] / this.frame.ids.length : 0;
  }

  // The class id under a point of the screen, or null beside the picture.
  idAt(x, y) {
    const place = this.placeOf(x, y);
    if (!place || !this.frame) return null;
    const [height, width] = this.frame.mask;
    return this.frame.ids[Math.floor(place[1] * height) * width + Math.floor(place[0] * width)];
  }

  // Where a point of the screen is in the picture, each 0–1; null beside it.
  placeOf(x, y) {
    const box = this.canvas.getBoundingClientRect();
    const scale = Math.min(box.width / this.canvas.width, box.height / this.canvas.height);  // object-fit: contain
    const u = (x - box.left - box.width / 2) / (scale * this.canvas.width) + 0.5;
    const v = (y - box.top - box.height / 2) / (scale * this.canvas.height) + 0.5;
    return u < 0 || u >= 1 || v < 0 || v >= 1 ? null : [u, v];
  }
}

function lighter(red, green, blue) {
  const up = (value) => Math.round(value + 0.45 * (255 - value));
  return (up(blue) << 16) | (up(green) << 8) | up(red);
}
