import { readFile } from "node:fs/promises";
import * as v from "valibot";
import type { BackendName } from "../../backends/backend.js";
import { DataError } from "../../errors.js";
import { escapeHTML } from "../../train/report/html.js";
import { PAGE_STYLE } from "../../train/report.js";
import type { BenchSize } from "./cases.js";
import type { Machine } from "./machine.js";
import type { Row } from "./measure.js";
import type { Peaks } from "./peaks.js";

/** A backend, as it is measured. */
export interface Setting {
  readonly name: BackendName;
  readonly description: string;
  readonly size: BenchSize;
  readonly peaks: Peaks;
}

const nullable = v.nullable(v.number());
const peerRow = v.object({
  case: v.string(),
  direction: v.string(),
  engine: v.string(),
  backend: v.string(),
  medianMs: nullable,
  cpuMs: nullable,
  bytes: nullable,
  note: v.optional(v.string()),
});
const peersFile = v.object({
  head: v.object({
    date: v.string(),
    cpu: v.string(),
    commit: v.string(),
    engines: v.array(v.object({ name: v.string(), description: v.string() })),
  }),
  rows: v.array(peerRow),
});
type PeerRow = v.InferOutput<typeof peerRow>;
export type Peers = v.InferOutput<typeof peersFile>;

/** @throws DataError where the file cannot be read or is none of bench:peers. */
export async function readPeers(file: string): Promise<Peers> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw new DataError(file, cause instanceof SyntaxError ? "is no JSON" : "cannot be read", { cause });
  }
  const parsed = v.safeParse(peersFile, content);
  if (!parsed.success) throw new DataError(file, "was not written by bench:peers --json");
  return parsed.output;
}

/** One HTML page that needs nothing else: machine, roofline, shares of the roof, peers where there are any, all rows. */
export function renderBench(
  where: Machine,
  backends: readonly Setting[],
  rows: readonly Row[],
  peers: Peers | null,
): string {
  const title = "lacuna bench";
  const names = [...new Set(rows.map((row) => row.case))];
  const parts = [
    `<h1>${title}</h1>`,
    facts([
      ["Date", where.date],
      ["Processor", `${where.cpu}, ${where.cores} cores, load ${where.load.toFixed(1)}`],
      ["Node", where.node],
      ...(where.commit ? [["Commit", where.commit] as const] : []),
    ]),
    ...backends.map((setting) =>
      renderBackend(
        setting,
        rows.filter((row) => row.backend === setting.name),
        names,
      ),
    ),
    peers ? renderPeers(peers) : "",
    renderRows(rows, names),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title><style>${PAGE_STYLE}${STYLE}</style></head>
<body><main>${parts.join("\n")}</main></body></html>
`;
}

const STYLE = `
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 16px; margin: 0; } dt { color: var(--soft); } dd { margin: 0; }
h3 { margin-top: 20px; } .plot { max-width: 720px; } @media (max-width: 600px) { .plot svg text { font-size: 17px; } } .plot svg { width: 100%; height: auto; display: block; } svg .name { fill: var(--ink); }
td:nth-child(2), th:nth-child(2) { text-align: left; } td { white-space: nowrap; }
.peers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 16px 32px; }
.peers svg { width: 100%; height: auto; display: block; }
`;

const facts = (entries: readonly (readonly [name: string, value: string])[]): string =>
  `<dl>${entries.map(([name, value]) => `<dt>${escapeHTML(name)}</dt><dd>${escapeHTML(value)}</dd>`).join("")}</dl>`;

/** Directions that are measured by themselves, or as a difference: "both" is their sum. */
const single = (row: Row): boolean => row.direction !== "both";

function renderBackend(setting: Setting, rows: readonly Row[], names: readonly string[]): string {
  const { name, description, size, peaks } = setting;
  return `<h2>${escapeHTML(name)}</h2>
