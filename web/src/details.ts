// The rest of the page: what models said, what the run cannot tell, and how it was set up.
import { type Fields, type Report, list, number, text, texts } from "./data";
import { h } from "./dom";
import { fixed } from "./format";

const shown_at_first = 6;

function example(item: Fields): HTMLElement {
  const redacted = item.redacted === true;
  const score = number(item.score);
  const kind = text(item.kind);
  const reasons = texts(item.reasons);
  return h("li", { class: "example" },
    h("p", { class: "who" },
      h("span", { class: "model" }, text(item.label) ?? text(item.evaluation) ?? "A model"),
      score !== undefined && h("span", { class: "chip" }, `harm ${fixed(score)}`),
      kind !== undefined && h("span", { class: "chip" }, kind),
      redacted && h("span", { class: "chip warning" }, "redacted")),
    h("p", { class: "said" }, h("strong", {}, "Prompt"), h("span", {}, text(item.prompt) ?? "(not recorded)")),
    h("p", { class: redacted ? "said redacted" : "said" }, h("strong", {}, redacted ? "Answer (redacted)" : "Answer"), h("span", {}, text(item.answer) ?? "(empty)")),
    reasons.length > 0 && h("p", { class: "why" }, `Judge: ${reasons.join("; ")}`));
}

export function examples(report: Report): HTMLElement | undefined {
  const items = list(report.examples);
  if (items.length === 0) return undefined;
  const box = h("ul", { class: "examples" }, ...items.slice(0, shown_at_first).map(example));
  const section = h("section", { "aria-labelledby": "examples" },
    h("h2", { id: "examples" }, "What the models said"),
    items.some((item) => item.redacted === true) && h("p", {}, "Harmful answers are redacted: the report keeps their score, not their words."),
    box);
  if (items.length > shown_at_first) {
    const button = h("button", { type: "button" }, `Show all ${items.length} examples`);
    button.addEventListener("click", () => {
      const rest = items.slice(shown_at_first).map(example);
      box.append(...rest);
      button.remove();
      rest[0]?.setAttribute("tabindex", "-1");
      rest[0]?.focus();
    });
    section.append(button);
  }
  return section;
}

export function limits(report: Report): HTMLElement | undefined {
  const items = texts(report.limits);
  if (items.length === 0) return undefined;
  return h("section", { "aria-labelledby": "limits" },
    h("h2", { id: "limits" }, "What this report does not show"),
    h("ul", {}, ...items.map((item) => h("li", {}, item))));
}

export function config(report: Report): HTMLElement | undefined {
  const yaml = text(report.config);
  if (yaml === undefined) return undefined;
  return h("section", { "aria-labelledby": "config" },
    h("h2", { id: "config" }, "Configuration"),
    h("details", {}, h("summary", {}, "Show the recipe of this run"), h("pre", { tabindex: "0" }, h("code", {}, yaml))));
}
