// The WebSocket: decodes what the board sends (camera/web/message.py) and asks for the next frame once one is drawn.

const PAUSES = [500, 1000, 2000, 4000];
const UNDER_WAY = 2;

export class Stream {
  // on: { hello(facts), status(facts), frame(frame), lost(reason, ended) }
  constructor(on) {
    this.on = on;
    this.failures = 0;
    this.camera = null;
    this.taken = 0;
    this.open();
    // A hidden page draws nothing, so it should cost the board nothing.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
  }

  open() {
    if (this.socket || document.hidden) return;
    clearTimeout(this.retry);
    const socket = new WebSocket(new URL("stream", location.href.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.failures = 0;
      if (this.camera !== null) this.watch(this.camera, this.cameras);
      else this.next(UNDER_WAY);
    };
    socket.onmessage = (event) => this.take(event.data);
    socket.onclose = (event) => socket === this.socket && this.lost(event);
    this.socket = socket;
  }

  close() {
    clearTimeout(this.retry);
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
  }

  // camera: a number, or "all" of so many.
  watch(camera, cameras = 1) {
    Object.assign(this, { camera, cameras });
    this.say(`camera ${camera}`);
    this.next(UNDER_WAY * (camera === "all" ? cameras : 1));
  }

  next(count = 1) {
    for (; count > 0; count--) this.say("next");
  }

  here() { this.say("here"); }

  say(text) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(text);
  }

  async lost(event) {
    this.socket = null;
    const pause = PAUSES[Math.min(this.failures++, PAUSES.length - 1)];
    this.retry = setTimeout(() => this.open(), pause);
    const ended = event.code === 1001;
    this.on.lost(ended ? "The run has ended" : "Connection lost", ended);
    try {
      if ((await fetch("stats")).status === 401) this.on.lost("This page's token is no longer valid", false);
    } catch { /* The board is not there at all: what was said remains. */ }
  }

  async take(data) {
    if (typeof data === "string") {
      const facts = JSON.parse(data);
      this.on[facts.type](facts);
      return;
    }
    const received = performance.now();
    const number = ++this.taken;  // decoding may end in another order than it began
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const jpeg = new Blob([new Uint8Array(data, 4 + length, header.jpeg)], { type: "image/jpeg" });
    const packed = new Blob([new Uint8Array(data, 4 + length + header.jpeg)]);
    const unpacked = packed.stream().pipeThrough(new DecompressionStream("deflate"));
    const [image, mask] = await Promise.all([createImageBitmap(jpeg), new Response(unpacked).arrayBuffer()]);
    this.on.frame({ ...header, number, received, image, ids: new Uint8Array(mask) });
  }
}
