/**
 * The server, as this page uses it. Every call either gives what it says or throws an ApiError in words.
 *
 * @typedef {{id: number, name: string, color: [number, number, number], pixels?: number, fraction?: number}} ClassInfo
 *   color: RGB, 0..255; fraction of the photo's pixels: 0..1
 * @typedef {{outputs: number, ranks: number[], decoder: string, axes: string, classes: ClassInfo[]}} SetTask
 * @typedef {{revision: number, digest: string, bytes: number, created: string, current: boolean, tier: string}} Revision
 * @typedef {{name: string, current: number, digest: string, bytes: number, tasks: Record<string, SetTask>,
 *   ranks: number[]|null, image_size: number|null, compute: number|null, tier: "disk"|"host"|"device",
 *   status: "ready"|"loading"|"failed", reason: string, pinned: boolean, default: boolean, bundled: boolean, uses: number, last_used: string|null, revisions: Revision[]}} AdapterSet
 * @typedef {{encoding: string, png: string, classes?: ClassInfo[], mean?: number, minimum?: number, maximum?: number,
 *   axes?: string}} TaskAnswer  png: base64
 * @typedef {{adapter: {name: string, revision: number, digest: string}, image: {width: number, height: number, orientation?: number},
 *   tasks: Record<string, TaskAnswer>, timings_ms: Record<string, number>,
 *   batch: {size: number, adapters: number}, compute?: {share: number, png?: string}}} Answer  width, height: px of the upright photo
 * @typedef {{adapter: string, tasks: string[], compute: number}} Wanted  adapter: NAME or NAME@REVISION, "" the server's default;
 *   tasks: [] for all of the set; compute: share of the encoder, 1 for all of it
 */

const KEY_SLOT = "mtlora.key";

/** A refusal in words. */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP status, 0 if no answer came
   * @param {{title?: string, detail?: string, request_id?: string, errors?: {detail: string, where?: string}[]}} problem
   * @param {number} retryAfterS seconds the server asks to wait, 0 if it does not
   */
  constructor(status, problem, retryAfterS = 0) {
    super(problem.detail ?? `the server answered ${status}`);
    this.status = status;
    this.title = problem.title ?? (status ? `Refused (${status})` : "No answer");
    this.requestId = problem.request_id ?? "";
    this.reasons = (problem.errors ?? []).map((e) => (e.where ? `${e.where}: ${e.detail}` : e.detail));
    this.retryAfterS = retryAfterS;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY_SLOT) ?? "",
  /** @param {string} value empty to forget it */
  set: (value) => (value ? sessionStorage.setItem(KEY_SLOT, value) : sessionStorage.removeItem(KEY_SLOT)),
};

/** @type {(why: string) => Promise<boolean>} asks the person for a key; true if there is a new one to try */
let askForKey = async () => false;
/** @type {Promise<boolean>|null} */
let asking = null;

/** @param {(why: string) => Promise<boolean>} ask */
export function onUnauthorized(ask) {
  askForKey = ask;
}

/** One question at a time, however many requests were refused. @param {string} why */
function newKey(why) {
  asking ??= askForKey(why).finally(() => {
    asking = null;
  });
  return asking;
}

/** @returns {Record<string, string>} */
function keyHeader() {
  return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
}

/** @param {number} status @param {string} body @param {string|null} type @param {string|null} retry */
function refusal(status, body, type, retry) {
  const wait = Number(retry) || 0;
  if (type?.includes("json")) {
    try {
      return new ApiError(status, JSON.parse(body), wait);
    } catch {
      // not the JSON it said it was: fall through to the plain words
    }
  }
  return new ApiError(status, { detail: `the server answered ${status} without saying why` }, wait);
}

const SILENCE = { title: "No answer", detail: "The server did not answer. Is it still running?" };

/**
 * @param {string} method
 * @param {string} path relative to the page
 * @param {{body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} a good one
 */
async function send(method, path, options = {}) {
  const used = key.get();
  let response;
  try {
    response = await fetch(path, { method, ...options, headers: { ...options.headers, ...keyHeader() } });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, SILENCE);
  }
  if (response.ok) return response;
  const retry = response.headers.get("Retry-After");
  const error = refusal(response.status, await response.text(), response.headers.get("Content-Type"), retry);
  if (error.status === 401 && (used !== key.get() || (await newKey(error.message)))) return send(method, path, options);
  throw error;
}

/** @param {string} name @param {string} [rest] @returns {string} path of an adapter set */
const setPath = (name, rest = "") => `adapters/${encodeURIComponent(name)}${rest}`;

/** @returns {Promise<{default: string, adapters: AdapterSet[]}>} */
export async function listSets() {
  return (await send("GET", "adapters", { headers: { Accept: "application/json" } })).json();
}

