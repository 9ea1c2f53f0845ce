/** Questions to the person: a key, and whether they mean it; and refusals in words. */

import { ApiError, key } from "./api.js";
import { byId, el } from "./dom.js";

/** @param {HTMLDialogElement} dialog @returns {Promise<string>} value of the button pressed, "" if escaped */
function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

/**
 * @param {string} title
 * @param {string} text
 * @param {string} yes words on the button that does it
 * @returns {Promise<boolean>}
 */
export async function confirmed(title, text, yes) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  return (await ask(byId("confirm-dialog"))) === "yes";
}

const ABOUT_KEY = "Kept in this tab until it is closed, and sent to this server only.";

/** @param {string} why from the server, or empty @returns {Promise<boolean>} true if there is another key to try */
export async function askKey(why) {
  const input = byId("key-input");
  byId("key-reason").textContent = why ? `The server says: ${why}. ${ABOUT_KEY}` : ABOUT_KEY;
  input.value = "";
  const pressed = await ask(byId("key-dialog"));
  if (pressed === "forget") key.set("");
  if (pressed === "use" && input.value.trim()) key.set(input.value.trim());
  input.value = "";
  showKeyButton(true);
  return pressed === "use" && Boolean(key.get());
}

/** Only a server with keys needs the button. @param {boolean} needed */
function showKeyButton(needed) {
  byId("key-button").hidden = !needed;
  byId("key-button").classList.toggle("set", Boolean(key.get()));
}

/** Enter in the field means Use key, not the first button of the form. */
export function wireKeyDialog() {
  byId("key-input").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("key-use").click();
  });
  showKeyButton(Boolean(key.get()));
}

/**
 * Show what went wrong.
 * @param {HTMLElement} box with role=alert
 * @param {unknown} error
 * @param {(() => void)|null} again
 */
export function showProblem(box, error, again = null) {
  box.hidden = false;
  box.replaceChildren(...problemBody(error));
  if (again) box.append(el("button", { type: "button", on: { click: again } }, "Try again"));
}

/** @param {string} words @returns {string} */
function sentence(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;
}

/** @param {unknown} error @returns {HTMLElement[]} */
export function problemBody(error) {
  if (!(error instanceof ApiError)) {
    const words = error instanceof Error ? error.message : String(error);
    return [el("strong", {}, "Something went wrong in this page"), el("p", {}, words)];
  }
  const wait = error.retryAfterS ? ` The server asks to wait ${error.retryAfterS} s.` : "";
  return [
    el("strong", {}, error.title),
    el("p", {}, `${sentence(error.message)}${wait}`),
    ...(error.reasons.length ? [el("ul", {}, ...error.reasons.map((reason) => el("li", {}, reason)))] : []),
    ...(error.requestId ? [el("p", { class: "request-id" }, `request ${error.requestId}`)] : []),
  ];
}
