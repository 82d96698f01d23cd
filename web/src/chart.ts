// Charts: uPlot draws them; this file gives each one a legend, a readout under the pointer, and its data as a table.
import uPlot from "uplot";
import { h, lazy_details, table } from "./dom";
import { compact, superscript } from "./format";

export interface Series {
  label: string;
  /** Which colour: the same number is the same attack in every chart. */
  color: number;
  points: { x: number; y: number; interval?: [number, number] }[];
  /** line: joined by a line; marks: single diamonds, with their intervals; dots: single discs. */
  kind: "line" | "marks" | "dots";
  hollow?: boolean;
}

/** A series without its points; `muted` for an entry that stands for several colours. */
export type LegendEntry = Pick<Series, "label" | "kind" | "hollow"> & { color: number | "muted" };

export interface ChartSpec {
  title: string;
  /** What the chart shows, for those who cannot see it. */
  description: string;
  x_label: string;
  y_label?: string;
  series: Series[];
  /** Fixed range; otherwise from zero (or the least value) to the greatest. */
  y_range?: [number, number];
  log?: boolean;
  threshold?: { value: number; label: string };
  height: number;
  /** What the data table and the readout call the point at `x`. */
  x_name?: (x: number) => string;
  /** Instead of an entry for each series; none where a group of charts shares one legend. */
  legend?: LegendEntry[];
}

const dashes = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const dash_of = (color: number): number[] => dashes[Math.floor(color / 2) % dashes.length] ?? [];
const palette_size = 6;
const redraws = new Set<() => void>();

function css_color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const series_color = (color: number): string => css_color(`--series-${color % palette_size}`);

function swatch(series: LegendEntry): SVGElement {
  const make = (tag: string, attributes: Record<string, string>): SVGElement => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag) as SVGElement;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const color = series.color === "muted" ? "var(--muted)" : `var(--series-${series.color % palette_size})`;
  const svg = make("svg", { width: "26", height: "12", "aria-hidden": "true" });
  if (series.kind === "line") {
    svg.append(make("line", { x1: "0", y1: "6", x2: "26", y2: "6", stroke: color, "stroke-width": "2.5", "stroke-dasharray": series.color === "muted" ? "" : dash_of(series.color).join(" ") }));
  } else if (series.kind === "marks") {
    svg.append(make("path", { d: "M13 0V12M13 2L17 6L13 10L9 6Z", fill: color, stroke: color, "stroke-width": "1.5" }));
  } else {
    svg.append(make("circle", { cx: "13", cy: "6", r: "3.5", fill: series.hollow ? "none" : color, stroke: color, "stroke-width": "1.5" }));
  }
  return svg;
}

export function legend(series: LegendEntry[]): HTMLElement {
  return h("ul", { class: "legend" }, ...series.map((s) => h("li", {}, swatch(s), h("span", {}, s.label))));
}

function y_bounds(spec: ChartSpec): [number, number] {
  if (spec.y_range) return spec.y_range;
  let low = Infinity;
  let high = -Infinity;
  for (const point of spec.series.flatMap((s) => s.points)) {
    low = Math.min(low, point.y, ...(point.interval ?? []));
    high = Math.max(high, point.y, ...(point.interval ?? []));
  }
  if (spec.log) return [10 ** Math.floor(Math.log10(low)), 10 ** Math.max(Math.ceil(Math.log10(high)), Math.floor(Math.log10(low)) + 1)];
  const bottom = low >= 0 ? 0 : low - (high - low || 1) * 0.08;
  return [bottom, high > bottom ? high + (high - bottom) * 0.08 : bottom + 1];
}

function powers_of_ten(low: number, high: number): number[] {
  const first = Math.round(Math.log10(low));
  const last = Math.round(Math.log10(high));
  const step = Math.max(1, Math.ceil((last - first) / 8));
  const powers: number[] = [];
  for (let exponent = last; exponent >= first; exponent -= step) powers.unshift(10 ** exponent);
  return powers;
}

function draw_extras(u: uPlot, spec: ChartSpec): void {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left - 6 * ratio, bbox.top - 6 * ratio, bbox.width + 12 * ratio, bbox.height + 12 * ratio);
  ctx.clip();
  if (spec.threshold) {
    const y = Math.round(u.valToPos(spec.threshold.value, "y", true));
    ctx.strokeStyle = ctx.fillStyle = css_color("--muted");
    ctx.lineWidth = ratio;
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "right";
    ctx.textBaseline = "bottom";
    ctx.strokeStyle = css_color("--card");
    ctx.lineWidth = 4 * ratio;
    ctx.strokeText(spec.threshold.label, bbox.left + bbox.width - 4 * ratio, y - 3 * ratio);
    ctx.fillText(spec.threshold.label, bbox.left + bbox.width - 4 * ratio, y - 3 * ratio);
  }
  for (const series of spec.series) {
    if (series.kind === "line" && series.points.length > 1) continue;
    ctx.strokeStyle = series_color(series.color);
    ctx.fillStyle = series.hollow ? css_color("--card") : ctx.strokeStyle;
    ctx.lineWidth = 1.5 * ratio;
    for (const point of series.points) {
      const x = u.valToPos(point.x, "x", true);
      const y = u.valToPos(point.y, "y", true);
      if (point.interval) {
        const ends = point.interval.map((v) => u.valToPos(v, "y", true));
        ctx.beginPath();
        for (const end of ends) {
          ctx.moveTo(x - 4 * ratio, end);
          ctx.lineTo(x + 4 * ratio, end);
        }
        ctx.moveTo(x, ends[0] ?? y);
        ctx.lineTo(x, ends[1] ?? y);
        ctx.stroke();
      }
      ctx.beginPath();
      if (series.kind === "marks") {
        const r = 5 * ratio;
        ctx.moveTo(x, y - r);
        ctx.lineTo(x + r, y);
        ctx.lineTo(x, y + r);
        ctx.lineTo(x - r, y);
        ctx.closePath();
      } else {
        ctx.arc(x, y, 3.5 * ratio, 0, 2 * Math.PI);
      }
      ctx.fill();
      ctx.stroke();
    }
  }
  ctx.restore();
}

