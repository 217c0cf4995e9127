// The canvas editor, in one module without dependencies. `mount` puts it into an element and talks through a link:
// the web page's is a WebSocket, the notebook's is the widget's model. The messages are those of protocol.py.
//
// Points are [x, y] in pixels of the photo, pixel centres at integers; the canvas has its corners there, so that a
// point p is drawn at p + 0.5.

const GRIP = 14; // CSS pixels around a point in which it is grabbed; a finger gets twice that
const MASK_SIDE = 2048; // as in protocol.py
const LARGEST_UPLOAD = 64e6; // bytes, as in server.py
const HINTS = [
  "Press on the face, pull, and let go: the point will move there. Two clicks do the same.",
  "If the rest must stay as it is, paint what may change.",
  "Start, and stop when you like what you see. Undo and redo take you through all you tried.",
];
const KEYS = [
  ["Space", "start, pause, go on"], ["Esc", "stop; let go of a point"], ["P  B  E  H", "point, brush, eraser, hand"],
  ["C (hold)", "the photo as it was"], ["Ctrl Z / Ctrl Shift Z", "undo, redo"], ["Delete", "remove the point"],
  ["L", "hold the point where it is"], ["[  ]", "size of the brush"], ["+  −  0", "zoom in, out, fit"], ["1 … 9", "that face of the photo"],
  ["Arrows, Enter", "move a cursor; set handle, then target; paint"], ["X", "export"],
];
const ICONS = {
  point: "M5 19 17 7M17 7h-6M17 7v6M5 19h.01", paint: "M4 20c3 0 5-1 5-4l9-12 2 2-11 10c-1 4-3 4-5 4z",
  erase: "M8 20h12M5 15l9-10 6 6-8 9H9z", pan: "M12 3v18M3 12h18M12 3l-2 2M12 3l2 2M12 21l-2-2M12 21l2-2M3 12l2-2M3 12l2 2M21 12l-2-2M21 12l-2 2",
  undo: "M9 7 4 12l5 5M4 12h10a6 6 0 0 1 6 6", redo: "M15 7l5 5-5 5M20 12H10a6 6 0 0 0-6 6",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5", compare: "M12 3v18M4 6h5v12H4M20 6h-5v12h5",
};

const HANDS = ["new", "handle", "target", "stroke"]; // grips that set something

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];

