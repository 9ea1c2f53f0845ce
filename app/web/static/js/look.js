/**
 * How maps look on screen: vivid colours, outlines with a thin fill, cut-outs, normals in the usual lilac.
 * Files keep the colours and the axes of their set.
 *
 * @typedef {import("./maps.js").TaskMap} TaskMap
 */

// The table and the rule of app/answers/vivid.py, so the page and the service's overlays look alike.
/** RGB in hexadecimal. */
export const PALETTE = [
  ..."ff3b30 2f8cff 12d6ff ff9500 c6ff00 ff2d92 00e5a0 b388ff".split(" "),
  ..."ff5a36 ffd60a 5e5cff 00b894 ff7aa8 7cb518 e040fb 00a3a3".split(" "),
  ..."00c853 ffb454 3d6bff d4145a 8ee000 a259ff f06000 64dfdf".split(" "),
];
const BASIS = 2166152532;
const PRIME = 16777619; // FNV-1a
const STEP = 7;

const SMOOTH_BELOW_PX = 900; // longest side: smaller photos get outlines drawn finer than their pixels
const FINE_PX = 1200;
const MOST_SMOOTHED = 8; // classes; more are drawn as they are
const LINE_SHARE = 420; // of the longest side
const HALO = [0, 0, 0, 110]; // RGBA of the shadow around outlines
const CHECKS = 56; // along the longest side
const CHECK_LIGHT = 240;
const CHECK_DARK = 214;

/** Where in the palette a name belongs. @param {string} name @returns {number} */
export function placeOf(name) {
  let value = BASIS;
  for (const byte of new TextEncoder().encode(name)) value = Math.imul(value ^ byte, PRIME) >>> 0;
  return ((value ^ (value >>> 15)) >>> 0) % PALETTE.length;
}

/**
 * Colours of classes by their names; later ones give way to earlier ones.
 * @param {string[]} names in order of the set's classes
 * @returns {[number, number, number][]} RGB 0..255
 */
export function vividColors(names) {
  const taken = new Set();
  return names.map((name) => {
    let place = placeOf(name);
    while (taken.has(place) && taken.size < PALETTE.length) place = (place + STEP) % PALETTE.length;
    taken.add(place);
    const hex = parseInt(PALETTE[place], 16);
    return [hex >> 16, (hex >> 8) & 255, hex & 255];
  });
}

/**
 * A map whose value says how much of the photo stays.
 * @param {TaskMap} map @returns {boolean}
 */
export const isCutout = (map) => map.task === "saliency" && map.kind === "scalar";

/**
 * A chessboard that covers what is cut away.
 * @param {TaskMap} map a cut-out
 * @returns {ImageData} RGBA [H, W, 4]; alpha 255 where nothing of the photo stays
 */
export function checkerboard(map) {
  const image = new ImageData(map.width, map.height);
  const side = Math.max(2, Math.round(Math.max(map.width, map.height) / CHECKS));
  for (let y = 0, at = 0; y < map.height; y += 1) {
    const row = Math.floor(y / side);
    for (let x = 0; x < map.width; x += 1, at += 1) {
      const grey = (row + Math.floor(x / side)) % 2 ? CHECK_DARK : CHECK_LIGHT;
      image.data.set([grey, grey, grey, 255 - map.values[at]], 4 * at);
    }
  }
  return image;
}

/**
 * Normals with y up and z towards the viewer: what faces the viewer is lilac, as in most publications.
 * @param {number} r @param {number} g @param {number} b of a vector with x right, y down, z forward, 0..255
 * @returns {[number, number, number]} RGB 0..255
 */
export const lilac = (r, g, b) => [r, 255 - g, 255 - b];

/**
 * Outlines of the classes shown: a line in the class's colour inside its edge, and a shadow outside.
 * @param {TaskMap} map of kind classes
 * @param {ReadonlySet<string>} hidden names of classes
 * @param {number} width px that the map is shown at, at most its own
 * @param {number} height px
 * @param {number} [fine] px that the longest side of a small photo's outlines has, about
 * @returns {ImageData} RGBA, as large as shown, or finer for small photos
 */
export function outlines(map, hidden, width, height, fine = FINE_PX) {
  const longest = Math.max(width, height);
  const times = longest < SMOOTH_BELOW_PX ? Math.max(1, Math.round(fine / longest)) : 1;
  const w = width * times;
  const h = height * times;
  const labels = shownLabels(map, hidden, width, height);
  const drawn = times > 1 ? smoothed(labels, width, height, times) : labels;
  const reach = Math.max(1, Math.round(Math.max(w, h) / LINE_SHARE));
  const edge = spread(borders(drawn, w, h), w, h, reach);
  const near = spread(
    drawn.map((label) => (label ? 1 : 0)),
    w,
    h,
    Math.max(1, reach >> 1),
  );
  const image = new ImageData(w, h);
  const colors = new Map(map.classes.map((c) => [c.id + 1, [...c.color, 255]]));
  for (let i = 0; i < drawn.length; i += 1) {
    if (drawn[i] ? edge[i] : near[i]) image.data.set(drawn[i] ? (colors.get(drawn[i]) ?? HALO) : HALO, 4 * i);
  }
  return image;
}

