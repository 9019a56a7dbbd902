import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { NativeBackend } from "../src/backends/native/index.js";
import { ReferenceBackend } from "../src/backends/reference/index.js";
import { WebGPUBackend } from "../src/backends/webgpu/index.js";
import { candidatesFor } from "../src/backends/webgpu/variants.js";
import { DeviceError } from "../src/errors.js";
import { fromBfloatBits, fromHalfBits, toBfloatBits, toHalfBits } from "../src/half.js";
import { type DType, isFloat, type Shape, sizeOf, type TensorData } from "../src/shape.js";
import { dispose, scope, Tensor } from "../src/tensor.js";

/** Deterministic numbers in (-1, 1), none closer to 0 than 0.02, so that kinks (ReLU at 0) are not met by accident. */
export function values(count: number, seed = 1, low = -1, high = 1): number[] {
  let state = (seed * 2654435761) >>> 0;
  const out: number[] = [];
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    const u = ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
    const v = low + u * (high - low);
    out.push(Math.fround(Math.abs(v) < 0.02 ? v + 0.05 : v));
  }
  return out;
}

/** A permutation of 0 … count - 1 scaled to (-1, 1): values without ties, for maxima. */
export function distinct(count: number, seed = 1): number[] {
  const order = [...Array(count).keys()];
  const keys = values(count, seed);
  order.sort((a, b) => keys[a]! - keys[b]! || a - b);
  return order.map((rank) => Math.fround(((rank + 0.5) / count) * 2 - 1));
}

export interface Operand {
  readonly data: readonly number[];
  readonly shape: Shape;
  readonly dtype?: DType;
}
/** A float operand with seeded values. */
export const random = (shape: Shape, seed = 1, low = -1, high = 1): Operand => ({
  data: values(sizeOf(shape), seed, low, high),
  shape,
});
/** Class indices in [0, classes), as u32. */
export const labels = (shape: Shape, classes: number, seed = 1): Operand => ({
  data: values(sizeOf(shape), seed, 0, 1).map((v) => Math.min(classes - 1, Math.floor(v * classes))),
  shape,
  dtype: "u32",
});

const asked = process.env.LACUNA_TEST_BACKENDS?.split(",");
/** Is a backend part of this run? `LACUNA_TEST_BACKENDS=reference` narrows it. */
export const isAsked = (name: string): boolean => !asked || asked.includes(name);

let reference: ReferenceBackend | undefined;
let webgpu: Promise<WebGPUBackend | null> | undefined;
let openWebGPU: WebGPUBackend | null = null;
let cpu: NativeBackend | null | undefined;
let host: NativeBackend | null | undefined;
let hostBackwards: NativeBackend | null | undefined;

export const referenceDevice = (): Backend => (reference ??= new ReferenceBackend());

/** The WebGPU device of this test file, or null where there is none (test/run.mjs has said why). */
export async function webgpuDevice(): Promise<WebGPUBackend | null> {
  if (!isAsked("webgpu")) return null;
  webgpu ??= WebGPUBackend.open().catch((error: unknown) => {
    if (error instanceof DeviceError && error.failure === "unavailable") return null;
    throw error;
  });
  openWebGPU = await webgpu;
  return openWebGPU;
}
/** A device that takes the variants of this name wherever they fit; "plain" for the plain shaders. */
function variantDevice(variant: string): Promise<WebGPUBackend> {
  const device = variantDevices.get(variant) ?? WebGPUBackend.open({ variant });
  variantDevices.set(variant, device);
  return device;
}
const variantDevices = new Map<string, Promise<WebGPUBackend>>();

/** The CPU device of this test file, with guard zones; null where the addon is not built. */
export function cpuDevice(): NativeBackend | null {
  if (!isAsked("cpu")) return null;
  if (cpu === undefined) {
    try {
      cpu = NativeBackend.open("cpu", { guard: true });
    } catch (error) {
      if (!(error instanceof DeviceError && error.failure === "unavailable")) throw error;
      cpu = null;
    }
  }
  return cpu;
}
/** With LACUNA_TEST_CUDA=1 a real card takes the host device's place, and must be there: `npm run gpu` tests it so. */
export const onCard = process.env.LACUNA_TEST_CUDA === "1";
/** The addon in which the CUDA kernels run on the CPU: test/run.mjs builds it. For a card it is the one that is opened. */
export const hostAddon =
  (onCard ? process.env.LACUNA_ADDON : process.env.LACUNA_HOST_ADDON) ??
  fileURLToPath(new URL(`../build/${onCard ? "Release" : "host"}/lacuna.node`, import.meta.url));
