// The top of the page: what was found, in plain words, before any chart.
import { type Report, fields, list, number, text } from "./data";
import { h } from "./dom";
import { compact, count, dash } from "./format";

const levels: { readonly [level: string]: { mark: string; heading: string; sentence: string } } = {
  held: { mark: "✓", heading: "Safety held", sentence: "No attack in this run stripped the model's safety training." },
  weakened: { mark: "!", heading: "Safety weakened", sentence: "An attack in this run weakened the model's safety training." },
  broken: { mark: "✕", heading: "Safety broken", sentence: "An attack in this run stripped the model's safety training." },
  unknown: { mark: "?", heading: "No verdict", sentence: "This run has not measured enough to say whether the model's safety holds." },
};

export function header(report: Report): HTMLElement {
  const model = fields(report.model);
  const parameters = number(model.parameters);
  const facts: [string, string | undefined][] = [
    ["Model", text(model.name)],
    ["Architecture", text(model.architecture)],
    ["Parameters", parameters === undefined ? text(model.parameters) : count(parameters)],
    ["Weights", text(model.dtype)],
    ["Created", text(report.created)],
    ["backburn", text(report.version)],
    ["Command", text(report.command)],
  ];
  const shown = facts.filter(([, value]) => value !== undefined);
  return h("header", {},
    h("h1", {}, text(report.title) ?? "backburn report"),
    shown.length > 0 && h("dl", { class: "facts" }, ...shown.map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, name === "Command" ? h("code", {}, value) : value)))));
}

export function verdict(report: Report): HTMLElement {
  const given = fields(report.verdict);
  const level = text(given.level) ?? "unknown";
  const known = Object.prototype.hasOwnProperty.call(levels, level) ? level : "unknown";
  const { mark, heading, sentence } = levels[known]!;
  return h("section", { class: `verdict ${known}`, "aria-labelledby": "verdict" },
    h("span", { class: "mark", "aria-hidden": "true" }, mark),
    h("div", {}, h("h2", { id: "verdict" }, heading), h("p", {}, text(given.sentence) ?? sentence)));
}

export function highlights(report: Report): HTMLElement | undefined {
  const items = list(report.highlights).filter((item) => text(item.label) !== undefined);
  if (items.length === 0) return undefined;
  return h("section", { "aria-labelledby": "highlights" },
    h("h2", { id: "highlights", class: "quiet" }, "In short"),
    h("dl", { class: "highlights" }, ...items.map((item) => h("div", {},
      h("dt", {}, text(item.label)),
      h("dd", { class: "value" }, typeof item.value === "number" ? compact(number(item.value)) : (text(item.value) ?? dash)),
      text(item.note) !== undefined && h("dd", { class: "note" }, text(item.note))))));
}
