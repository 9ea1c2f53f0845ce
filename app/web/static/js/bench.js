/**
 * The playground: one photo, one adapter set (two while comparing), and what came back.
 *
 * @typedef {import("./api.js").AdapterSet} AdapterSet
 * @typedef {import("./maps.js").TaskMap} TaskMap
 * @typedef {import("./photo.js").Photo} Photo
 * @typedef {{photo: Photo, wanted: import("./api.js").Wanted, answer: import("./api.js").Answer, cold: boolean,
 *   roundTripMs: number, maps: Map<string, TaskMap>, ref: string}} Run  ref: NAME@REVISION that answered
 */

import { ApiError, photoAsSeen, predict } from "./api.js";
import { CodePanel, downloadButtons } from "./code.js";
import { showProblem } from "./dialogs.js";
import { byId, el, fillTabs, refill, tabKeys, taskWords } from "./dom.js";
import { legendOf } from "./legend.js";
import { Live } from "./live.js";
import { computedMap, decodeMap } from "./maps.js";
import { photoPanel, remade } from "./photo.js";
import { composite } from "./picture.js";
import { choices, fillSecond, fillSlots, fillTasks } from "./slots.js";
import { Stage } from "./stage.js";
import { History, timingBars } from "./timings.js";

const ALL = "all";
const BACKGROUND = "background";
const WORTH_SHOWING = 0.01; // share of the photo
const SMALLER_PX = 2048; // longest side of a photo that was too large
const SHRINK = 0.75; // and of one that still is, of the side it had
const LEAST_PX = 256;
const SIDES = /** @type {("a"|"b")[]} */ (["a", "b"]);

export class Bench {
  /**
   * @param {() => boolean} active whether the playground is in front
   * @param {() => void} used after each run
   * @param {string} linked NAME or NAME@REVISION to begin with; nothing, or one that is not there: the default
   */
  constructor(active, used, linked) {
    this.used = used;
    /** @type {AdapterSet[]} */
    this.sets = [];
    this.linked = linked;
    this.chosen = { a: linked, b: "" }; // NAME or NAME@REVISION
    this.comparing = false;
    this.view = ""; // a task, or ALL
    this.compute = 1; // share of the encoder that is asked for, of the first set
    this.seekCommon = false; // go to a task that both sets have, once, when a comparison begins
    /** @type {Set<string>} */
    this.unwanted = new Set(); // tasks
    /** @type {Photo|null} */
    this.photo = null;
    /** @type {{a: Run|null, b: Run|null}} */
    this.runs = { a: null, b: null };
    /** @type {Map<string, Set<string>>} hidden names of classes of a task */
    this.hidden = new Map();
    this.aborter = new AbortController();
    this.history = new History();
    this.code = new CodePanel();
    this.stage = new Stage();
    this.live = new Live(
      (photo) => this.#showFrame(photo),
      (error) => this.#fail(error),
    );
    this.photos = photoPanel(
      active,
      (photo) => {
        this.live.stop();
        this.photo = photo;
        this.run(true);
      },
      (video, name) => void this.live.file(video, name),
    );
    this.#wire();
  }

