/** The list of adapter sets to choose from, the tasks, and the second set of a comparison. */

import { byId, el, refill, size, taskWords } from "./dom.js";

/** @typedef {import("./api.js").AdapterSet} AdapterSet */

const FILTER_FROM = 8; // sets; fewer are seen at a glance
export const TIER_WORDS = /** @type {Record<string, string>} */ ({
  disk: "on disk",
  host: "in host memory",
  device: "in memory",
});

/**
 * What can be asked for: each set, and each of its revisions that is not current.
 * @param {AdapterSet[]} sets
 * @returns {{ref: string, set: AdapterSet, revision: number}[]} ref: NAME or NAME@REVISION
 */
export function choices(sets) {
  return sets.flatMap((set) => [
    { ref: set.name, set, revision: set.current },
    ...set.revisions
      .filter((r) => !r.current)
      .map((r) => ({ ref: `${set.name}@${r.revision}`, set, revision: r.revision })),
  ]);
}

/**
 * The radio list of sets.
 * @param {AdapterSet[]} sets
 * @param {string} chosen NAME or NAME@REVISION
 * @param {(ref: string) => void} choose
 */
export function fillSlots(sets, chosen, choose) {
  const filter = byId("set-filter");
  const offered = choices(sets);
  filter.hidden = offered.length < FILTER_FROM;
  const wanted = filter.hidden ? "" : filter.value.trim().toLowerCase();
  filter.oninput = () => fillSlots(sets, chosen, choose);
  const rows = offered
    .filter(({ ref }) => ref === chosen || ref.includes(wanted))
    .map(({ ref, set, revision }) => {
      const { bytes = 0, tier = "disk" } = set.revisions.find((r) => r.revision === revision) ?? {};
      const old = revision !== set.current;
      return el(
        "label",
        { class: `slot${old ? " old" : ""}` },
        el("input", {
          type: "radio",
          name: "slot",
          value: ref,
          checked: ref === chosen,
          on: { change: () => choose(ref) },
        }),
        el("span", { class: `tier tier-${tier}`, "aria-hidden": true }),
        el("span", { class: "slot-name" }, old ? ref : `${set.name}`),
        el(
          "span",
          { class: "slot-facts" },
          `rev ${revision} · ${size(bytes)}`,
          el("span", { class: "slot-tier" }, ` · ${TIER_WORDS[tier]}`),
        ),
      );
    });
  refill(byId("slots"), ...(rows.length ? rows : [el("p", { class: "fact" }, "The server's default set.")]));
}

/**
 * Check boxes of the tasks a set has; the last one cannot be unchecked.
 * @param {string[]} tasks of the set
 * @param {ReadonlySet<string>} unwanted
 * @param {(task: string, wanted: boolean) => void} change
 */
export function fillTasks(tasks, unwanted, change) {
  const wanted = tasks.filter((task) => !unwanted.has(task));
  refill(
    byId("tasks"),
    ...tasks.map((task) =>
      el(
        "label",
        { class: "check" },
        el("input", {
          type: "checkbox",
          value: task,
          checked: wanted.includes(task),
          disabled: wanted.length === 1 && wanted[0] === task,
          on: { change: (/** @type {Event} */ e) => change(task, /** @type {HTMLInputElement} */ (e.target).checked) },
        }),
        ` ${taskWords(task)}`,
      ),
    ),
  );
}

/** @param {AdapterSet[]} sets @param {string} chosen */
export function fillSecond(sets, chosen) {
  byId("compare-b").replaceChildren(
    ...choices(sets).map(({ ref }) => el("option", { value: ref, selected: ref === chosen }, ref)),
  );
}
