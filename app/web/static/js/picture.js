/**
 * The photo with maps over it: one frame, or a grid of them. Opacity and the swipe line are CSS variables of the
 * stage, so moving them repaints nothing.
 *
 * @typedef {import("./maps.js").TaskMap} TaskMap
 * @typedef {import("./photo.js").Photo} Photo
 * @typedef {{task: string, a: TaskMap|null, b: TaskMap|null}} FrameMaps  b: only while comparing
 * @typedef {{x: number, y: number, clientX: number, clientY: number, part: number}} Probe
 *   x, y: px of the map; clientX, clientY: px of the window; part: 0..1, where across the picture
 */

import { el } from "./dom.js";
import { isCutout, outlines } from "./look.js";
import { paint } from "./maps.js";

const QUICK_PX = 640; // longest side of outlines in moving pictures
const MAX_SHOWN_PX = 1600; // longest side of what is on screen; the numbers behind it keep the photo's size

/** @param {number} width @param {number} height @returns {[number, number]} px of a canvas that shows it */
function shownSize(width, height) {
  const scale = Math.min(1, MAX_SHOWN_PX / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/** @param {number} width @param {number} height @param {string} name @returns {HTMLCanvasElement} */
function canvasOf(width, height, name) {
  return el("canvas", { width, height, class: name, "aria-hidden": true });
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
const pen = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/**
 * A map painted at its own size.
 * @param {TaskMap} map
 * @param {ReadonlySet<string>} hidden names of classes
 * @returns {HTMLCanvasElement} H x W px
 */
function painted(map, hidden) {
  const canvas = canvasOf(map.width, map.height, "");
  pen(canvas).putImageData(paint(map, hidden), 0, 0);
  return canvas;
}

/**
 * The outlines of a map's classes, in their own resolution.
 * @param {TaskMap} map of kind classes @param {ReadonlySet<string>} hidden names of classes
 * @param {number} width px @param {number} height px
 * @returns {HTMLCanvasElement}
 */
function outlined(map, hidden, width, height) {
  const image = outlines(map, hidden, width, height);
  const canvas = canvasOf(image.width, image.height, "");
  pen(canvas).putImageData(image, 0, 0);
  return canvas;
}

/** How strongly a map covers the photo; the same as in bench.css. @param {TaskMap} map @param {number} opacity 0..1 */
function strength(map, opacity) {
  if (map.kind === "classes") return opacity ** 3;
  return isCutout(map) ? Math.min(1, 1.4 * opacity) : opacity;
}

/** @param {HTMLCanvasElement} canvas @param {TaskMap} map @param {ReadonlySet<string>} hidden */
function drawMap(canvas, map, hidden) {
  const context = pen(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = map.kind !== "classes";
  context.drawImage(painted(map, hidden), 0, 0, canvas.width, canvas.height);
}

/** One photo with the maps of one task over it. */
export class Frame {
  /**
   * @param {Photo} photo
   * @param {number} width px of the photo
   * @param {number} height px of the photo
   * @param {FrameMaps} maps
   * @param {ReadonlySet<string>} hidden names of classes
   * @param {boolean} [quick] outlines need not be fine
   */
  constructor(photo, width, height, maps, hidden, quick = false) {
    this.task = maps.task;
    this.quick = quick;
    this.width = width;
    this.height = height;
    const [w, h] = shownSize(width, height);
    const base = canvasOf(w, h, "base");
    if (photo.bitmap) pen(base).drawImage(photo.bitmap, 0, 0, w, h);
    /** @type {[HTMLCanvasElement, TaskMap][]} */
    this.layers = [];
    /** @type {[HTMLCanvasElement, TaskMap][]} */
    this.lines = [];
    this.shown = [w, h];
    for (const [map, side] of /** @type {[TaskMap|null, string][]} */ ([
      [maps.a, "a"],
      [maps.b, "b"],
    ])) {
      if (!map) continue;
      const kind = isCutout(map) ? "cutout" : map.kind;
      this.layers.push([canvasOf(w, h, `layer layer-${side} of-${kind}`), map]);
      if (map.kind === "classes") this.lines.push([canvasOf(w, h, `outline outline-${side}`), map]);
    }
    this.cross = el("span", { class: "cross", "aria-hidden": true, hidden: true });
    this.element = el(
      "div",
      { class: "picture", dataset: { task: maps.task } },
      base,
      ...[...this.layers, ...this.lines].map(([canvas]) => canvas),
      this.cross,
    );
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.element.style.setProperty("--ratio", String(width / height));
    this.repaint(hidden);
  }

  /** @param {ReadonlySet<string>} hidden names of classes */
  repaint(hidden) {
    for (const [canvas, map] of this.layers) drawMap(canvas, map, hidden);
    for (const [canvas, map] of this.lines) {
      const image = outlines(map, hidden, this.shown[0], this.shown[1], this.quick ? QUICK_PX : undefined);
      [canvas.width, canvas.height] = [image.width, image.height];
      pen(canvas).putImageData(image, 0, 0);
    }
  }

  /** @param {PointerEvent} event @returns {Probe} */
  probe(event) {
    const box = this.element.getBoundingClientRect();
    const across = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const down = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
    return {
      x: Math.min(this.width - 1, Math.floor(across * this.width)),
      y: Math.min(this.height - 1, Math.floor(down * this.height)),
      clientX: event.clientX,
      clientY: event.clientY,
      part: across,
    };
  }

  /** @param {number} x px @param {number} y px @returns {{clientX: number, clientY: number}} of that pixel's middle */
  place(x, y) {
    const box = this.element.getBoundingClientRect();
    return {
      clientX: box.left + ((x + 0.5) / this.width) * box.width,
      clientY: box.top + ((y + 0.5) / this.height) * box.height,
    };
  }

  /** @param {{x: number, y: number}|null} at px */
  mark(at) {
    this.cross.hidden = !at;
    if (!at) return;
    this.cross.style.left = `${((at.x + 0.5) / this.width) * 100}%`;
    this.cross.style.top = `${((at.y + 0.5) / this.height) * 100}%`;
  }
}

/**
 * What is on screen, as a PNG of the photo's size; while comparing, both sides of the line.
 * @param {Photo} photo
 * @param {FrameMaps} maps
 * @param {ReadonlySet<string>} hidden names of classes
 * @param {{opacity: number, split: number}} look opacity 0..1; split 0..1, where the line is, 1 if not comparing
 * @returns {Promise<Blob>}
 */
export function composite(photo, maps, hidden, { opacity, split }) {
  const { width, height } = /** @type {TaskMap} */ (maps.a ?? maps.b);
  const canvas = canvasOf(width, height, "");
  const context = pen(canvas);
  if (photo.bitmap) context.drawImage(photo.bitmap, 0, 0, width, height);
  const at = Math.round(split * width);
  if (maps.a && at > 0) cover(context, maps.a, hidden, opacity, 0, at);
  if (maps.b && at < width) cover(context, maps.b, hidden, opacity, at, width);
  context.fillStyle = "#fff";
  if (split < 1) context.fillRect(at - 1, 0, 2, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser made no PNG"))), "image/png");
  });
}

/**
 * Put a map over a picture; of a cut-out, take away what it does not keep.
 * @param {CanvasRenderingContext2D} context of a canvas of the map's size
 * @param {TaskMap} map
 * @param {ReadonlySet<string>} hidden names of classes
 * @param {number} opacity 0..1
 * @param {number} from px, first column
 * @param {number} to px, behind the last one
 */
function cover(context, map, hidden, opacity, from, to) {
  const { width, height } = map;
  context.save();
  context.beginPath();
  context.rect(from, 0, to - from, height);
  context.clip();
  context.globalAlpha = strength(map, opacity);
  if (isCutout(map)) context.globalCompositeOperation = "destination-out";
  context.drawImage(painted(map, hidden), 0, 0);
  if (map.kind === "classes") {
    context.globalAlpha = Math.min(1, 4 * opacity);
    context.drawImage(outlined(map, hidden, width, height), 0, 0, width, height);
  }
  context.restore();
}
