/** What the colours mean, and which classes are shown. */

import { el, percent, taskWords } from "./dom.js";
import { isCutout, lilac } from "./look.js";
import { RAMP, isLilac } from "./maps.js";

/**
 * @typedef {import("./maps.js").TaskMap} TaskMap
 * @typedef {{task: string, a: TaskMap|null, b: TaskMap|null, hidden: ReadonlySet<string>}} Part
 * @typedef {{toggle: (task: string, name: string) => void, only: (task: string, name: string) => void,
 *   all: (task: string) => void}} Acts
 */

const SIDES = /** @type {("a"|"b")[]} */ (["a", "b"]);
const DISC_PX = 112;

/**
 * The whole legend.
 * @param {Part[]} parts tasks on screen
 * @param {Acts} acts
 * @returns {HTMLElement[]}
 */
export function legendOf(parts, acts) {
  return parts
    .filter((part) => part.a ?? part.b)
    .map((part) => {
      const map = /** @type {TaskMap} */ (part.a ?? part.b);
      const body = { classes: classRows, scalar: scalarKey, vectors: vectorKey }[map.kind](part, acts);
      const title = parts.length > 1 ? el("h3", {}, taskWords(part.task)) : null;
      return el("section", { class: "legend-part", dataset: { task: part.task } }, title, ...body);
    });
}

/** @typedef {{name: string, colors: [number, number, number][], a: number, b: number}} Row  colors: RGB, one a side */

/** Classes of both sides, by name, largest first: the same name may have another id and colour in another set.
 * @param {Part} part @returns {Row[]} */
function merged(part) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  for (const side of SIDES) {
    for (const { name, color, fraction = 0 } of part[side]?.classes ?? []) {
      const row = rows.get(name) ?? { name, colors: [], a: 0, b: 0 };
      row[side] = fraction;
      if (!row.colors.some((known) => known.join() === color.join())) row.colors.push(color);
      rows.set(name, row);
    }
  }
  return [...rows.values()].sort((one, two) => two.a + two.b - one.a - one.b);
}

/** @param {[number, number, number][]} colors RGB 0..255, one or two @returns {HTMLElement} */
function swatchOf(colors) {
  const swatch = el("span", { class: "swatch", "aria-hidden": true });
  const [first, last] = [colors[0], colors[colors.length - 1]].map((color) => `rgb(${color.join(" ")})`);
  swatch.style.backgroundImage = `linear-gradient(90deg, ${first} 50%, ${last} 50%)`;
  return swatch;
}

/** @param {Part} part @param {Acts} acts @returns {HTMLElement[]} */
function classRows(part, acts) {
  const { task, hidden } = part;
  const sides = SIDES.filter((side) => part[side]);
  const rows = merged(part).map((row) => {
    const { name, colors } = row;
    const bars = sides.map((side) => {
      const bar = el("span", { class: `share share-${side}` });
      bar.style.width = `${row[side] * 100}%`;
      return el(
        "span",
        { class: "share-line" },
        el("span", { class: "share-well", "aria-hidden": true }, bar),
        el("span", { class: "class-share" }, percent(row[side])),
      );
    });
    const toggle = el(
      "button",
      {
        type: "button",
        class: "class-row",
        "aria-pressed": !hidden.has(name),
        dataset: { name },
        title: hidden.has(name) ? "Show this class" : "Hide this class",
        on: { click: () => acts.toggle(task, name) },
      },
      swatchOf(colors),
      el("span", { class: "class-name" }, name),
    );
    const only = el(
      "button",
      {
        type: "button",
        class: "quiet only",
        "aria-label": `Show only ${name}`,
        on: { click: () => acts.only(task, name) },
      },
      "only",
    );
    return el("li", {}, toggle, only, el("span", { class: "shares" }, ...bars));
  });
  const all = el("button", { type: "button", class: "quiet", on: { click: () => acts.all(task) } }, "Show all classes");
  const [only] = merged(part);
  if (rows.length === 1 && only.name === "background") {
    return [el("p", {}, "Nothing but background was found."), el("ul", { class: "classes" }, ...rows)];
  }
  return [el("ul", { class: "classes" }, ...rows), all];
}

/** @param {Part} part @returns {HTMLElement[]} */
function scalarKey(part) {
  const map = /** @type {TaskMap} */ (part.a ?? part.b);
  const ramp = el("div", { class: "ramp", "aria-hidden": true });
  const greyOf = (/** @type {number} */ grey) => (isCutout(map) ? [grey, grey, grey] : RAMP[grey]);
  const stops = Array.from({ length: 9 }, (_, i) => `rgb(${greyOf(Math.round((i / 8) * 255)).join(" ")})`);
  ramp.style.backgroundImage = `linear-gradient(90deg, ${stops.join(", ")})`;
  const means = [
    ["", part.a],
    ["", part.b],
  ].map(([, m], i) => {
    if (!m) return null;
    const { mean, minimum, maximum } = /** @type {TaskMap} */ (m);
    const pointer = el("span", { class: `mean mean-${"ab"[i]}` });
    pointer.style.left = `${((mean - minimum) / (maximum - minimum || 1)) * 100}%`;
    return pointer;
  });
  ramp.append(...means.filter((m) => m !== null));
  const words = [part.a, part.b].flatMap((m, i) =>
    m ? [`mean ${m.mean.toFixed(3)}${part.b ? ` (${"AB"[i]})` : ""}`] : [],
  );
  return [
    ramp,
    el(
      "p",
      { class: "ends" },
      el("span", {}, map.minimum.toFixed(1)),
      el("span", {}, words.join(", ")),
      el("span", {}, map.maximum.toFixed(1)),
    ),
    isCutout(map) ? el("p", { class: "fact" }, "What the photo is about stays, the rest is cut away.") : null,
  ].filter((node) => node !== null);
}

/** @param {Part} part @returns {HTMLElement[]} */
function vectorKey(part) {
  const map = /** @type {TaskMap} */ (part.a ?? part.b);
  const { axes } = map;
  const words = el("p", { class: "fact" }, axes.charAt(0).toUpperCase() + axes.slice(1));
  if (!isLilac(map)) return [words];
  const words2 = el("p", { class: "fact" }, "A ball has these colours here: lilac faces you. In files:");
  return [el("div", { class: "ball-row" }, ball(), el("div", {}, words2, words))];
}

/** A ball in the colours of its normals, n = (x, y down, z < 0 towards the camera). @returns {HTMLCanvasElement} */
function ball() {
  const canvas = el("canvas", {
    width: DISC_PX,
    height: DISC_PX,
    class: "ball",
    role: "img",
    "aria-label": "colour ball",
  });
  const image = new ImageData(DISC_PX, DISC_PX);
  for (let row = 0; row < DISC_PX; row += 1) {
    for (let column = 0; column < DISC_PX; column += 1) {
      const x = ((column + 0.5) / DISC_PX) * 2 - 1;
      const y = ((row + 0.5) / DISC_PX) * 2 - 1;
      const rest = 1 - x * x - y * y;
      const edge = Math.min(1, Math.max(0, (1 - Math.hypot(x, y)) * DISC_PX * 0.5)); // 0..1, antialiased rim
      const [r, g, b] = [x, y, -Math.sqrt(Math.max(0, rest))].map((v) => (v + 1) * 127.5);
      image.data.set([...lilac(r, g, b), edge * 255], 4 * (row * DISC_PX + column));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
