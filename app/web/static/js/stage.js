/**
 * What is on screen: frames, the probe that reads values, the swipe line.
 *
 * @typedef {import("./picture.js").FrameMaps} FrameMaps
 * @typedef {{photo: import("./photo.js").Photo|null, width: number, height: number, frames: FrameMaps[],
 *   readable: FrameMaps[], grid: boolean, quick: boolean, hidden: (task: string) => ReadonlySet<string>,
 *   words: {a: string, b: string}|null, open: (task: string) => void}} Scene
 *   width, height: px of the photo; readable: every task there are maps of; quick: outlines need not be fine; words: names of the sides, null if not comparing
 */

import { SwipeLine } from "./compare.js";
import { byId, el, taskWords } from "./dom.js";
import { readAt } from "./maps.js";
import { Frame } from "./picture.js";

const STEPS = 40; // arrow key presses from edge to edge
const GAP_PX = 14; // between pointer and reading

export class Stage {
  constructor() {
    /** @type {Frame[]} */
    this.frames = [];
    /** @type {Scene|null} */
    this.scene = null;
    /** @type {{x: number, y: number}|null} px of the map */
    this.at = null;
    this.line = new SwipeLine();
    this.line.move(50);
    byId("stage").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.#key(event));
    byId("stage").addEventListener("blur", () => this.#leave());
  }

  /** @param {boolean} busy */
  busy(busy) {
    byId("progress").hidden = !busy;
    byId("stage").setAttribute("aria-busy", String(busy));
  }

  /** @param {Scene} scene */
  show(scene) {
    const held = document.activeElement?.classList.contains("swipe") ?? false;
    this.scene = scene;
    this.line.clear();
    this.#leave();
    const { photo, width, height } = scene;
    byId("empty").hidden = Boolean(photo);
    if (!photo || !width) {
      byId("frames").replaceChildren();
      return;
    }
    this.frames = scene.frames.map((maps) => this.#frame(scene, photo, maps));
    byId("frames").className = scene.grid ? "grid" : "";
    byId("frames").replaceChildren(
      ...this.frames.map((frame) => (scene.grid ? this.#tile(scene, frame) : frame.element)),
    );
    if (held) this.line.handles[0]?.focus({ preventScroll: true });
  }

  /** @param {Scene} scene @param {import("./photo.js").Photo} photo @param {FrameMaps} maps @returns {Frame} */
  #frame(scene, photo, maps) {
    const frame = new Frame(photo, scene.width, scene.height, maps, scene.hidden(maps.task), scene.quick);
    frame.element.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => this.#point(frame, event));
    frame.element.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => this.#point(frame, event));
    frame.element.addEventListener("pointerleave", () => this.#leave());
    if (scene.words) {
      frame.element.classList.add("split");
      this.line.attach(frame.element, scene.words);
    }
    return frame;
  }

  /** @param {Scene} scene @param {Frame} frame @returns {HTMLElement} */
  #tile(scene, frame) {
    const open = el(
      "button",
      { type: "button", class: "quiet", on: { click: () => scene.open(frame.task) } },
      taskWords(frame.task),
    );
    return el("figure", {}, frame.element, el("figcaption", {}, open, el("span", { class: "tile-reading" })));
  }

  /** @param {string} task @param {ReadonlySet<string>} hidden names of classes */
  repaint(task, hidden) {
    for (const frame of this.frames) if (frame.task === task) frame.repaint(hidden);
  }

  /** @param {Frame} frame @param {PointerEvent} event */
  #point(frame, event) {
    const probe = frame.probe(event);
    this.#read(frame, probe.x, probe.y, this.scene?.words ? this.line.sideAt(probe.part) : "a", probe);
  }

  #leave() {
    this.at = null;
    byId("reading").hidden = true;
    for (const frame of this.frames) frame.mark(null);
    for (const node of byId("frames").querySelectorAll(".tile-reading")) node.textContent = "";
  }

  /**
   * Show what the maps say of a pixel, in the box beside it and under each tile.
   * @param {Frame} frame under the pointer
   * @param {number} x px
   * @param {number} y px
   * @param {"a"|"b"} side
   * @param {{clientX: number, clientY: number}} place px of the window
   * @returns {string} the same in words
   */
  #read(frame, x, y, side, place) {
    this.at = { x, y };
    for (const one of this.frames) one.mark(this.at);
    const rows = (this.scene?.readable ?? []).flatMap((maps) => {
      const map = maps[side];
      return map ? [{ task: map.task, kind: map.kind, ...readAt(map, x, y) }] : [];
    });
    const tiles = /** @type {NodeListOf<HTMLElement>} */ (byId("frames").querySelectorAll("figure"));
    tiles.forEach((tile, i) => {
      const row = rows.find(({ task }) => task === this.frames[i].task);
      /** @type {HTMLElement} */ (tile.querySelector(".tile-reading")).textContent = row?.words ?? "";
    });
    const box = byId("reading");
    const head = `x ${x}, y ${y}${this.scene?.words ? ` · ${this.scene.words[side]}` : ""}`;
    box.replaceChildren(
      el("p", { class: "reading-head" }, head),
      ...rows.map(({ task, words, color }) => {
        const swatch = el("span", { class: "swatch" });
        swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
        return el(
          "p",
          { class: task === frame.task ? "now" : "" },
          swatch,
          el("span", { class: "reading-task" }, taskWords(task)),
          el("span", { class: "reading-value" }, words),
        );
      }),
    );
    box.hidden = rows.length === 0;
    this.#placeBox(box, place);
    return `${head}: ${rows.map(({ task, words }) => `${taskWords(task)} ${words}`).join("; ")}`;
  }

  /** Beside the pointer, within the stage. @param {HTMLElement} box @param {{clientX: number, clientY: number}} place */
  #placeBox(box, place) {
    const stage = byId("stage").getBoundingClientRect();
    let left = place.clientX - stage.left + GAP_PX;
    if (left + box.offsetWidth > stage.width) left = place.clientX - stage.left - GAP_PX - box.offsetWidth;
    const top = place.clientY - stage.top + GAP_PX;
    box.style.left = `${Math.max(0, left)}px`;
    box.style.top = `${Math.max(0, Math.min(top, stage.height - box.offsetHeight))}px`;
  }

  /** Arrow keys move the probe, Escape takes it away. @param {KeyboardEvent} event */
  #key(event) {
    const frame = this.frames[0];
    if (event.target !== byId("stage") || !frame || !this.scene) return;
    if (event.key === "Escape") this.#leave();
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const { width, height } = this.scene;
    const step = Math.max(1, Math.round(Math.max(width, height) / STEPS));
    const from = this.at ?? { x: width >> 1, y: height >> 1 };
    const x = Math.min(width - 1, Math.max(0, from.x + move[0] * step));
    const y = Math.min(height - 1, Math.max(0, from.y + move[1] * step));
    const side = this.scene.words ? this.line.sideAt((x + 0.5) / width) : "a";
    byId("spoken").textContent = this.#read(frame, x, y, side, frame.place(x, y));
  }
}