/** @param {Wanted} wanted @param {string} [format] @returns {string} path and query of a prediction */
export function predictPath(wanted, format = "") {
  const query = [
    wanted.tasks.length && `tasks=${wanted.tasks.join(",")}`,
    wanted.adapter && `adapter=${encodeURIComponent(wanted.adapter).replace("%40", "@")}`,
    wanted.compute < 1 && `compute=${wanted.compute}${format ? "" : "&explain=compute"}`,
    format && `format=${format}`,
  ]
    .filter(Boolean)
    .join("&");
  return query ? `predict?${query}` : "predict";
}

/** @param {Blob} photo @param {Wanted} wanted @param {string} format @param {AbortSignal} [signal] */
function sendPhoto(photo, wanted, format, signal) {
  const type = photo.type.startsWith("image/") ? photo.type : "image/x-unknown"; // the server looks at the bytes
  return send("POST", predictPath(wanted, format), { body: photo, headers: { "Content-Type": type }, signal });
}

/**
 * Maps of a photo.
 * @param {Blob} photo
 * @param {Wanted} wanted
 * @param {AbortSignal} [signal]
 * @returns {Promise<{answer: Answer, cold: boolean, roundTripMs: number}>} cold: it waited for its set to be loaded
 */
export async function predict(photo, wanted, signal) {
  const start = performance.now();
  const response = await sendPhoto(photo, wanted, "", signal);
  const answer = await response.json();
  const cold = response.headers.get("X-Adapter-Cold") === "1";
  return { answer, cold, roundTripMs: performance.now() - start };
}

/**
 * The photo as the server saw it: upright, and of formats that this browser does not show.
 * @param {Blob} photo @param {string} adapter @param {string} task @param {AbortSignal} signal @returns {Promise<Blob>}
 */
export async function photoAsSeen(photo, adapter, task, signal) {
  return (await sendPhoto(photo, { adapter, tasks: [task] }, "overlay&style=plain", signal)).blob();
}

/** @param {Blob} photo @param {Wanted} wanted @param {"zip"|"npz"} format @returns {Promise<Blob>} */
export async function predictFile(photo, wanted, format) {
  return (await sendPhoto(photo, wanted, format)).blob();
}

/** @param {string} name @param {number} revision @returns {Promise<AdapterSet>} */
export async function activate(name, revision) {
  const headers = { "Content-Type": "application/json" };
  return (await send("PUT", setPath(name, "/current"), { headers, body: JSON.stringify({ revision }) })).json();
}

/** @param {string} name @param {boolean} pinned @returns {Promise<AdapterSet>} */
export async function pin(name, pinned) {
  return (await send(pinned ? "PUT" : "DELETE", setPath(name, "/pin"))).json();
}

/** @param {string} name @param {boolean} loaded @returns {Promise<AdapterSet>} */
export async function load(name, loaded) {
  return (await send("POST", setPath(name, loaded ? "/load" : "/unload"))).json();
}

/** @param {string} name @param {number} [revision] none: the whole set */
export async function remove(name, revision) {
  await send("DELETE", setPath(name, revision ? `?revision=${revision}` : ""));
}

/** @param {string} name @param {number} revision @returns {Promise<Blob>} */
export async function fetchFile(name, revision) {
  return (await send("GET", setPath(name, `/file?revision=${revision}`))).blob();
}

/**
 * Upload a file; XMLHttpRequest, because fetch tells nothing about how far a body has got.
 * @param {File} file
 * @param {{name: string, activate: boolean}} fields
 * @param {(fraction: number) => void} progress 0..1
 * @returns {Promise<{set: AdapterSet, revision: string, created: boolean}>} revision: NAME@REVISION
 */
export async function upload(file, fields, progress) {
  const used = key.get();
  try {
    return await uploadOnce(file, fields, progress);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    if (used === key.get() && !(await newKey(error.message))) throw error;
    return upload(file, fields, progress);
  }
}

/** @type {typeof upload} */
function uploadOnce(file, fields, progress) {
  const form = new FormData();
  if (fields.name) form.append("name", fields.name);
  form.append("activate", String(fields.activate));
  form.append("file", file);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.upload.addEventListener("progress", (event) => progress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("error", () => reject(new ApiError(0, SILENCE)));
    request.addEventListener("load", () => {
      const header = (/** @type {string} */ name) => request.getResponseHeader(name);
      if (request.status >= 300) {
        reject(refusal(request.status, request.responseText, header("Content-Type"), header("Retry-After")));
        return;
      }
      const set = JSON.parse(request.responseText);
      resolve({ set, revision: header("X-Adapter-Revision") ?? set.name, created: request.status === 201 });
    });
    request.open("POST", "adapters");
    for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
    request.send(form);
  });
}
