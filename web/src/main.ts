// Reads the data block and builds the page from its sections, in the order in which a release engineer asks.
import { attacks } from "./attacks";
import { certificate } from "./certificate";
import { follow_colors } from "./chart";
import { type Report, fields, text } from "./data";
import { config, examples, limits } from "./details";
import { h } from "./dom";
import { models } from "./models";
import { header, highlights, verdict } from "./overview";
import { training } from "./training";

const sections = [verdict, highlights, attacks, models, certificate, training, examples, limits, config];

/** One broken section must not hide the others: it becomes a note, and the error goes to the console. */
function build(section: (report: Report) => HTMLElement | undefined, report: Report): HTMLElement | undefined {
  try {
    return section(report);
  } catch (error) {
    console.error(error);
    document.documentElement.dataset.error = String(error);
    return h("p", { class: "empty" }, "A part of this report could not be shown: its data has an unexpected form.");
  }
}

function contents(parts: HTMLElement[]): HTMLElement | undefined {
  const headings = parts.flatMap((part) => [...part.querySelectorAll("h2[id]:not(.quiet):not(#verdict)")]);
  if (headings.length < 2) return undefined;
  return h("nav", { "aria-label": "Contents" }, h("ul", {}, ...headings.map((heading) =>
    h("li", {}, h("a", { href: `#${heading.id}` }, heading.textContent ?? "")))));
}

function main(): void {
  const page = document.getElementById("report");
  if (!page) return;
  let report: Report = {};
  let unreadable = false;
  try {
    report = fields(JSON.parse(document.getElementById("report-data")?.textContent ?? "{}")) as Report;
  } catch (error) {
    console.error(error);
    unreadable = true;
  }
  document.title = text(report.title) ?? "backburn report";
  const parts = sections.map((section) => build(section, report)).filter((part): part is HTMLElement => part !== undefined);
  const body = h("main", { id: "content", tabindex: "-1" }, ...parts);
  const top = build(header, report);
  const empty = parts.length <= 1;
  if (unreadable) body.append(h("p", { class: "empty" }, "The data block of this report is damaged and could not be read. Write the report again with `backburn report`."));
  else if (empty) body.append(h("p", { class: "empty" }, "Nothing has been measured yet. Charts and tables appear here as the run's stages finish."));
  const nav = contents(parts);
  if (nav) parts[parts.length > 1 && parts[1]?.querySelector("#highlights") ? 1 : 0]?.after(nav);
  page.replaceChildren(...(top ? [top] : []), body, h("footer", {}, "Made by backburn. This file is complete: it loads nothing from the network."));
  follow_colors();
  document.documentElement.dataset.rendered = unreadable ? "unreadable" : "yes";
}

main();
