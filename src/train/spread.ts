/** Over runs. */
export interface Spread {
  readonly mean: number;
  /** Standard deviation of a sample (n − 1); null for a single run. */
  readonly sd: number | null;
  /** Of the runs that have the score, in their order. */
  readonly values: readonly number[];
}

/** Mean and sample deviation of the values that are defined; null where none is. */
export function spreadOf(values: readonly (number | null)[]): Spread | null {
  const known = values.filter((value) => value !== null);
  const n = known.length;
  if (n === 0) return null;
  const mean = known.reduce((a, b) => a + b, 0) / n;
  const sd = n === 1 ? null : Math.sqrt(known.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1));
  return { mean, sd, values: known };
}

/**
 * `43.2 ± 1.3`, or `43.2` of one run; a dash for nothing.
 * @param show writes a number.
 * @param runs how many there are: that fewer have the score is said, `43.2 ± 1.3 (2 of 3)`.
 */
export function showSpread(spread: Spread | null, show: (value: number) => string, runs: number): string {
  if (!spread) return "–";
  const { mean, sd, values } = spread;
  const some = values.length < runs ? ` (${values.length} of ${runs})` : "";
  return `${show(mean)}${sd === null ? "" : ` ± ${show(sd)}`}${some}`;
}
