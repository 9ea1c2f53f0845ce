/** PNG bytes to the numbers in them, through a canvas. */

const SIGNATURE_BYTES = 8;
const DROPPED = new Set(["tRNS", "gAMA", "cHRM", "iCCP", "sRGB"]); // a canvas would change values by them

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/** @param {Uint8Array} bytes @returns {number} CRC-32 as PNG wants it */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** @param {string} base64 @returns {Uint8Array<ArrayBuffer>} */
export function fromBase64(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/**
 * The same picture with palette entry i painted as (i, i, i): a canvas then gives the class of a pixel itself, exact
 * even where two classes share a colour. A PNG without a palette only loses its colour profile.
 * @param {Uint8Array<ArrayBuffer>} png
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function withIndexPalette(png) {
  const view = new DataView(png.buffer, png.byteOffset);
  const kept = [png.subarray(0, SIGNATURE_BYTES)];
  for (let at = SIGNATURE_BYTES; at + 12 <= png.length;) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...png.subarray(at + 4, at + 8));
    const chunk = png.subarray(at, at + 12 + length); // length, type, data, CRC
    if (type === "PLTE") kept.push(indexPalette(chunk, length / 3));
    else if (!DROPPED.has(type)) kept.push(chunk);
    at += 12 + length;
  }
  const joined = new Uint8Array(kept.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of kept) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** @param {Uint8Array} chunk @param {number} entries @returns {Uint8Array<ArrayBuffer>} */
function indexPalette(chunk, entries) {
  const made = new Uint8Array(chunk);
  for (let i = 0; i < entries; i += 1) made.fill(i, 8 + 3 * i, 11 + 3 * i);
  new DataView(made.buffer).setUint32(made.length - 4, crc32(made.subarray(4, made.length - 4)));
  return made;
}

/**
 * Pixels of a PNG.
 * @param {Uint8Array<ArrayBuffer>} png
 * @returns {Promise<ImageData>} uint8 [H, W, 4], RGBA
 */
export async function decodePng(png) {
  const blob = new Blob([withIndexPalette(png)], { type: "image/png" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