const openHost = (reverse: boolean): NativeBackend | null => {
  if (!isAsked("host")) return null;
  if (onCard) return NativeBackend.open("cuda", { addon: hostAddon, guard: true });
  try {
    return NativeBackend.open("cuda", { addon: hostAddon, guard: true, reverse });
  } catch (error) {
    if (!(error instanceof DeviceError && error.failure === "unavailable")) throw error;
    return null;
  }
};
/** The CUDA kernels on the CPU, with guard zones; null where that addon is not built. */
export function hostDevice(): NativeBackend | null {
  if (host === undefined) host = openHost(false);
  return host;
}
/** The same with the turns of threads and blocks backwards: other bits from it show a race. A card just runs again. */
export function hostDeviceBackwards(): NativeBackend | null {
  if (onCard) return hostDevice();
  if (hostBackwards === undefined) hostBackwards = openHost(true);
  return hostBackwards;
}
/** Every device of this run, the reference first. */
export async function allDevices(): Promise<Backend[]> {
  return [referenceDevice(), cpuDevice(), hostDevice(), await webgpuDevice()].filter((d) => d !== null);
}
export const openDevices = (): Backend[] =>
  [reference, cpu, host, hostBackwards, openWebGPU].filter((d) => d !== undefined && d !== null);
/** Before they go, native devices look at their guard zones once more. */
export async function closeDevices(): Promise<void> {
  try {
    await Promise.all([cpu?.sync(), host?.sync(), hostBackwards?.sync()]);
  } finally {
    for (const device of [cpu, host, hostBackwards]) device?.dispose();
    cpu = host = hostBackwards = undefined;
  }
  openWebGPU?.dispose();
  for (const device of await Promise.all(variantDevices.values())) device.dispose();
  variantDevices.clear();
  openWebGPU = null;
  webgpu = undefined;
}

/** The DeviceError that `f` throws or rejects with; fails where there is none. */
export async function failureOf(f: () => unknown): Promise<DeviceError> {
  try {
    await f();
  } catch (error) {
    expect(error).toBeInstanceOf(DeviceError);
    return error as DeviceError;
  }
  throw new Error("nothing was thrown");
}

/** ‖a − b‖ / ‖b‖, or the absolute norm where b is 0; NaN or infinity anywhere in `a` counts as infinite. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    if (!Number.isFinite(a[i]!) && !Object.is(a[i], b[i])) return Number.POSITIVE_INFINITY;
    if (!Number.isFinite(b[i]!)) continue; // both the same infinity
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  return norm > 0 ? Math.sqrt(difference / norm) : Math.sqrt(difference);
}

export interface CheckOptions {
  /** Indices of operands whose gradients are checked; default: every float operand. */
  readonly wrt?: readonly number[];
  /** Largest relative L2 error of WebGPU against the reference. */
  readonly tolerance?: number;
  /** The same for the CPU device. */
  readonly cpuTolerance?: number;
  /** Largest relative error of the reference's gradients against finite differences in float64. */
  readonly gradcheck?: number;
  /** The same for the CUDA kernels. */
  readonly cudaTolerance?: number;
  /** Also run with every f32 operand in f16 on WebGPU (tolerance 1e-2), and in bf16 by the CUDA kernels (2e-2). */
  readonly half?: boolean;
  /** PyTorch's answer: output (first one), and gradients of sum(output * weights) per `wrt`. */
  readonly golden?: { readonly output?: readonly number[]; readonly gradients?: readonly (readonly number[])[] };
  /** Largest relative error of the reference against the golden (which is float32 or float64). */
  readonly goldenTolerance?: number;
}

type Op = (...operands: Tensor[]) => Tensor | readonly Tensor[];

interface Outcome {
  outputs: TensorData[];
  gradients: TensorData[];
}

