/** The API reference, made from the server's own description. */

import { byId, el } from "./dom.js";

/** @typedef {Record<string, any>} Json */

/** The name behind a reference to a schema. @param {string} ref */
const nameOf = (ref) => ref.split("/").at(-1) ?? "";

/**
 * A schema in a few words, with links to the documents it names.
 * @param {Json|undefined} schema
 * @returns {(Node|string)[]}
 */
function inWords(schema) {
  if (!schema) return [];
  if (schema.$ref) return [el("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices && !schema.enum) {
    return choices
      .filter((/** @type {Json} */ choice) => choice.type !== "null")
      .flatMap((/** @type {Json} */ choice, /** @type {number} */ at) => [...(at ? [" or "] : []), ...inWords(choice)]);
  }
  if (schema.type === "array") return ["list of ", ...inWords(schema.items)];
  if (schema.properties) {
    const fields = Object.entries(schema.properties).flatMap(([name, field], at) => [
      at ? ", " : " ",
      el("code", {}, name),
      ": ",
      ...inWords(field),
    ]);
    return ["{", ...fields, " }"];
  }
  const extras = ["format", "pattern", "minimum", "maximum", "default"]
    .filter((key) => schema[key] !== undefined)
    .map((key) => `${key} ${JSON.stringify(schema[key])}`);
  const values = schema.enum?.filter((/** @type {any} */ value) => value !== null);
  const kind = values?.map((/** @type {any} */ value) => JSON.stringify(value)).join(", ") ?? schema.type;
  return [[kind, ...extras].filter(Boolean).join("; ")];
}

/** Text in which backticks mark code. @param {string|undefined} text @returns {(Node|string)[]} */
function marked(text) {
  return (text ?? "").split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

/** @param {any} value */
const code = (value) => el("pre", { tabIndex: 0 }, JSON.stringify(value, null, 2));

/**
 * Kinds of body, each with its schema.
 * @param {Json|undefined} content
 */
function bodies(content) {
  return Object.entries(content ?? {}).flatMap(([media, { schema }], at) => [
    at ? el("br") : "",
    el("code", {}, media),
    " ",
    ...inWords(schema),
  ]);
}

/**
 * A list of terms and what they mean; nothing where there are none.
 * @param {string} title
 * @param {[string, (Node|string)[]][]} rows
 */
function list(title, rows) {
  if (!rows.length) return [];
  const entries = rows.flatMap(([term, words]) => [el("dt", {}, el("code", {}, term)), el("dd", {}, ...words)]);
  return [el("h3", {}, title), el("dl", {}, ...entries)];
}

/** @param {string} text @returns {string} quoted for a shell */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * A request as something to run: with the documented examples, and files to put in place.
 * @param {string} path
 * @param {string} method
 * @param {Json} about
 * @param {Json} schemas
 */
function curl(path, method, about, schemas) {
  const named = path.replaceAll(/\{(\w+)\}/g, (_, name) => (name === "version" ? "1" : "default"));
  const content = about.requestBody?.content ?? {};
  const [example] = schemas[nameOf(content["application/json"]?.schema?.$ref ?? "")]?.examples ?? [];
  const needsFile = content["multipart/form-data"]?.schema?.required?.[0];
  const body = needsFile
    ? [`-F ${needsFile}=@${needsFile === "file" ? "set.safetensors" : "photo.jpg"}`]
    : content["application/json"]
      ? ["-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(example ?? {}))}`]
      : [];
  const plain = method === "get" || (method === "post" && body.length);
  return [
    "curl --fail-with-body -sS",
    ...(plain ? [] : [`-X ${method.toUpperCase()}`]),
    ...(about.security ? ['-H "Authorization: Bearer $MTLORA_KEY"'] : []),
    ...body,
    quoted(new URL(named.slice(1), new URL("./", location.href)).href),
  ].join(" ");
}

/** @param {string} text as a box, with a button that copies it */
function toCopy(text) {
  const box = el("pre", { tabIndex: 0 }, text);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(box); // no clipboard on plain http beyond this machine
      button.textContent = "Selected; press Ctrl+C";
    }
  };
  const button = el("button", { type: "button", class: "quiet", on: { click: copy } }, "Copy");
  return [el("h3", {}, "On the command line"), box, el("p", {}, button)];
}

/**
 * One request that the server answers.
 * @param {string} path
 * @param {string} method
 * @param {Json} about
 * @param {Json} schemas
 */
function operation(path, method, about, schemas) {
  const parameters = (about.parameters ?? []).map((/** @type {Json} */ p) => [
    p.name,
    [
      `${p.in}${p.required ? ", needed" : ""}: `,
      ...inWords(p.schema),
      ...(p.description ? ["; ", ...marked(p.description)] : []),
    ],
  ]);
  const responses = Object.entries(about.responses).map(([status, response]) => [
    status,
    [...marked(response.description), " ", ...bodies(response.content)],
  ]);
  const body = bodies(about.requestBody?.content);
  return el(
    "details",
    { id: `${method}${path}` },
    el(
      "summary",
      {},
      el("span", { class: "method" }, method.toUpperCase()),
      el("code", {}, path),
      el("span", { class: "what" }, ...marked(about.summary)),
    ),
    el(
      "div",
      {},
      about.description ? el("p", {}, ...marked(about.description)) : "",
      ...toCopy(curl(path, method, about, schemas)),
      ...list("Parameters", parameters),
      ...(body.length ? [el("h3", {}, "Body"), el("p", {}, ...body)] : []),
      ...list("Answers", /** @type {any} */ (responses)),
    ),
  );
}

/**
 * One document that requests or answers are made of.
 * @param {string} name
 * @param {Json} schema
 */
function schemaBox(name, schema) {
  const { examples, ...rest } = schema;
  return el(
    "details",
    { id: `schema-${name}` },
    el("summary", {}, el("code", {}, name), el("span", { class: "what" }, ...marked(schema.description))),
    el("div", {}, ...(examples ?? []).flatMap((/** @type {any} */ e) => [el("h3", {}, "Example"), code(e)]), code(rest)),
  );
}

/** Open what the address names, also when it changes. */
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(named instanceof HTMLDetailsElement)) return;
  named.open = true;
  named.scrollIntoView();
}

async function show() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: status ${answer.status}`);
  const description = await answer.json();
  byId("title").textContent = `${description.info.title} ${description.info.version}`;
  const operations = Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => operation(path, method, about, description.components?.schemas ?? {})),
  );
  byId("operations").replaceChildren(...operations);
  const schemas = Object.entries(description.components?.schemas ?? {});
  byId("schemas").replaceChildren(...schemas.map(([name, schema]) => schemaBox(name, schema)));
  addEventListener("hashchange", openNamed);
  openNamed();
}

show().catch((error) => byId("operations").replaceChildren(`The description cannot be read: ${error.message}`));
