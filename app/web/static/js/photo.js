/**
 * Where a photo comes from: a file, a drop, the clipboard, or a sample.
 *
 * @typedef {{blob: Blob, name: string, bitmap: ImageBitmap|null, address: string, asSeen?: boolean,
 *   remade?: boolean, live?: boolean}} Photo
 *   bitmap: upright, null if this browser cannot show the format (the server may still read it)
 *   address: where anybody finds it; empty if only this visitor has it
 *   asSeen: the bitmap is the server's, not this browser's
 *   remade: this browser has written it anew
 *   live: a frame; others follow
 */

import { byId, el, size, toast } from "./dom.js";

const JPEG_QUALITY = 0.92;
// The first one opens the page: the bundled sets have most to show on it.
const SAMPLES = [
  { file: "grace_hopper.jpg", words: "Officer in uniform" },
  { file: "astronaut.jpg", words: "Astronaut before a flag" },
  { file: "chelsea.jpg", words: "Cat, close" },
  { file: "coffee.jpg", words: "Cup of coffee on a table" },
];

/** @param {Blob} blob @param {string} name @param {string} address @returns {Promise<Photo>} */
async function readPhoto(blob, name, address) {
  const bitmap = await createImageBitmap(blob).catch(() => null);
  return { blob, name, bitmap, address };
}

/**
 * A photo written anew by this browser, for a server that does not take it as it is.
 * @param {Photo} photo with a bitmap @param {number} longest px that its longer side may have
 * @returns {Promise<Photo>} a JPEG
 */
export async function remade(photo, longest) {
  const bitmap = /** @type {ImageBitmap} */ (photo.bitmap);
  const scale = Math.min(1, longest / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY));
  const name = photo.name.replace(/\.[^.]*$/, "") + ".jpg";
  byId("photo-fact").textContent = `${name} · ${canvas.width} × ${canvas.height} px · ${size(blob.size)}, made here`;
  return { blob, name, bitmap: await createImageBitmap(blob), address: "", remade: true };
}

/** @param {DataTransfer|null} data @returns {File|undefined} the first file that is not an adapter set */
const fileIn = (data) => [...(data?.files ?? [])].find((file) => !file.name.endsWith(".safetensors"));

/**
 * Wire the photo panel, dropping and pasting.
 * @param {() => boolean} active whether the playground is the view in front
 * @param {(photo: Photo) => void} chosen
 * @param {(video: Blob, name: string) => void} moving a video was chosen
 */
export function photoPanel(active, chosen, moving) {
  let latest = 0; // number of the last choice: one that is slower to arrive must not replace it
  /** @param {Blob} blob @param {string} name @param {string} address */
  const take = async (blob, name, address = "") => {
    const mine = (latest += 1);
    if (blob.type.startsWith("video/")) return moving(blob, name);
    for (const button of byId("samples").children) {
      button.setAttribute("aria-pressed", String(button.dataset.file === name));
    }
    const photo = await readPhoto(blob, name, address);
    if (mine !== latest) return;
    const sides = photo.bitmap ? `${photo.bitmap.width} × ${photo.bitmap.height} px` : "not shown by this browser";
    byId("photo-fact").textContent = `${name} · ${sides} · ${size(blob.size)}`;
    chosen(photo);
  };
  byId("samples").append(
    ...SAMPLES.map(({ file, words }) =>
      el(
        "button",
        {
          type: "button",
          class: "sample",
          title: words,
          "aria-label": words,
          "aria-pressed": false,
          dataset: { file },
          on: { click: () => takeSample(file) },
        },
        el("img", { src: `static/samples/${file}`, alt: "", width: 64, height: 64 }),
      ),
    ),
  );

  /** @param {string} file */
  const takeSample = async (file) => {
    const mine = (latest += 1);
    try {
      const response = await fetch(`static/samples/${file}`);
      const blob = await response.blob();
      if (mine === latest) await take(blob, file, response.url);
    } catch {
      toast("The sample could not be fetched.");
    }
  };

  const input = byId("photo-file");
  byId("choose-photo").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0], input.files[0].name);
    input.value = "";
  });
  addEventListener("paste", (event) => {
    const file = fileIn(event.clipboardData);
    if (active() && file) take(file, file.name || "pasted.png");
  });
  dropZone(active, (file) => take(file, file.name));
  return { takeFirstSample: async () => latest || takeSample(SAMPLES[0].file) };
}

/** The whole page takes a photo. @param {() => boolean} active @param {(file: File) => void} dropped */
function dropZone(active, dropped) {
  const root = document.documentElement;
  let depth = 0;
  /** @param {boolean} over */
  const show = (over) => root.classList.toggle("dropping", over && active());
  addEventListener("dragenter", (event) => {
    if (event.dataTransfer?.types.includes("Files")) show((depth += 1) > 0);
  });
  addEventListener("dragleave", () => show((depth = Math.max(0, depth - 1)) > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault(); // else the browser leaves the page for the file
    show(Boolean((depth = 0)));
    const file = fileIn(event.dataTransfer);
    if (active() && file) dropped(file);
    else if (active() && event.dataTransfer?.files.length) toast("Adapter sets are uploaded in the view Adapter sets.");
  });
}
