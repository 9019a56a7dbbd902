import { ArgumentError } from "../../errors.js";
import { type AnyKernel, packParams } from "../../kernel.js";
import { type ChoiceStore, fingerprint } from "./tune_store.js";
import { candidatesFor, type KernelParams, type Traits, type Variant, variants } from "./variants.js";

/**
 * "off": the best guess, always the same. "on": the choice that was measured before, else the best guess until it is
 * measured. "force": measures all anew.
 */
export type TuneMode = "off" | "on" | "force";
export const tuneModes: readonly TuneMode[] = ["off", "on", "force"];

/** `LACUNA_TUNE`, where it is set. @throws ArgumentError for a mode that does not exist. */
export function tuneFromEnvironment(): TuneMode | undefined {
  const asked = typeof process === "undefined" ? "" : (process.env.LACUNA_TUNE ?? "");
  if (asked === "") return undefined;
  const mode = tuneModes.find((name) => name === asked);
  if (!mode) throw new ArgumentError("LACUNA_TUNE", `must be one of ${tuneModes.join(", ")}, not "${asked}"`);
  return mode;
}

/** A kernel on operands of certain shapes, and the shaders that can run it. The plain one is null. */
interface Problem {
  readonly key: string;
  readonly kernel: AnyKernel;
  readonly half: boolean;
  readonly params: KernelParams;
  readonly bindingBytes: readonly number[];
  readonly candidates: readonly (Variant | null)[];
}

/** What the tuner needs of the backend. */
export interface TunerHost {
  readonly device: GPUDevice;
  readonly traits: Traits;
  /** What choices are kept under: they hold for this adapter. */
  readonly adapter: string;
  layoutOf(kernel: AnyKernel): GPUBindGroupLayout;
  pipelineOf(kernel: AnyKernel, half: boolean, variant: Variant | null, params: KernelParams): GPUComputePipeline;
  shaderCode(kernel: AnyKernel, variant: Variant | null): string;
}

const STORAGE = 0x80;
const UNIFORM = 0x40;
const COPY_DST = 0x08;

const ROUNDS = 3;
/** A timed submission runs about so long at least: shorter ones measure the driver. */
const LEAST_MS = 2;
const MOST_REPEATS = 64;
/** Another than the best guess must be faster by so much: noise must not choose. */
const MARGIN = 0.95;
/** After the first round, what takes so many times the best is out. */
const HOPELESS = 1.5;

/** Chooses among the variants of a kernel, by the list of guesses or by measuring them on this adapter. */
export class Tuner {
  readonly #choices = new Map<string, Variant | null>();
  /** Met, and not measured yet. */
  #open: Problem[] = [];
  #running: Promise<void> | null = null;

  constructor(
    readonly host: TunerHost,
    readonly mode: TuneMode,
    /** Null where nothing is measured. */
    readonly store: ChoiceStore | null,
    /** The one variant to take wherever it fits ("plain": none), for tests. */
    readonly only?: string,
  ) {}

  /** The shader to run now; null for the plain one. */
  choose(
    kernel: AnyKernel,
    params: KernelParams,
    half: boolean,
    bindingBytes: () => readonly number[],
  ): Variant | null {
    if (!variants[kernel.name]) return null;
    const key = keyOf(kernel, params, half);
    const before = this.#choices.get(key);
    if (before !== undefined) return before;
    const candidates = candidatesFor(kernel.name, params, this.host.traits);
    const only = candidates.find((variant) => nameOf(variant) === this.only);
    const guess = only === undefined ? candidates[0]! : only;
    const choice = this.#measuredBefore(kernel, key, candidates) ?? { variant: guess, measured: false };
    this.#choices.set(key, choice.variant);
    if (!choice.measured && this.mode !== "off" && this.only === undefined && candidates.length > 1) {
      this.#open.push({ key, kernel, half, params, bindingBytes: bindingBytes(), candidates });
    }
    return choice.variant;
  }

