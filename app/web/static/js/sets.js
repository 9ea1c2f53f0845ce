/** The view of all adapter sets, and what can be done with them. */

import { activate, fetchFile, load, pin, remove } from "./api.js";
import { confirmed, showProblem } from "./dialogs.js";
import { ago, byId, el, refill, save, size, taskWords, toast } from "./dom.js";
import { TIER_WORDS } from "./slots.js";
import { wireUpload } from "./upload.js";

/** @typedef {import("./api.js").AdapterSet} AdapterSet */
/** @typedef {import("./api.js").Revision} Revision */

export class SetsView {
  /** @param {{refresh: () => Promise<unknown>, use: (ref: string) => unknown}} page */
  constructor(page) {
    this.page = page;
    byId("sets-refresh").addEventListener("click", () => page.refresh());
    wireUpload(() => page.refresh());
  }

  /** @param {{default: string, adapters: AdapterSet[]}} listed */
  show({ adapters }) {
    const bytes = adapters.flatMap((set) => set.revisions).reduce((sum, revision) => sum + revision.bytes, 0);
    const resident = adapters.filter((set) => set.tier !== "disk").length;
    byId("sets-summary").textContent =
      `${adapters.length} sets, ${size(bytes)} in all revisions; ${resident} in memory beside one backbone.`;
    const open = new Set([...byId("set-list").querySelectorAll("details[open]")].map((d) => d.dataset.name));
    refill(byId("set-list"), ...adapters.map((set) => this.#card(set, open.has(set.name))));
  }

  /** @param {string} done words for afterwards @param {() => Promise<unknown>} act */
  async #act(done, act) {
    byId("sets-problem").hidden = true;
    try {
      await act();
      toast(done);
      await this.page.refresh();
    } catch (error) {
      await this.page.refresh();
      showProblem(byId("sets-problem"), error);
      byId("sets-problem").scrollIntoView({ block: "nearest" });
    }
  }

  /** @param {string} words @param {string} label for screen readers @param {() => unknown} click @param {string} [kind] */
  #button(words, label, click, kind = "quiet") {
    return el("button", { type: "button", class: kind, "aria-label": label, on: { click } }, words);
  }

  /** @param {AdapterSet} set @param {boolean} open @returns {HTMLElement} */
  #card(set, open) {
    const marks = [set.default && "default", set.bundled && "bundled", set.pinned && "pinned"].filter(
      (m) => m !== false,
    );
    return el(
      "article",
      { class: "card panel", dataset: { name: set.name }, "aria-label": `Adapter set ${set.name}` },
      el(
        "div",
        { class: "card-head" },
        el("h2", {}, set.name),
        el("span", { class: "revision-mark" }, `revision ${set.current}`),
        ...marks.map((mark) => el("span", { class: `mark mark-${mark}` }, mark)),
        el(
          "span",
          { class: "tier-words" },
          el("span", { class: `tier tier-${set.tier}`, "aria-hidden": true }),
          TIER_WORDS[set.tier],
        ),
      ),
      set.status === "failed" ? el("p", { class: "problem" }, `Cannot be used: ${set.reason}`) : null,
      el(
        "ul",
        { class: "chips", "aria-label": "Tasks" },
        ...Object.entries(set.tasks).map(([task, about]) =>
          el(
            "li",
            { title: `ranks ${about.ranks.join(", ")}; decoder ${about.decoder}` },
            taskWords(task),
            about.classes.length ? el("small", {}, ` ${about.classes.length}`) : null,
          ),
        ),
      ),
      el(
        "dl",
        { class: "facts" },
        ...Object.entries({
          Size: size(set.bytes),
          Uses: String(set.uses),
          "Last used": ago(set.last_used),
          "Shared ranks": set.ranks?.join(" ") ?? "unknown",
          Input: set.image_size ? `${set.image_size} px` : "unknown",
          Digest: set.digest.slice(0, 10),
        }).map(([term, fact]) => el("div", {}, el("dt", {}, term), el("dd", {}, fact))),
      ),
      el("div", { class: "card-acts" }, ...this.#acts(set)),
      this.#revisions(set, open),
    );
  }

