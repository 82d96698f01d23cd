// Builds the report's page into one file, dist/report.html, with an empty data block that the program fills.
// With `--sample` it also writes sample.html beside the page's sources: the page with sample.json in it, to look at.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { buildSync } from "esbuild";

const size_limit = 200 * 1024;
const here = (path) => new URL(path, import.meta.url);
const bundle = (entry) =>
  buildSync({
    entryPoints: [here(entry).pathname],
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2020",
    legalComments: "none", // the licence goes into the page whole, below
    charset: "utf8",
    write: false,
  }).outputFiles[0].text.trim();

const script = bundle("src/main.ts");
const style = bundle("src/style.css");
const licence = readFileSync(here("node_modules/uplot/LICENSE"), "utf8").trim();

// Only this very script and this very style sheet may run: a script that data smuggled in would not, and nothing may be fetched.
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy =
  `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; ` +
  `base-uri 'none'; form-action 'none'`;

const parts = { POLICY: policy, STYLE: style, SCRIPT: script, LICENCE: licence };
const page = readFileSync(here("src/page.html"), "utf8").replace(/\{\{([A-Z]+)\}\}/g, (_, name) => parts[name]);

if (Buffer.byteLength(page) > size_limit) throw new Error(`the page has ${Buffer.byteLength(page)} bytes, more than ${size_limit}`);
mkdirSync(here("dist"), { recursive: true });
writeFileSync(here("dist/report.html"), page);
console.log(`dist/report.html: ${Buffer.byteLength(page)} bytes`);

if (process.argv.includes("--sample")) {
  const data = readFileSync(here("sample.json"), "utf8").replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  writeFileSync(here("sample.html"), page.replace('id="report-data">{}<', () => `id="report-data">${data}<`));
  console.log("sample.html: the page with sample.json");
}