/** One row an x, one value a series: what uPlot and the table both want. Of two points at one x the later one counts. */
function aligned(spec: ChartSpec): { xs: number[]; columns: Map<number, Series["points"][number]>[] } {
  const columns = spec.series.map((s) => new Map(s.points.map((p) => [p.x, p] as const)));
  const xs = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((a, b) => a - b);
  return { xs, columns };
}

/** A figure: title, legend, chart, readout, and the same data as a table. Without any point it says so. */
export function chart(given: ChartSpec): HTMLElement {
  const spec = { ...given, series: given.series.filter((s) => s.points.length > 0) };
  const figure = h("figure", {}, h("figcaption", {}, spec.title));
  if (spec.series.length === 0) {
    figure.append(h("p", { class: "empty" }, "No values were recorded."));
    return figure;
  }
  const entries = spec.legend ?? spec.series;
  if (entries.length > 0) figure.append(legend(entries));
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${spec.title}. ${spec.description}` });
  const readout = h("p", { class: "readout", "aria-hidden": "true" });
  const { xs, columns } = aligned(spec);
  const x_name = spec.x_name ?? ((x: number) => `${spec.x_label} ${x}`);
  const bounds = y_bounds(spec);
  const x_low = xs[0] ?? 0;
  const x_high = xs[xs.length - 1] ?? 1;
  const x_margin = (x_high - x_low || 1) * 0.015;

  const data = [xs, ...columns.map((column) => xs.map((x) => column.get(x)?.y ?? null))] as uPlot.AlignedData;
  const say = (u: uPlot): void => {
    const x = u.cursor.idx == null ? undefined : xs[u.cursor.idx];
    readout.textContent = x === undefined ? "" : `${x_name(x)}: ` + spec.series
      .flatMap((s, i) => { const p = columns[i]?.get(x); return p ? [`${s.label} ${compact(p.y)}`] : []; }).join("; ");
  };

  let drawn: uPlot | undefined;
  const draw = (): void => {
    const width = plot.clientWidth;
    if (width === 0) return;
    drawn?.destroy();
    const axis = { stroke: css_color("--muted"), font: "12px system-ui, sans-serif", grid: { stroke: css_color("--line"), width: 1 }, ticks: { show: false }, labelFont: "12px system-ui, sans-serif", labelSize: 18 };
    drawn = new uPlot({
      width,
      height: spec.height,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: {
        x: { time: false, range: [x_low - x_margin, x_high + x_margin] },
        y: spec.log ? { distr: 3, log: 10, range: bounds } : { range: bounds },
      },
      axes: [
        { ...axis, label: spec.x_label, size: 26, labelSize: 16, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000], space: 45 },
        {
          ...axis,
          ...(spec.y_label ? { label: spec.y_label } : {}),
          size: 48,
          ...(spec.log
            ? { splits: () => powers_of_ten(...bounds), filter: (_: uPlot, splits: number[]) => splits, values: (_: uPlot, splits: number[]) => splits.map((v) => (v === 1 ? "1" : `10${superscript(Math.round(Math.log10(v)))}`)) }
            : { values: (_: uPlot, splits: number[]) => splits.map((v) => compact(Number(v.toPrecision(6)))) }),
        },
      ],
      series: [{}, ...spec.series.map((s): uPlot.Series => ({
        stroke: series_color(s.color),
        width: 2.5,
        dash: dash_of(s.color),
        spanGaps: true,
        points: { show: false },
        ...(s.kind === "line" ? {} : { paths: () => null }),
      }))],
      hooks: { draw: [(u) => draw_extras(u, spec)], setCursor: [say] },
    }, data, plot);
  };
  let last_width = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth === last_width) return;
    last_width = plot.clientWidth;
    draw();
  }).observe(plot);
  redraws.add(draw);

  figure.append(plot, readout, lazy_details("Show the data as a table", () =>
    table(`${spec.title}: data`, [
      { name: spec.x_name ? "Point" : spec.x_label, cell: (x: number) => (spec.x_name ? x_name(x) : String(x)), numeric: !spec.x_name },
      ...spec.series.map((s, i) => ({
        name: s.label,
        numeric: true,
        cell: (x: number) => {
          const point = columns[i]?.get(x);
          if (!point) return "";
          return point.interval ? `${compact(point.y)} (${compact(point.interval[0])} to ${compact(point.interval[1])})` : compact(point.y);
        },
      })),
    ], xs)));
  return figure;
}

/** Draws all charts anew when the colours change: dark mode comes or goes, or the page is about to be printed. */
export function follow_colors(): void {
  const redraw = (): void => redraws.forEach((draw) => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const printing = (on: boolean) => (): void => {
    document.documentElement.classList.toggle("printing", on);
    redraw();
  };
  addEventListener("beforeprint", printing(true));
  addEventListener("afterprint", printing(false));
}
