import { ArgumentError } from "../errors.js";

/** The factor on the learning rate in an iteration (from 0): give it to `step` as `lrScale`. Pure: nothing to save. */
export type Schedule = (iteration: number) => number;

/** Always 1. */
export const constant = (): Schedule => () => 1;

/**
 * (1 − t / iterations)^power, 0 from `iterations` on (Liu et al., ParseNet; DeepLab's "poly").
 * @param power Default 0.9.
 * @throws ArgumentError where `iterations` is not a whole number above 0 or `power` is negative.
 */
export function poly(iterations: number, power = 0.9): Schedule {
  const progress = progressOf("poly", iterations);
  if (!(power >= 0)) throw new ArgumentError("poly", `power must be zero or more, not ${power}`);
  return (iteration) => (1 - progress(iteration)) ** power;
}

/**
 * ½(1 + cos(πt / iterations)), 0 from `iterations` on (Loshchilov & Hutter, ICLR 2017, without restarts).
 * @throws ArgumentError where `iterations` is not a whole number above 0.
 */
export function cosine(iterations: number): Schedule {
  const progress = progressOf("cosine", iterations);
  return (iteration) => (1 + Math.cos(Math.PI * progress(iteration))) / 2;
}

/**
 * (1 + 10p)^−0.75 with p = t / iterations in [0, 1] (Ganin et al., JMLR 2016, section 5.2.2).
 * @throws ArgumentError where `iterations` is not a whole number above 0.
 */
export function ganin(iterations: number): Schedule {
  const progress = progressOf("ganin", iterations);
  return (iteration) => (1 + 10 * progress(iteration)) ** -0.75;
}

/**
 * `schedule` times (t + 1) / iterations during the first `iterations`: the first step is not lost. 0 iterations: none.
 * @throws ArgumentError where `iterations` is not a whole number, zero or more.
 */
export function warmUp(schedule: Schedule, iterations: number): Schedule {
  if (!Number.isSafeInteger(iterations) || iterations < 0) {
    throw new ArgumentError("warmUp", `iterations must be a whole number, zero or more, not ${iterations}`);
  }
  return (iteration) => schedule(iteration) * (iteration < iterations ? (iteration + 1) / iterations : 1);
}

function progressOf(op: string, iterations: number): (iteration: number) => number {
  if (!Number.isSafeInteger(iterations) || iterations < 1) {
    throw new ArgumentError(op, `iterations must be a whole number above zero, not ${iterations}`);
  }
  return (iteration) => Math.min(1, Math.max(0, iteration / iterations));
}
