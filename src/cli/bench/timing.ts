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
 * Times `run` after one or two runs that do not count. Each time is from the call until the device has done all of it.
 * Directions take turns, so that whatever else the machine does meets all of them, and "backward" is the difference of two
 * runs that lie next to each other.
 */
export async function time(device: Device, run: Prepared["run"], options: TimingOptions): Promise<Times> {
  const entries = Object.entries(run) as [Direction, () => void][]; // keys of a record of directions
  const once = async (f: () => void) => {
    const before = performance.now();
    scope(() => void f());
    await device.sync();
    return performance.now() - before;
  };
  for (let i = 0; i < Math.min(2, options.repetitions); i++) for (const [, f] of entries) await once(f);
  const took: Partial<Record<Direction, number[]>> = Object.fromEntries(entries.map(([direction]) => [direction, []]));
  const start = performance.now();
  for (let i = 0; i < options.repetitions || performance.now() - start < options.seconds * 1e3; i++) {
    for (const [direction, f] of entries) took[direction]!.push(await once(f));
  }
  return withBackward(took);
}

/** Adds "backward" where there is "both" and "forward". No engine is asked for backward alone, and all are treated alike. */
export function withBackward(took: Times): Times {
  const { forward, both } = took;
  return forward && both ? { ...took, backward: both.map((ms, i) => ms - forward[i]!) } : took;
}

/** Linear between the two values next to it. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}
export const median = (values: readonly number[]): number => quantile(values, 0.5);
