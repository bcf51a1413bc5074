// A line chart of the last two minutes, one point a second. The last line given may be dotted.

const POINTS = 120;
const FONT = "11px system-ui, sans-serif";

export class Chart {
  // lines: [{ colour: CSS variable, dotted, filled }], as many as there are values in a point.
  constructor(canvas, what, unit, lines) {
    Object.assign(this, { canvas, what, unit, lines, points: [] });
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.draw());
  }

  set(points) {
    this.points = points.slice(-POINTS);
    this.draw();
  }

  add(point) {
    this.set([...this.points, point]);
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight, scale = devicePixelRatio || 1;
    if (!width) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const top = niceAbove(Math.max(0, ...this.points.flat().filter((value) => value !== null)));
    const area = { left: 0, right: width - 34, top: 8, bottom: height - 16 };
    this.grid(context, style, area, top);
    this.lines.forEach((line, index) => this.line(context, style, area, top, line, index));
    const last = this.points.at(-1);
    canvas.setAttribute("aria-label", `${this.what}, last two minutes; now ${last?.[0] ?? "unknown"} ${this.unit}`);
  }

  grid(context, style, area, top) {
    context.font = FONT;
    context.fillStyle = style.getPropertyValue("--soft");
    context.strokeStyle = style.getPropertyValue("--faint");
    context.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(area.bottom - share * (area.bottom - area.top)) + 0.5;
      context.beginPath();
      context.moveTo(area.left, y);
      context.lineTo(area.right, y);
      context.stroke();
      context.fillText(short(top * share, this.unit), area.right + 7, y);
    }
    context.textBaseline = "alphabetic";
    context.fillText("2 min ago", area.left, area.bottom + 14);
    context.textAlign = "right";
    context.fillText("now", area.right, area.bottom + 14);
  }

  line(context, style, area, top, { colour, dotted, filled }, index) {
    const step = (area.right - area.left - 3) / (POINTS - 1);
    const at = (position, value) => [
      area.right - 3 - (this.points.length - 1 - position) * step,
      area.bottom - (value / top) * (area.bottom - area.top),
    ];
    context.strokeStyle = context.fillStyle = style.getPropertyValue(colour);
    context.lineWidth = dotted ? 1.5 : 2;
    context.lineJoin = "round";
    context.setLineDash(dotted ? [2, 3] : []);
    for (const run of unbroken(this.points.map((point) => point[index]))) {
      const trace = new Path2D();
      run.forEach(([position, value]) => trace.lineTo(...at(position, value)));
      context.stroke(trace);
      if (!filled) continue;
      trace.lineTo(at(run.at(-1)[0], 0)[0], area.bottom);
      trace.lineTo(at(run[0][0], 0)[0], area.bottom);
      context.globalAlpha = 0.14;
      context.fill(trace);
      context.globalAlpha = 1;
    }
    const last = this.points.at(-1)?.[index];
    if (dotted || last == null) return;
    context.beginPath();
    context.arc(...at(this.points.length - 1, last), 3, 0, 2 * Math.PI);
    context.fill();
  }
}

// Of the frames of each second, the rate now: of the last second, or where few come of the last five, since whole frames
// in a second leap between 0 and 1.
export function rateOf(seconds) {
  const recent = seconds.slice(-5);
  return Math.max(...recent) < 5 && recent.length ? recent.reduce((sum, frames) => sum + frames, 0) / recent.length : recent.at(-1);
}

// What fits beside the chart: 40, 2.5, 6000; 20 s for 20,000 milliseconds, otherwise 20k.
function short(value, unit) {
  if (value < 10_000) return `${+value.toPrecision(3)}`;
  return +(value / 1000).toPrecision(3) + (unit === "milliseconds" ? " s" : "k");
}

// Runs of [position, value] between missing values.
function unbroken(values) {
  const runs = [];
  values.forEach((value, position) => {
    if (value === null || value === undefined) return;
    if (position && values[position - 1] != null && runs.length) runs.at(-1).push([position, value]);
    else runs.push([[position, value]]);
  });
  return runs;
}

// The next of 1, 2, 4, 6, 8, 10 times a power of ten.
function niceAbove(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 6, 8, 10].find((step) => step * power >= value * 1.02) || 10 * power * 2;
}
