/**
 * Moving pictures: frames of a camera or of a video file, sent as fast as answers come, one at a time.
 *
 * @typedef {import("./photo.js").Photo} Photo
 */

import { byId, duration, el } from "./dom.js";

const FRAME_PX = 320; // longest side of a frame that is sent
const QUALITY = 0.85; // of its JPEG
const REMEMBERED = 20; // frames that the rate is taken from
const TELL_MS = 400;
const BUSY_WAIT_MS = 1000;
const BUSY = 429;

export class Live {
  /**
   * @param {(photo: Photo) => Promise<void>} show a frame and its maps; rejects where the server refuses
   * @param {(error: unknown) => void} failed
   */
  constructor(show, failed) {
    this.show = show;
    this.failed = failed;
    this.video = /** @type {HTMLVideoElement} */ (el("video", { muted: true, loop: true, playsInline: true }));
    this.canvas = /** @type {HTMLCanvasElement} */ (el("canvas"));
    this.turn = 0; // number of the pictures that run; those of an earlier turn stop
    /** @type {number[]} ms of the window's clock */
    this.ends = [];
    this.told = 0;
    const button = byId("camera");
    button.hidden = !navigator.mediaDevices?.getUserMedia; // not offered by browsers over plain http
    button.addEventListener("click", () => (this.running ? this.stop() : void this.camera()));
  }

  get running() {
    return Boolean(this.video.srcObject || this.video.src);
  }

  /** Ask for a camera, and show what it sees until `stop`. */
  async camera() {
    const mine = (this.turn += 1);
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } }, audio: false });
      if (mine !== this.turn) return void stream.getTracks().forEach((track) => track.stop());
      this.video.srcObject = stream;
      await this.#begin("camera", mine);
    } catch (error) {
      this.stop();
      this.failed(new Error(`The camera cannot be used: ${error instanceof Error ? error.message : error}`));
    }
  }

  /** Show a video file again and again, until `stop`. @param {Blob} blob @param {string} name */
  async file(blob, name) {
    this.stop();
    const mine = (this.turn += 1);
    this.video.src = URL.createObjectURL(blob);
    try {
      await this.#begin(name, mine);
    } catch {
      this.stop();
      this.failed(new Error(`${name} cannot be played by this browser.`));
    }
  }

  stop() {
    this.turn += 1;
    this.video.pause();
    const stream = /** @type {MediaStream|null} */ (this.video.srcObject);
    for (const track of stream?.getTracks() ?? []) track.stop();
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    byId("camera").textContent = "Use the camera";
  }

  /** @param {string} name @param {number} mine */
  async #begin(name, mine) {
    await this.video.play();
    byId("camera").textContent = "Stop";
    for (const sample of byId("samples").children) sample.setAttribute("aria-pressed", "false");
    this.ends = [];
    void this.#run(name, mine);
  }

  /** @param {string} name @param {number} mine */
  async #run(name, mine) {
    while (mine === this.turn) {
      const begin = performance.now();
      const photo = await this.#frame(name);
      if (photo && mine === this.turn) {
        try {
          await this.show(photo);
          if (mine === this.turn) this.#tell(name, photo, performance.now() - begin);
        } catch (error) {
          if (mine !== this.turn) return;
          if (/** @type {{status?: number}} */ (error).status !== BUSY) {
            this.stop();
            return this.failed(error);
          }
          await new Promise((resolve) => setTimeout(resolve, BUSY_WAIT_MS));
        }
      }
      await new Promise(requestAnimationFrame); // of a page that is not seen: never, until it is
    }
  }

  /** @param {string} name @returns {Promise<Photo|null>} null: there is no picture yet */
  async #frame(name) {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth || this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
    const scale = Math.min(1, FRAME_PX / Math.max(videoWidth, videoHeight));
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.canvas.getContext("2d")?.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const bitmap = await createImageBitmap(this.canvas);
    const blob = await new Promise((resolve) => this.canvas.toBlob(resolve, "image/jpeg", QUALITY));
    return { blob, name: `${name.replace(/\.[^.]*$/, "")}.jpg`, bitmap, address: "", live: true };
  }

  /** @param {string} name @param {Photo} photo @param {number} ms from the frame to its maps */
  #tell(name, photo, ms) {
    const now = performance.now();
    this.ends = [...this.ends.slice(-REMEMBERED), now];
    if (now - this.told < TELL_MS || this.ends.length < 2) return;
    this.told = now;
    const rate = ((this.ends.length - 1) / (now - this.ends[0])) * 1000;
    const { width, height } = /** @type {ImageBitmap} */ (photo.bitmap);
    byId("photo-fact").textContent =
      `${name} · ${width} × ${height} px · ${rate.toFixed(1)} frames a second · ${duration(ms)} from frame to maps`;
  }
}
