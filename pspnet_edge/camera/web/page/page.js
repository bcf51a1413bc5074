// Ties the stream, the picture, the legend, the charts and the controls together.

import { Chart } from "./chart.js";
import { Legend, span } from "./legend.js";
import { Picture } from "./picture.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
const LOST_MS = 2500;  // without a word from the board for so long, the connection hangs

const settings = { opacity: 0.5, outlines: true, hidden: new Set() };
const picture = new Picture($("picture"));
const legend = new Legend($("classes"), restyle);
const charts = {
  fps: new Chart($("fps-chart"), "Frames per second", "FPS", [{ colour: "--blue", filled: true }]),
  age: new Chart($("age-chart"), "Age of the picture", "milliseconds", [
    { colour: "--orange" }, { colour: "--orange", dotted: true },
  ]),
};
let labels = { name: "", classes: [], palette: [] };
let camera = 0;
let histories = {};
let status = null;
let frozen = false;
let trouble = "";
let heard = performance.now();
let waiting = null;  // the newest frame that is not drawn yet

const stream = new Stream({
  hello(facts) {
    labels = facts.label_set;
    histories = facts.history;
    recall();
    legend.fill(labels, settings.hidden);
    restyle();
    $("about").textContent = facts.about;
    this.status(facts, true);
  },

  status(facts, first) {
    [status, heard, trouble] = [facts, performance.now(), ""];
    if (!first) for (const { camera, second } of facts.cameras) if (second) (histories[camera] ??= []).push(second);
    for (const history of Object.values(histories)) if (history.length > 120) history.shift();
    listCameras();
    draw();
    showRun(facts.summary);
    stream.here();
  },

  frame(frame) {
    heard = performance.now();
    if (frame.camera !== camera || frozen) {
      frame.image.close();
      if (!frozen) stream.next();
      return;
    }
    if (waiting) {
      // Two came between two repaints: the later one is drawn, the other one is done with.
      if (waiting.number > frame.number) [frame, waiting] = [waiting, frame];
      waiting.image.close();
      stream.next();
    }
    waiting = frame;
    requestAnimationFrame(drawWaiting);
  },

  lost(reason) {
    trouble = reason;
    showState();
  },
});

function drawWaiting() {
  if (!waiting) return;
  picture.show(waiting);
  $("picture").dataset.index = waiting.index;
  $("picture").dataset.drawn = 1 + Number($("picture").dataset.drawn ?? 0);
  waiting = null;
  $("waiting").hidden = true;
  stream.next();
}

// --- state -------------------------------------------------------------------------------------------------------

function ageNow() {
  const frame = picture.frame;
  return frame ? frame.age_ms + performance.now() - frame.received : null;
}

function showState() {
  const age = ageNow();
  const now = status?.cameras.find((one) => one.camera === camera);
  const silent = performance.now() - heard > LOST_MS && !document.hidden;
  const lost = trouble || (silent ? "Connection lost" : "");
  const stale = !lost && now?.stale && age !== null;
  const state = lost ? "lost" : stale ? "stale" : frozen ? "frozen" : age === null ? "waiting" : "live";
  const words = { lost: "reconnecting", stale: "stale", frozen: "frozen", waiting: "waiting", live: "live" };
  setText($("state"), words[state]);
  $("state").dataset.state = state;
  $("frame").toggleAttribute("data-old", Boolean(lost || stale));
  $("banner").hidden = !(lost || stale);
  setText($("banner-what"), lost ? `${lost}.` : "No new frame.");
  setText($("banner-age"), age === null ? "" : `This picture is ${duration(age)} old.`);
  setText($("banner-mend"), lost ? mend(lost) : now?.trouble ?? "");
  const [number, unit] = age === null ? ["–", "ms"] : age < 9999.5 ? [Math.round(age), "ms"] : duration(age).split(" ");
  setText($("age"), number);
  setText($("age-unit"), unit);
}

function mend(lost) {
  return lost.includes("token") ? "Open the address that the board prints when it starts." : "Trying again.";
}

function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function setText(element, text) {
  // Only when it changed: a live region is read aloud on every write.
  if (element.textContent !== String(text)) element.textContent = text;
}

// --- figures -----------------------------------------------------------------------------------------------------

function draw() {
  const history = histories[camera] ?? [];
  charts.fps.set(history.map(([fps]) => [fps]));
  charts.age.set(history.map(([, median, worst]) => [median, worst]));
  const last = history.at(-1);
  setText($("fps"), last ? (last[0] < 100 ? last[0].toFixed(1) : Math.round(last[0])) : "–");
}

