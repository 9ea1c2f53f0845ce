/** Building and finding elements. Text always goes in as text: no string is ever read as markup. */

/**
 * The element with this id; an Error if the page lacks it.
 * @param {string} id
 * @returns {any} the element, of whatever kind the page says
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

/**
 * A new element. Keys with a dash and `role` become attributes, `on` holds listeners, the rest are properties.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {any} the element
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "class") node.className = value;
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "role" || name === "for" || name.includes("-")) node.setAttribute(name, String(value));
    else /** @type {any} */ (node)[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const FOCUSABLE = "button, input, select, a[href], summary";

/**
 * Give a box new children; who was in it with the keyboard stays at the same place.
 * @param {HTMLElement} box
 * @param {...(Node|string)} children
 */
export function refill(box, ...children) {
  const at = [...box.querySelectorAll(FOCUSABLE)].indexOf(/** @type {Element} */ (document.activeElement));
  box.replaceChildren(...children);
  if (at >= 0) /** @type {HTMLElement[]} */ ([...box.querySelectorAll(FOCUSABLE)])[at]?.focus({ preventScroll: true });
}

/** @param {number} bytes @returns {string} e.g. `3.2 MB` */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(3, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB"][power]}`;
}

/** @param {number} ms @returns {string} e.g. `4.2 ms`, `180 ms`, `2.1 s` */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

/** @param {number} fraction 0..1 @returns {string} e.g. `17.0 %` */
export function percent(fraction) {
  if (fraction > 0 && fraction < 0.001) return "< 0.1 %";
  return `${(fraction * 100).toFixed(1)} %`;
}

/**
 * @param {string|null} iso a moment, ISO 8601
 * @param {Intl.RelativeTimeFormatStyle} [style]
 * @returns {string} e.g. `3 minutes ago`, narrow `3m ago`
 */
export function ago(iso, style = "long") {
  if (!iso) return "never";
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  if (seconds < 10) return "just now";
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style });
  for (const [unit, length] of /** @type {[Intl.RelativeTimeFormatUnit, number][]} */ ([
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ])) {
    if (seconds >= length) return words.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}

const TASK_WORDS = {
  semseg: "Segmentation",
  human_parts: "Human parts",
  saliency: "Saliency",
  normals: "Normals",
  edge: "Edges",
  depth: "Depth",
  computed: "Computed",
};

/** @param {string} task @returns {string} its name for people */
export function taskWords(task) {
  return /** @type {Record<string, string>} */ (TASK_WORDS)[task] ?? task;
}

/** Hand bytes to the browser's download. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

let toastTimer = 0;

/** Say something short at the foot of the page. @param {string} words */
export function toast(words) {
  const node = byId("toast");
  node.textContent = words;
  node.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    node.hidden = true;
  }, 4000);
}

/**
 * Roving focus for a row of tabs: arrow keys, Home and End choose.
 * @param {HTMLElement} row with role=tablist
 */
export function tabKeys(row) {
  row.addEventListener("keydown", (event) => {
    const tabs = /** @type {HTMLElement[]} */ ([...row.querySelectorAll('[role="tab"]')]);
    const at = tabs.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const key = tabs[(to + tabs.length) % tabs.length].dataset.key;
    tabs[(to + tabs.length) % tabs.length].click();
    /** @type {HTMLElement|null} */ (row.querySelector(`[data-key="${key}"]`))?.focus();
  });
}

/**
 * Fill a row of tabs.
 * @param {HTMLElement} row
 * @param {{key: string, words: string}[]} tabs
 * @param {string} chosen key
 * @param {(key: string) => void} choose
 * @param {string} controls id of the panel
 */
export function fillTabs(row, tabs, chosen, choose, controls) {
  row.replaceChildren(
    ...tabs.map(({ key, words }) =>
      el(
        "button",
        {
          type: "button",
          role: "tab",
          dataset: { key },
          id: `tab-${key}`,
          tabIndex: key === chosen ? 0 : -1,
          "aria-selected": key === chosen,
          "aria-controls": controls,
          on: { click: () => choose(key) },
        },
        words,
      ),
    ),
  );
}