  /** @param {AdapterSet} set @returns {HTMLElement[]} */
  #acts(set) {
    const { name } = set;
    const acts = [this.#button("Try it", `Try it: ${name} in the playground`, () => this.page.use(name), "main")];
    const movable = !set.default && !set.pinned;
    if (movable && set.tier !== "device") {
      acts.push(this.#button("Load", `Load ${name}`, () => this.#act(`${name} is in memory.`, () => load(name, true))));
    }
    if (movable && set.tier !== "disk") {
      acts.push(
        this.#button("Unload", `Unload ${name}`, () =>
          this.#act(`${name} is out of memory.`, () => load(name, false)),
        ),
      );
    }
    if (!set.default) {
      acts.push(
        set.pinned
          ? this.#button("Unpin", `Unpin ${name}`, () =>
              this.#act(`${name} may be evicted again.`, () => pin(name, false)),
            )
          : this.#button("Pin", `Pin ${name}`, () => this.#act(`${name} stays in memory.`, () => pin(name, true))),
      );
    }
    const before = set.revisions.filter((r) => r.revision < set.current).at(-1);
    if (before && !set.bundled) {
      acts.push(
        this.#button(`Roll back to ${before.revision}`, `Roll back to ${before.revision}: ${name}`, () =>
          this.#activate(name, before.revision),
        ),
      );
    }
    if (!set.default && !set.bundled) {
      acts.push(this.#button("Delete", `Delete ${name}`, () => this.#delete(set), "danger quiet"));
    }
    return acts;
  }

  /** @param {string} name @param {number} revision */
  #activate(name, revision) {
    return this.#act(`${name} is now at revision ${revision}.`, () => activate(name, revision));
  }

  /** @param {AdapterSet} set @param {number} [revision] */
  async #delete(set, revision) {
    const what = revision ? `revision ${revision} of ${set.name}` : set.name;
    const text = revision
      ? "Its file is removed, and the number is not given again. Requests under way finish."
      : "All its revisions are removed from disk and memory. Requests under way finish, new ones get 404.";
    if (!(await confirmed(`Delete ${what}?`, text, "Delete"))) return;
    await this.#act(`${what} is deleted.`, () => remove(set.name, revision));
  }

  /** @param {AdapterSet} set @param {boolean} open @returns {HTMLElement} */
  #revisions(set, open) {
    const rows = [...set.revisions]
      .reverse()
      .map((revision) =>
        el(
          "tr",
          { class: revision.current ? "current" : "" },
          el(
            "th",
            { scope: "row" },
            el("span", { class: `tier tier-${revision.tier}`, title: TIER_WORDS[revision.tier], "aria-hidden": true }),
            ` ${revision.revision} `,
            el("span", { class: "unseen" }, TIER_WORDS[revision.tier]),
            revision.current ? el("span", { class: "mark" }, "current") : null,
          ),
          el("td", {}, size(revision.bytes)),
          el(
            "td",
            {},
            el("time", { dateTime: revision.created, title: revision.created }, ago(revision.created, "narrow")),
          ),
          el("td", { class: "digest", title: revision.digest }, revision.digest.slice(0, 7)),
          el("td", { class: "row-acts" }, ...this.#revisionActs(set, revision)),
        ),
      );
    const count = set.revisions.length;
    return el(
      "details",
      { dataset: { name: set.name }, open },
      el("summary", {}, count === 1 ? "1 revision" : `${count} revisions`),
      el(
        "div",
        { class: "scroll" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ...["Revision", "Size", "Uploaded", "Digest"].map((h) => el("th", { scope: "col" }, h)),
              el("th", { scope: "col" }, el("span", { class: "unseen" }, "Actions")),
            ),
          ),
          el("tbody", {}, ...rows),
        ),
      ),
    );
  }

  /** @param {AdapterSet} set @param {Revision} revision @returns {HTMLElement[]} */
  #revisionActs(set, { revision, current }) {
    const { name } = set;
    const fetching = () =>
      this.#act(`${name}@${revision} is saved.`, async () =>
        save(await fetchFile(name, revision), `${name}-${revision}.safetensors`),
      );
    const acts = [this.#button("Fetch", `Fetch the file of ${name} revision ${revision}`, fetching)];
    if (current) return acts;
    return [
      this.#button("Activate", `Activate ${name} revision ${revision}`, () => this.#activate(name, revision)),
      this.#button("Try", `Try ${name} revision ${revision} in the playground`, () =>
        this.page.use(`${name}@${revision}`),
      ),
      ...acts,
      ...(set.bundled
        ? []
        : [
            this.#button(
              "Delete",
              `Delete ${name} revision ${revision}`,
              () => this.#delete(set, revision),
              "danger quiet",
            ),
          ]),
    ];
  }
}