${facts([
  ["Adapter", description],
  ["Sizes", size],
  ["Copy", `${peaks.copyGBs.toFixed(1)} GB/s`],
  ["Arithmetic", `${peaks.gflops.toFixed(1)} GFLOP/s (${peaks.gflopsOf})`],
])}
${renderRoofline(rows.filter(single), peaks, names)}
${renderShares(rows.filter(single), peaks, names)}`;
}

/** A family's colour: index into the page's six. */
const FAMILIES = ["dense convolution", "depthwise convolution", "matrix product", "whole step", "no products"] as const;
function familyOf({ case: name, direction, gflops }: Row): number {
  if (direction === "step" && !name.startsWith("adamW")) return 3;
  if (name.startsWith("conv2d")) return 0;
  if (name.startsWith("depthwise")) return 1;
  return gflops ? 2 : 4;
}

/** 10⁹ operations per second that the roof allows at `intensity` operations a byte. */
const roofAt = (intensity: number, peaks: Peaks): number => Math.min(peaks.gflops, intensity * peaks.copyGBs);

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 400, 52, 12, 12, 40];

/** Both axes logarithmic; dots bear the numbers of cases in the table. */
function renderRoofline(rows: readonly Row[], peaks: Peaks, names: readonly string[]): string {
  const dots = rows.flatMap((row) => {
    const { gflops, gbs } = row;
    return gflops && gbs ? [{ row, intensity: gflops / gbs, gflops }] : [];
  });
  if (dots.length === 0) return "";
  const ridge = peaks.gflops / peaks.copyGBs;
  const [xLow, xHigh] = decades([...dots.map((dot) => dot.intensity), ridge]);
  const [yLow, yHigh] = decades([...dots.map((dot) => dot.gflops), peaks.gflops]);
  const along = (value: number, low: number, high: number) => Math.log(value / low) / Math.log(high / low);
  const px = (x: number) => (LEFT + along(x, xLow, xHigh) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const py = (y: number) => (HEIGHT - BOTTOM - along(y, yLow, yHigh) * (HEIGHT - TOP - BOTTOM)).toFixed(1);
  const grid = [
    ...powers(xLow, xHigh).map(
      (x) => `<line x1="${px(x)}" x2="${px(x)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="var(--rule)"/>
<text x="${px(x)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${shortest(x)}</text>`,
    ),
    ...powers(yLow, yHigh).map(
      (y) => `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y)}" y2="${py(y)}" stroke="var(--rule)"/>
<text x="${LEFT - 6}" y="${Number(py(y)) + 4}" text-anchor="end">${shortest(y)}</text>`,
    ),
  ];
  // The roof begins where the slope meets the frame: left of it, or at its bottom.
  const start = Math.max(xLow, yLow / peaks.copyGBs);
  const corners = [start, ridge, xHigh].map((x) => `${px(x)},${py(roofAt(x, peaks))}`).join(" ");
  const roof = `<polyline fill="none" stroke="var(--ink)" stroke-width="1.5" points="${corners}"/>`;
  const marks = dots.map(({ row, intensity, gflops }) => {
    const [x, y] = [px(intensity), py(gflops)];
    const share = percent(gflops / roofAt(intensity, peaks));
    const said = `${row.case}, ${row.direction}: ${gflops.toFixed(1)} GFLOP/s at ${intensity.toFixed(1)} FLOP/byte, ${share} of the roof`;
    const look = `fill="var(--s${familyOf(row)})" fill-opacity="${row.direction === "backward" ? 0.25 : 1}" stroke="var(--s${familyOf(row)})"`;
    return `<g><title>${escapeHTML(said)}</title><circle cx="${x}" cy="${y}" r="4" ${look}/>
<text x="${Number(x) + 6}" y="${Number(y) + 3}">${names.indexOf(row.case) + 1}</text></g>`;
  });
  const key = FAMILIES.slice(0, 4).map((name, i) => `<span><i style="background:var(--s${i})"></i>${name}</span>`);
  return `<h3>Roofline</h3><div class="plot"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Roofline">
${grid.join("")}${roof}${marks.join("")}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">FLOP/byte</text>
<text x="12" y="${(HEIGHT - BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 12 ${(HEIGHT - BOTTOM) / 2})">GFLOP/s</text></svg></div>
<div class="key">${key.join("")}<span>full: forward or step, hollow: backward; numbers are the table's</span></div>`;
}

/** Powers of ten around `values`. */
function decades(values: readonly number[]): [low: number, high: number] {
  const logs = values.map(Math.log10);
  const [low, high] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs))];
  return [10 ** low, 10 ** Math.max(high, low + 1)];
}
function powers(low: number, high: number): number[] {
  const [first, last] = [low, high].map((value) => Math.round(Math.log10(value))) as [number, number];
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}
const shortest = (value: number): string => String(Number(value.toPrecision(3)));
const significant = (value: number): string => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
/** A difference of two medians may come out below zero. */
const milliseconds = (ms: number): string => (ms > 0 ? `${significant(ms)} ms` : "below the noise");
const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

interface Bar {
  readonly label: string;
  /** Of the width, 0 to 1; null: there is none, `text` says why. */
  readonly length: number | null;
  readonly text: string;
  readonly colour: number;
}

/** Horizontal bars with their names above them: long names and narrow screens. */
function renderBars(title: string, bars: readonly Bar[], width: number): string {
  const [line, room] = [30, 104]; // px a bar, and px for the text behind it
  const drawn = bars.map(({ label, length, text, colour }, i) => {
    const y = i * line;
    const end = length === null ? 0 : Math.min(1, length) * (width - room);
    const name = `<text class="name" x="0" y="${y + 11}">${escapeHTML(label)}</text>`;
    const bar = `<rect x="0" y="${y + 15}" width="${end.toFixed(1)}" height="9" rx="1.5" fill="var(--s${colour})"/>`;
    return `<g><title>${escapeHTML(`${label}: ${text}`)}</title>${name}${length === null ? "" : bar}
<text x="${(end + (length === null ? 0 : 6)).toFixed(1)}" y="${y + 23}">${escapeHTML(shortened(text, width / 6))}</text></g>`;
  });
  return `<svg viewBox="0 0 ${width} ${bars.length * line}" role="img" aria-label="${escapeHTML(title)}">${drawn.join("")}</svg>`;
}