  #measuredBefore(kernel: AnyKernel, key: string, candidates: readonly (Variant | null)[]) {
    if (this.mode !== "on" || this.only !== undefined || !this.store) return null;
    const name = this.store.get(this.host.adapter, key, this.#fingerprint(kernel, candidates));
    const variant = candidates.find((candidate) => nameOf(candidate) === name);
    return variant === undefined ? null : { variant, measured: true };
  }

  /** Of all that a choice depends on: a shader that changes makes it void. */
  #fingerprint(kernel: AnyKernel, candidates: readonly (Variant | null)[]): string {
    return fingerprint(candidates.map((variant) => `${nameOf(variant)}\n${this.host.shaderCode(kernel, variant)}`));
  }

  /** Measures what was met since the last call. Nothing else may be submitted to the queue and expect to be timed. */
  async measure(): Promise<void> {
    while (this.#running) await this.#running;
    if (this.#open.length === 0) return;
    this.#running = this.#measureOpen().finally(() => {
      this.#running = null;
    });
    await this.#running;
  }

  async #measureOpen(): Promise<void> {
    const problems = this.#open;
    this.#open = [];
    for (const problem of problems) {
      const best = await this.#fastest(problem);
      if (best === undefined) continue;
      this.#choices.set(problem.key, best);
      const print = this.#fingerprint(problem.kernel, problem.candidates);
      this.store?.set(this.host.adapter, problem.key, print, nameOf(best));
    }
    this.store?.save();
  }

  /** The candidate of the shortest run; undefined where there is no memory to try them in. */
  async #fastest(problem: Problem): Promise<Variant | null | undefined> {
    const { device } = this.host;
    device.pushErrorScope("out-of-memory");
    const scratch = problem.bindingBytes.map((size) => {
      return device.createBuffer({ label: "tuning", size: Math.max(4, Math.ceil(size / 4) * 4), usage: STORAGE });
    });
    const bytes = new DataView(new ArrayBuffer(256));
    packParams(problem.kernel, problem.params, bytes, 0);
    const uniform = device.createBuffer({ label: "tuning", size: 256, usage: UNIFORM | COPY_DST });
    device.queue.writeBuffer(uniform, 0, bytes.buffer);
    try {
      if (await device.popErrorScope()) return undefined;
      const buffers = [...scratch, uniform];
      const bindGroup = device.createBindGroup({
        layout: this.host.layoutOf(problem.kernel),
        entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
      });
      return await this.#race(problem, bindGroup);
    } finally {
      for (const buffer of [...scratch, uniform]) buffer.destroy();
    }
  }

  async #race({ kernel, half, params, candidates }: Problem, bindGroup: GPUBindGroup): Promise<Variant | null> {
    const { device } = this.host;
    const run = async (variant: Variant | null, repeats: number): Promise<number> => {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(this.host.pipelineOf(kernel, half, variant, params));
      pass.setBindGroup(0, bindGroup, [0]);
      for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(...(variant ?? kernel).groups(params));
      pass.end();
      const start = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      return (performance.now() - start) / repeats;
    };
    for (const variant of candidates) await run(variant, 1); // compiles
    const repeats = Math.min(MOST_REPEATS, Math.ceil(LEAST_MS / Math.max(1e-3, await run(candidates[0]!, 1))));
    const times = candidates.map(() => Number.POSITIVE_INFINITY);
    for (let round = 0; round < ROUNDS; round++) {
      const bestSoFar = Math.min(...times);
      for (const [i, variant] of candidates.entries()) {
        if (round > 0 && times[i]! > HOPELESS * bestSoFar) continue;
        times[i] = Math.min(times[i]!, await run(variant, repeats));
      }
    }
    const best = times.indexOf(Math.min(...times));
    return candidates[times[best]! < MARGIN * times[0]! ? best : 0]!;
  }
}

/** Numbers that are no sizes, such as an epsilon, do not matter. */
function keyOf(kernel: AnyKernel, params: KernelParams, half: boolean): string {
  let key = half ? `${kernel.name} f16` : kernel.name;
  for (const name in kernel.params) if (kernel.params[name] !== "f32") key += ` ${params[name]}`;
  return key;
}

const nameOf = (variant: Variant | null): string => variant?.name ?? "plain";
