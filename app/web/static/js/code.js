/** The last request as something to run elsewhere, and its results as files. */

import { key, predictFile, predictPath } from "./api.js";
import { byId, el, fillTabs, save, tabKeys, taskWords, toast } from "./dom.js";

/** @typedef {import("./bench.js").Run} Run */

/** @param {string} text @returns {string} quoted for a shell */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** @param {Run} run @returns {string} absolute address of what was asked */
const address = (run) => new URL(predictPath(run.wanted), document.baseURI).href;

/** @param {Run} run @returns {string} what tells it from the one it is compared with */
const labelOf = ({ wanted }) => `${wanted.adapter}${wanted.compute < 1 ? `-${wanted.compute}` : ""}`;

/** @param {Run} run @returns {string} */
const typeOf = (run) => (run.photo.blob.type.startsWith("image/") ? run.photo.blob.type : "image/jpeg");

/** @param {Run[]} runs one, or two that are compared @returns {string} */
function curl(runs) {
  const [{ photo }] = runs;
  const fetched = photo.address ? [`curl -fsSo ${quoted(photo.name)} ${quoted(photo.address)}`] : [];
  const asked = runs.map(ask);
  return [...fetched, ...asked].join("\n");

  /** @param {Run} run */
  function ask(run) {
    const file = runs.length > 1 ? `answer-${labelOf(run)}.json` : "answer.json";
    const lines = [
      `curl --fail-with-body -sS --data-binary ${quoted(`@${run.photo.name}`)}`,
      `  -H ${quoted(`Content-Type: ${typeOf(run)}`)}`,
      key.get() && '  -H "Authorization: Bearer $MTLORA_KEY"',
      `  ${quoted(address(run))} -o ${file}`,
    ];
    return lines.filter(Boolean).join(" \\\n");
  }
}

/** @param {Run[]} runs one, or two that are compared @returns {string} */
function python(runs) {
  const [run] = runs;
  const many = runs.length > 1;
  const headers = [
    `"Content-Type": "${typeOf(run)}"`,
    key.get() && '"Authorization": f"Bearer {os.environ[\'MTLORA_KEY\']}"',
  ];
  const asking = `request = urllib.request.Request(
    ${many ? "url" : JSON.stringify(address(run))},
    data=photo,
    headers={${headers.filter(Boolean).join(", ")}},
)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)
for task, found in answer["tasks"].items():
    Path(f"${many ? "{adapter}-" : ""}{task}.png").write_bytes(base64.b64decode(found["png"]))
    print(${many ? "adapter, " : ""}task, found["encoding"], [c["name"] for c in found.get("classes", [])])
`;
  const urls = runs.map((r) => `    ${JSON.stringify(labelOf(r))}: ${JSON.stringify(address(r))},\n`).join("");
  const each = `urls = {\n${urls}}\nfor adapter, url in urls.items():\n${asking.replaceAll(/^(?=.)/gm, "    ")}`;
  return `import base64
import json${key.get() ? "\nimport os" : ""}
import urllib.request
from pathlib import Path

photo = Path(${JSON.stringify(run.photo.name)}).read_bytes()
${many ? each : asking}`;
}

const LANGUAGES = /** @type {Record<string, (runs: Run[]) => string>} */ ({ curl, Python: python });

/** The panel with the code. */
export class CodePanel {
  constructor() {
    this.language = "curl";
    /** @type {Run[]} */
    this.runs = [];
    tabKeys(byId("code-tabs"));
    byId("copy-code").addEventListener("click", () => this.#copy());
    this.show([]);
  }

  /** @param {Run[]} runs on screen */
  show(runs) {
    this.runs = runs;
    const tabs = Object.keys(LANGUAGES).map((words) => ({ key: words, words }));
    fillTabs(
      byId("code-tabs"),
      tabs,
      this.language,
      (language) => {
        this.language = language;
        this.show(this.runs);
      },
      "code",
    );
    byId("code").textContent = runs.length ? LANGUAGES[this.language](runs) : "# after the first run";
  }

  async #copy() {
    const text = byId("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      toast("Copied.");
    } catch {
      const range = document.createRange(); // no clipboard on plain http beyond this machine
      range.selectNodeContents(byId("code"));
      getSelection()?.removeAllRanges();
      getSelection()?.addRange(range);
      toast("Selected; press Ctrl+C to copy.");
    }
  }
}

/**
 * Buttons that save what was found.
 * @param {Run} run
 * @param {import("./picture.js").FrameMaps[]} frames on screen
 * @param {{of: string, picture: (maps: import("./picture.js").FrameMaps) => Promise<Blob>,
 *   failed: (error: unknown) => void}} page  of: the side that the files are of; picture: PNG of what is on screen
 * @returns {HTMLElement[]}
 */
export function downloadButtons(run, frames, { of, picture, failed }) {
  const stem = `${run.photo.name.replace(/\.[^.]*$/, "")}-${run.answer.adapter.name}`;
  /** @param {string} words @param {string} title @param {() => Promise<void>|void} act */
  const button = (words, title, act) =>
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        title,
        "aria-label": `Download ${title}`,
        on: {
          click: async () => {
            try {
              await act();
            } catch (error) {
              failed(error);
            }
          },
        },
      },
      words,
    );
  const one = frames.length === 1 ? frames[0] : null;
  const map = one && run.maps.get(one.task);
  const { blob } = run.photo;
  const exact = { ...run.wanted, adapter: run.ref };
  return [
    el("span", { class: "hint", "aria-hidden": true }, `Download${of}`),
    ...(map
      ? [
          button("map", `${taskWords(map.task)} map as PNG, pixel value = result`, () =>
            save(map.png, `${stem}-${map.task}.png`),
          ),
        ]
      : []),
    ...(one && (one.a ?? one.b)
      ? [
          button("picture", "the picture as seen, PNG", async () =>
            save(await picture(one), `${stem}-${one.task}-seen.png`),
          ),
        ]
      : []),
    button("zip", "all maps as zip", async () => save(await predictFile(blob, exact, "zip"), `${stem}.zip`)),
    button("npz", "all maps as npz, NumPy arrays", async () =>
      save(await predictFile(blob, exact, "npz"), `${stem}.npz`),
    ),
    button("JSON", "the answer as JSON", () =>
      save(new Blob([JSON.stringify(run.answer, null, 1)], { type: "application/json" }), `${stem}.json`),
    ),
  ];
}
