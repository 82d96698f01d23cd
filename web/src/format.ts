// Numbers as people read them. An absent number is a dash, everywhere.
export const dash = "–";

export function fixed(value: number | undefined, digits = 1): string {
  return value === undefined ? dash : value.toFixed(digits).replace("-", "−");
}

/** A share of 1 as a percentage. */
export function percent(value: number | undefined): string {
  if (value === undefined) return dash;
  const scaled = value * 100;
  return `${compact(Math.abs(scaled) < 10 ? Number(scaled.toPrecision(2)) : Math.round(scaled))}%`;
}

export function superscript(exponent: number): string {
  return String(exponent).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)] ?? ""));
}

/** Three significant digits; powers of ten where plain digits would be hard to read. */
export function compact(value: number | undefined): string {
  if (value === undefined) return dash;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) {
    const exponent = Math.floor(Math.log10(size));
    return `${(value / 10 ** exponent).toFixed(1)} × 10${superscript(exponent)}`.replace("-", "−");
  }
  return Number(value.toPrecision(3)).toLocaleString("en-US", { maximumFractionDigits: 6 }).replace("-", "−");
}

export function count(value: number | undefined): string {
  return value === undefined ? dash : Math.round(value).toLocaleString("en-US");
}

export function plural(value: number, one: string, many: string): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
