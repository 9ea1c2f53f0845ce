/**
 * Maps as numbers: decoded from the server's PNGs, read at a pixel, painted.
 *
 * @typedef {import("./api.js").ClassInfo} ClassInfo
 * @typedef {"classes"|"scalar"|"vectors"} Kind
 * @typedef {{task: string, kind: Kind, width: number, height: number, values: Uint8ClampedArray,
 *   classes: ClassInfo[], minimum: number, maximum: number, mean: number, axes: string, png: Blob}} TaskMap
 *   width, height: px; values: uint8 [H, W] (classes: class id; scalar: 0..255 from minimum to maximum)
 *   or uint8 [H, W, 4] (vectors: round((n + 1) * 127.5) in the first three)
 * @typedef {{words: string, color: [number, number, number], id: number}} Reading
 *   color: RGB 0..255; id: class id, -1 where there are no classes
 */

import { checkerboard, isCutout, lilac, vividColors } from "./look.js";
import { decodePng, fromBase64 } from "./png.js";

const LILAC_AXES = "x right, y down, z forward"; // normals with other axes keep their own colours

// Dark to bright, blue-green to warm; bright enough at the top to stand out from any photo.
/** @type {[number, number, number][]} RGB 0..255, evenly spaced over 0..1 */
const RAMP_STOPS = [
  [13, 18, 38],
  [18, 62, 92],
  [16, 118, 120],
  [84, 170, 104],
  [208, 202, 84],
  [255, 240, 190],
];

/** RGB of 256 grey values. */
export const RAMP = Array.from({ length: 256 }, (_, grey) => {
  const at = (grey / 255) * (RAMP_STOPS.length - 1);
  const low = Math.min(Math.floor(at), RAMP_STOPS.length - 2);
  return /** @type {[number, number, number]} */ (
    RAMP_STOPS[low].map((v, i) => Math.round(v + (RAMP_STOPS[low + 1][i] - v) * (at - low)))
  );
});

/** @type {Record<string, Kind>} */
const KIND_OF = { "png-palette": "classes", "png-gray": "scalar", "png-gray16": "scalar", "png-rgb": "vectors" };

/**
 * One task of an answer as numbers.
 * @param {string} task
 * @param {import("./api.js").TaskAnswer} answer
 * @returns {Promise<TaskMap>}
 */
export async function decodeMap(task, answer) {
  const bytes = fromBase64(answer.png);
  const { data, width, height } = await decodePng(bytes);
  const kind = KIND_OF[answer.encoding];
  if (!kind) throw new Error(`${task}: this page does not know the encoding ${answer.encoding}`);
  return {
    task,
    kind,
    width,
    height,
    values: kind === "vectors" ? data : firstChannel(data),
    classes: shownClasses(answer.classes ?? []),
    minimum: answer.minimum ?? 0,
    maximum: answer.maximum ?? 1,
    mean: answer.mean ?? 0,
    axes: answer.axes ?? "",
    png: new Blob([bytes], { type: "image/png" }),
  };
}

/** Classes in colours that can be seen on a photo; files keep the set's own. @param {ClassInfo[]} classes @returns {ClassInfo[]} */
function shownClasses(classes) {
  const colors = vividColors(classes.map((c) => c.name));
  return classes.map((known, i) => ({ ...known, color: colors[i] }));
}

/** Whether normals are shown with y up and z towards the viewer. @param {TaskMap} map @returns {boolean} */
export const isLilac = (map) => map.kind === "vectors" && map.axes.includes(LILAC_AXES);

/**
 * Where the encoder's blocks were computed, as a map of the photo's size; null if the answer does not say.
 * @param {import("./api.js").Answer} answer
 * @returns {Promise<TaskMap|null>}
 */
export async function computedMap({ compute, image }) {
  if (!compute?.png) return null;
  const small = await decodeMap("computed", { encoding: "png-gray", png: compute.png, mean: compute.share });
  const { width, height } = image;
  const values = new Uint8ClampedArray(width * height);
  for (let y = 0; y < height; y += 1) {
    const row = Math.floor((y * small.height) / height) * small.width;
    for (let x = 0; x < width; x += 1) {
      values[y * width + x] = small.values[row + Math.floor((x * small.width) / width)];
    }
  }
  return { ...small, width, height, values };
}

/** @param {Uint8ClampedArray} rgba [H, W, 4] @returns {Uint8ClampedArray} [H, W] */
function firstChannel(rgba) {
  const values = new Uint8ClampedArray(rgba.length / 4);
  for (let i = 0; i < values.length; i += 1) values[i] = rgba[4 * i];
  return values;
}

/** @param {TaskMap} map @param {number} grey 0..255 @returns {number} what it stands for */
const scalarOf = (map, grey) => map.minimum + (grey / 255) * (map.maximum - map.minimum);

/**
 * What a map says of one pixel.
 * @param {TaskMap} map
 * @param {number} x px, 0..W-1
 * @param {number} y px, 0..H-1
 * @returns {Reading}
 */
export function readAt(map, x, y) {
  const at = y * map.width + x;
  if (map.kind === "vectors") {
    const [r, g, b] = map.values.subarray(4 * at, 4 * at + 3);
    const color = isLilac(map) ? lilac(r, g, b) : /** @type {[number, number, number]} */ ([r, g, b]);
    return { words: vectorAt(map, x, y).map(signed).join("  "), color, id: -1 };
  }
  const value = map.values[at];
  if (map.kind === "scalar") {
    const color = isCutout(map) ? /** @type {[number, number, number]} */ ([value, value, value]) : RAMP[value];
    return { words: scalarOf(map, value).toFixed(2), color, id: -1 };
  }
  const known = map.classes.find((c) => c.id === value);
  return { words: known?.name ?? `class ${value}`, color: known?.color ?? [128, 128, 128], id: value };
}

/**
 * The unit vector at a pixel.
 * @param {TaskMap} map of kind vectors
 * @param {number} x px
 * @param {number} y px
 * @returns {[number, number, number]} each -1..1
 */
export function vectorAt(map, x, y) {
  const at = 4 * (y * map.width + x);
  const n = [0, 1, 2].map((i) => map.values[at + i] / 127.5 - 1);
  const length = Math.hypot(...n) || 1;
  return /** @type {[number, number, number]} */ (n.map((v) => v / length));
}

/** @param {number} value @returns {string} with its sign, and a true minus */
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/**
 * A map as colours; hidden classes are transparent.
 * @param {TaskMap} map
 * @param {ReadonlySet<string>} hidden names of classes; ids mean other things in other sets
 * @returns {ImageData} uint8 [H, W, 4], RGBA
 */
export function paint(map, hidden) {
  if (isCutout(map)) return checkerboard(map);
  const image = new ImageData(map.width, map.height);
  if (map.kind === "vectors") {
    image.data.set(map.values);
    for (let i = 0; isLilac(map) && i < image.data.length; i += 4) {
      image.data[i + 1] = 255 - image.data[i + 1];
      image.data[i + 2] = 255 - image.data[i + 2];
    }
    return image;
  }
  const table = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value += 1) {
    const known = map.classes.find((c) => c.id === value);
    const color = map.kind === "scalar" ? RAMP[value] : known?.color;
    if (color && !hidden.has(known?.name ?? "")) table.set([...color, 255], 4 * value);
  }
  const from = new Uint32Array(table.buffer);
  const to = new Uint32Array(image.data.buffer);
  for (let i = 0; i < to.length; i += 1) to[i] = from[map.values[i]];
  return image;
}
