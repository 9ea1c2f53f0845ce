/** Uploading adapter files: one after the other, each with its progress and the server's verdict. */

import { upload } from "./api.js";
import { problemBody } from "./dialogs.js";
import { byId, el, size, toast } from "./dom.js";

/** @param {() => Promise<unknown>} done after each file that was taken */
export function wireUpload(done) {
  const input = byId("set-file");
  const view = byId("view-sets");
  const over = (/** @type {boolean} */ is) => byId("upload").classList.toggle("over", is);
  byId("choose-set").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const files = [...input.files];
    input.value = "";
    await sendAll(files, done);
  });
  view.addEventListener("dragover", (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    over(true);
  });
  view.addEventListener("dragleave", () => over(false));
  view.addEventListener("drop", (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    over(false);
    sendAll([...(event.dataTransfer?.files ?? [])], done);
  });
}

/** @param {File[]} files @param {() => Promise<unknown>} done */
async function sendAll(files, done) {
  const name = byId("set-name").value.trim();
  if (name && files.length > 1) {
    toast("One name cannot stand for several files; leave it empty, or send them singly.");
    return;
  }
  for (const file of files) await sendOne(file, { name, activate: byId("set-activate").checked }, done);
}

/** @param {File} file @param {{name: string, activate: boolean}} fields @param {() => Promise<unknown>} done */
async function sendOne(file, fields, done) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
  const words = el("span", { class: "upload-words" }, `0 of ${size(file.size)}`);
  const dismiss = el(
    "button",
    { type: "button", class: "quiet", "aria-label": `Dismiss ${file.name}`, on: { click: () => entry.remove() } },
    "×",
  );
  const entry = el(
    "div",
    { class: "upload-entry" },
    el("p", { class: "upload-line" }, el("b", {}, file.name), words, dismiss),
    bar,
  );
  byId("upload-log").prepend(entry);
  try {
    const { revision, created, set } = await upload(file, fields, (fraction) => {
      bar.value = fraction;
      words.textContent =
        fraction < 1 ? `${size(fraction * file.size)} of ${size(file.size)}` : "sent, the server checks it …";
    });
    const active =
      revision === `${set.name}@${set.current}` ? "made current" : `stored; ${set.name}@${set.current} stays current`;
    words.textContent = `${created ? "" : "known already: "}${revision}, ${active}`;
    entry.classList.add("taken");
    byId("set-name").value = "";
    await done();
  } catch (error) {
    words.textContent = "refused";
    entry.classList.add("refused");
    entry.append(el("div", { class: "refusal" }, ...problemBody(error)));
  }
  bar.remove();
}