/**
 * @param {TaskMap} map @param {ReadonlySet<string>} hidden @param {number} width @param {number} height
 * @returns {Uint16Array} [height, width], class id + 1; 0 where nothing is shown
 */
function shownLabels(map, hidden, width, height) {
  const of = new Uint16Array(256);
  for (const { id, name } of map.classes) if (!hidden.has(name)) of[id] = id + 1;
  const labels = new Uint16Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const row = Math.floor(((y + 0.5) * map.height) / height) * map.width;
    for (let x = 0; x < width; x += 1) {
      labels[y * width + x] = of[map.values[row + Math.floor(((x + 0.5) * map.width) / width)]];
    }
  }
  return labels;
}

/**
 * Labels on a finer grid: each class's mask is blurred and enlarged, and the largest wins.
 * @param {Uint16Array} labels [height, width] @param {number} width @param {number} height @param {number} times
 * @returns {Uint16Array} [height * times, width * times]
 */
function smoothed(labels, width, height, times) {
  const present = [...new Set(labels)];
  const [w, h] = [width * times, height * times];
  const out = new Uint16Array(w * h);
  if (present.length > MOST_SMOOTHED) {
    for (let y = 0; y < h; y += 1) {
      for (let x = 0; x < w; x += 1) out[y * w + x] = labels[Math.floor(y / times) * width + Math.floor(x / times)];
    }
    return out;
  }
  const best = new Float32Array(w * h);
  for (const label of present) {
    const mask = blurred(
      Float32Array.from(labels, (own) => (own === label ? 1 : 0)),
      width,
      height,
    );
    for (let y = 0; y < h; y += 1) {
      const fy = Math.min(height - 1, Math.max(0, (y + 0.5) / times - 0.5));
      const top = Math.floor(fy);
      const [upper, lower] = [top * width, Math.min(height - 1, top + 1) * width];
      for (let x = 0; x < w; x += 1) {
        const fx = Math.min(width - 1, Math.max(0, (x + 0.5) / times - 0.5));
        const left = Math.floor(fx);
        const right = Math.min(width - 1, left + 1);
        const above = mask[upper + left] + (mask[upper + right] - mask[upper + left]) * (fx - left);
        const below = mask[lower + left] + (mask[lower + right] - mask[lower + left]) * (fx - left);
        const value = above + (below - above) * (fy - top);
        if (value > best[y * w + x]) {
          best[y * w + x] = value;
          out[y * w + x] = label;
        }
      }
    }
  }
  return out;
}

/** Means over 3 x 3 px, twice. @param {Float32Array} mask @param {number} width @param {number} height */
function blurred(mask, width, height) {
  let from = mask;
  for (const [step, limit] of [
    [1, width],
    [width, height],
    [1, width],
    [width, height],
  ]) {
    const to = new Float32Array(from.length);
    for (let i = 0; i < from.length; i += 1) {
      const place = step === 1 ? i % width : Math.floor(i / width);
      to[i] = (from[place ? i - step : i] + from[i] + from[place + 1 < limit ? i + step : i]) / 3;
    }
    from = to;
  }
  return from;
}

/** Pixels whose right or lower neighbour is of another class, and those neighbours.
 * @param {Uint16Array} labels @param {number} width @param {number} height @returns {Uint8Array} */
function borders(labels, width, height) {
  const found = new Uint8Array(labels.length);
  for (let y = 0, i = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, i += 1) {
      if (x + 1 < width && labels[i] !== labels[i + 1]) found[i] = found[i + 1] = 1;
      if (y + 1 < height && labels[i] !== labels[i + width]) found[i] = found[i + width] = 1;
    }
  }
  return found;
}

/** Whether anything is marked within `reach` px, in a square. @param {ArrayLike<number>} marks @param {number} width
 * @param {number} height @param {number} reach @returns {Uint8Array} */
function spread(marks, width, height, reach) {
  const across = new Uint8Array(marks.length);
  const both = new Uint8Array(marks.length);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!marks[y * width + x]) continue;
      across.fill(1, y * width + Math.max(0, x - reach), y * width + Math.min(width, x + reach + 1));
    }
  }
  for (let y = 0; y < height; y += 1) {
    const [first, last] = [Math.max(0, y - reach), Math.min(height - 1, y + reach)];
    for (let x = 0; x < width; x += 1) {
      if (!across[y * width + x]) continue;
      for (let row = first; row <= last; row += 1) both[row * width + x] = 1;
    }
  }
  return both;
}
