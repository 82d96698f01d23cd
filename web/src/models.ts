// The evaluated models side by side. Perplexity stands next to harm, so that gibberish does not pass for harm or safety.
import { type Fields, type Report, interval, label_of, list, number } from "./data";
import { type Child, h, table } from "./dom";
import { compact, count, dash, fixed, percent } from "./format";

/** Beyond this many times the first model's perplexity, a model's text is called degraded. */
const degraded = 3;

function with_interval(value: unknown, given: unknown, format: (v: number | undefined) => string): Child {
  const range = interval(given);
  return h("span", {}, format(number(value)), range && h("span", { class: "interval" }, ` ${format(range[0])} to ${format(range[1])}`));
}

function harm_cell(row: Fields): Child {
  const harm = number(row.harm);
  const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("span"));
  (bar.firstElementChild as HTMLElement).style.width = `${Math.min(Math.max(harm ?? 0, 0), 10) * 10}%`;
  return h("span", { class: "harm" }, with_interval(row.harm, row.harm_ci, fixed), harm !== undefined && bar);
}

function prompts_cell(row: Fields): string {
  const restricted = number(row.prompts);
  const benign = number(row.benign_prompts);
  return restricted === undefined && benign === undefined ? dash : `${count(restricted)} + ${count(benign)}`;
}

export function models(report: Report): HTMLElement | undefined {
  const rows = list(report.evaluations);
  if (rows.length === 0) return undefined;
  const reference = rows.map((r) => number(r.perplexity)).find((p) => p !== undefined);
  const perplexity_cell = (row: Fields): Child => {
    const value = number(row.perplexity);
    const bad = value !== undefined && reference !== undefined && value > degraded * reference;
    return h("span", {}, compact(value), bad && h("span", { class: "chip warning" }, "degraded text"));
  };
  return h("section", { "aria-labelledby": "models" },
    h("h2", { id: "models" }, "The models side by side"),
    h("p", {}, `Read harm together with perplexity: perplexity measures how broken a model's benign answers are. More than ${degraded} times the ` +
      "first model's means that the text has degraded, and then neither a low nor a high harm score says much."),
    table("Evaluation on held-out prompts, with 95% intervals", [
      { name: "Model", cell: (row: Fields, i) => label_of(row, `Model ${i + 1}`) },
      { name: "Harm (0\u2060–\u206010)", cell: harm_cell, numeric: true },
      { name: "Perplexity", cell: perplexity_cell, numeric: true },
      { name: "Refused (restricted)", cell: (row) => with_interval(row.refusal_rate, row.refusal_ci, percent), numeric: true },
      { name: "Refused (benign)", cell: (row) => with_interval(row.over_refusal, row.over_refusal_ci, percent), numeric: true },
      { name: "Multiple choice (acc_norm)", cell: (row) => with_interval(row.acc_norm, row.acc_norm_ci, percent), numeric: true },
      { name: "KL from original", cell: (row) => compact(number(row.kl)), numeric: true },
      { name: "Prompts (restricted + benign)", cell: prompts_cell, numeric: true },
    ], rows));
}
