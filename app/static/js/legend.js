/** What the colours mean, and which classes are shown. */

import { el, percent, taskWords } from "./dom.js";
import { RAMP } from "./maps.js";

/**
 * @typedef {import("./maps.js").TaskMap} TaskMap
 * @typedef {import("./maps.js").ClassInfo} ClassInfo
 * @typedef {{task: string, a: TaskMap|null, b: TaskMap|null, hidden: ReadonlySet<number>}} Part
 * @typedef {{toggle: (task: string, id: number) => void, only: (task: string, id: number) => void,
 *   all: (task: string) => void}} Acts
 */

const DISC_PX = 112;
const DRAWN_AXES = "x right, y down, z forward"; // the disc is only drawn for axes it is right for

/**
 * The whole legend.
 * @param {Part[]} parts tasks on screen
 * @param {Acts} acts
 * @returns {HTMLElement[]}
 */
export function legendOf(parts, acts) {
  return parts.filter((part) => part.a ?? part.b).map((part) => {
    const map = /** @type {TaskMap} */ (part.a ?? part.b);
    const body = { classes: classRows, scalar: scalarKey, vectors: vectorKey }[map.kind](part, acts);
    const title = parts.length > 1 ? el("h3", {}, taskWords(part.task)) : null;
    return el("section", { class: "legend-part", dataset: { task: part.task } }, title, ...body);
  });
}

/** Classes of both sides, largest first. @param {Part} part @returns {{known: ClassInfo, a: number, b: number}[]} */
function merged(part) {
  /** @type {Map<number, {known: ClassInfo, a: number, b: number}>} */
  const rows = new Map();
  for (const side of /** @type {("a"|"b")[]} */ (["a", "b"])) {
    for (const known of part[side]?.classes ?? []) {
      const row = rows.get(known.id) ?? { known, a: 0, b: 0 };
      row[side] = known.fraction ?? 0;
      rows.set(known.id, row);
    }
  }
  return [...rows.values()].sort((one, two) => two.a + two.b - one.a - one.b);
}

/** @param {Part} part @param {Acts} acts @returns {HTMLElement[]} */
function classRows(part, acts) {
  const { task, hidden } = part;
  const both = Boolean(part.a && part.b);
  const rows = merged(part).map(({ known, a, b }) => {
    const shares = both ? `${percent(a)} | ${percent(b)}` : percent(part.a ? a : b);
    const swatch = el("span", { class: "swatch", "aria-hidden": true });
    swatch.style.backgroundColor = `rgb(${known.color.join(" ")})`;
    const bars = (both ? [a, b] : [part.a ? a : b]).map((share, i) => {
      const bar = el("span", { class: `share ${both ? `share-${"ab"[i]}` : ""}` });
      bar.style.width = `${Math.max(0.5, share * 100)}%`;
      return bar;
    });
    const name = el("button", {
      type: "button", class: "class-row", "aria-pressed": !hidden.has(known.id), dataset: { id: known.id },
      title: hidden.has(known.id) ? "Show this class" : "Hide this class",
      on: { click: () => acts.toggle(task, known.id) },
    }, swatch, el("span", { class: "class-name" }, known.name), el("span", { class: "class-share" }, shares));
    const only = el("button", {
      type: "button", class: "quiet only", "aria-label": `Show only ${known.name}`,
      on: { click: () => acts.only(task, known.id) },
    }, "only");
    return el("li", {}, name, only, el("span", { class: "shares", "aria-hidden": true }, ...bars));
  });
  const all = el("button", { type: "button", class: "quiet", on: { click: () => acts.all(task) } }, "Show all classes");
  return [el("ul", { class: "classes" }, ...rows), all];
}

/** @param {Part} part @returns {HTMLElement[]} */
function scalarKey(part) {
  const map = /** @type {TaskMap} */ (part.a ?? part.b);
  const ramp = el("div", { class: "ramp", "aria-hidden": true });
  const stops = Array.from({ length: 9 }, (_, i) => `rgb(${RAMP[Math.round((i / 8) * 255)].join(" ")})`);
  ramp.style.backgroundImage = `linear-gradient(90deg, ${stops.join(", ")})`;
  const means = [["", part.a], ["", part.b]].map(([, m], i) => {
    if (!m) return null;
    const { mean, minimum, maximum } = /** @type {TaskMap} */ (m);
    const pointer = el("span", { class: `mean mean-${"ab"[i]}` });
    pointer.style.left = `${((mean - minimum) / (maximum - minimum || 1)) * 100}%`;
    return pointer;
  });
  ramp.append(...means.filter((m) => m !== null));
  const words = [part.a, part.b].flatMap((m, i) => (m ? [`mean ${m.mean.toFixed(3)}${part.b ? ` (${"AB"[i]})` : ""}`] : []));
  return [ramp,
    el("p", { class: "ends" }, el("span", {}, map.minimum.toFixed(1)), el("span", {}, words.join(", ")),
      el("span", {}, map.maximum.toFixed(1)))];
}

/** @param {Part} part @returns {HTMLElement[]} */
function vectorKey(part) {
  const { axes } = /** @type {TaskMap} */ (part.a ?? part.b);
  const words = el("p", { class: "fact" }, axes);
  if (!axes.includes(DRAWN_AXES)) return [words];
  const words2 = el("p", { class: "fact" }, "A ball seen from the camera has these colours.");
  return [el("div", { class: "ball-row" }, ball(), el("div", {}, words2, words))];
}

/** A ball in the colours of its normals, n = (x, y down, z < 0 towards the camera). @returns {HTMLCanvasElement} */
function ball() {
  const canvas = el("canvas", { width: DISC_PX, height: DISC_PX, class: "ball", role: "img", "aria-label": "colour ball" });
  const image = new ImageData(DISC_PX, DISC_PX);
  for (let row = 0; row < DISC_PX; row += 1) {
    for (let column = 0; column < DISC_PX; column += 1) {
      const x = ((column + 0.5) / DISC_PX) * 2 - 1;
      const y = ((row + 0.5) / DISC_PX) * 2 - 1;
      const rest = 1 - x * x - y * y;
      const edge = Math.min(1, Math.max(0, (1 - Math.hypot(x, y)) * DISC_PX * 0.5)); // 0..1, antialiased rim
      const n = [x, y, -Math.sqrt(Math.max(0, rest))].map((v) => (v + 1) * 127.5);
      image.data.set([...n, edge * 255], 4 * (row * DISC_PX + column));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
