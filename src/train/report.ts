import { type BarChart, renderBars } from "./report/bars.js";
import { type Chart, renderChart } from "./report/chart.js";
import { type ConfusionTable, renderConfusion } from "./report/confusion.js";
import { escapeHTML } from "./report/html.js";
import { type PictureGrid, renderGrid } from "./report/pictures.js";
import type { Table } from "./tables.js";

/** What a report shows, in this order. Everything may be empty. */
export interface Report {
  readonly title: string;
  /** Under the title: device, time, what was compared. */
  readonly summary: readonly string[];
  readonly tables: readonly Table[];
  readonly bars?: readonly BarChart[];
  readonly grids: readonly PictureGrid[];
  /** Names of the colours in the grids' label pictures. */
  readonly classes: readonly string[];
  readonly charts: readonly Chart[];
  readonly confusions: readonly ConfusionTable[];
  /** How it came about, name and value: the command, versions, the machine. */
  readonly facts?: readonly (readonly [name: string, value: string])[];
  /** Printed as JSON at the end: the configuration. */
  readonly settings: unknown;
}

/** One HTML page that needs nothing else: style, charts (SVG) and pictures (PNG) are inside it. */
export function renderReport(report: Report): string {
  const { bars = [], facts = [] } = report;
  const parts = [
    `<h1>${escapeHTML(report.title)}</h1>`,
    ...report.summary.map((line) => `<p class="summary">${escapeHTML(line)}</p>`),
    ...report.tables.map(renderTable),
    bars.length > 0 ? `<h2>By class</h2><div class="charts">${bars.map(renderBars).join("")}</div>` : "",
    ...report.grids.map((grid) => renderGrid(grid, report.classes)),
    report.charts.length > 0
      ? `<h2>Curves</h2><div class="charts">${report.charts.map(renderChart).join("")}</div>`
      : "",
    report.confusions.length > 0
      ? `<h2>Confusion</h2><p>Share of each true class (row) by prediction (column), percent; pixels of the class.</p>
         <div class="charts">${report.confusions.map(renderConfusion).join("")}</div>`
      : "",
    facts.length > 0
      ? `<h2>Run</h2><div class="scroll"><table class="facts">${facts.map(renderFact).join("")}</table></div>`
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
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; } tbody th { font-weight: 400; }
.facts td { text-align: left; overflow-wrap: anywhere; } .facts th { vertical-align: top; white-space: nowrap; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 24px; }
.charts svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; color: var(--soft); font-size: 13px; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px; vertical-align: -1px; }
.scroll { overflow-x: auto; } .grid td, .grid th { padding: 2px 4px; border: 0; text-align: center; font-size: 13px; }
.grid td:first-child { color: var(--soft); font-size: 12px; text-align: left; }
.grid img { width: 200px; max-width: 20vw; image-rendering: pixelated; display: block; }
.confusion td, .confusion th { padding: 3px 8px; font-size: 12px; }
details { margin-top: 32px; } pre { overflow-x: auto; font-size: 12px; }
`;

function renderTable({ title, columns, rows, notes = [] }: Table): string {
  const head = columns.map((c) => `<th scope="col">${escapeHTML(c)}</th>`).join("");
  const cell = (text: string, i: number) =>
    i === 0 ? `<th scope="row">${escapeHTML(text)}</th>` : `<td>${escapeHTML(text)}</td>`;
  const body = rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("");
  const table = `<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>`;
  const below = notes.map((note) => `<p class="summary">${escapeHTML(note)}</p>`).join("");
  return `<h2>${escapeHTML(title)}</h2>${below}<div class="scroll">${table}</div>`;
}

const renderFact = ([name, value]: readonly [string, string]): string =>
  `<tr><th scope="row">${escapeHTML(name)}</th><td>${escapeHTML(value)}</td></tr>`;
