import { Bench } from "tinybench";
import type { Device } from "../../device.js";
import { scope } from "../../tensor.js";
import type { Direction } from "./cases.js";
import type { Prepared } from "./prepare.js";

/** Milliseconds of single runs, by direction. */
export type Times = Readonly<Partial<Record<Direction, readonly number[]>>>;

export interface TimingOptions {
  /** How long to go on at least. */
  readonly seconds: number;
  /** How often to run each direction at least. */
  readonly repetitions: number;
}

/**
 * Times `run` with tinybench, one direction after the other, after one or two runs that do not count. Each time is from the
 * call until the device has done all of it.
 */
export async function time(device: Device, run: Prepared["run"], options: TimingOptions): Promise<Times> {
  const { seconds, repetitions } = options;
  const entries = Object.entries(run) as [Direction, () => void][]; // keys of a record of directions
  const bench = new Bench({
    time: (seconds * 1e3) / entries.length,
    iterations: repetitions,
    warmupTime: 0,
    warmupIterations: Math.min(2, repetitions),
    now: () => performance.now(),
    retainSamples: true,
    throws: true,
  });
  for (const [direction, f] of entries) {
    bench.add(direction, async () => {
      scope(() => void f());
      await device.sync();
    });
  }
  await bench.run();
  return withBackward(Object.fromEntries(entries.map(([direction]) => [direction, samplesOf(bench, direction)])));
}

function samplesOf(bench: Bench, direction: Direction): readonly number[] {
  const { result } = bench.getTask(direction)!;
  if (result.state !== "completed") throw new Error(`${direction} was not timed: ${result.state}`);
  return result.latency.samples!; // retained, as was asked
}

/**
 * Adds "backward" where there is "both" and "forward": how far each run of both exceeds the median of forward. No engine
 * is asked for backward alone, and all are treated alike.
 */
export function withBackward(took: Times): Times {
  const { forward, both } = took;
  if (!forward || !both) return took;
  const alone = median(forward);
  return { ...took, backward: both.map((ms) => ms - alone) };
}

/** Linear between the two values next to it. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}
export const median = (values: readonly number[]): number => quantile(values, 0.5);