/** An element: h("button", {class: "x", onclick: f}, "text", child). */
function h(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Puts an editor into `root`. `link` has send(request), upload(file) or null, and hands messages to `link.receive`. */
export function mount(root, link) {
  return new Editor(root, link);
}

/** The picture, fading out towards its edges. */
function feathered(image) {
  const { width: w, height: tall } = image;
  const canvas = h("canvas", { width: w, height: tall }), pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  pen.globalCompositeOperation = "destination-in";
  for (const [x, y] of [[w, 0], [0, tall]]) {
    const fade = pen.createLinearGradient(0, 0, x, y);
    [[0, 0], [0.14, 1], [0.86, 1], [1, 0]].forEach(([at, alpha]) => fade.addColorStop(at, `rgba(0,0,0,${alpha})`));
    pen.fillStyle = fade;
    pen.fillRect(0, 0, w, tall);
  }
  return canvas;
}

class Editor {
  constructor(root, link) {
    this.link = link;
    this.photo = null; // {width, height, image}
    this.result = null; // {image, corners, number}
    this.frame = null; // {image, corners, serial, soft}
    this.session = null;
    this.job = { kind: null, serial: 0 };
    this.step = null;
    this.beside = null; // {image, corners}: what was done to other faces
    this.faces = [];
    this.face = null; // the number of the one that is looked at, or was chosen to be
    this.wanted = null; // the generator that was chosen
    this.points = []; // {handle, target: null while only the handle is set, held}
    this.chosen = -1; // index of the selected point
    this.mask = null; // a canvas: opaque where the photo may change
    this.masked = false; // anything is painted
    this.strokes = 0; // how often it was changed
    this.brush = 40; // photo pixels, radius
    this.tool = "point";
    this.view = { scale: 1, x: 0, y: 0 }; // CSS pixel = (p + 0.5) * scale + (x, y)
    this.before = false; // the photo as it was is shown
    this.wipe = null; // 0..1: left of it the photo as it was
    this.pointers = new Map();
    this.cursor = null; // photo point of the keyboard
    this.strengths = {};
    this.id = Math.random().toString(36).slice(2);
    this.said = 0; // how often this editor told its sketch
    this.shared = null; // the sketch as it was told last; null before the host has told it
    this.known = null; // the sketch as the host is known to have it
    this.name = "photo";
    this.fitted = false;
    this.whole = undefined; // whether the whole photo is fitted, or the face; null: neither, the hand has moved it
    this.build(root);
    link.receive = (message, payload) => this.receive(message, payload);
    link.status = (text, problem) => this.say(text, problem);
    link.joined = () => { this.fresh = true; };
    link.start();
    this.refresh();
  }

  // --- messages ----------------------------------------------------------------------------------------------

  async receive(message, payload) {
    const image = payload && message.type !== "file" ? await createImageBitmap(new Blob([payload])) : null;
    const { type } = message;
    if (type === "photo") this.takePhoto(message, image);
    else if (type === "result") this.result = { ...message, image };
    else if (type === "frame") this.takeFrame(message, image);
    else if (type === "beside") this.beside = image && { ...message, image };
    else if (type === "faces") this.takeFaces(message);
    else if (type === "sketch") this.takeSketch(message);
    else if (type === "session") this.takeSession(message);
    else if (type === "job") this.takeJob(message);
    else if (type === "step") return this.takeStep(message); // too often for the whole page
    else if (type === "problem") this.toast(message.text, true);
    else if (type === "note") this.toast(message.text);
    else if (type === "file") this.save(message, payload);
    this.refresh();
  }

  takePhoto(message, image) {
    const again = this.photo?.width === message.width && this.photo?.height === message.height; // the line was cut
    this.photo = { ...message, image };
    if (again) return;
    const shrink = Math.min(1, MASK_SIDE / Math.max(message.width, message.height));
    this.mask = h("canvas");
    this.mask.width = Math.max(1, Math.round(message.width * shrink));
    this.mask.height = Math.max(1, Math.round(message.height * shrink));
    this.mask.getContext("2d", { willReadFrequently: true });
    this.fitted = false;
    this.whole = undefined;
  }

  takeFrame(message, image) {
    if (this.job.kind && message.serial === this.job.serial) this.frame = { ...message, image: message.soft ? feathered(image) : image };
    requestAnimationFrame(() => this.link.send({ type: "shown" }));
    this.frames = (this.frames || 0) + 1;
  }

  takeStep(message) {
    const began = this.step?.stage !== message.stage;
    this.step = message;
    if (began) this.announce();
    this.tellProgress();
    this.draw();
  }

  takeJob(message) {
    const was = this.job;
    this.job = message;
    if (was.kind === "drag" && !message.kind) this.chosen = -1;
    if (was.serial !== message.serial || !message.kind) { this.step = null; this.frame = null; }
    this.announce();
  }

  takeSession(message) {
    const was = this.session;
    this.session = message;
    if (was?.stage !== "ready" && message.stage === "ready") { this.fitted = false; this.whole = undefined; this.hint(); }
    if (this.wanted === message.generator) this.wanted = null;
  }

  /** Another face is another session. */
  takeFaces({ boxes, current }) {
    if (this.looked && current !== this.looked) Object.assign(this, { result: null, frame: null, step: null, wipe: null, chosen: -1, fitted: false, whole: undefined });
    this.faces = boxes;
    this.looked = this.face = current;
  }

  /** What is set and not yet dragged, as the host has it: the same in all tabs, and after a reload. */
  takeSketch(message) {
    const heard = message.heard[this.id] || 0;
    if (this.fresh) {
      this.fresh = false;
      this.said = heard;
      if (this.shared !== null && this.sketchText() !== this.known) { // it was set while the line was cut
        this.shared = "";
        return;
      }
    } else if (heard < this.said) return; // our own last words are still on their way
    if (!this.mask || HANDS.includes(this.grip?.kind)) return; // the hand is right
    const theirs = JSON.stringify(sketchOf(message.points, message.gestures, message.mask));
    if (theirs !== this.sketchText()) {
      if (message.points.length !== this.points.length) this.chosen = -1;
      this.points = message.points;
      this.strengths = message.gestures;
      this.paintRuns(message.mask);
    }
    this.shared = this.known = theirs;
  }

  sketchText() { return JSON.stringify(sketchOf(this.points, this.strengths, this.maskRuns())); }

  /** Tells the host what is set, where that has changed. */
  share() {
    if (this.shared === null || !this.mask || HANDS.includes(this.grip?.kind)) return;
    const text = this.sketchText();
    if (text === this.shared) return;
    this.shared = text;
    if (this.link.send({ type: "sketch", by: this.id, said: this.said + 1, face: this.looked ?? null, ...JSON.parse(text) }) !== false) { this.said++; this.known = text; }
  }

  // --- requests ----------------------------------------------------------------------------------------------

  get busy() { return Boolean(this.job.kind); }
  get working() { return ["drag", "invert", "download"].includes(this.job.kind); }
  get ready() { return this.session?.stage === "ready"; }

  start() {
    if (this.busy || !this.session) return;
    if (!this.ready || this.wanted) return this.begin(this.face);
    const points = this.points.filter((point) => point.target && !this.arrived(point));
    const gestures = Object.fromEntries(Object.entries(this.strengths).filter(([, value]) => value));
    const some = Object.keys(gestures).length > 0;
    if (!some && !points.some((point) => !point.held)) {
      return this.toast("Nothing to drag yet: press on the face, pull, and let go where it should be.");
    }
    this.wipe = null;
    const asked = points.map(({ handle, target, held }) => ({ handle, target: held ? handle : target }));
    this.link.send({ type: "drag", points: asked, gestures, mask: this.maskRuns(), anchor: "previous" });
  }

  /** A point that is where it should be, as nearly as a drag brings it. It is not held either: what comes next is free. */
  arrived({ handle, target, held }) {
    const [a, , , d] = this.session.quad;
    return !held && distance(handle, target) < Math.max(1, (2 * distance(a, d)) / 512);
  }

  begin(face) {
    if (!face && this.session.stage === "photo" && this.faces.length !== 1) return this.toast("Which face? Choose its number in the photo.");
    this.face = face || (this.faces.length === 1 ? 1 : null);
    this.link.send({ type: "begin", face: this.face, generator: this.generator });
  }

  /** The generator to learn a face in. */
  get generator() {
    const names = (this.session?.generators || []).map((offer) => offer.name), now = this.session?.generator;
    return this.wanted || (names.includes(now) ? now : names[0]) || "embedded";
  }

  pauseOrResume() { if (this.job.kind !== "download") this.link.send({ type: this.job.status === "paused" ? "resume" : "pause" }); }
  stop() { if (this.busy) this.link.send({ type: "stop" }); }
  undo() { if (this.canUndo) this.move({ type: "undo" }); }
  redo() { if (this.canRedo) this.move({ type: "redo" }); }
  move(request) { if (!this.busy) this.link.send(request); }
  get canUndo() { return !this.busy && this.session?.current > 0; }
  get canRedo() { return !this.busy && this.session?.edits.some((edit) => edit.parent === this.session.current); }

  export() { if (!this.busy && this.ready) this.link.send({ type: "export", format: this.format.value }); }

  save(message, payload) {
    const url = URL.createObjectURL(new Blob([payload], { type: message.mime }));
    const link = h("a", { href: url, download: `${this.name}-edited${message.suffix}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    this.toast(`Saved ${link.download}`);
  }

  async open(file) {
    if (!file || !this.link.upload) return;
    if (file.size > LARGEST_UPLOAD) return this.toast(`${file.name} is larger than ${LARGEST_UPLOAD / 1e6} MB: make it smaller.`, true);
    this.say("Sending the photo…");
    try {
      await this.link.upload(file);
    } catch (error) {
      this.announce();
      return this.toast(error.message, true);
    }
    this.name = file.name.replace(/\.[^.]*$/, "") || "photo";
    this.forget();
  }

  forget() {
    Object.assign(this, { photo: null, result: null, beside: null, frame: null, session: null, step: null, faces: [], face: null, looked: null, wanted: null, points: [], strengths: {}, chosen: -1, mask: null, masked: false, shared: null, known: null, wipe: null });
    this.refresh();
  }

  // --- the mask ----------------------------------------------------------------------------------------------

  /** The mask as the host takes it; null where nothing is painted. */
  maskRuns() {
    if (!this.masked || !this.mask) return null;
    if (this.runsOf === this.strokes) return this.runs;
    this.runsOf = this.strokes;
    return (this.runs = this.readRuns());
  }

  readRuns() {
    const { width, height } = this.mask;
    const alpha = this.mask.getContext("2d").getImageData(0, 0, width, height).data;
    const runs = [];
    let value = false, length = 0;
    for (let i = 3; i < alpha.length; i += 4) {
      if ((alpha[i] > 127) !== value) { runs.push(length); length = 0; value = !value; }
      length++;
    }
    runs.push(length);
    return { width, height, runs };
  }

  paintRuns(mask) {
    this.clearMask();
    if (!mask || mask.width !== this.mask.width || mask.height !== this.mask.height) return;
    const pen = this.mask.getContext("2d"), image = pen.createImageData(mask.width, mask.height);
    const pixels = new Uint32Array(image.data.buffer);
    let at = 0;
    mask.runs.forEach((length, i) => { if (i % 2) pixels.fill(0xffbad035, at, at + length); at += length; }); // #35d0ba
    pen.putImageData(image, 0, 0);
    this.masked = true;
  }

  dab(from, to, erase) {
    const pen = this.mask.getContext("2d"), s = this.mask.width / this.photo.width;
    pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
    pen.strokeStyle = pen.fillStyle = "#35d0ba";
    pen.lineWidth = 2 * this.brush * s;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo((from[0] + 0.5) * s, (from[1] + 0.5) * s);
    pen.lineTo((to[0] + 0.5) * s + 0.01, (to[1] + 0.5) * s);
    pen.stroke();
    this.masked = erase ? this.anyMask() : true;
    this.strokes++;
  }

  anyMask() {
    const { width, height } = this.mask;
    const alpha = this.mask.getContext("2d").getImageData(0, 0, width, height).data;
    for (let i = 3; i < alpha.length; i += 4) if (alpha[i] > 127) return true;
    return false;
  }

  invertMask() {
    const pen = this.mask.getContext("2d");
    pen.globalCompositeOperation = "xor";
    pen.fillStyle = "#35d0ba";
    pen.fillRect(0, 0, this.mask.width, this.mask.height);
    this.masked = this.anyMask();
    this.strokes++;
  }

  clearMask() {
    this.mask?.getContext("2d").clearRect(0, 0, this.mask.width, this.mask.height);
    this.masked = false;
    this.strokes++;
  }

  // --- the view ----------------------------------------------------------------------------------------------

  toScreen([x, y]) { return [(x + 0.5) * this.view.scale + this.view.x, (y + 0.5) * this.view.scale + this.view.y]; }
  toPhoto([x, y]) { return [(x - this.view.x) / this.view.scale - 0.5, (y - this.view.y) / this.view.scale - 0.5]; }

  /** The whole photo, or with a face that is being edited that face. */
  fit(whole = true) {
    if (!this.photo) return;
    const low = this.ready && this.canvas.clientWidth <= 700 ? 56 : 0; // the tools lie there
    const [w, tall] = [this.canvas.clientWidth, this.canvas.clientHeight - low];
    const quad = !whole && this.session?.quad;
    const xs = quad ? quad.map((p) => clamp(p[0], 0, this.photo.width)) : [0, this.photo.width];
    const ys = quad ? quad.map((p) => clamp(p[1], 0, this.photo.height)) : [0, this.photo.height];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min((w - 32) / (right - left), (tall - 32) / (bottom - top));
    this.view = { scale, x: (w - (left + right) * scale) / 2, y: (tall - (top + bottom) * scale) / 2 };
    this.fitted = true;
    this.whole = whole; // until the hand zooms or pans, the photo is fitted anew where the canvas changes
    this.draw();
  }

  /** The canvas has another size: what was in its middle stays there. */
  resized() {
    const [w, tall] = this.centre(), [was, wasTall] = this.middle || [w, tall];
    if (this.whole != null) this.fitted = false;
    this.view.x += w - was;
    this.view.y += tall - wasTall;
    this.middle = [w, tall];
    this.draw();
  }

  zoom(factor, at) {
    this.whole = null;
    const scale = clamp(this.view.scale * factor, 0.02, 40), by = scale / this.view.scale;
    this.view = { scale, x: at[0] - (at[0] - this.view.x) * by, y: at[1] - (at[1] - this.view.y) * by };
    this.draw();
  }

  centre() { return [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]; }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => { this.drawing = null; this.paint(); });
  }

  /** Two canvases: the picture below is drawn where it changed, the points above in every step. */
  paint() {
    const ratio = window.devicePixelRatio || 1;
    const w = Math.round(this.canvas.clientWidth * ratio), tall = Math.round(this.canvas.clientHeight * ratio);
    if (this.photo && !this.fitted && w) this.fit(this.whole ?? (!this.ready || this.faceIsLarge()));
    const shown = [w, tall, this.view.scale, this.view.x, this.view.y, this.photo, this.beside, this.result, this.frame, this.before, this.wipe, this.masked && this.strokes, this.tool, this.working];
    if (!this.painted || shown.some((value, i) => value !== this.painted[i])) this.paintPicture(this.cleared(this.picture, w, tall), ratio);
    this.painted = shown;
    const pen = this.cleared(this.canvas, w, tall);
    if (!this.photo) return;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.before && !this.working && (!this.ready || this.faces.length > 1)) this.paintFaces(pen);
    if (!this.before && this.wipe == null) this.paintPoints(pen);
    if (this.hover && (this.tool === "paint" || this.tool === "erase")) this.ring(pen, this.hover, this.brush * this.view.scale, "#fff", 1.5);
    if (this.cursor && document.activeElement === this.canvas) this.paintCursor(pen);
  }

  cleared(canvas, w, tall) {
    const pen = canvas.getContext("2d");
    if (canvas.width !== w || canvas.height !== tall) { canvas.width = w; canvas.height = tall; }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, w, tall);
    return pen;
  }

  paintPicture(pen, ratio) {
    if (!this.photo) return;
    const { scale, x, y } = this.view;
    pen.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    pen.imageSmoothingEnabled = scale < 4;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.photo.image, 0, 0, this.photo.width, this.photo.height);
    if (!this.before) this.paintEdited(pen);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.masked && !this.before) this.paintMask(pen);
  }

  faceIsLarge() {
    const [a, , , d] = this.session.quad;
    return distance(a, d) > 0.45 * Math.max(this.photo.width, this.photo.height);
  }

  paintEdited(pen) {
    pen.save();
    const left = (this.wipe || 0) * this.photo.width;
    pen.beginPath();
    pen.rect(left, 0, this.photo.width - left, this.photo.height);
    pen.clip();
    if (this.beside) this.paintPart(pen, this.beside);
    if (this.result && this.result.number) this.paintPart(pen, this.result);
    if (this.frame) this.paintPart(pen, this.frame);
    if (this.wipe != null) {
      pen.fillStyle = "#fff";
      pen.fillRect(left, 0, 1.5 / this.view.scale, this.photo.height);
    }
    pen.restore();
  }

  /** A picture whose top left, bottom left and top right corners lie at three points of the photo. */
  paintPart(pen, { image, corners: [a, b, d] }) {
    pen.save();
    const { width: w, height: tall } = image;
    pen.transform((d[0] - a[0]) / w, (d[1] - a[1]) / w, (b[0] - a[0]) / tall, (b[1] - a[1]) / tall, a[0] + 0.5, a[1] + 0.5);
    pen.drawImage(image, 0, 0);
    pen.restore();
  }

  paintMask(pen) {
    const { scale, x, y } = this.view;
    pen.save();
    pen.globalAlpha = this.tool === "paint" || this.tool === "erase" ? 0.45 : this.working ? 0.06 : 0.12;
    pen.drawImage(this.mask, x, y, this.photo.width * scale, this.photo.height * scale);
    pen.restore();
  }

  paintFaces(pen) {
    this.faces.forEach(([left, top, right, bottom], i) => {
      const [a, b] = [this.toScreen([left, top]), this.toScreen([right, bottom])];
      const chosen = this.face === i + 1;
      if (chosen && this.ready) return; // its points are what counts
      pen.lineWidth = chosen ? 4 : this.ready ? 1.5 : 2.5;
      pen.strokeStyle = chosen ? "#35d0ba" : "#ffd24a";
      pen.beginPath();
      pen.roundRect(a[0], a[1], b[0] - a[0], b[1] - a[1], 8);
      pen.stroke();
      this.label(pen, String(i + 1), a, pen.strokeStyle);
    });
  }

  label(pen, text, [x, y], colour) {
    pen.font = "600 15px system-ui, sans-serif";
    const w = pen.measureText(text).width + 14;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(x, y - 1, w, 24, [8, 0, 8, 0]);
    pen.fill();
    pen.fillStyle = "#10131a";
    pen.textBaseline = "middle";
    pen.fillText(text, x + 7, y + 12);
  }

  paintPoints(pen) {
    const live = this.job.kind === "drag" && this.step?.handles;
    const points = live ? live.map((handle, i) => ({ handle, target: this.step.targets[i], held: this.points.some((point) => point.held && distance(point.target, this.step.targets[i]) < 0.1) })) : this.points;
    const small = points.length > 8 ? 0.6 : 1;
    points.forEach((point, i) => this.paintPoint(pen, point, !live && i === this.chosen, small));
  }

  paintPoint(pen, { handle, target, held }, chosen, small) {
    const from = this.toScreen(handle), to = target ? this.toScreen(target) : null;
    if (to && distance(from, to) > 6) {
      const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
      for (const [colour, width] of [["rgba(0,0,0,.55)", 6], ["#fff", 2.5]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.lineCap = "round";
        pen.beginPath();
        pen.moveTo(...from);
        pen.lineTo(...to);
        for (const side of [-0.5, 0.5]) {
          pen.moveTo(...to);
          pen.lineTo(to[0] - 11 * Math.cos(angle + side), to[1] - 11 * Math.sin(angle + side));
        }
        pen.stroke();
      }
      this.dot(pen, to, 5 * small, "#4aa8ff", chosen);
    } else if (to && !held && !chosen && !this.busy) {
      pen.globalAlpha = 0.55; // it has arrived, and shall not hide what came of it
      this.dot(pen, from, 3.5, "#ff4d5e");
      pen.globalAlpha = 1;
      return;
    }
    if (held) { this.ring(pen, from, 10, "rgba(0,0,0,.6)", 4); this.ring(pen, from, 10, "#ffd24a", 2); }
    this.dot(pen, from, 6 * small, held ? "#ffd24a" : "#ff4d5e", chosen, !target);
  }

  dot(pen, [x, y], r, colour, chosen, waiting) {
    pen.beginPath();
    pen.arc(x, y, r, 0, 7);
    pen.fillStyle = colour;
    pen.fill();
    pen.lineWidth = 2;
    pen.strokeStyle = "#fff";
    pen.stroke();
    this.ring(pen, [x, y], r + 1.5, "rgba(0,0,0,.55)", 1);
    if (chosen || waiting) this.ring(pen, [x, y], r + 6, "#fff", 2);
  }

  ring(pen, [x, y], r, colour, width) {
    pen.beginPath();
    pen.arc(x, y, r, 0, 7);
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }

  paintCursor(pen) {
    const [x, y] = this.toScreen(this.cursor);
    for (const [colour, width] of [["#000", 4], ["#fff", 1.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(x + 5 * dx, y + 5 * dy);
        pen.lineTo(x + 16 * dx, y + 16 * dy);
      }
      pen.stroke();
    }
  }

  // --- the hand ----------------------------------------------------------------------------------------------

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (!this.photo) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.at(event);
    this.pointers.set(event.pointerId, at);
    this.cursor = null;
    if (this.pointers.size === 2) return this.startPinch();
    if (event.button === 1 || this.tool === "pan" || this.spaceHeld) this.grip = { kind: "pan", at };
    else if (event.button === 2) this.grip = null;
    else if (!this.ready && this.faces.length) this.chooseFaceAt(at);
    else if (this.tool === "point") this.gripPoint(at, event.pointerType === "touch" ? 2 * GRIP : GRIP);
    else if (!this.working) this.startStroke(at);
    this.draw();
  }

  startPinch() {
    if (this.grip?.kind === "new") this.points.pop();
    const [a, b] = [...this.pointers.values()];
    this.grip = { kind: "pinch", apart: distance(a, b), at: middle(a, b) };
  }

  startStroke(at) {
    const erase = this.tool === "erase", p = this.toPhoto(at);
    this.grip = { kind: "stroke", erase, last: p };
    this.dab(p, p, erase);
  }

  chooseFaceAt(at) {
    const number = this.faceAt(at);
    if (number && !this.busy) this.begin(number);
    else this.grip = { kind: "pan", at };
  }

  /** The number of the face there, the one that is looked at first; 0 for none. */
  faceAt(at) {
    const [x, y] = this.toPhoto(at), there = ([l, t, r, b]) => x >= l && x <= r && y >= t && y <= b;
    return this.looked && there(this.faces[this.looked - 1]) ? this.looked : this.faces.findIndex(there) + 1;
  }

  gripPoint(at, reach) {
    if (this.working || !this.ready) { this.grip = { kind: "pan", at }; return; }
    const p = this.toPhoto(at), open = this.points.findIndex((point) => !point.target);
    const near = this.nearest(at, reach);
    if (near && near.index !== open) {
      this.chosen = near.index;
      this.grip = { kind: near.end, index: near.index, at, moved: false };
    } else if (open >= 0) {
      this.points[open].target = p;
      this.chosen = open;
      this.grip = { kind: "target", index: open, at, moved: true };
    } else if (this.faceAt(at) && this.faceAt(at) !== this.looked) {
      this.begin(this.faceAt(at));
    } else {
      this.points.push({ handle: p, target: null, held: false });
      this.chosen = this.points.length - 1;
      this.grip = { kind: "new", index: this.chosen, at, moved: false };
    }
  }

  /** The point's end under the finger. Of a point that has arrived it is the target, so that it can be pulled on. */
  nearest(at, reach) {
    let best = null;
    this.points.forEach((point, index) => {
      for (const end of ["target", "handle"]) {
        if (!point[end]) continue;
        const far = distance(at, this.toScreen(point[end]));
        if (far <= reach && (!best || far < best.far - (end === "handle" ? 6 : 0))) best = { index, end, far };
      }
    });
    return best;
  }

  moveTo(event) {
    const at = this.at(event), grip = this.grip;
    this.hover = at;
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    if (!grip) { if (this.photo) this.draw(); return; }
    if (grip.kind === "pinch" && this.pointers.size === 2) this.pinch();
    else if (grip.kind === "pan") this.pan(at);
    else if (grip.kind === "stroke") { const p = this.toPhoto(at); this.dab(grip.last, p, grip.erase); grip.last = p; }
    else this.pull(at);
    this.draw();
  }

  pan(at) {
    this.whole = null;
    this.view.x += at[0] - this.grip.at[0];
    this.view.y += at[1] - this.grip.at[1];
    this.grip.at = at;
  }

  pinch() {
    const [a, b] = [...this.pointers.values()], at = middle(a, b), apart = distance(a, b);
    this.pan(at);
    this.zoom(apart / this.grip.apart, at);
    this.grip.apart = apart;
  }

  pull(at) {
    const point = this.points[this.grip.index];
    if (!this.grip.moved && distance(at, this.grip.at) < 4) return;
    this.grip.moved = true;
    const p = this.toPhoto(at);
    if (this.grip.kind === "handle") { point.handle = p; if (point.held) point.target = p; }
    else { point.target = p; point.held = false; }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.grip?.kind === "pinch" && this.pointers.size) { this.grip = null; return; }
    this.grip = null;
    this.refresh();
  }

  wheel(event) {
    event.preventDefault();
    if (!this.photo) return;
    // A mouse wheel and a trackpad's pinch zoom; a trackpad's two fingers pan.
    const fine = !event.ctrlKey && event.deltaMode === 0 && (event.deltaX !== 0 || Math.abs(event.deltaY) < 40);
    if (fine) { this.whole = null; this.view.x -= event.deltaX; this.view.y -= event.deltaY; this.draw(); }
    else this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), this.at(event));
  }

  remove() {
    if (this.chosen < 0) return;
    this.points.splice(this.chosen, 1);
    this.chosen = this.points.length - 1;
    this.refresh();
  }

  hold() {
    const point = this.points[this.chosen];
    if (!point) return;
    point.held = !point.held;
    point.target = point.held ? point.handle : point.target;
    this.refresh();
  }

  // --- the keyboard ------------------------------------------------------------------------------------------

  key(event) {
    const slider = event.target.matches('input[type="range"]');
    if (slider ? /^(Arrow|Home|End|Page)/.test(event.key) : event.target.closest("input, select, textarea, dialog")) return;
    const command = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target.closest("button, a");
    if (onButton && (key === " " || key === "Enter")) return;
    const action = command ? this.commandKey(key, event.shiftKey) : this.plainKey(key, event.shiftKey);
    if (!action) return;
    event.preventDefault();
    action();
    this.refresh();
  }

  commandKey(key, shift) {
    if (key === "z") return shift ? () => this.redo() : () => this.undo();
    return { y: () => this.redo(), Enter: () => this.start() }[key];
  }

  plainKey(key, shift) {
    const tool = { p: "point", b: "paint", e: "erase", h: "pan" }[key];
    if (tool) return () => { this.tool = tool; };
    if (/^Arrow/.test(key)) return () => this.moveCursor(key, shift ? 10 : 1);
    const number = Number(key);
    if (!this.busy && number >= 1 && number <= this.faces.length && (!this.ready || number !== this.looked)) return () => this.begin(number);
    return {
      " ": () => (this.working ? this.pauseOrResume() : this.start()),
      Escape: () => (this.working ? this.stop() : this.letGo()),
      Enter: () => this.press(), c: () => { this.before = true; }, Delete: () => this.remove(),
      Backspace: () => this.remove(), l: () => this.hold(), "[": () => this.resizeBrush(1 / 1.2),
      "]": () => this.resizeBrush(1.2), "+": () => this.zoom(1.25, this.centre()), "=": () => this.zoom(1.25, this.centre()),
      "-": () => this.zoom(0.8, this.centre()), 0: () => this.fit(), x: () => this.export(), "?": () => this.keys.showModal(),
    }[key];
  }

  letGo() {
    this.points = this.points.filter((point) => point.target);
    this.chosen = -1;
    this.cursor = null;
  }

  moveCursor(key, by) {
    if (!this.photo) return;
    const [x, y] = this.cursor || this.toPhoto(this.centre()).map(Math.round);
    const [dx, dy] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[key];
    this.cursor = [clamp(x + dx, 0, this.photo.width - 1), clamp(y + dy, 0, this.photo.height - 1)];
    this.canvas.focus();
    this.say(`Cursor at ${this.cursor.join(", ")}`);
  }

  /** Enter: a click at the cursor. */
  press() {
    if (!this.cursor) return;
    const at = this.toScreen(this.cursor);
    if (!this.ready && this.faces.length) this.chooseFaceAt(at);
    else if (this.tool === "point") this.gripPoint(at, 3);
    else if (!this.working) this.dab(this.cursor, this.cursor, this.tool === "erase");
    this.grip = null;
    this.say(this.points.at(-1)?.target === null ? "Handle set; move the cursor and press Enter for its target" : `${this.points.length} points`);
  }

  resizeBrush(by) { this.brush = clamp(this.brush * by, 2, Math.max(this.photo?.width || 400, 40) / 2); }

  // --- the page ----------------------------------------------------------------------------------------------

  button(name, text, action, options = {}) {
    const label = options.icon ? icon(options.icon) : text;
    return h("button", { type: "button", class: `${options.class || ""} ${name}`, title: options.title || text, "aria-label": text, onclick: () => { action(); this.refresh(); } }, label);
  }

  build(root) {
    this.root = root;
    root.classList.add("photodrag");
    this.picture = h("canvas", { class: "picture", "aria-hidden": "true" });
    this.canvas = h("canvas", { class: "points", tabindex: 0, role: "application", "aria-label": "The photo. Arrow keys move a cursor, Enter sets a point, question mark lists all keys." });
    this.status = h("div", { class: "status", role: "status", "aria-live": "polite" });
    this.count = h("div", { class: "count", "aria-hidden": "true" });
    this.bar = h("div", { class: "bar", role: "progressbar", "aria-label": "progress", "aria-valuemin": 0 }, h("i"));
    this.toasts = h("div", { class: "toasts", role: "alert" });
    this.file = h("input", { type: "file", accept: "image/jpeg,image/png,image/webp,image/heic,image/heif,.heic", hidden: true, onchange: () => { this.open(this.file.files[0]); this.file.value = ""; } });
    this.generators = h("select", { class: "generators", "aria-label": "generator", onchange: () => { this.wanted = this.generators.value === this.session?.generator ? null : this.generators.value; this.announce(); this.refresh(); } });
    this.faceList = h("select", { class: "faces", "aria-label": "face", onchange: () => this.begin(Number(this.faceList.value)) });
    this.format = h("select", { class: "format", "aria-label": "file format" }, h("option", { value: "photo" }, "as photo"), ...["png", "jpg", "webp"].map((f) => h("option", { value: f }, f.toUpperCase())));
    this.strip = h("ol", { class: "history", "aria-label": "history" });
    this.sliders = h("div", { class: "sliders" });
    this.gestures = h("details", { class: "gestures", hidden: true }, h("summary", {}, "Gestures"), this.sliders);
    this.keys = this.buildKeys();
    root.replaceChildren(this.buildHead(), this.buildStage(), this.gestures, this.buildFoot(), this.keys);
    this.listen();
  }

  buildHead() {
    return h("header", {}, h("b", {}, "photodrag"),
      this.link.upload ? this.button("open", "Open…", () => this.file.click(), { title: "Open a photo" }) : null, this.file, this.faceList, this.generators,
      h("span", { class: "space" }),
      this.button("help", "Keys", () => this.keys.showModal(), { class: "quiet" }),
      h("span", { class: "save" }, this.format, this.button("export", "Export", () => this.export(), { class: "main" })));
  }

  buildStage() {
    const tools = [["point", "Point: press, pull, let go (P)"], ["paint", "Brush: what may change (B)"], ["erase", "Eraser (E)"], ["pan", "Hand: move the photo (H)"]];
    this.tools = tools.map(([name, title]) => this.button(`tool-${name}`, title, () => { this.tool = name; }, { icon: name, title }));
    this.undoButton = this.button("undo", "Undo (Ctrl Z)", () => this.undo(), { icon: "undo" });
    this.redoButton = this.button("redo", "Redo (Ctrl Shift Z)", () => this.redo(), { icon: "redo" });
    this.compareButton = this.button("compare", "Before and after: a slider (hold C: before)", () => { this.wipe = this.wipe == null ? 0.5 : null; }, { icon: "compare" });
    const toolbar = h("div", { class: "tools", role: "toolbar", "aria-label": "tools" }, ...this.tools, h("hr"), this.undoButton, this.redoButton, h("hr"), this.compareButton, this.button("fit", "Fit (0)", () => this.fit(), { icon: "fit" }));
    this.size = h("input", { type: "range", min: 2, max: 200, value: this.brush, "aria-label": "size of the brush", oninput: () => { this.brush = Number(this.size.value); this.draw(); } });
    this.brushBar = h("div", { class: "options brush" }, h("label", {}, "Size ", this.size), this.button("invert", "Invert", () => this.invertMask()), this.button("clear", "Clear", () => this.clearMask()));
    this.holdButton = this.button("hold", "Hold still (L)", () => this.hold());
    this.pointBar = h("div", { class: "options point" }, this.holdButton, this.button("delete", "Delete", () => this.remove()), this.button("delete-all", "Delete all", () => { this.points = []; this.chosen = -1; }));
    this.wiper = h("input", { type: "range", class: "wiper", min: 0, max: 1000, value: 500, "aria-label": "before and after", oninput: () => { this.wipe = this.wiper.value / 1000; this.draw(); } });
    this.empty = h("div", { class: "empty" }, h("h1", {}, "Drop a photo of a face"), h("p", {}, "or paste one, or "), this.link.upload ? this.button("choose", "choose a file", () => this.file.click(), { class: "main" }) : null, h("p", { class: "small" }, "It stays on this computer, where photodrag runs. JPEG, PNG, WebP or HEIC."));
    this.hints = h("div", { class: "hints", hidden: true }, h("ol", {}, ...HINTS.map((text) => h("li", {}, text))), this.button("got-it", "Got it", () => { this.hints.hidden = true; remember("hints"); }, { class: "main" }));
    return h("main", {}, this.picture, this.canvas, this.empty, toolbar, this.brushBar, this.pointBar, this.wiper, this.hints, this.toasts);
  }

  buildFoot() {
    this.startButton = this.button("start", "Start", () => this.start(), { class: "main" });
    this.pauseButton = this.button("pause", "Pause", () => this.pauseOrResume());
    this.stopButton = this.button("stop", "Stop", () => this.stop());
    return h("footer", {}, h("div", { class: "act" }, this.startButton, this.pauseButton, this.stopButton, h("div", { class: "said" }, this.status, this.count)), this.bar, this.strip);
  }

  buildKeys() {
    const rows = KEYS.map(([key, text]) => h("tr", {}, h("th", {}, h("kbd", {}, key)), h("td", {}, text)));
    const dialog = h("dialog", { "aria-label": "keys" }, h("table", {}, ...rows));
    dialog.append(h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close"));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    return dialog;
  }

  listen() {
    const { canvas, root } = this;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moveTo(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("blur", () => this.draw());
    const keys = this.link.page ? document : root;
    keys.addEventListener("keydown", (event) => this.key(event));
    keys.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "c") { this.before = false; this.draw(); } });
    root.addEventListener("dragover", (event) => { event.preventDefault(); root.classList.add("dropping"); });
    root.addEventListener("dragleave", () => root.classList.remove("dropping"));
    root.addEventListener("drop", (event) => { event.preventDefault(); root.classList.remove("dropping"); this.open(event.dataTransfer.files[0]); });
    if (this.link.page) document.addEventListener("paste", (event) => this.open(event.clipboardData.files[0]));
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  refresh() {
    const { session, job, working, ready } = this;
    this.root.dataset.stage = session?.stage || "none";
    this.root.dataset.tool = this.tool;
    this.root.dataset.job = job.kind || "";
    this.empty.hidden = Boolean(this.photo);
    this.tools.forEach((button) => button.setAttribute("aria-pressed", button.classList.contains(`tool-${this.tool}`)));
    this.brushBar.hidden = !(ready && (this.tool === "paint" || this.tool === "erase"));
    this.pointBar.hidden = !(ready && !working && this.tool === "point" && this.chosen >= 0);
    this.holdButton.setAttribute("aria-pressed", Boolean(this.points[this.chosen]?.held));
    if (this.photo) this.size.max = Math.round(Math.max(this.photo.width, this.photo.height) / 6);
    this.size.value = this.brush;
    this.undoButton.disabled = !this.canUndo;
    this.redoButton.disabled = !this.canRedo;
    this.compareButton.disabled = !(session?.current > 0);
    this.compareButton.setAttribute("aria-pressed", this.wipe != null);
    this.wiper.hidden = this.wipe == null;
    this.root.querySelector("button.export").disabled = this.busy || !ready;
    this.startButton.disabled = this.busy || !this.photo || (!ready && !this.faces.length && session?.stage !== "face");
    this.startButton.textContent = this.wanted ? `Learn with ${shortName(this.wanted)}` : ready ? "Start" : session?.stage === "face" ? "Go on" : "Learn this face";
    this.startButton.hidden = working || !this.photo || (session?.stage === "photo" && this.faces.length > 1); // a click on a face does it
    this.stopButton.hidden = !working;
    this.pauseButton.hidden = !working || job.kind === "download";
    this.pauseButton.textContent = job.status === "paused" ? "Go on" : "Pause";
    this.stopButton.disabled = job.status === "stopping";
    this.listFaces();
    this.listGenerators();
    this.listHistory();
    this.listGestures();
    this.tellProgress();
    this.share();
    this.draw();
  }

  listFaces() {
    const { faceList, faces, looked } = this, state = `${faces.length}/${looked}`;
    faceList.hidden = faces.length < 2;
    faceList.disabled = this.busy;
    if (state === this.facesListed) return;
    this.facesListed = state;
    const prompt = looked ? null : h("option", { value: "" }, "Choose a face");
    faceList.replaceChildren(...[prompt, ...faces.map((_, i) => h("option", { value: i + 1 }, `Face ${i + 1}`))].filter(Boolean));
    faceList.value = looked || "";
  }

  listGenerators() {
    const all = this.session?.generators || [], state = JSON.stringify(all);
    if (state !== this.offered) {
      this.offered = state;
      this.generators.replaceChildren(...all.map(({ name, about, size, licence }) => h("option", { value: name, title: licence }, [shortName(name), about, size && `${size} to download`].filter(Boolean).join(" · "))));
    }
    this.generators.value = this.generator;
    this.generators.hidden = all.length < 2;
    this.generators.disabled = this.busy;
  }

  listHistory() {
    const { session } = this, all = session?.edits || [];
    this.strip.hidden = !all.length;
    const state = JSON.stringify([session?.current, this.busy, all.map((edit) => [edit.number, Boolean(edit.thumb), edit.steps])]);
    if (state === this.listed) return;
    this.listed = state;
    const item = (number, label, picture, note) => h("li", {}, h("button", { type: "button", "aria-current": session?.current === number ? "step" : null, disabled: this.busy, title: note, "aria-label": label, onclick: () => this.move({ type: "goto", number }) }, picture, h("span", {}, label)));
    const items = all.map((edit) => {
      const branch = edit.parent !== edit.number - 1 ? ` ← ${edit.parent || "photo"}` : "";
      const note = edit.problem || `edit ${edit.number}: ${edit.stopped} after ${edit.steps} steps, ${edit.score} px left`;
      return item(edit.number, `${edit.number}${branch}`, edit.thumb ? h("img", { src: edit.thumb, alt: "" }) : h("i"), note);
    });
    this.strip.replaceChildren(item(0, "photo", this.photoThumb(), "the photo as it was"), ...items);
    this.strip.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  photoThumb() {
    const thumb = h("canvas", { width: 112, height: 112 });
    if (!this.photo || !this.result) return thumb;
    const [a, b, d] = this.result.corners, w = d[0] - a[0], tall = b[1] - a[1], side = 0.72 * Math.min(w, tall);
    const by = this.photo.image.width / this.photo.width;
    thumb.getContext("2d").drawImage(this.photo.image, (a[0] + (w - side) / 2) * by, (a[1] + (tall - side) / 2) * by, side * by, side * by, 0, 0, 112, 112);
    return thumb;
  }

  listGestures() {
    const all = this.session?.gestures || [];
    this.gestures.hidden = !(this.ready && all.length);
    if (this.sliders.childElementCount !== all.length) {
      this.sliders.replaceChildren(...all.map((gesture) => this.slider(gesture)));
      this.gestures.open = window.innerWidth > 900;
    }
    for (const input of this.sliders.querySelectorAll("input")) {
      const value = this.strengths[input.name] || 0;
      if (Number(input.value) !== value) input.value = value;
      input.nextElementSibling.textContent = value ? String(value) : "";
      input.disabled = this.busy;
    }
  }

  slider({ name, help, low, high }) {
    const input = h("input", { type: "range", name, min: low, max: high, step: high > 2 ? 0.5 : 0.05, value: 0, "aria-label": `${name}: ${help}`, oninput: () => { this.strengths[name] = Math.round(Number(input.value) * 100) / 100; input.nextElementSibling.textContent = this.strengths[name] || ""; }, onchange: () => this.refresh(), ondblclick: () => { this.strengths[name] = 0; this.refresh(); } });
    return h("label", { title: help }, h("span", {}, name.replace(/-/g, " ")), input, h("output"));
  }

  tellProgress() {
    const { job, step } = this;
    this.bar.style.visibility = step && this.working ? "visible" : "hidden"; // its place is kept: nothing jumps
    this.count.textContent = "";
    if (!step || !this.working) return;
    if (step.stage === "download" || step.stage === "unpack") return this.tellDownload(step);
    const share = step.stage === "pivot" ? 0.25 * step.index / step.limit : step.stage === "tune" ? 0.25 + 0.75 * step.index / step.limit : step.index / step.limit;
    this.bar.firstElementChild.style.width = `${100 * share}%`;
    this.bar.setAttribute("aria-valuenow", step.index);
    this.bar.setAttribute("aria-valuemax", step.limit);
    const left = step.stage !== "drag" && step.left ? `, about ${Math.max(1, Math.round(step.left))} s left` : "";
    const apart = step.stage === "drag" ? `, ${step.score.toFixed(1)} px to go` : "";
    this.count.textContent = `step ${step.index} of ${step.limit}${apart}${job.status === "paused" ? "" : left}`;
    if (Date.now() - (this.spoken || 0) > 5000) this.announce();
  }

  tellDownload({ stage, index, limit, left, waiting }) {
    this.bar.firstElementChild.style.width = limit ? `${(100 * index) / limit}%` : "0";
    this.bar.setAttribute("aria-valuenow", index);
    this.bar.setAttribute("aria-valuemax", limit || index);
    const rest = waiting ? ", waiting for the server" : left ? `, about ${duration(left)} left` : "";
    this.count.textContent = stage === "unpack" ? "reading what came" : `${index.toFixed(0)} of ${limit ? limit.toFixed(0) : "?"} MB${rest}`;
    if (Date.now() - (this.spoken || 0) > 5000) this.announce();
  }

  /** What a screen reader hears: each state, and every five seconds how far it is. */
  announce() {
    const { job, step, session } = this;
    this.spoken = Date.now();
    const stage = { pivot: "Looking for the face", tune: "Learning the face", drag: "Dragging" }[step?.stage];
    const doing = { download: `Downloading ${step?.name || "the generator"}`, open: "Looking at the photo", invert: stage || "Cutting out the face", drag: "Dragging", history: "Going there", export: "Writing the file" }[job.kind];
    const waiting = job.before ? `Waiting for ${job.before} other ${job.before === 1 ? "job" : "jobs"}` : "Waiting";
    if (job.kind) return this.say({ waiting, paused: `${doing}: paused`, stopping: "Stopping…" }[job.status] || `${doing}…`);
    if (!session) return this.say("");
    if (session.stage === "photo") return this.say(this.faces.length > 1 ? `${this.faces.length} faces: choose one` : this.faces.length ? "One face found" : "No face found: try another photo");
    if (session.stage === "face") return this.say("The face was not learned to the end");
    const offer = this.wanted && session.generators.find(({ name }) => name === this.wanted);
    if (offer) return this.say([shortName(offer.name), offer.size && `${offer.size} to download`, offer.licence].filter(Boolean).join("; "));
    const which = this.faces.length > 1 ? `: face ${this.looked} of ${this.faces.length}` : "";
    this.say(session.finished ? `Ready${which}` : `Ready${which}; the face was learned in part`);
  }

  say(text) { if (this.status.textContent !== text) this.status.textContent = text; }

  toast(text, problem = false) {
    const note = h("div", { class: problem ? "problem" : "" }, text, h("button", { type: "button", "aria-label": "close", onclick: () => note.remove() }, "×"));
    this.toasts.append(note);
    while (this.toasts.childElementCount > 3) this.toasts.firstElementChild.remove();
    setTimeout(() => note.remove(), problem ? 15000 : 5000);
  }

  hint() { this.hints.hidden = remembered("hints"); }
}

const shortName = (name) => name.split(/[\\/]/).pop().replace(/\.(safetensors|pkl|pt)$/, "");
const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`);

/** What is set, in one form, so that two can be compared. */
function sketchOf(points, gestures, mask) {
  const set = Object.entries(gestures).filter(([, value]) => value).sort();
  return {
    points: points.map(({ handle, target, held }) => ({ handle, target, held: Boolean(held) })),
    gestures: Object.fromEntries(set),
    mask: mask && { width: mask.width, height: mask.height, runs: mask.runs },
  };
}

function remembered(name) { try { return localStorage.getItem(`photodrag.${name}`) === "1"; } catch { return false; } }
function remember(name) { try { localStorage.setItem(`photodrag.${name}`, "1"); } catch { /* a private window */ } }

/** A message as the server packs it: four bytes of length, JSON, payload. */
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return [head, buffer.byteLength > 4 + length ? buffer.slice(4 + length) : null];
}

/** The web page's link: a WebSocket for the session that the address names; comes back when the line was cut. */
class WebLink {
  constructor() {
    this.page = true;
    this.token = new URLSearchParams(location.search).get("token") || "";
    this.wait = 500; // milliseconds
    addEventListener("hashchange", () => location.reload());
  }

  start() { if (location.hash.length > 1) this.connect(location.hash.slice(1)); }

  connect(name) {
    this.name = name;
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/session/${encodeURIComponent(name)}?token=${encodeURIComponent(this.token)}`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { this.wait = 500; this.joined(); };
    // In order, though pictures are decoded on the way.
    let turn = Promise.resolve();
    socket.onmessage = (event) => { turn = turn.then(() => this.receive(...unpack(event.data))).catch(console.error); };
    socket.onclose = (event) => { if (socket === this.socket) this.lost(event); };
    this.socket = socket;
  }

  lost(event) {
    if (event.code === 4403) return this.status("Wrong token: open the address that photodrag printed.");
    if (event.code === 4404) return this.status("This session is not here: drop a photo for a new one.");
    this.status("The connection is lost; trying again. What was done is kept.");
    setTimeout(() => this.connect(this.name), this.wait);
    this.wait = Math.min(2 * this.wait, 8000);
  }

  /** False where the line is cut. */
  send(request) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(request));
    return true;
  }

  async upload(file) {
    let answer;
    try {
      answer = await fetch("/photo", { method: "POST", body: file, headers: { Authorization: `Bearer ${this.token}` } });
    } catch {
      throw new Error("The photo could not be sent: is photodrag still running?");
    }
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(content.detail || `The photo was refused (${answer.status}).`);
    history.replaceState(null, "", `${location.pathname}${location.search}#${content.session}`);
    this.connect(content.session);
  }
}

/** The notebook's link: the widget's model carries the same messages. */
class WidgetLink {
  constructor(model) { this.model = model; this.page = false; this.upload = null; }

  start() {
    let turn = Promise.resolve();
    this.model.on("msg:custom", (message, buffers) => {
      const payload = buffers?.[0] ? new Uint8Array(buffers[0].buffer ?? buffers[0], buffers[0].byteOffset ?? 0, buffers[0].byteLength).slice().buffer : null;
      turn = turn.then(() => this.receive(message, payload)).catch(console.error);
    });
    this.joined();
    this.send({ type: "hello" });
  }

  send(request) { this.model.send(request); }
}

/** anywidget's entry. */
export default {
  render({ model, el }) {
    el.style.height = "720px";
    el.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes X for cutting the cell
    el.addEventListener("keydown", (event) => event.stopPropagation());
    mount(el, new WidgetLink(model));
  },
};

const page = document.getElementById("photodrag-page");
if (page) window.photodrag = mount(page, new WebLink());
