// Figures: rows of the JSON file, and the ratios that the tables make of them. Ratios are a peer's time over lacuna's.
import { median, quantile } from "../../dist/cli/bench/timing.js";

/**
 * @typedef {object} Row
 * @property {string} case
 * @property {string} direction forward, backward (both less forward), both, step, first, or of memory
 * @property {string} engine
 * @property {string} backend
 * @property {number | null} medianMs By the clock.
 * @property {number | null} cpuMs Median of the process's CPU time, all of its threads.
 * @property {number | null} p95Ms
 * @property {number | null} minMs
 * @property {readonly number[]} roundMs Medians of the rounds.
 * @property {number | null} bytes Most at once: of WebGPU buffers, or of lacuna's device.
 * @property {string} [note] Why there are no times.
 */
/** @typedef {{ ms: Record<string, number[]>, cpuMs: Record<string, number[]> }} Turn Milliseconds, by direction. */

/** @param {Pick<Row, "case" | "direction" | "engine" | "backend">} name @param {readonly Turn[]} turns @param {number | null} bytes @param {string} [note] @returns {Row} */
export function rowOf(name, turns, bytes, note) {
  const { direction } = name;
  const rounds = turns.map(({ ms }) => ms[direction] ?? []).filter((round) => round.length > 0);
  const [ms, cpuMs] = [rounds.flat(), turns.flatMap((turn) => turn.cpuMs[direction] ?? [])];
  const among = (/** @type {number} */ share) => (ms.length > 0 ? quantile(ms, share) : null);
  return {
    ...name,
    medianMs: among(0.5),
    cpuMs: cpuMs.length > 0 ? median(cpuMs) : null,
    p95Ms: among(0.95),
    minMs: direction === "backward" ? null : among(0), // the smallest of differences says nothing
    roundMs: rounds.map(median),
    bytes,
    ...(note !== undefined && { note }),
  };
}

/** @typedef {"medianMs" | "cpuMs"} Measure */
/**
 * The fastest peer of one case and direction.
 * @param {readonly Row[]} rows @param {string} name @param {string} direction @param {readonly string[]} peers
 * @param {Measure} measure @returns {{ ratio: number, row: Row, ours: Row } | null} null where one side has no time
 */
export function best(rows, name, direction, peers, measure) {
  const here = rows.filter((row) => row.case === name && row.direction === direction && row[measure]);
  const ours = here.find(({ engine }) => engine === "lacuna");
  const [row] = here
    .filter(({ engine }) => peers.includes(engine))
    .sort((a, b) => /** @type {number} */ (a[measure]) - /** @type {number} */ (b[measure]));
  if (!ours || !row) return null;
  return { ratio: /** @type {number} */ (row[measure]) / /** @type {number} */ (ours[measure]), row, ours };
}

/** @param {readonly number[]} ratios */
export const geometricMean = (ratios) => Math.exp(ratios.reduce((sum, r) => sum + Math.log(r), 0) / ratios.length);
