import { capture } from "../../capture.js";
import { open } from "../../device.js";
import { scope } from "../../tensor.js";
import type { Case } from "./cases.js";
import { prepare } from "./prepare.js";

/** What JavaScript spends on a step on WebGPU, Dawn's checks included, in microseconds for each dispatch. */
export interface JavaScriptCost {
  readonly dispatches: number;
  /** The step as it is. */
  readonly eagerUs: number;
  /** The same step, captured. */
  readonly replayedUs: number;
}

/**
 * Measured on Dawn's null device, which takes commands and does nothing: on a software adapter the kernels themselves
 * would take the cores away. The shortest of all runs, as whatever else the machine does only adds to it.
 */
export async function javaScriptCost(one: Case, repetitions: number): Promise<JavaScriptCost> {
  using device = await open("webgpu", { dawn: ["backend=null"] });
  const { step } = prepare(device, one).run;
  let dispatches = 0;
  const shortest = async (f: () => void) => {
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < repetitions; i++) {
      const before = device.stats.dispatches;
      const start = performance.now();
      f();
      const took = performance.now() - start;
      dispatches = device.stats.dispatches - before;
      best = Math.min(best, (1e3 * took) / dispatches);
      await device.sync();
    }
    return best;
  };
  const eagerUs = await shortest(() => scope(() => void step!())); // whole steps have no other direction
  using captured = capture(device, () => void step!());
  return { dispatches, eagerUs, replayedUs: await shortest(() => captured.replay()) };
}