/** What there is no room for, the title says. */
const shortened = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, Math.floor(most) - 1)}…`;

/** What of its roof each row reaches: of the copy peak where it has no products. */
function renderShares(rows: readonly Row[], peaks: Peaks, names: readonly string[]): string {
  if (rows.length === 0) return "";
  const bars = rows.map((row): Bar => {
    const { gflops, gbs, copyShare, medianMs, note } = row;
    const share = gflops && gbs ? gflops / roofAt(gflops / gbs, peaks) : copyShare;
    const label = `${names.indexOf(row.case) + 1} ${row.case}, ${row.direction}`;
    const time = medianMs === null ? (note ?? "") : milliseconds(medianMs);
    const text = share === null ? time : `${percent(share)}, ${time}`;
    return { label, length: share, text, colour: familyOf(row) };
  });
  const half = Math.ceil(bars.length / 2);
  const columns = [bars.slice(0, half), bars.slice(half)].filter((part) => part.length > 0);
  const key = FAMILIES.map((name, i) => `<span><i style="background:var(--s${i})"></i>${name}</span>`);
  return `<h3>Share of the roof</h3>
<p class="summary">A full bar is all that the measured peaks allow: arithmetic or copy bandwidth, whichever binds. What lies in caches exceeds the copy.</p>
<div class="key">${key.join("")}</div>
<div class="charts">${columns.map((part) => renderBars("Share of the roof", part, 480)).join("")}</div>`;
}

const PEER_DIRECTIONS: Readonly<Record<string, string>> = {
  forward: "forward",
  both: "forward + backward",
  step: "training step",
  first: "first step, no shader cache",
};

/** Of each case and direction a bar an engine, as long as its share of the slowest's time. */
function renderPeers({ head, rows }: Peers): string {
  const engines = [...new Set(rows.map((row) => row.engine))];
  const groups = new Map<string, PeerRow[]>();
  for (const row of rows) {
    const direction = PEER_DIRECTIONS[row.direction];
    if (!direction) continue;
    const key = `${row.case}, ${direction}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  const charts = [...groups].map(([title, group]) => {
    const slowest = Math.max(...group.map((row) => row.medianMs ?? 0));
    const ours = group.find((row) => row.engine === "lacuna")?.medianMs;
    const bars = group.map(({ engine, medianMs, note }): Bar => {
      const colour = engines.indexOf(engine) % 6;
      if (medianMs === null) return { label: engine, length: null, text: note ?? "not timed", colour };
      const ratio = ours && engine !== "lacuna" ? `, ${(medianMs / ours).toPrecision(2)} x` : "";
      return { label: engine, length: medianMs / slowest, text: milliseconds(medianMs) + ratio, colour };
    });
    return `<section><h3>${escapeHTML(title)}</h3>${renderBars(title, bars, 320)}</section>`;
  });
  const about = head.engines.map(({ name, description }) => [name, description] as const);
  return `<h2>Beside other engines</h2>
${facts([["Date", head.date], ["Processor", head.cpu], ["Commit", head.commit], ...about])}
<p class="summary">Medians by the clock, in turns on one adapter; in each chart the longest bar is the slowest engine.</p>
<div class="peers">${charts.join("\n")}</div>`;
}

function renderRows(rows: readonly Row[], names: readonly string[]): string {
  const number = (value: number | null) => (value === null ? "" : significant(value));
  const whole = (value: number | null) => (value === null ? "" : String(value));
  const share = (value: number | null) => (value === null ? "" : percent(value));
  const columns = ["#", "case", "direction", "backend", "median ms", "p95 ms", "GFLOP/s", "share", "GB/s", "share"];
  const head = [...columns, "peak MiB", "kernels", "submits"].map((name) => `<th>${name}</th>`).join("");
  const body = rows.map((row) => {
    const name = [String(names.indexOf(row.case) + 1), row.case, row.direction, row.backend];
    const times = [row.medianMs, row.p95Ms].map(number);
    const rates = [number(row.gflops), share(row.flopShare), number(row.gbs), share(row.copyShare)];
    const counts = [
      row.bytes === null ? "" : (row.bytes / 2 ** 20).toFixed(1),
      whole(row.dispatches),
      whole(row.submits),
    ];
    const cells = row.note === undefined ? [...name, ...times, ...rates, ...counts] : name;
    const said = row.note === undefined ? "" : `<td colspan="9">${escapeHTML(row.note)}</td>`;
    return `<tr>${cells.map((cell) => `<td>${escapeHTML(cell)}</td>`).join("")}${said}</tr>`;
  });
  return `<h2>All rows</h2><div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>${body.join("")}</tbody></table></div>`;
}
