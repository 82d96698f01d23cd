// How the runs went, as small multiples: first all attacks on shared axes, then each training stage.
import { type Fields, type Report, label_of, list } from "./data";
import { chart, legend } from "./chart";
import { h } from "./dom";
import { series_of } from "./attacks";

const attack_metrics: [string, string][] = [
  ["reward", "Reward"],
  ["reward_std", "Reward spread within groups"],
  ["frac_reward_zero_std", "Share of groups without signal"],
  ["kl", "KL from the attacked model"],
  ["entropy", "Entropy (nats per token)"],
  ["completion_length", "Answer length (tokens)"],
];

const stage_metrics: [string, string][] = [
  ["loss", "Loss"],
  ["reward", "Reward"],
  ["reward_std", "Reward spread within groups"],
  ["kl", "KL"],
  ["entropy", "Entropy (nats per token)"],
  ["completion_length", "Answer length (tokens)"],
  ["grad_norm", "Gradient norm"],
];

function multiples(items: { item: Fields; color: number; label: string }[], metrics: [string, string][]): HTMLElement | undefined {
  const charts = metrics.flatMap(([key, title]) => {
    const series = items.map(({ item, color, label }) => series_of(list(item.steps), key, color, label)).filter((s) => s.points.length > 0);
    const description = series.map((s) => `${s.label}: ${s.points.length} steps`).join("; ");
    return series.length === 0 ? [] : [chart({ title, description, x_label: "Step", series, height: 170, legend: [] })];
  });
  return charts.length === 0 ? undefined : h("div", { class: "multiples" }, ...charts);
}

export function training(report: Report): HTMLElement | undefined {
  const attacks = list(report.attacks).map((item, i) => ({ item, color: i, label: label_of(item, `Attack ${i + 1}`) }));
  const attack_charts = multiples(attacks, attack_metrics);
  const stages = list(report.training).map((item, i) => ({ item, color: i + attacks.length, label: label_of(item, `Stage ${i + 1}`) }));
  const stage_charts = stages.map((stage) => ({ label: stage.label, charts: multiples([stage], stage_metrics) })).filter((s) => s.charts);
  if (!attack_charts && stage_charts.length === 0) return undefined;
  return h("section", { "aria-labelledby": "training" },
    h("h2", { id: "training" }, "Training curves"),
    attack_charts && h("h3", {}, "Attacks"),
    attack_charts && legend(attacks.map(({ color, label }) => ({ label, color, kind: "line" }))),
    attack_charts,
    ...stage_charts.flatMap(({ label, charts }) => [h("h3", {}, label), charts]));
}
