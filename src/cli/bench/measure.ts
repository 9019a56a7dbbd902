import type { BackendName } from "../../backends/backend.js";
import { type Device, type KernelTime, open, type WebGPUBackend } from "../../device.js";
import { LacunaError } from "../../errors.js";
import { scope } from "../../tensor.js";
import { type Case, checkable, type Direction, directionsOf, isStep } from "./cases.js";
import { type Counts, countsOf } from "./counts.js";
import { type JavaScriptCost, javaScriptCost } from "./javascript.js";
import type { Peaks } from "./peaks.js";
import { type Prepared, prepare } from "./prepare.js";
import { median, quantile, type Times, time } from "./timing.js";
import { disagreement } from "./values.js";

/** Largest relative error of a sample. Found: 3e-6 and 1e-6; f32 in two orders of summation. */
export const TOLERANCE = { op: 1e-5, step: 1e-3 };
export const toleranceOf = (one: Case): number => (isStep(one) ? TOLERANCE.step : TOLERANCE.op);

/** Enough for one that nothing disturbs. */
const JAVASCRIPT_RUNS = 40;

/** A line of the table, and of `--json`. */
export interface Row {
  readonly case: string;
  readonly direction: Direction;
  readonly engine: "lacuna";
  readonly backend: BackendName;
  readonly medianMs: number | null;
  readonly p95Ms: number | null;
  /** Medians of the rounds: their spread is the noise band of a comparison. */
  readonly roundMs: readonly number[];
  /** 10⁹ operations of convolutions and matrix products per second; null where there are none. */
  readonly gflops: number | null;
  /** 10⁹ bytes per second. */
  readonly gbs: number | null;
  /** Of the adapter's measured peaks. */
  readonly flopShare: number | null;
  readonly copyShare: number | null;
  /** Most bytes on the device at once, operands included. */
  readonly bytes: number | null;
  readonly dispatches: number | null;
  readonly submits: number | null;
  /** The case that was compared with the reference: this one, or a smaller one; null on the reference. */
  readonly checkedAs: string | null;
  /** GPU time of kernels in one run, longest first, where it was asked for. */
  readonly kernels?: readonly KernelTime[];
  /** Of whole steps on WebGPU. */
  readonly javaScript?: JavaScriptCost;
  /** Why there are no times. */
  readonly note?: string;
}

export interface MeasureOptions {
  readonly backend: BackendName;
  readonly rounds: number;
  /** Each round's, at least. */
  readonly seconds: number;
  readonly repetitions: number;
  readonly peaks: Peaks;
  /** Measure GPU times of kernels, too. */
  readonly kernels: boolean;
}

/** Results of the reference, which every backend is compared with. */
export class ReferenceResults {
  readonly #known = new Map<string, Promise<number[][]>>();

  of(one: Case): Promise<number[][]> {
    const known = this.#known.get(one.name) ?? samplesOn("reference", one);
    this.#known.set(one.name, known);
    return known;
  }
}

async function samplesOn(backend: BackendName, one: Case): Promise<number[][]> {
  using device = await open(backend);
  return await prepare(device, one).check();
}

export interface Measured {
  readonly rows: readonly Row[];
  /** "wrong": another result than the reference's. "refused": the device has no kernel or no room for it. */
  readonly outcome: "done" | "wrong" | "refused";
}

/** Checks a case, then times it, on a device of its own, so that peak bytes are the case's. */
export async function measure(one: Case, options: MeasureOptions, reference: ReferenceResults): Promise<Measured> {
  const { backend } = options;
  const checked = backend === "reference" ? null : checkable(one);
  const without = (note: string, outcome: Measured["outcome"]): Measured => ({
    rows: directionsOf(one).map((direction) => ({ ...emptyRow(one, direction, backend, checked), note })),
    outcome,
  });
  try {
    const wrong =
      checked && disagreement(await samplesOn(backend, checked), await reference.of(checked), toleranceOf(one));
    if (wrong) return without(`not the reference's: ${wrong} (${checked.name})`, "wrong");
    return { rows: await timed(one, options, checked), outcome: "done" };
  } catch (error) {
    if (!(error instanceof LacunaError)) throw error;
    return without(error.message.replaceAll("\n ", ""), "refused");
  }
}

async function timed(one: Case, options: MeasureOptions, checked: Case | null): Promise<Row[]> {
  const { backend, rounds } = options;
  using device = await open(backend);
  const prepared = prepare(device, one);
  const turns: Times[] = [];
  for (let round = 0; round < rounds; round++) turns.push(await time(device, prepared.run, options));
  const counts = await countsByDirection(device, prepared.run);
  const bytes = device.stats.peakBytes;
  const kernels = options.kernels && backend === "webgpu" ? await kernelTimes(one) : null;
  const repetitions = options.repetitions > 1 ? JAVASCRIPT_RUNS : 1;
  const javaScript = isStep(one) && backend === "webgpu" ? await javaScriptCost(one, repetitions) : null;
  return directionsOf(one).map((direction) => {
    const all = turns.flatMap((turn) => turn[direction] ?? []);
    const count = counts[direction]!;
    const medianMs = median(all);
    const perSecond = (amount: number) => (amount > 0 && medianMs > 0 ? amount / medianMs / 1e6 : null);
    const gflops = perSecond(count.flops);
    const gbs = perSecond(prepared.bytes?.[direction] ?? count.bytes);
    const { peaks } = options;
    return {
      ...emptyRow(one, direction, backend, checked),
      medianMs,
      p95Ms: quantile(all, 0.95),
      roundMs: turns.map((turn) => median(turn[direction] ?? [])),
      gflops,
      gbs,
      flopShare: gflops && gflops / peaks.gflops,
      copyShare: gbs && gbs / peaks.copyGBs,
      bytes,
      dispatches: count.dispatches,
      submits: count.submits,
      ...(javaScript && { javaScript }),
      ...(kernels && (direction === "both" || direction === "step") && { kernels }),
    };
  });
}

const emptyRow = (one: Case, direction: Direction, backend: BackendName, checked: Case | null): Row => ({
  case: one.name,
  direction,
  engine: "lacuna",
  backend,
  medianMs: null,
  p95Ms: null,
  roundMs: [],
  gflops: null,
  gbs: null,
  flopShare: null,
  copyShare: null,
  bytes: null,
  dispatches: null,
  submits: null,
  checkedAs: checked?.name ?? null,
});

async function countsByDirection(device: Device, run: Prepared["run"]): Promise<Partial<Record<Direction, Counts>>> {
  const counts: Partial<Record<Direction, Counts>> = {};
  for (const [direction, f] of Object.entries(run)) counts[direction as Direction] = await countsOf(device, f); // its keys
  const { forward, both } = counts;
  if (forward && both) {
    counts.backward = {
      flops: both.flops - forward.flops,
      bytes: both.bytes - forward.bytes,
      dispatches: both.dispatches - forward.dispatches,
      submits: both.submits, // a run of its own would submit as often
    };
  }
  return counts;
}

/** GPU time of one run by kernel; null where the adapter has no timestamps. */
async function kernelTimes(one: Case): Promise<readonly KernelTime[] | null> {
  // Dawn rounds to 0.1 ms unless told not to.
  const dawn = ["disable-dawn-features=timestamp_quantization"];
  using device = (await open("webgpu", { timestamps: true, dawn })) as WebGPUBackend; // the backend of this name
  const { both, step } = prepare(device, one).run;
  const f = both ?? step!;
  scope(() => void f()); // the first run compiles
  if (!(await device.kernelTimes())) return null;
  scope(() => void f());
  return await device.kernelTimes(); // before the device is disposed of
}