/** Gives each output fixed weights, so that the gradient of the sum is not constant. The same on every device. */
export const outputWeights = (count: number, output = 0): number[] => values(count, 977 + output);

/** Forward and backward of Σ outputs · weights on one device. */
async function evaluate(
  device: Backend,
  fn: Op,
  operands: readonly Operand[],
  wrt: readonly number[],
  half: "f16" | "bf16" | null,
): Promise<Outcome> {
  const { add, cast, mul, sum } = await import("../src/ops/index.js");
  const made = operands.map(({ data, shape, dtype = "f32" }) =>
    half && dtype === "f32" ? Tensor.from(device, data, shape, half) : Tensor.from(device, data, shape, dtype),
  );
  let outputs: Tensor[] = [];
  const project = () => {
    const result = fn(...made);
    outputs = (result instanceof Tensor ? [result] : [...result]) as Tensor[];
    const parts = outputs
      .map((y, i) => [isFloat(y.dtype) ? y : null, i] as const)
      .filter(([y]) => y !== null)
      .map(([y, i]) => sum(mul(cast(y!, "f32"), Tensor.from(device, outputWeights(y!.size, i), y!.shape))));
    return { loss: parts.reduce((a, b) => add(a, b)), outputs };
  };
  let gradients: Tensor[] = [];
  if (wrt.length > 0) {
    const result = differentiate(
      wrt.map((i) => made[i]!),
      project,
    );
    gradients = result.gradients;
    outputs = [...result.values.outputs];
    result.values.loss.dispose();
  } else {
    outputs = scope(() => {
      const result = fn(...made);
      return (result instanceof Tensor ? [result] : [...result]) as Tensor[];
    });
  }
  const outcome = {
    outputs: await Promise.all(outputs.map((t) => t.data())),
    gradients: await Promise.all(gradients.map((t) => t.data())),
  };
  dispose(outputs, gradients, made);
  return outcome;
}

/**
 * The one test of an op. On the reference: agreement with PyTorch's golden where there is one, and gradients against
 * finite differences in float64. On WebGPU and the CPU device: outputs and
 * gradients against the reference, twice, with the same bits.
 */
export async function checkOp(fn: Op, operands: readonly Operand[], options: CheckOptions = {}): Promise<void> {
  const wrt = options.wrt ?? operands.flatMap((o, i) => ((o.dtype ?? "f32") === "f32" ? [i] : []));
  const expected = await evaluate(referenceDevice(), fn, operands, wrt, null);
  for (const data of [...expected.outputs, ...expected.gradients]) {
    expect(
      data.every((v) => !Number.isNaN(v)),
      "the reference leaves elements unwritten (NaN)",
    ).toBe(true);
  }
  if (options.golden) {
    const limit = options.goldenTolerance ?? 2e-6;
    const { output, gradients } = options.golden;
    if (output)
      expect(relativeError(expected.outputs[0]!, output), "reference against PyTorch, output").toBeLessThan(limit);
    gradients?.forEach((g, i) => {
      expect(relativeError(expected.gradients[i]!, g), `reference against PyTorch, gradient ${i}`).toBeLessThan(limit);
    });
  }
  await checkGradients(fn, operands, wrt, expected.gradients, options.gradcheck ?? 1e-7);

  const cpu = cpuDevice();
  if (cpu) {
    const got = await evaluate(cpu, fn, operands, wrt, null);
    compare(got, expected, options.cpuTolerance ?? 2e-6, "cpu");
    expect(await evaluate(cpu, fn, operands, wrt, null), "the same bits twice on cpu").toEqual(got);
  }

  const [cuda, backwards] = [hostDevice(), hostDeviceBackwards()];
  if (cuda && backwards) {
    const got = await evaluate(cuda, fn, operands, wrt, null);
    compare(got, expected, options.cudaTolerance ?? 5e-6, "cuda");
    expect(await evaluate(backwards, fn, operands, wrt, null), "the same bits in any order of threads").toEqual(got);
    if (options.half) {
      const wanted = await evaluate(referenceDevice(), fn, rounded(operands, "bf16"), wrt, null);
      const halves = await evaluate(cuda, fn, operands, wrt, "bf16");
      compare(halves, wanted, 2e-2, "cuda bf16");
      expect(await evaluate(backwards, fn, operands, wrt, "bf16"), "the same bits in bf16").toEqual(halves);
    }
  }

  const gpu = await webgpuDevice();
  if (!gpu) return;
  const fitting = new Set<string>();
  const got = await watched(gpu, fitting, () => evaluate(gpu, fn, operands, wrt, null));
  compare(got, expected, options.tolerance ?? 1e-5, "webgpu");
  const again = await evaluate(gpu, fn, operands, wrt, null);
  expect(again, "the same bits twice").toEqual(got);
  if (options.half && gpu.supports("f16")) {
    const wanted = await evaluate(referenceDevice(), fn, rounded(operands, "f16"), wrt, null);
    compare(await evaluate(gpu, fn, operands, wrt, "f16"), wanted, 1e-2, "webgpu f16");
  }
  for (const name of fitting) {
    const device = await variantDevice(name);
    compare(await evaluate(device, fn, operands, wrt, null), expected, options.tolerance ?? 1e-5, `webgpu, ${name}`);
  }
}

