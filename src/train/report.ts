import { encodePNG } from "../data/png.js";

/** A line of a chart; `y` may be missing (NaN) at some x. */
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}
export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly series: readonly Series[];
}
/** Rows: truth, columns: prediction, pixels. */
export interface ConfusionTable {
  readonly title: string;
  readonly classes: readonly string[];
  readonly counts: readonly (readonly number[])[];
}
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  /** First cell: the row's name. */
  readonly rows: readonly (readonly string[])[];
}
export interface Picture {
  readonly height: number;
  readonly width: number;
  readonly pixels: Uint8Array; // [height, width, 3]
}
/** Pictures side by side: one row a tile, one column a view of it. */
export interface PictureGrid {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly { readonly name: string; readonly pictures: readonly Picture[] }[];
}
/** What a report shows, in this order. Everything may be empty. */
export interface Report {
  readonly title: string;
  /** Under the title: device, time, what was compared. */
  readonly summary: readonly string[];
  readonly tables: readonly Table[];
  readonly grids: readonly PictureGrid[];
  /** Names of the colours in the grids' label pictures. */
  readonly classes: readonly string[];
  readonly charts: readonly Chart[];
  readonly confusions: readonly ConfusionTable[];
  /** Printed as JSON at the end: the configuration. */
  readonly settings: unknown;
}

/** Okabe and Ito's palette, told apart in most kinds of colour blindness; hues by the golden angle beyond it. */
const PALETTE: readonly (readonly [number, number, number])[] = [
  [120, 120, 120],
  [213, 94, 0],
  [230, 159, 0],
  [0, 158, 115],
  [0, 114, 178],
  [204, 121, 167],
  [86, 180, 233],
  [240, 228, 66],
];
const IGNORED = [0, 0, 0] as const;

/** The colour of a class, 0 … 255. */
export function classColour(index: number): readonly [number, number, number] {
  const named = PALETTE[index];
  if (named) return named;
  const hue = (index * 137.508) % 360;
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** A label or prediction in class colours; the ignore index and anything else unknown is black. */
export function paintLabels(labels: ArrayLike<number>, height: number, width: number, classes: number): Picture {
  const pixels = new Uint8Array(height * width * 3);
  for (let i = 0; i < height * width; i++) pixels.set(labels[i]! < classes ? classColour(labels[i]!) : IGNORED, i * 3);
  return { height, width, pixels };
}

/** One HTML page that needs nothing else: style, charts (SVG) and pictures (PNG) are inside it. */
export function renderReport(report: Report): string {
  const parts = [
    `<h1>${escapeHTML(report.title)}</h1>`,
    ...report.summary.map((line) => `<p class="summary">${escapeHTML(line)}</p>`),
    ...report.tables.map(renderTable),
    ...report.grids.map((grid) => renderGrid(grid, report.classes)),
    report.charts.length > 0
      ? `<h2>Curves</h2><div class="charts">${report.charts.map(renderChart).join("")}</div>`
      : "",
    report.confusions.length > 0
      ? `<h2>Confusion</h2><p>Share of each true class (row) by prediction (column), percent.</p>
         <div class="charts">${report.confusions.map(renderConfusion).join("")}</div>`
      : "",
    `<details><summary>Configuration</summary><pre>${escapeHTML(JSON.stringify(report.settings, null, 2))}</pre></details>`,
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHTML(report.title)}</title><style>${PAGE_STYLE}</style></head>
<body><main>${parts.join("\n")}</main></body></html>
`;
}

/** Colours, type and tables that report pages share. */
export const PAGE_STYLE = `
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c1e21; --soft: #60656c; --rule: #d8dbe0; --heat: 0 114 178;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b5658f; --s4: #a87500; --s5: #56a0d0; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e6e8eb; --soft: #9aa1a9; --rule: #363b42; --heat: 86 180 233;
  --s0: #56b4e9; --s1: #ff8b47; --s2: #2fc79a; --s3: #e39cc4; --s4: #f0b429; --s5: #8fd0ff; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 24px; margin: 0 0 8px; } h2 { font-size: 18px; margin: 32px 0 8px; } h3 { font-size: 14px; margin: 0 0 4px; }
.summary { margin: 0; color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 24px; }
.charts svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; color: var(--soft); font-size: 13px; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px; vertical-align: -1px; }
.scroll { overflow-x: auto; } .grid td, .grid th { padding: 2px 4px; border: 0; text-align: center; font-size: 13px; }
.grid td:first-child { color: var(--soft); font-size: 12px; text-align: left; }
.grid img { width: 224px; max-width: 22vw; image-rendering: pixelated; display: block; }
.confusion td, .confusion th { padding: 3px 8px; font-size: 12px; }
details { margin-top: 32px; } pre { overflow-x: auto; font-size: 12px; }
`;

export const escapeHTML = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const colour = (index: number): string => `var(--s${index % 6})`;
const rgb = (index: number): string => `rgb(${classColour(index).join(" ")})`;

function renderTable({ title, columns, rows }: Table): string {
  const head = columns.map((c) => `<th>${escapeHTML(c)}</th>`).join("");
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${escapeHTML(cell)}</td>`).join("")}</tr>`).join("");
  const table = `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
  return `<h2>${escapeHTML(title)}</h2><div class="scroll">${table}</div>`;
}

