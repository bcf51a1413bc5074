// What a viewer keeps: the picture, the mask and a video, made in the browser and saved as downloads.

const LONGEST_MS = 10 * 60 * 1000;
const KINDS = ["video/mp4;codecs=avc1.42E01E", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];

export function download(blob, suffix) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob) });
  link.download = `pspnet-edge-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Records a canvas until it is told to stop, at most for ten minutes.
export class CanvasRecorder {
  // changed(seconds): called once a second while it records, and with null at the end.
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed });
  }

  static get works() {
    return typeof MediaRecorder !== "undefined" && "captureStream" in HTMLCanvasElement.prototype;
  }

  toggle() {
    if (this.recorder) this.recorder.stop();
    else this.start();
  }

  start() {
    const kind = KINDS.find((one) => MediaRecorder.isTypeSupported(one));
    const parts = [];
    const recorder = new MediaRecorder(this.canvas.captureStream(30), { mimeType: kind, videoBitsPerSecond: 6e6 });
    const began = performance.now();
    const tick = setInterval(() => {
      this.changed(Math.round((performance.now() - began) / 1000));
      if (performance.now() - began > LONGEST_MS) recorder.stop();
    }, 1000);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      clearInterval(tick);
      this.recorder = null;
      this.changed(null);
      for (const track of recorder.stream.getTracks()) track.stop();
      download(new Blob(parts, { type: recorder.mimeType }), recorder.mimeType.includes("mp4") ? "mp4" : "webm");
    };
    this.recorder = recorder;
    recorder.start(1000);
    this.changed(0);
  }
}

// A PNG whose palette indices are class ids, as `--save-masks` writes it.
export async function maskPng(ids, [height, width], palette) {
  const rows = new Uint8Array(height * (width + 1));  // each row begins with its filter, 0 for none
  for (let row = 0; row < height; row++) rows.set(ids.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8);
  const colours = new Uint8Array(768);
  palette.forEach((colour, id) => colours.set(colour, 3 * id));
  return new Blob([
    new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("PLTE", colours),
    chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk("IEND", new Uint8Array(0)),
  ], { type: "image/png" });
}

function chunk(kind, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc32(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ -1) >>> 0;
}