/** Runs `f` and notes the variants of kernels that could have run in it, but were not this device's choice. */
async function watched<T>(gpu: WebGPUBackend, fitting: Set<string>, f: () => Promise<T>): Promise<T> {
  const run = gpu.run.bind(gpu);
  gpu.run = (kernel, inputs, outputs, params) => {
    for (const variant of candidatesFor(kernel.name, params, gpu.traits).slice(1))
      fitting.add(variant?.name ?? "plain");
    run(kernel, inputs, outputs, params);
  };
  try {
    return await f();
  } finally {
    gpu.run = run;
  }
}

/** The operands with values that the half type holds exactly. */
function rounded(operands: readonly Operand[], half: "f16" | "bf16"): Operand[] {
  const round =
    half === "f16" ? (v: number) => fromHalfBits(toHalfBits(v)) : (v: number) => fromBfloatBits(toBfloatBits(v));
  return operands.map((o) => ((o.dtype ?? "f32") === "f32" ? { ...o, data: o.data.map(round) } : o));
}

function compare(got: Outcome, expected: Outcome, tolerance: number, who: string): void {
  for (const part of ["outputs", "gradients"] as const) {
    got[part].forEach((data, i) => {
      expect(relativeError(data, expected[part][i]!), `${who}, ${part} ${i}, relative L2`).toBeLessThanOrEqual(
        tolerance,
      );
    });
  }
}

/** Central differences of Σ outputs · weights, every element of small operands and a seeded sample of large ones. */
async function checkGradients(
  fn: Op,
  operands: readonly Operand[],
  wrt: readonly number[],
  gradients: readonly TensorData[],
  limit: number,
): Promise<void> {
  const device = referenceDevice();
  const eps = 1e-5;
  const at = async (changed: readonly Operand[]) => {
    const { outputs } = await evaluate(device, fn, changed, [], null);
    let total = 0;
    outputs.forEach((y, i) => {
      if (y instanceof Float64Array) {
        const w = outputWeights(y.length, i);
        for (let j = 0; j < y.length; j++) total += y[j]! * w[j]!;
      }
    });
    return total;
  };
  for (const [k, index] of wrt.entries()) {
    const { data } = operands[index]!;
    const sample =
      data.length <= 24
        ? [...data.keys()]
        : values(24, 31 + k, 0, 1).map((v) => Math.min(data.length - 1, Math.floor(v * data.length)));
    const numeric: number[] = [];
    const analytic: number[] = [];
    for (const j of sample) {
      const shifted = async (d: number) => {
        const moved = [...data];
        moved[j] = moved[j]! + d;
        return at(operands.map((o, i) => (i === index ? { ...o, data: moved } : o)));
      };
      numeric.push(((await shifted(eps)) - (await shifted(-eps))) / (2 * eps));
      analytic.push(gradients[k]![j]!);
    }
    const scale = Math.max(1e-3, Math.sqrt(analytic.reduce((a, b) => a + b * b, 0)));
    const error = Math.sqrt(analytic.reduce((a, b, i) => a + (b - numeric[i]!) ** 2, 0)) / scale;
    expect(error, `finite differences, operand ${index}`).toBeLessThan(limit);
  }
}
