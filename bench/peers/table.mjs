// What is printed.
import { barsOf, TVERSKY, webgpuBars } from "./bars.mjs";
import { best, geometricMean } from "./rows.mjs";

/** @typedef {import("./rows.mjs").Row} Row */

/** Long refusals follow their table. */
const NOTE = 9;
const milliseconds = (/** @type {number | null} */ ms) => (ms === null ? "" : ms.toFixed(ms < 10 ? 3 : 1));
const megabytes = (/** @type {number | null} */ bytes) => (bytes === null ? "" : `${Math.round(bytes / 2 ** 20)} MiB`);
const ratioOf = (/** @type {number | undefined} */ ratio) => ratio?.toFixed(2) ?? "";

/** @param {readonly string[]} cells @param {number} left how many are aligned to the left */
const line = (cells, left, width = 9) =>
  cells
    .map((cell, i) => (i === 0 ? cell.padEnd(44) : i < left ? cell.padEnd(11) : cell.padStart(width)))
    .join("  ")
    .trimEnd();

export class Table {
  /** @param {readonly string[]} engines lacuna first @param {readonly string[]} peers those that ratios are to @param {boolean} bars of issue 3 */
  constructor(engines, peers, bars) {
    this.engines = engines;
    this.peers = peers;
    this.bars = bars;
  }

  head() {
    return line(
      ["case", "direction", ...this.engines, "ratio", "CPU time", "rounds", "fastest", this.bars ? "bar" : ""],
      2,
    );
  }

  /** Of one case and direction. @param {import("../../dist/cli/bench/cases.js").Case} one @param {string} direction @param {readonly Row[]} rows */
  line(one, direction, rows) {
    const cells = this.engines.map((name) => {
      const row = rows.find((r) => r.case === one.name && r.direction === direction && r.engine === name);
      return row?.note ? (row.note.split(":")[0] ?? "").slice(0, NOTE) : milliseconds(row?.medianMs ?? null);
    });
    const wall = best(rows, one.name, direction, this.peers, "medianMs");
    const cpu = best(rows, one.name, direction, this.peers, "cpuMs");
    const ratios = wall?.ours.roundMs.map((ms, i) => (wall.row.roundMs[i] ?? Number.NaN) / ms) ?? [];
    const rounds = ratios.length > 0 ? `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}` : "";
    // What a machine with other work still tells.
    const fastest = wall?.row.minMs && wall.ours.minMs ? (wall.row.minMs / wall.ours.minMs).toFixed(2) : "";
    const bar = this.bars ? barsOf(one)?.[/** @type {keyof import("./bars.mjs").Bars} */ (direction)] : undefined;
    const judged = wall && bar !== undefined ? `${bar.toFixed(1)} ${wall.ratio >= bar ? "yes" : "NO"}` : "";
    return line([one.name, direction, ...cells, ratioOf(wall?.ratio), ratioOf(cpu?.ratio), rounds, fastest, judged], 2);
  }
}

/** What was not timed, and why: a line for each engine and reason. @param {readonly Row[]} rows @returns {string[]} */
export function refusals(rows) {
  /** @type {Map<string, string[]>} */
  const cases = new Map();
  for (const { case: name, engine, direction, note } of rows) {
    if (note === undefined || direction === "backward") continue; // as "both"
    const reason = `${engine}, ${direction}: ${note}`;
    cases.set(reason, [...(cases.get(reason) ?? []), name]);
  }
  return [...cases].map(([reason, names]) => `  ${reason} (${names.join("; ")})`);
}

/** @param {readonly Row[]} rows @returns {string[]} */
export function memoryLines(rows) {
  const named = rows.filter(({ direction }) => direction.startsWith("peak "));
  const lines = named.flatMap((ours) => {
    if (ours.engine !== "lacuna") return [];
    const theirs = named.find((r) => r.engine !== "lacuna" && r.case === ours.case && r.direction === ours.direction);
    const ratio = ours.bytes && theirs?.bytes ? theirs.bytes / ours.bytes : null;
    const cells = [ours.note ?? megabytes(ours.bytes), theirs?.note ?? megabytes(theirs?.bytes ?? null)];
    return [
      line(
        [
          ours.case,
          ours.direction,
          ...cells,
          ratio ? ratio.toFixed(2) : "",
          ratio ? `1.0 ${ratio >= 1 ? "yes" : "NO"}` : "",
        ],
        2,
      ),
    ];
  });
  return lines.length > 0
    ? ["", line(["peak memory of three steps", "", "lacuna", "pytorch", "ratio", "bar"], 2), ...lines]
    : [];
}

/**
 * Issue 5's bars, of the cases that were run.
 * @param {readonly Row[]} rows @param {readonly string[]} peers WebGPU engines @param {boolean} software By CPU time, too,
 * where the adapter is the CPU. @returns {string[]}
 */
export function barLines(rows, peers, software) {
  const lines = [];
  for (const { work, cases, direction, atLeast, peers: only } of webgpuBars) {
    const against = only ?? peers;
    const of = (/** @type {import("./rows.mjs").Measure} */ measure) =>
      cases.flatMap(({ name }) => best(rows, name, direction, against, measure)?.ratio ?? []);
    const [wall, cpu] = [of("medianMs"), software ? of("cpuMs") : []];
    if (wall.length === 0) continue;
    const held = [wall, ...(software ? [cpu] : [])].every(
      (r) => geometricMean(r) >= atLeast && r.every((ratio) => ratio >= 1),
    );
    const few = wall.length < cases.length ? `  (${wall.length} of ${cases.length} cases)` : "";
    const figures = [wall, cpu].flatMap((r) =>
      r.length > 0 ? [ratioOf(geometricMean(r)), ratioOf(Math.min(...r))] : ["", ""],
    );
    lines.push(
      line([work, (only ?? ["best peer"]).join(), ...figures, atLeast.toFixed(1), held ? "yes" : "NO"], 2, 8) + few,
    );
  }
  lines.push(...tverskyLines(rows));
  if (lines.length === 0) return [];
  const heads = ["bar", "against", "wall", "least", "CPU", "least", "at least", ""];
  return ["", "geometric means of ratios, and the least of a single shape", line(heads, 2, 8), ...lines];
}

/** @param {readonly Row[]} rows */
function tverskyLines(rows) {
  const { fused, plain, direction, atLeast, bytes, given } = TVERSKY;
  const [ours, theirs] = [fused, plain].map(({ name }) =>
    rows.find((r) => r.case === name && r.direction === direction && r.engine === "lacuna"),
  );
  if (!ours?.medianMs || !theirs?.medianMs || !ours.cpuMs || !theirs.cpuMs || !ours.bytes || !theirs.bytes) return [];
  const [wall, cpu] = [theirs.medianMs / ours.medianMs, theirs.cpuMs / ours.cpuMs];
  const held = Math.min(wall, cpu) >= atLeast;
  const less = (theirs.bytes - given) / (ours.bytes - given);
  return [
    line(
      [
        "Tversky, forward + backward",
        "plain ops",
        ratioOf(wall),
        "",
        ratioOf(cpu),
        "",
        atLeast.toFixed(1),
        held ? "yes" : "NO",
      ],
      2,
      8,
    ),
    line(
      [
        "its bytes, beyond operands",
        "plain ops",
        ratioOf(less),
        "",
        "",
        "",
        bytes.toFixed(1),
        less >= bytes ? "yes" : "NO",
      ],
      2,
      8,
    ),
  ];
}
