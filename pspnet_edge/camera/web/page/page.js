// Ties the stream, the pictures, the legend, the charts and the controls together.

import { Chart, rateOf } from "./chart.js";
import { CanvasRecorder, download, maskPng } from "./keep.js";
import { Legend, span } from "./legend.js";
import { Picture } from "./picture.js";
import { Stream } from "./stream.js";
import { Tiles } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const LOST_MS = 2500;  // the connection hangs when the board has been silent this long
const WORDS = { lost: "reconnecting", ended: "ended", stale: "stale", frozen: "frozen", waiting: "waiting", live: "live" };

const settings = { opacity: 0.5, outlines: true, split: 0, hidden: new Set() };
const picture = new Picture($("picture"));
const tiles = new Tiles($("tiles"), (camera) => watch(camera));
const legend = new Legend($("classes"), restyle);
const recorder = new CanvasRecorder($("picture"), showRecording);
const charts = {
  fps: new Chart($("fps-chart"), "Frames per second", "FPS", [{ colour: "--blue", filled: true }]),
  age: new Chart($("age-chart"), "Age of the picture", "milliseconds", [
    { colour: "--orange" }, { colour: "--orange", dotted: true },
  ]),
};
let labels = { name: "", classes: [], palette: [] };
let camera = null;  // a number, or "all"
let last = 0;  // the camera that was shown alone last
let histories = {};
let status = null;
let frozen = false;
let trouble = "";
let ended = false;
let heard = performance.now();
const waiting = new Map();  // by camera: the newest frame that is not drawn yet

const stream = new Stream({
  hello(facts) {
    labels = facts.label_set;
    histories = facts.history;
    ended = false;
    recall(facts);
    legend.fill(labels, settings.hidden);
    restyle();
    $("about").textContent = facts.about;
    this.status(facts, true);
  },

  status(facts, first) {
    [status, heard, trouble] = [{ ...facts, cameras: named(facts.cameras) }, performance.now(), ""];
    if (!first) for (const { camera, second } of facts.cameras) if (second) (histories[camera] ??= []).push(second);
    for (const history of Object.values(histories)) if (history.length > 120) history.shift();
    listCameras();
    draw();
    showRun(facts.summary);
    stream.here();
  },

  frame(frame) {
    heard = performance.now();
    if ((camera !== "all" && camera !== null && frame.camera !== camera) || frozen) {
      frame.image.close();
      if (!frozen) stream.next();
      return;
    }
    const before = waiting.get(frame.camera);
    if (before) {
      // Two came between two repaints: the later one is drawn, the other one is done with.
      const [older, newer] = before.number > frame.number ? [frame, before] : [before, frame];
      older.image.close();
      frame = newer;
      stream.next();
    }
    waiting.set(frame.camera, frame);
    requestAnimationFrame(drawWaiting);
  },

  lost(reason, hasEnded) {
    trouble = reason;
    ended ||= hasEnded;
    showState();
  },
});

function drawWaiting() {
  for (const frame of waiting.values()) {
    if (frozen) {  // between its arrival and this repaint
      frame.image.close();
      continue;
    }
    const shown = camera === "all" ? tiles.picture(frame.camera) : picture;
    if (shown) shown.show(frame);
    else frame.image.close();
    $("picture").dataset.index = frame.index;
    $("picture").dataset.drawn = 1 + Number($("picture").dataset.drawn ?? 0);
    $("waiting").hidden = true;
    stream.next();
  }
  waiting.clear();
}

// --- state -------------------------------------------------------------------------------------------------------

function ageOf(shown) {
  const frame = shown?.frame;
  return frame ? frame.age_ms + performance.now() - frame.received : null;
}

// The state of one camera, and its age in ms.
function stateOf(number, shown) {
  const age = ageOf(shown);
  const now = status?.cameras.find((one) => one.camera === number);
  if (age === null) return { state: "waiting", age, now };
  return { state: now?.ended ? "ended" : now?.stale ? "stale" : frozen ? "frozen" : "live", age, now };
}

function showState() {
  const silent = performance.now() - heard > LOST_MS && !document.hidden;
  const lost = trouble || (silent ? "Connection lost" : "");
  if (camera === "all") showTiles();
  let { state, age, now } = camera === "all" ? worst() : stateOf(camera, picture);
  if (ended) state = "ended";
  else if (lost) state = "lost";
  setText($("state"), WORDS[state]);
  $("state").dataset.state = state;
  $("frame").toggleAttribute("data-old", state === "lost" || state === "stale");
  $("banner").hidden = !["lost", "stale", "ended"].includes(state) || (camera === "all" && !ended && !lost);
  $("banner").dataset.state = state;
  const what = { lost: `${lost}.`, stale: "No new frame.", ended: ended ? "The run has ended." : `${now?.name ?? "The source"} has ended.` };
  setText($("banner-what"), what[state] ?? "");
  setText($("banner-age"), age === null || state === "ended" ? "" : `This picture is ${duration(age)} old.`);
  setText($("banner-fix"), fixFor(state, lost, now));
  const [number, unit] = age === null || state === "ended" ? ["–", "ms"] : age < 9999.5 ? [Math.round(age), "ms"] : duration(age).split(" ");
  setText($("age"), number);
  setText($("age-unit"), unit);
}

