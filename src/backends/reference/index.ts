import { DeviceError, MissingKernelError } from "../../errors.js";
import type { AnyKernel } from "../../kernel.js";
import type { DType, TensorData } from "../../shape.js";
import type { Backend, BackendStats, Slot, View } from "../backend.js";
import { accumulate } from "./accumulate.js";
import { avgPool2d } from "./avg_pool2d.js";
import { batchNorm } from "./batch_norm.js";
import { binaryCrossEntropy } from "./binary_cross_entropy.js";
import { cast } from "./cast.js";
import { concat } from "./concat.js";
import { conv2d } from "./conv2d.js";
import { crossEntropy } from "./cross_entropy.js";
import { dropout } from "./dropout.js";
import { elementwise } from "./elementwise.js";
import { fill } from "./fill.js";
import { groupNorm } from "./group_norm.js";
import type { NumberArray, ReferenceOp } from "./kernel.js";
import { matmul } from "./matmul.js";
import { maxPool2d } from "./max_pool2d.js";
import { multiLoss } from "./multi_loss.js";
import { oneHot } from "./one_hot.js";
import { optimizer } from "./optimizer.js";
import { random } from "./random.js";
import { reduce } from "./reduce.js";
import { resizeBilinear } from "./resize_bilinear.js";
import { resizeNearest } from "./resize_nearest.js";
import { softmax } from "./softmax.js";
import { transpose } from "./transpose.js";
import { tversky } from "./tversky.js";
import { window } from "./window.js";

/** One line per op: the folder of the same name under shaders/ holds the WGSL twins. */
export const referenceOps: Readonly<Record<string, ReferenceOp>> = {
  accumulate,
  avg_pool2d: avgPool2d,
  batch_norm: batchNorm,
  binary_cross_entropy: binaryCrossEntropy,
  cast,
  concat,
  conv2d,
  cross_entropy: crossEntropy,
  dropout,
  elementwise,
  fill,
  group_norm: groupNorm,
  matmul,
  max_pool2d: maxPool2d,
  multi_loss: multiLoss,
  one_hot: oneHot,
  optimizer,
  random,
  reduce,
  resize_bilinear: resizeBilinear,
  resize_nearest: resizeNearest,
  softmax,
  transpose,
  tversky,
  window,
};

/**
 * The definition of every kernel, in float64 on the CPU. Fresh memory is NaN, so a kernel that leaves an element out is
 * seen. For checking and for machines without any GPU; not for speed.
 */
export class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly description = "float64 loops on the CPU";
  readonly maxBindingBytes = Number.MAX_SAFE_INTEGER;
  readonly offsetAlignment = 256;
  readonly lanes = 65536; // as on a GPU, so that the reference defines both stages of a reduction
  readonly graphs = null;
  #slots = new Map<Slot, NumberArray>();
  #next: Slot = 1;
  #stats = { bytes: 0, peakBytes: 0, dispatches: 0 };

  get stats(): BackendStats {
    return { live: this.#slots.size, submits: this.#stats.dispatches, ...this.#stats };
  }
  /** f16 in name: it computes in f64 whatever the type. bf16 is CUDA's. */
  supports(dtype: DType): boolean {
    return dtype !== "bf16";
  }
  alloc(elements: number, dtype: DType): Slot {
    const memory =
      dtype === "i32"
        ? new Int32Array(elements).fill(0x7fffffff)
        : dtype === "u32"
          ? new Uint32Array(elements).fill(0xffffffff)
          : new Float64Array(elements).fill(Number.NaN);
    this.#slots.set(this.#next, memory);
    this.#stats.bytes += memory.byteLength;
    this.#stats.peakBytes = Math.max(this.#stats.peakBytes, this.#stats.bytes);
    return this.#next++;
  }
  free(slot: Slot): void {
    const memory = this.#slots.get(slot);
    if (!memory) return; // the device was disposed before its tensors
    this.#stats.bytes -= memory.byteLength;
    this.#slots.delete(slot);
  }
  write(view: View, data: ArrayLike<number>): void {
    this.#memory(view).set(data);
  }
  async read(view: View): Promise<TensorData> {
    return this.#memory(view).slice();
  }
  copy(source: View, target: View): void {
    this.#memory(target).set(this.#memory(source));
  }
  run(
    kernel: AnyKernel,
    inputs: readonly View[],
    outputs: readonly View[],
    params: Readonly<Record<string, number>>,
  ): void {
    const [op, entry] = kernel.name.split(".") as [string, string];
    const compute = referenceOps[op]?.[entry];
    if (!compute) throw new MissingKernelError(kernel.name, this.name);
    this.#stats.dispatches++;
    compute(
      params,
      inputs.map((v) => this.#memory(v)),
      outputs.map((v) => this.#memory(v)),
    );
  }
  async sync(): Promise<void> {}
  dispose(): void {
    this.#slots.clear();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
  #memory({ slot, offset, size }: View): NumberArray {
    const memory = this.#slots.get(slot);
    if (!memory)
      throw new DeviceError(this.name, "disposed", `slot ${slot} is not allocated: was the device disposed?`);
    return memory.subarray(offset, offset + size);
  }
}
