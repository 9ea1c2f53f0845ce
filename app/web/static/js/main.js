/** The page: two views, and the list of adapter sets that both show. */

import { ApiError, listSets, onUnauthorized } from "./api.js";
import { Bench } from "./bench.js";
import { askKey, showProblem, wireKeyDialog } from "./dialogs.js";
import { byId } from "./dom.js";
import { SetsView } from "./sets.js";

const VIEWS = ["try", "sets"];

/** @returns {string} the view that the address names */
const view = () => (VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0]);

function showView() {
  for (const name of VIEWS) {
    byId(`view-${name}`).hidden = name !== view();
    if (name === view()) byId(`nav-${name}`).setAttribute("aria-current", "page");
    else byId(`nav-${name}`).removeAttribute("aria-current");
  }
}

/** Ask for the sets and show them; a key that may not list them can still predict. */
async function refresh() {
  try {
    const listed = await listSets();
    bench.setSets(listed);
    setsView.show(listed);
    byId("set-count").textContent = String(listed.adapters.length);
    byId("set-count").hidden = false;
    byId("sets-problem").hidden = true;
  } catch (error) {
    showProblem(byId("sets-problem"), error, refresh);
    if (!(error instanceof ApiError && error.status === 403)) showProblem(byId("problem"), error, () => start());
    bench.setSets({ default: "", adapters: [] });
    if (!(error instanceof ApiError && error.status === 403)) throw error;
  }
}

/** @returns {string} NAME or NAME@REVISION that a link such as `/?adapter=people` asks for, or nothing */
const linked = () => new URLSearchParams(location.search).get("adapter") ?? "";

const bench = new Bench(
  () => view() === "try" && !document.querySelector("dialog[open]"),
  () => void refresh().catch(() => {}),
  linked(),
);
const setsView = new SetsView({
  refresh: () => refresh().catch(() => {}),
  use: (ref) => {
    location.hash = "try";
    return bench.use(ref);
  },
});

/** @param {boolean} [again] ask once more about the photo that is there; at first it was asked about when it came */
async function start(again = true) {
  byId("problem").hidden = true;
  try {
    await refresh();
  } catch {
    return; // said on the page, with a button to try again
  }
  if (again && bench.photo) await bench.run();
  else await bench.photos.takeFirstSample();
}

onUnauthorized(askKey);
wireKeyDialog();
byId("key-button").addEventListener("click", async () => {
  if (await askKey("")) await start();
});
addEventListener("hashchange", () => {
  showView();
  if (view() === "sets") refresh().catch(() => {});
});
showView();
start(false);