  #wire() {
    tabKeys(byId("tabs"));
    byId("opacity").addEventListener("input", () => this.#showOpacity());
    this.#showOpacity();
    byId("compare-switch").addEventListener("change", (/** @type {Event} */ event) => {
      this.comparing = /** @type {HTMLInputElement} */ (event.target).checked;
      this.seekCommon = this.comparing;
      this.showControls();
      this.run();
    });
    byId("compare-b").addEventListener("change", (/** @type {Event} */ event) => {
      this.chosen.b = /** @type {HTMLSelectElement} */ (event.target).value;
      this.run();
    });
    byId("compute").addEventListener("input", () => this.#showCompute());
    byId("compute").addEventListener("change", () => {
      this.compute = byId("compute").value / 100;
      this.run();
    });
    byId("compute-beside").addEventListener("click", () => {
      this.comparing = true;
      this.chosen.b = this.chosen.a;
      this.showControls();
      this.run();
    });
    byId("compare-exchange").addEventListener("click", () => {
      this.chosen = { a: this.chosen.b, b: this.chosen.a };
      this.runs = { a: this.runs.b, b: this.runs.a };
      this.showControls();
      this.run();
    });
  }

  /** @param {{default: string, adapters: AdapterSet[]}} listed */
  setSets(listed) {
    this.sets = listed.adapters;
    const known = new Set(choices(this.sets).map(({ ref }) => ref));
    const [name, revision] = this.chosen.a.split("@");
    if (this.sets.some((set) => set.name === name && String(set.current) === revision)) this.chosen.a = name;
    const waiting = !known.size && this.chosen.a === this.linked; // the sets could not be listed, maybe not yet
    if (!known.has(this.chosen.a) && !waiting) this.chosen.a = known.has(listed.default) ? listed.default : "";
    if (!known.has(this.chosen.b)) this.chosen.b = [...known].find((ref) => ref !== this.chosen.a) ?? this.chosen.a;
    this.showControls();
  }

  /** @param {string} ref NAME or NAME@REVISION, used at once */
  use(ref) {
    if (ref === this.chosen.b) this.chosen.b = this.chosen.a; // a set beside itself shows nothing
    this.chosen.a = ref;
    this.showControls();
    return this.run();
  }

  showControls() {
    const offered = this.#offered();
    if (offered.every((task) => this.unwanted.has(task))) this.unwanted.clear(); // else there were nothing to see
    fillSlots(this.sets, this.chosen.a, (ref) => this.use(ref));
    fillTasks(offered, this.unwanted, (task, wanted) => {
      if (wanted) this.unwanted.delete(task);
      else this.unwanted.add(task);
      this.showControls();
      this.run();
    });
    const lowest = this.#lowest();
    byId("compute-row").hidden = lowest === 1;
    byId("compute").min = String(Math.ceil(20 * lowest) * 5); // per cent, in the slider's steps
    this.#showCompute();
    fillSecond(this.sets, this.chosen.b);
    byId("compare-switch").checked = this.comparing;
    byId("compare-bar").hidden = !this.comparing;
    byId("compare-a").textContent = this.chosen.a || "the default set";
  }

  /** @returns {number} the smallest share of compute that the first set offers; 1: it has no policy */
  #lowest() {
    return this.sets.find((set) => set.name === this.chosen.a.split("@")[0])?.compute ?? 1;
  }

