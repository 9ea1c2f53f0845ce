/** The swipe line between two adapter sets: dragged, or moved with the keyboard. */

import { byId, el } from "./dom.js";

const STEP = 2; // percent, arrow keys
const LEAP = 10; // percent, page keys

/** Where the line is, for every picture on the stage at once. */
export class SwipeLine {
  constructor() {
    this.percent = 50; // of the width, from the left
    this.words = { a: "", b: "" };
    /** @type {HTMLElement[]} */
    this.handles = [];
  }

  /** @param {number} percent 0..100 */
  move(percent) {
    this.percent = Math.min(100, Math.max(0, percent));
    byId("stage").style.setProperty("--split", `${this.percent}%`);
    for (const handle of this.handles) this.#tell(handle);
  }

  /** Drop the handles of pictures that are gone. */
  clear() {
    this.handles = [];
  }

  /** @param {number} part 0..1 across the picture @returns {"a"|"b"} whose map is seen there */
  sideAt(part) {
    return part * 100 <= this.percent ? "a" : "b";
  }

  /**
   * Put a handle on a picture.
   * @param {HTMLElement} picture
   * @param {{a: string, b: string}} words what is left and right
   */
  attach(picture, words) {
    this.words = words;
    const handle = el(
      "div",
      {
        class: "swipe",
        role: "slider",
        tabIndex: 0,
        "aria-label": `Line between ${words.a} and ${words.b}`,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        on: { keydown: (/** @type {KeyboardEvent} */ e) => this.#key(e) },
      },
      el("span", { class: "knob", "aria-hidden": true }, "‹ ›"),
    );
    picture.append(
      el("span", { class: "tag tag-a", "aria-hidden": true }, words.a),
      el("span", { class: "tag tag-b", "aria-hidden": true }, words.b),
      handle,
    );
    this.handles.push(handle);
    this.#tell(handle);
    this.#drag(picture, handle);
  }

  /** @param {HTMLElement} handle */
  #tell(handle) {
    handle.setAttribute("aria-valuenow", String(Math.round(this.percent)));
    const { a, b } = this.words;
    handle.setAttribute("aria-valuetext", `${Math.round(this.percent)} % ${a}, the rest ${b}`);
  }

  /** @param {HTMLElement} picture @param {HTMLElement} handle */
  #drag(picture, handle) {
    /** @param {PointerEvent} event */
    const follow = (event) => {
      const box = picture.getBoundingClientRect();
      this.move(((event.clientX - box.left) / box.width) * 100);
    };
    picture.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      picture.setPointerCapture(event.pointerId);
      follow(event);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    picture.addEventListener("pointermove", (event) => {
      if (picture.hasPointerCapture(event.pointerId)) follow(event);
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const by = event.shiftKey ? LEAP : STEP;
    const to = {
      ArrowLeft: this.percent - by,
      ArrowDown: this.percent - by,
      ArrowRight: this.percent + by,
      ArrowUp: this.percent + by,
      PageDown: this.percent - LEAP,
      PageUp: this.percent + LEAP,
      Home: 0,
      End: 100,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(to);
  }
}
