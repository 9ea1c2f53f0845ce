/** Where a request's time went, and what the sets before it took. */

import { duration, el } from "./dom.js";

/** @typedef {import("./bench.js").Run} Run */

const STAGES = ["decode", "queue", "load", "forward", "encode"];
const WORDS = /** @type {Record<string, string>} */ ({
  decode: "photo to pixels",
  queue: "waiting for the model",
  load: "bringing the set into memory",
  forward: "backbone and decoders",
  encode: "maps to PNG",
});
const KEPT_RUNS = 6;

/**
 * One bar per run on screen.
 * @param {{side: string, run: Run}[]} shown side: "", "a" or "b"
 * @returns {HTMLElement[]}
 */
export function timingBars(shown) {
  const longest = Math.max(...shown.map(({ run }) => sum(run)), 0.001);
  const rows = shown.map(({ side, run }) => {
    const times = run.answer.timings_ms;
    const bar = el("div", { class: "timebar", role: "img", "aria-label": spoken(run) });
    for (const stage of STAGES) {
      if (!times[stage]) continue;
      const part = el("span", {
        class: `stage-${stage}`,
        title: `${stage}: ${duration(times[stage])}, ${WORDS[stage]}`,
      });
      part.style.width = `${(times[stage] / longest) * 100}%`;
      bar.append(part);
    }
    return el(
      "div",
      { class: "timerow" },
      el(
        "p",
        { class: "timehead" },
        side ? el("span", { class: `side side-${side}` }, side.toUpperCase()) : null,
        el("span", { class: "ref" }, run.ref),
        heat(run.cold),
        el("span", { class: "batch" }, `batch of ${run.answer.batch.size}${sets(run.answer.batch.adapters)}`),
        el("span", { class: "total" }, `${duration(times.total)} in the server, ${duration(run.roundTripMs)} in all`),
      ),
      bar,
    );
  });
  return [...rows, keyOf(shown.map(({ run }) => run.answer.timings_ms))];
}

/** @param {number} count @returns {string} */
const sets = (count) => (count > 1 ? `, ${count} sets` : "");

/** @param {Run} run @returns {number} ms in all stages */
const sum = (run) => STAGES.reduce((ms, stage) => ms + (run.answer.timings_ms[stage] ?? 0), 0);

/** @param {boolean} cold */
function heat(cold) {
  const title = cold ? "This request waited for its set to be loaded" : "The set was in memory already";
  return el("span", { class: `heat ${cold ? "cold" : "hot"}`, title }, cold ? "cold" : "hot");
}

/** @param {Run} run @returns {string} */
function spoken(run) {
  const { timings_ms: times } = run.answer;
  return STAGES.filter((stage) => times[stage])
    .map((stage) => `${stage} ${duration(times[stage])}`)
    .join(", ");
}

/** @param {Record<string, number>[]} times ms @returns {HTMLElement} */
function keyOf(times) {
  return el(
    "ul",
    { class: "timekey" },
    ...STAGES.map((stage) =>
      el(
        "li",
        { title: WORDS[stage] },
        el("span", { class: `dot stage-${stage}`, "aria-hidden": true }),
        `${stage} `,
        el("b", {}, times.map((t) => (t[stage] ? duration(t[stage]) : "–")).join(" | ")),
      ),
    ),
  );
}

/** The last runs, newest first: what swapping sets costs. */
export class History {
  constructor() {
    /** @type {Run[]} */
    this.runs = [];
  }

  /** @param {Run} run */
  add(run) {
    this.runs = [run, ...this.runs].slice(0, KEPT_RUNS);
  }

  /** @returns {HTMLElement|null} nothing before there is something to compare with */
  element() {
    if (this.runs.length < 2) return null;
    return el(
      "details",
      { class: "history", open: true },
      el("summary", {}, "Last runs"),
      el(
        "ol",
        {},
        ...this.runs.map((run) =>
          el(
            "li",
            {},
            el("span", { class: "ref" }, run.ref),
            heat(run.cold),
            el("span", { class: "history-photo" }, run.photo.name),
            el(
              "span",
              { class: "total" },
              run.cold ? `${duration(run.answer.timings_ms.load)} load + ` : "",
              duration(run.answer.timings_ms.forward),
              " forward",
            ),
          ),
        ),
      ),
    );
  }
}