// Of all cameras: the age of the oldest picture, and the state that needs most attention.
function worst() {
  const order = ["stale", "frozen", "waiting", "live", "ended"];
  const all = (status?.cameras ?? []).map((one) => stateOf(one.camera, tiles.picture(one.camera)));
  if (!all.length) return { state: "waiting", age: null };
  const live = all.filter(({ state }) => state !== "ended");
  const ages = live.map(({ age }) => age).filter((age) => age !== null);
  const state = all.map((one) => one.state).sort((a, b) => order.indexOf(a) - order.indexOf(b))[0];
  return { state, age: ages.length ? Math.max(...ages) : null };
}

function showTiles() {
  tiles.showStates((number) => {
    const { state, age } = stateOf(number, tiles.picture(number));
    const words = state === "stale" ? `stale, ${duration(age)} old` : WORDS[state];
    return { state, words };
  });
}

function fixFor(state, lost, now) {
  if (state === "ended") {
    const pictures = camera === "all" ? "These are its last pictures." : "This is its last picture.";
    return ended ? `${pictures} When it runs again, this page continues by itself.` : "";
  }
  if (state === "stale") return now?.trouble ?? "";
  if (state !== "lost") return "";
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
  const history = camera === "all" ? together() : histories[camera] ?? [];
  charts.fps.set(history.map(([fps]) => [fps]));
  charts.age.set(history.map(([, median, worst]) => [median, worst]));
  const rate = rateOf(history.map(([fps]) => fps));
  setText($("fps"), rate == null ? "–" : rate < 100 ? rate.toFixed(1) : Math.round(rate));
}