function showRun(summary) {
  const ms = (value) => (value == null ? "–" : `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`);
  const { frames, dropped, latency_ms: latency, age_ms: age, stages_ms: stages } = summary;
  const rows = [
    ["Frames", frames?.toLocaleString("en")], ["Dropped", dropped?.toLocaleString("en")],
    ["Compute p50", ms(latency?.p50)], ["Compute p99", ms(latency?.p99)],
    ["Age p50", ms(age?.p50)], ["Age p99", ms(age?.p99)], ["Viewers", status.viewers],
  ];
  $("run").replaceChildren(...rows.map(([term, value]) => {
    const pair = document.createElement("div");
    pair.append(Object.assign(document.createElement("dt"), { textContent: term }));
    pair.append(Object.assign(document.createElement("dd"), { textContent: value ?? "–" }));
    return pair;
  }));
  showStages(Object.entries(stages ?? {}).filter(([, value]) => value != null), ms);
}

function showStages(stages, ms) {
  $("stages").setAttribute("aria-label", `Median time by stage: ${stages.map(([name, value]) => `${name} ${ms(value)}`).join(", ")}`);
  const coloured = (element, index) => {
    element.style.setProperty("--colour", `var(--stage-${index % 5})`);
    return element;
  };
  $("stages").replaceChildren(...stages.map(([, value], index) => {
    const part = coloured(span("", ""), index);
    part.style.setProperty("--share", value);
    return part;
  }));
  $("stage-keys").replaceChildren(...stages.map(([name, value], index) => {
    const item = document.createElement("li");
    item.append(coloured(span("swatch", ""), index), span("", `${name} ${ms(value)}`));
    return item;
  }));
}

function listCameras() {
  const { cameras } = status;
  if (cameras.length && !cameras.some((one) => one.camera === camera)) watch(cameras[0].camera);
  $("camera").hidden = cameras.length < 2;
  setText($("source"), cameras.length === 1 ? cameras[0].name : "");
  const list = $("camera");
  if (list.options.length === cameras.length) return;
  list.replaceChildren(...cameras.map((one) => new Option(one.name, one.camera, false, one.camera === camera)));
}

function watch(number) {
  camera = number;
  stream.watch(camera);
  draw();
}

// --- controls ----------------------------------------------------------------------------------------------------

function restyle() {
  picture.style(labels.palette, settings);
  $("opacity").value = Math.round(100 * settings.opacity);
  $("opacity-shown").textContent = `${$("opacity").value} %`;
  $("outlines").checked = settings.outlines;
  remember();
}

function remember() {
  if (!labels.name) return;
  const kept = { opacity: settings.opacity, outlines: settings.outlines, hidden: [...settings.hidden] };
  try {
    localStorage.setItem(`pspnet-edge ${labels.name}`, JSON.stringify(kept));
  } catch { /* Storage is off: the settings last as long as the page. */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(`pspnet-edge ${labels.name}`));
    if (kept) Object.assign(settings, kept, { hidden: new Set(kept.hidden) });
  } catch { /* As above. */ }
}

function freeze() {
  frozen = !frozen;
  $("freeze").setAttribute("aria-pressed", frozen);
  if (!frozen) for (let count = 0; count < 2; count++) stream.next();
  showState();
}

function save() {
  $("picture").toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob) });
    link.download = `pspnet-edge-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("frame").requestFullscreen?.();
}

function point(event) {
  const id = picture.idAt(event.clientX, event.clientY);
  const name = id === null ? undefined : labels.classes[id];
  $("pointed").hidden = name === undefined;
  if (name === undefined) return;
  const [red, green, blue] = labels.palette[id];
  const swatch = span("swatch", "");
  swatch.style.setProperty("--colour", `rgb(${red} ${green} ${blue})`);
  $("pointed").replaceChildren(swatch, span("", name));
  const box = $("frame").getBoundingClientRect();
  const x = Math.min(event.clientX - box.left + 14, box.width - $("pointed").offsetWidth - 6);
  const y = Math.max(event.clientY - box.top - 34, 6);
  $("pointed").style.transform = `translate(${x}px, ${y}px)`;
}

$("opacity").addEventListener("input", (event) => {
  settings.opacity = event.target.value / 100;
  restyle();
});
$("outlines").addEventListener("change", (event) => {
  settings.outlines = event.target.checked;
  restyle();
});
$("all").addEventListener("click", () => legend.every(true));
$("none").addEventListener("click", () => legend.every(false));
$("camera").addEventListener("change", (event) => watch(Number(event.target.value)));
$("freeze").addEventListener("click", freeze);
$("save").addEventListener("click", save);
$("full").addEventListener("click", fullScreen);
$("picture").addEventListener("pointermove", point);
$("picture").addEventListener("pointerdown", point);
$("picture").addEventListener("pointerleave", () => ($("pointed").hidden = true));

const KEYS = { " ": freeze, s: save, f: fullScreen, o: () => $("outlines").click() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, input, select")) return;
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

setInterval(showState, 200);
setInterval(() => picture.frame && legend.shares((id) => picture.share(id)), 500);
