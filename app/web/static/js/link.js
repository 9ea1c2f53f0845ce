/**
 * What is on screen, as the address of the page: `/?adapter=people&compare=default&task=saliency&compute=0.6`.
 *
 * @typedef {{adapter: string, compare: string, task: string, compute: number}} Link
 *   adapter, compare: NAME or NAME@REVISION, or nothing; task: or `all`, or nothing; compute: 0..1
 */

/** @returns {Link} what the address asks for */
export function readLink() {
  const query = new URLSearchParams(location.search);
  const text = (/** @type {string} */ name) => query.get(name) ?? "";
  const compute = Number(query.get("compute") ?? 1);
  return {
    adapter: text("adapter"),
    compare: text("compare"),
    task: text("task"),
    compute: compute > 0 && compute < 1 ? compute : 1,
  };
}

/** Let the address say what is on screen, without a step back in the browser's history. @param {Link} link */
export function writeLink({ adapter, compare, task, compute }) {
  const query = [
    ...Object.entries({ adapter, compare, task }).filter(([, value]) => value),
    ...(compute < 1 ? [["compute", String(compute)]] : []),
  ].map(([name, value]) => `${name}=${encodeURIComponent(value).replace("%40", "@")}`);
  const wanted = query.length ? `?${query.join("&")}` : "";
  if (wanted !== location.search) history.replaceState(history.state, "", `${location.pathname}${wanted}${location.hash}`);
}