// Of all cameras: their rates added up, the middle and the worst age.
function together() {
  const all = Object.values(histories);
  const seconds = Math.max(0, ...all.map((one) => one.length));
  return Array.from({ length: seconds }, (_, back) => {
    const each = all.map((one) => one[one.length - seconds + back]).filter(Boolean);
    const ages = each.map(([, median]) => median).filter((age) => age !== null).sort((a, b) => a - b);
    const worst = each.map(([, , age]) => age).filter((age) => age !== null);
    const rate = each.reduce((sum, [fps]) => sum + fps, 0);
    return [rate, ages[Math.floor(ages.length / 2)] ?? null, worst.length ? Math.max(...worst) : null];
  });
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

// Cameras of one name get their numbers behind it.
function named(cameras) {
  return cameras.map((one) => {
    const alone = cameras.every((other) => other === one || other.name !== one.name);
    return alone ? one : { ...one, name: `${one.name} (${one.camera})` };
  });
}

function listCameras() {
  const { cameras } = status;
  tiles.list(cameras);
  const list = $("camera");
  const names = cameras.map((one) => one.name);
  if (list.dataset.names !== JSON.stringify(names)) {
    const grown = cameras.length > Math.max(1, list.options.length - 1);
    list.dataset.names = JSON.stringify(names);
    list.replaceChildren(new Option("All cameras", "all"), ...cameras.map((one) => new Option(one.name, one.camera)));
    list.hidden = $("grid-hint").hidden = cameras.length < 2;
    // Several are shown together until one is chosen; one that comes later joins them.
    if (cameras.length > 1 && (camera === null || camera === "all" || (grown && list.options.length === 3))) watch("all");
    else if (cameras.length && camera === null) watch(cameras[0].camera);
    else if (camera !== null) list.value = camera;
  }
  setText($("source"), cameras.length === 1 ? cameras[0].name : "");
}

function watch(which) {
  if (which !== camera) for (const frame of waiting.values()) frame.image.close();
  if (which !== camera) waiting.clear();
  if (recorder.recorder) recorder.toggle();
  camera = which;
  if (which !== "all") last = which;
  const together = which === "all";
  $("tiles").hidden = !together;
  $("picture").hidden = together;
  for (const id of ["save", "mask", "record", "split"]) $(id).disabled = together;
  $("one-hint").hidden = !together;
  $("record").disabled ||= !CanvasRecorder.works;
  if (!together) showLast(which);
  $("camera").value = which;
  stream.watch(which, status?.cameras.length ?? 1);
  draw();
  showState();
}

// The last picture of the grid, until the next one comes: after the end of a run none does.
async function showLast(which) {
  const shown = tiles.picture(which)?.frame;
  if (!shown || picture.frame?.camera === which) return;
  const image = await createImageBitmap(shown.image);
  if (camera === which && picture.frame?.camera !== which) {
    picture.show({ ...shown, image });
    showState();
  } else image.close();
}

function toggleGrid() {
  if ((status?.cameras.length ?? 0) > 1) watch(camera === "all" ? last : "all");
}

// --- controls ----------------------------------------------------------------------------------------------------

function restyle() {
  picture.style(labels.palette, settings);
  tiles.style(labels.palette, settings);
  $("opacity").value = Math.round(100 * settings.opacity);
  $("opacity-shown").textContent = `${$("opacity").value} %`;
  $("split").value = Math.round(100 * settings.split);
  $("split-shown").textContent = settings.split ? `${$("split").value} %` : "off";
  $("outlines").checked = settings.outlines;
  remember();
}

function remember() {
  if (!labels.name) return;
  const { opacity, outlines } = settings;
  const kept = { opacity, outlines, hidden: [...settings.hidden] };
  try {
    localStorage.setItem(`pspnet-edge ${labels.name}`, JSON.stringify(kept));
  } catch { /* Storage is off: the settings last as long as the page. */ }
}

function recall(facts) {
  const { opacity = 0.5, hidden = [] } = facts.style ?? {};
  Object.assign(settings, { opacity, hidden: new Set([...hidden, ...(facts.background ?? [])]) });
  try {
    const kept = JSON.parse(localStorage.getItem(`pspnet-edge ${labels.name}`));
    if (kept) Object.assign(settings, kept, { hidden: new Set(kept.hidden) });
  } catch { /* As above. */ }
}

function freeze() {
  frozen = !frozen;
  $("freeze").setAttribute("aria-pressed", frozen);
  if (!frozen && camera !== null) stream.watch(camera, status?.cameras.length ?? 1);
  showState();
}

function save() {
  if (camera !== "all") $("picture").toBlob((blob) => download(blob, "png"));
}

async function saveMask() {
  if (camera === "all" || !picture.frame) return;
  download(await maskPng(picture.frame.ids, picture.frame.mask, labels.palette), "mask.png");
}

function record() {
  if (!$("record").disabled) recorder.toggle();
}

function showRecording(seconds) {
  $("record").setAttribute("aria-pressed", seconds !== null);
  $("record").textContent = seconds === null ? "Record" : `Stop ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function compare() {
  settings.split = settings.split ? 0 : 0.5;
  restyle();
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("frame").requestFullscreen?.();
}

// Drags the line between the original and the overlay, when it was taken hold of.
function drag(event) {
  const place = picture.placeOf(event.clientX, event.clientY);
  if (event.type === "pointerdown" && place && settings.split) {
    const off = Math.abs(place[0] - settings.split) * $("picture").clientWidth;
    if (off < 16) $("picture").setPointerCapture(event.pointerId);
  }
  if (!$("picture").hasPointerCapture(event.pointerId) || !place) return;
  settings.split = Math.min(0.99, Math.max(0.01, place[0]));
  restyle();
}

function point(event) {
  drag(event);
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
$("split").addEventListener("input", (event) => {
  settings.split = event.target.value / 100;
  restyle();
});
$("outlines").addEventListener("change", (event) => {
  settings.outlines = event.target.checked;
  restyle();
});
$("all").addEventListener("click", () => legend.every(true));
$("none").addEventListener("click", () => legend.every(false));
$("camera").addEventListener("change", ({ target: { value } }) => watch(value === "all" ? value : Number(value)));
$("freeze").addEventListener("click", freeze);
$("save").addEventListener("click", save);
$("mask").addEventListener("click", saveMask);
$("record").addEventListener("click", record);
$("record").disabled = !CanvasRecorder.works;
$("full").addEventListener("click", fullScreen);
$("picture").addEventListener("pointermove", point);
$("picture").addEventListener("pointerdown", point);
$("picture").addEventListener("pointerleave", () => ($("pointed").hidden = true));

const KEYS = {
  " ": freeze, s: save, m: saveMask, r: record, f: fullScreen, c: compare, g: toggleGrid, o: () => $("outlines").click(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, input, select") && !event.target.closest(".tile")) return;
  if (!(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

setInterval(showState, 200);
setInterval(() => {
  const shown = (camera === "all" ? tiles.pictures : [picture]).filter(({ frame }) => frame);
  if (shown.length) legend.shares((id) => shown.reduce((sum, one) => sum + one.share(id), 0) / shown.length);
}, 500);
