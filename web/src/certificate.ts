// What can be said about any reward, without running an attack.
import { type Fields, type Report, fields, list, number, text, texts } from "./data";
import { type Series, chart } from "./chart";
import { h, table } from "./dom";
import { compact, count, percent, plural } from "./format";

/** A probability that a double cannot tell from zero is drawn here. */
const floor = 1e-12;

const split_names: { readonly [split: string]: string } = { train: "trained on", heldout: "held out", attack: "attacked" };

interface Ranked { id: string; split: string; p: number; rank: number }

function ranked_rows(certificate: Fields): Ranked[] {
  return list(certificate.rows)
    .flatMap((row, i) => {
      const p = number(row.p);
      return p === undefined ? [] : [{ id: text(row.id) ?? `prompt ${i + 1}`, split: text(row.split) ?? "all", p: Math.max(p, floor) }];
    })
    .sort((a, b) => a.p - b.p)
    .map((row, i) => ({ ...row, rank: i + 1 }));
}

function forecast(certificate: Fields): HTMLElement | undefined {
  const given = fields(certificate.forecast);
  const groups = number(given.groups);
  const seen = number(given.with_differential);
  if (groups === undefined || seen === undefined) return undefined;
  const bound = number(given.bound);
  const p_value = number(given.p_value);
  const holds = given.holds === true ? "The forecast held. " : given.holds === false ? "The forecast failed. " : "";
  const share = groups > 0 ? ` (${percent(seen / groups)})` : "";
  const allowed = bound === undefined ? "" : ` The certificate allows a probability of at most ${compact(bound)} per group.`;
  const test = p_value === undefined ? "" : ` Exact one-sided binomial test: p = ${compact(p_value)}.`;
  return h("p", { class: given.holds === false ? "forecast failed" : "forecast" }, h("strong", {}, holds),
    `In the simulated attacks, ${count(seen)} of ${plural(groups, "group", "groups")}${share} gave the attacker anything to learn from.${allowed}${test}`);
}

function scope_list(heading: string, items: string[]): HTMLElement | false {
  return items.length > 0 && h("div", {}, h("h3", {}, heading), h("ul", {}, ...items.map((item) => h("li", {}, item))));
}

export function certificate(report: Report): HTMLElement | undefined {
  const given = fields(report.certificate);
  if (Object.keys(given).length === 0) return undefined;
  const rows = ranked_rows(given);
  const splits = [...new Set(rows.map((row) => row.split))].sort();
  const series: Series[] = splits.map((split, i) => ({
    label: `${Object.prototype.hasOwnProperty.call(split_names, split) ? split_names[split] : split} (${plural(rows.filter((row) => row.split === split).length, "prompt", "prompts")})`,
    color: i + 2,
    kind: "dots",
    hollow: i % 2 === 0,
    points: rows.filter((row) => row.split === split).map((row) => ({ x: row.rank, y: row.p })),
  }));
  const refusal = text(given.canonical_refusal);
  const temperatures = list(given.temperatures);
  const worst = rows[rows.length - 1];
  const samples = number(given.num_generations);
  const prompts = number(given.prompts_per_step);
  const applies = scope_list("It covers", texts(given.applies));
  const does_not_apply = scope_list("It does not cover", texts(given.does_not_apply));
  return h("section", { "aria-labelledby": "certificate" },
    h("h2", { id: "certificate" }, "Certificate: what any reward could learn from"),
    h("p", {}, "Reinforcement learning needs two answers to one prompt that differ. Here p is the exact probability that the model answers " +
      "anything but its one fixed refusal; the smaller p is, the longer every attacker waits for a first signal, whatever the reward."),
    refusal !== undefined && h("p", {}, "The fixed refusal: ", h("q", {}, refusal)),
    forecast(given),
    rows.length > 0 && chart({
      title: "Probability of any other answer, per prompt",
      description: worst ? `${plural(rows.length, "prompt", "prompts")}; the weakest, ${worst.id}, has p = ${compact(worst.p)}.` : "",
      x_label: "Prompts, from the strongest to the weakest",
      y_label: "p (log scale)",
      x_name: (rank) => rows[rank - 1]?.id ?? `prompt ${rank}`,
      series,
      log: true,
      height: 260,
    }),
    rows.some((row) => row.p === floor) && h("p", {}, `A p below ${compact(floor)} is shown as ${compact(floor)}.`),
    temperatures.length > 0 && table(
      samples === undefined
        ? "By the attacker's sampling temperature"
        : `By the attacker's sampling temperature (${samples} answers a group${prompts === undefined ? "" : `, ${prompts} prompts a step`})`,
      [
        { name: "Temperature", cell: (row: Fields) => compact(number(row.temperature)), numeric: true },
        { name: "p, weakest prompt", cell: (row) => compact(number(row.p_max)), numeric: true },
        { name: "p, mean", cell: (row) => compact(number(row.p_mean)), numeric: true },
        { name: "Signal in a group, at most", cell: (row) => compact(number(row.signal_per_group_max)), numeric: true },
        { name: "Steps to a first signal, at least", cell: (row) => compact(number(row.expected_steps_to_signal)), numeric: true },
      ], temperatures),
    (applies || does_not_apply) && h("div", { class: "scope" }, applies, does_not_apply));
}
