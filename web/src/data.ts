// The report's data as the program writes it. Every field may be absent or null, or of the wrong kind in an old run
// folder: read fields with the functions below, which give undefined (or an empty list) instead of failing.

export type Fields = { readonly [key: string]: unknown };

/** What `report-data` holds. `Fields` marks the parts whose keys the section that shows them names. */
export interface Report {
  title?: string;
  created?: string;
  version?: string;
  command?: string;
  model?: Fields; // name, architecture, parameters, dtype
  verdict?: Fields; // level: held | weakened | broken | unknown; sentence
  highlights?: Fields[]; // label, value, note
  attacks?: Fields[]; // name, label, steps[step, harm, reward, …], heldout[step, harm, harm_ci], collapse_step, max_steps
  training?: Fields[]; // name, label, steps[step, loss, …]
  evaluations?: Fields[]; // name, label, harm, harm_ci, refusal_rate, …, perplexity, kl, acc_norm, acc_norm_ci, prompts, benign_prompts
  certificate?: Fields; // canonical_refusal, temperatures[], rows[id, split, p], forecast, applies[], does_not_apply[]
  examples?: Fields[]; // evaluation, label, prompt, answer, score, kind, reasons[], redacted
  limits?: string[];
  config?: string; // YAML
}

export function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

export function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.filter((v) => typeof v === "object" && v !== null).map(fields) : [];
}

export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(text).filter((v): v is string => v !== undefined) : [];
}

export function text(value: unknown): string | undefined {
  if (typeof value === "string") return value.trim() === "" ? undefined : value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return undefined;
}

export function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A confidence interval [low, high]. */
export function interval(value: unknown): [number, number] | undefined {
  if (!Array.isArray(value)) return undefined;
  const low = number(value[0]);
  const high = number(value[1]);
  return low === undefined || high === undefined ? undefined : [low, high];
}

/** The label to show for a named thing. */
export function label_of(item: Fields, otherwise: string): string {
  return text(item.label) ?? text(item.name) ?? otherwise;
}
