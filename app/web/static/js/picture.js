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
import { paint } from "./maps.js";

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
   */
  constructor(photo, width, height, maps, hidden) {
    this.task = maps.task;
    this.width = width;
    this.height = height;
    const [w, h] = shownSize(width, height);
    const base = canvasOf(w, h, "base");
    if (photo.bitmap) pen(base).drawImage(photo.bitmap, 0, 0, w, h);
    /** @type {[HTMLCanvasElement, TaskMap][]} */
    this.layers = [];
    for (const [map, side] of /** @type {[TaskMap|null, string][]} */ ([
      [maps.a, "a"],
      [maps.b, "b"],
    ])) {
      if (map) this.layers.push([canvasOf(w, h, `layer layer-${side}`), map]);
    }
    this.cross = el("span", { class: "cross", "aria-hidden": true, hidden: true });
    this.element = el(
      "div",
      { class: "picture", dataset: { task: maps.task } },
      base,
      ...this.layers.map(([canvas]) => canvas),
      this.cross,
    );
    this.element.style.aspectRatio = `${width} / ${height}`;
    this.element.style.setProperty("--ratio", String(width / height));
    this.repaint(hidden);
  }

  /** @param {ReadonlySet<string>} hidden names of classes */
  repaint(hidden) {
    for (const [canvas, map] of this.layers) drawMap(canvas, map, hidden);
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
  context.globalAlpha = opacity;
  // drawImage refuses a source of no width
  if (maps.a && at > 0) context.drawImage(painted(maps.a, hidden), 0, 0, at, height, 0, 0, at, height);
  if (maps.b && at < width)
    context.drawImage(painted(maps.b, hidden), at, 0, width - at, height, at, 0, width - at, height);
  context.globalAlpha = 1;
  context.fillStyle = "#fff";
  if (split < 1) context.fillRect(at - 1, 0, 2, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser made no PNG"))), "image/png");
  });
}
