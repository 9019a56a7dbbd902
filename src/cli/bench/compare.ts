import { readFile } from "node:fs/promises";
import * as v from "valibot";
import { DataError } from "../../errors.js";
import { UsageError } from "../command.js";
import { median } from "./timing.js";

/** What a comparison needs of a row; a file has more. */
const comparableRow = v.object({
  case: v.string(),
  direction: v.string(),
  backend: v.string(),
  /** Medians of the rounds, ms; empty where the case did not run. */
  roundMs: v.array(v.number()),
});
const comparableFile = v.object({ rows: v.array(comparableRow) });
export type ComparableRow = v.InferOutput<typeof comparableRow>;

export interface Comparison {
  readonly row: ComparableRow;
  /** New time over old. */
  readonly ratio: number;
  /** Where that ratio may lie, by the spread of the rounds of both runs. */
  readonly band: readonly [low: number, high: number];
  readonly verdict: "slower" | "faster" | "same";
}

/** Rounds of one run lie closer together than two runs do: a band never is narrower than this, to each side. */
const LEAST_BAND = 0.05;

/** @throws DataError where the file cannot be read or is none of `lacuna bench --json`. */
export async function readRows(file: string): Promise<ComparableRow[]> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? "is no JSON" : "cannot be read";
    throw new DataError(file, reason, { cause });
  }
  const parsed = v.safeParse(comparableFile, content);
  if (!parsed.success) throw new DataError(file, "was not written by lacuna bench --json");
  return parsed.output.rows;
}

/**
 * Rows that both runs have, by backend, case and direction. "backward" is left out: a difference, which "both" holds.
 * A row is slower, or faster, where its whole band is: [fastest new round / slowest old, slowest new / fastest old].
 * @throws UsageError where there is no such row.
 */
export function compareRows(before: readonly ComparableRow[], now: readonly ComparableRow[]): Comparison[] {
  const keyOf = (row: ComparableRow) => [row.backend, row.case, row.direction].join("\n");
  const old = new Map(before.map((row) => [keyOf(row), row.roundMs]));
  const compared: Comparison[] = [];
  for (const row of now) {
    const [a, b] = [old.get(keyOf(row)) ?? [], row.roundMs];
    if (row.direction === "backward" || a.length === 0 || b.length === 0) continue;
    const ratio = median(b) / median(a);
    const low = Math.min(Math.min(...b) / Math.max(...a), ratio * (1 - LEAST_BAND));
    const high = Math.max(Math.max(...b) / Math.min(...a), ratio * (1 + LEAST_BAND));
    compared.push({ row, ratio, band: [low, high], verdict: low > 1 ? "slower" : high < 1 ? "faster" : "same" });
  }
  if (compared.length === 0) {
    throw new UsageError(
      "--compare: the two runs have no row in common",
      "run the same --size, --backend and --filter",
    );
  }
  return compared;
}