function renderGrid({ title, columns, rows }: PictureGrid, classes: readonly string[]): string {
  const key = classes.map((name, i) => `<span><i style="background:${rgb(i)}"></i>${escapeHTML(name)}</span>`).join("");
  const head = ["", ...columns].map((c) => `<th>${escapeHTML(c)}</th>`).join("");
  const body = rows.map(({ name, pictures }) => {
    const cells = pictures.map((p, i) => {
      const url = `data:image/png;base64,${Buffer.from(encodePNG(p.pixels, p.height, p.width)).toString("base64")}`;
      return `<td><img alt="${escapeHTML(`${name}, ${columns[i] ?? ""}`)}" width="${p.width}" height="${p.height}" src="${url}"></td>`;
    });
    return `<tr><td>${escapeHTML(name)}</td>${cells.join("")}</tr>`;
  });
  return `<h2>${escapeHTML(title)}</h2><div class="key">${key}</div>
<div class="scroll"><table class="grid"><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}

function renderConfusion({ title, classes, counts }: ConfusionTable): string {
  const head = ["", ...classes].map((c) => `<th>${escapeHTML(c)}</th>`).join("");
  const body = counts.map((row, i) => {
    const total = row.reduce((a, b) => a + b, 0);
    const cells = row.map((count) => {
      const share = total > 0 ? count / total : 0;
      const shown = total > 0 ? (100 * share).toFixed(1) : "–";
      return `<td style="background:rgb(var(--heat) / ${(0.75 * share).toFixed(3)})" title="${count} pixels">${shown}</td>`;
    });
    return `<tr><th>${escapeHTML(classes[i] ?? String(i))}</th>${cells.join("")}</tr>`;
  });
  return `<section><h3>${escapeHTML(title)}</h3><div class="scroll"><table class="confusion"><thead><tr>${head}</tr></thead>
<tbody>${body.join("")}</tbody></table></div></section>`;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [480, 240, 48, 8, 8, 32];
/** A line of more points than this looks the same and only makes the file larger. */
const MAX_POINTS = 240;

function renderChart({ title, x: xName, series }: Chart): string {
  const drawn = series.map((s) => ({
    name: s.name,
    points: thin(s.points.filter(([x, y]) => Number.isFinite(x + y))),
  }));
  const all = drawn.flatMap((s) => s.points);
  if (all.length === 0) return "";
  const [xLow, xHigh] = extent(all.map(([x]) => x));
  const yTicks = ticks(...extent(all.map(([, y]) => y)), 5);
  const [yLow, yHigh] = [yTicks[0]!, yTicks.at(-1)!];
  const px = (x: number) => LEFT + ((x - xLow) / (xHigh - xLow)) * (WIDTH - LEFT - RIGHT);
  const py = (y: number) => HEIGHT - BOTTOM - ((y - yLow) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const grid = yTicks.map(
    (
      y,
    ) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y).toFixed(1)}" y2="${py(y).toFixed(1)}" stroke="var(--rule)"/>
<text x="${LEFT - 6}" y="${(py(y) + 4).toFixed(1)}" text-anchor="end">${formatTick(y)}</text>`,
  );
  const marks = ticks(xLow, xHigh, 5)
    .filter((x) => x >= xLow && x <= xHigh)
    .map(
      (x) => `<text x="${px(x).toFixed(1)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${formatTick(x)}</text>`,
    );
  const lines = drawn.map(({ points }, i) => {
    if (points.length === 1) {
      const [x, y] = points[0]!;
      return `<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3" fill="${colour(i)}"/>`;
    }
    const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ");
    return `<polyline fill="none" stroke="${colour(i)}" stroke-width="1.75" stroke-linejoin="round" points="${path}"/>`;
  });
  const axis = `<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 3}" text-anchor="middle">${escapeHTML(xName)}</text>`;
  const key = drawn
    .map(({ name }, i) => `<span><i style="background:${colour(i)}"></i>${escapeHTML(name)}</span>`)
    .join("");
  return `<section><h3>${escapeHTML(title)}</h3><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHTML(title)}">
${grid.join("")}${marks.join("")}${axis}${lines.join("")}</svg><div class="key">${key}</div></section>`;
}

/** Means of equal runs of points. */
function thin(points: Series["points"]): Series["points"] {
  if (points.length <= MAX_POINTS) return points;
  const run = points.length / MAX_POINTS;
  return Array.from({ length: MAX_POINTS }, (_, i) => {
    const part = points.slice(Math.floor(i * run), Math.floor((i + 1) * run));
    const mean = (axis: 0 | 1) => part.reduce((total, p) => total + p[axis], 0) / part.length;
    return [mean(0), mean(1)] as const;
  });
}

function extent(numbers: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of numbers) [low, high] = [Math.min(low, v), Math.max(high, v)];
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

/** Round numbers, 1, 2 or 5 times a power of ten apart, from below `low` to above `high`. */
function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const [first, last] = [Math.floor(low / step), Math.ceil(high / step)];
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

const formatTick = (value: number): string => String(Number(value.toPrecision(6)));