  #showCompute() {
    byId("compute-value").textContent = `${byId("compute").value} %`;
  }

  /** @param {string} ref @returns {string[]} tasks of that set, as far as known */
  #tasksOf(ref) {
    return Object.keys(this.sets.find((set) => set.name === ref.split("@")[0])?.tasks ?? {});
  }

  /** @returns {string[]} tasks of the chosen sets */
  #offered() {
    return [...new Set([...this.#tasksOf(this.chosen.a), ...(this.comparing ? this.#tasksOf(this.chosen.b) : [])])];
  }

  /** @param {"a"|"b"} side @returns {import("./api.js").Wanted|null} null: this set has none of the tasks */
  #wanted(side) {
    const adapter = this.chosen[side];
    const has = this.#tasksOf(adapter);
    const tasks = has.filter((task) => !this.unwanted.has(task));
    const compute = side === "a" ? Math.max(this.compute, this.#lowest()) : 1;
    if (tasks.length === has.length) return { adapter, tasks: [], compute }; // all it has, or its tasks are not known
    return tasks.length ? { adapter, tasks, compute } : null;
  }

  /** Ask the server for what is chosen. @param {boolean} [fresh] drop what is on screen first: another photo */
  async run(fresh = false) {
    const { photo } = this;
    if (!photo) return;
    this.aborter.abort();
    this.aborter = new AbortController();
    if (photo.live && this.live.running) return; // the next frame asks for what is chosen now
    const { signal } = this.aborter;
    if (fresh) this.runs = { a: null, b: null };
    if (fresh) this.#show();
    byId("problem").hidden = true;
    this.stage.busy(true);
    const sides = this.comparing ? SIDES : SIDES.slice(0, 1);
    try {
      const runs = await Promise.all(sides.map((side) => this.#side(side, photo, signal)));
      if (signal.aborted) return;
      await this.#seeAsServer(photo, runs.find(Boolean), signal);
      if (signal.aborted) return;
      this.runs = { a: runs[0] ?? null, b: runs[1] ?? null };
      this.#show();
      const done = runs.flatMap((run) => (run ? [`${run.ref}: ${run.maps.size} maps`] : []));
      byId("spoken").textContent = done.join(", ");
      this.used();
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
    if (!signal.aborted) this.stage.busy(false);
  }

  /** A frame of moving pictures: as `run`, but nothing is kept of it. @param {Photo} photo */
  async #showFrame(photo) {
    const { signal } = this.aborter;
    const sides = this.comparing ? SIDES : SIDES.slice(0, 1);
    const runs = await Promise.all(sides.map((side) => this.#side(side, photo, signal))).catch((error) => {
      if (!signal.aborted) throw error;
      return [];
    });
    if (signal.aborted || !this.live.running) return;
    this.photo = photo;
    this.runs = { a: runs[0] ?? null, b: runs[1] ?? null };
    byId("problem").hidden = true;
    this.#show();
  }

  /** @param {unknown} error */
  #fail(error) {
    this.aborter.abort();
    this.stage.busy(false);
    const lasting = error instanceof ApiError && [413, 415, 422].includes(error.status);
    showProblem(byId("problem"), error, lasting ? null : () => this.run());
    if (lasting && this.photo?.bitmap) this.#offerAnother(this.photo, error.status);
  }

  /**
   * What a server refuses as it is, the browser can write anew: smaller, until it is taken, or as JPEG.
   * @param {Photo} photo that was refused, and can be shown here
   * @param {number} status of the refusal
   */
  #offerAnother(photo, status) {
    const { width, height } = /** @type {ImageBitmap} */ (photo.bitmap);
    const longest = Math.min(SMALLER_PX, Math.max(width, height) * (photo.remade ? SHRINK : 1));
    if (status === 422 || (photo.remade && (status !== 413 || longest < LEAST_PX))) return;
    const act = async () => {
      const made = await remade(photo, status === 413 ? longest : Infinity);
      if (this.photo !== photo) return;
      this.photo = made;
      this.run(true);
    };
    const words = status === 413 ? "Make it smaller and send it" : "Send it as JPEG";
    if (photo.remade) act();
    else byId("problem").append(el("button", { type: "button", on: { click: act } }, words));
  }

  /**
   * One side's run; the one on screen while comparing is kept if it answers the same question.
   * @param {"a"|"b"} side
   * @param {Photo} photo
   * @param {AbortSignal} signal
   * @returns {Promise<Run|null>}
   */
  async #side(side, photo, signal) {
    const wanted = this.#wanted(side);
    if (!wanted) return null;
    const last = this.runs[side];
    const same = last?.photo === photo && JSON.stringify(last.wanted) === JSON.stringify(wanted);
    if (this.comparing && last && same && this.#isCurrent(last)) return last;
    const { answer, cold, roundTripMs } = await predict(photo.blob, wanted, signal);
    const decoded = await Promise.all(Object.entries(answer.tasks).map(([task, found]) => decodeMap(task, found)));
    const ref = `${answer.adapter.name}@${answer.adapter.revision}`;
    const computed = await computedMap(answer);
    if (computed) decoded.push(computed);
    const run = { photo, wanted, answer, cold, roundTripMs, maps: new Map(decoded.map((map) => [map.task, map])), ref };
    if (!signal.aborted && !photo.live) this.history.add(run);
    return run;
  }

  /** @param {Run} run @returns {boolean} whether its name still stands for its revision */
  #isCurrent(run) {
    const { name, revision } = run.answer.adapter;
    return run.wanted.adapter.includes("@") || this.sets.find((set) => set.name === name)?.current === revision;
  }

  /** @returns {string[]} tasks that there are maps of, in the order of the sets */
  #tasks() {
    return [...new Set(SIDES.flatMap((side) => [...(this.runs[side]?.maps.keys() ?? [])]))];
  }

  /** @param {string} task @returns {Set<string>} names of classes; at first the background, so that the photo is seen there */
  #hiddenOf(task) {
    const found = this.hidden.get(task);
    if (found) return found;
    const map = this.runs.a?.maps.get(task) ?? this.runs.b?.maps.get(task);
    const made = new Set(map?.classes.map((c) => c.name).filter((name) => name === BACKGROUND));
    if (map) this.hidden.set(task, made);
    return made;
  }

  /**
   * Browsers turn photos by EXIF alone and know fewer formats: what the server turned, or they do not show, is its own.
   * @param {import("./photo.js").Photo} photo @param {Run|null|undefined} run @param {AbortSignal} signal
   */
  async #seeAsServer(photo, run, signal) {
    const task = run && Object.keys(run.answer.tasks)[0];
    if (!run || !task || photo.asSeen || (photo.bitmap && !run.answer.image.orientation)) return;
    const seen = await photoAsSeen(photo.blob, this.chosen.a, task, signal).catch(() => null);
    const bitmap = seen && (await createImageBitmap(seen).catch(() => null));
    if (bitmap) Object.assign(photo, { bitmap, asSeen: true });
  }

  #show() {
    const tasks = this.#tasks();
    if (tasks.length === 1) [this.view] = tasks; // there is no tab for all of one
    if (this.view !== ALL && !tasks.includes(this.view)) this.view = this.#richest(tasks);
    const common = tasks.filter((task) => this.runs.a?.maps.has(task) && this.runs.b?.maps.has(task));
    if (this.seekCommon && common.length) {
      this.seekCommon = false;
      if (this.view !== ALL && !common.includes(this.view)) [this.view] = common;
    }
    const tabs = tasks.map((task) => ({ key: task, words: taskWords(task) }));
    if (tasks.length > 1) tabs.push({ key: ALL, words: "All" });
    const choose = (/** @type {string} */ key) => {
      this.view = key;
      this.#show();
    };
    fillTabs(byId("tabs"), tabs, this.view, choose, "stage");
    byId("stage").setAttribute("aria-labelledby", `tab-${this.view}`);
    const size = this.runs.a?.answer.image ?? this.runs.b?.answer.image ?? this.photo?.bitmap;
    this.stage.show({
      photo: this.photo,
      width: size?.width ?? 0,
      height: size?.height ?? 0,
      frames: this.#shown().map((task) => this.#maps(task)),
      grid: this.view === ALL,
      readable: tasks.map((task) => this.#maps(task)),
      hidden: (task) => this.#hiddenOf(task),
      quick: this.photo?.live ?? false,
      words: this.comparing ? { a: this.#label("a"), b: this.#label("b") } : null,
      open: choose,
    });
    this.#showLegend();
    this.#showUnder();
    const shown = SIDES.flatMap((side) =>
      this.runs[side] ? [{ side: this.comparing ? side : "", run: this.runs[side] }] : [],
    );
    const history = this.history.element();
    if (shown.length) byId("timings").replaceChildren(...timingBars(shown), ...(history ? [history] : []));
    this.code.show(shown.map(({ run }) => run));
  }

  /** @param {string[]} tasks @returns {string} the one that has most to show: the most classes, else the first */
  #richest(tasks) {
    const found = (/** @type {string} */ task) =>
      (this.runs.a ?? this.runs.b)?.maps.get(task)?.classes.filter((c) => (c.fraction ?? 0) > WORTH_SHOWING).length ?? 0;
    return tasks.reduce((best, task) => (found(task) > found(best) ? task : best), tasks[0] ?? "");
  }

  /** @param {"a"|"b"} side @returns {string} the set's name, or what it lacks */
  #label(side) {
    const run = this.runs[side];
    const share = run?.answer.compute ? ` at ${Math.round(100 * run.answer.compute.share)} %` : "";
    if (run && (this.view === ALL || run.maps.has(this.view))) return `${run.ref}${share}`;
    return `${run?.ref ?? this.chosen[side]} (without ${this.view === ALL ? "these" : taskWords(this.view)})`;
  }

  /** @returns {string[]} tasks on screen */
  #shown() {
    return this.view === ALL ? this.#tasks() : [this.view];
  }

  /** @param {string} task @returns {import("./picture.js").FrameMaps} */
  #maps(task) {
    return { task, a: this.runs.a?.maps.get(task) ?? null, b: this.runs.b?.maps.get(task) ?? null };
  }

  #showLegend() {
    const parts = this.#shown().map((task) => ({ ...this.#maps(task), hidden: this.#hiddenOf(task) }));
    const repaint = (/** @type {string} */ task) => {
      this.stage.repaint(task, this.#hiddenOf(task));
      this.#showLegend();
    };
    const names = (/** @type {string} */ task) =>
      SIDES.flatMap((s) => this.#maps(task)[s]?.classes.map((c) => c.name) ?? []);
    const sections = legendOf(parts, {
      toggle: (task, name) => {
        if (!this.#hiddenOf(task).delete(name)) this.#hiddenOf(task).add(name);
        repaint(task);
      },
      only: (task, name) => {
        this.hidden.set(task, new Set(names(task).filter((other) => other !== name)));
        repaint(task);
      },
      all: (task) => {
        this.hidden.set(task, new Set());
        repaint(task);
      },
    });
    if (sections.length) refill(byId("legend"), ...sections);
  }

  #showOpacity() {
    const value = byId("opacity").value;
    byId("opacity-value").textContent = `${value} %`;
    byId("stage").style.setProperty("--opacity", String(value / 100));
  }

  #showUnder() {
    const run = this.runs.a ?? this.runs.b;
    byId("view-try").classList.toggle("stale", !run); // what is beside the picture is of the one before
    byId("downloads").hidden = !run;
    if (!run) return;
    refill(
      byId("downloads"),
      ...downloadButtons(
        run,
        this.#shown().map((task) => this.#maps(task)),
        {
          of: this.comparing ? ` ${this.runs.a ? "A" : "B"}` : "",
          picture: (maps) =>
            composite(run.photo, maps, this.#hiddenOf(maps.task), {
              opacity: byId("opacity").value / 100,
              split: this.comparing ? this.stage.line.percent / 100 : 1,
            }),
          failed: (error) => showProblem(byId("problem"), error),
        },
      ),
    );
  }
}
