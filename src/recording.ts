import type { Backend } from "./backends/backend.js";
import type { AnyKernel } from "./kernel.js";

/** A number, or what gives it anew each time a captured step is replayed. */
export type Live = number | (() => number);
export type LiveParams = Readonly<Record<string, Live>>;

/** What is noted while a step is captured: how often kernels ran, and what of the step changes from one replay to the next. */
export class Recording {
  /** Kernels run so far. */
  runs = 0;
  /** Those whose parameters are not all constant. */
  readonly live: { readonly run: number; readonly kernel: AnyKernel; readonly params: LiveParams }[] = [];
  /** What `eachStep` was given, in order. */
  readonly effects: (() => void)[] = [];
  constructor(readonly device: Backend) {}
}
let current: Recording | null = null;

/** @internal Runs `fn` with everything noted in a recording. */
export function record<T>(recording: Recording, fn: () => T): T {
  const before = current;
  current = recording;
  try {
    return fn();
  } finally {
    current = before;
  }
}

/**
 * For what a step changes in JavaScript, such as the number of steps taken: called now, and before each replay of a step
 * that is being captured.
 */
export function eachStep(effect: () => void): void {
  current?.effects.push(effect);
  effect();
}

export const liveValue = (value: Live): number => (typeof value === "function" ? value() : value);

/** @internal Runs a kernel with the values that its parameters have now. */
export function issue(
  device: Backend,
  kernel: AnyKernel,
  inputs: Parameters<Backend["run"]>[1],
  outputs: Parameters<Backend["run"]>[2],
  params: LiveParams,
): void {
  device.run(kernel, inputs, outputs, valuesOf(params));
  if (current?.device !== device) return;
  const run = current.runs++;
  if (isLive(params)) current.live.push({ run, kernel, params });
}

/** @internal */
export function valuesOf(params: LiveParams): Readonly<Record<string, number>> {
  if (!isLive(params)) return params as Readonly<Record<string, number>>;
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, liveValue(value)]));
}

function isLive(params: LiveParams): boolean {
  for (const name in params) if (typeof params[name] === "function") return true;
  return false;
}
