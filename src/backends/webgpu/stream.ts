import { type AnyKernel, type Groups, packParams } from "../../kernel.js";
import type { KernelClock } from "./kernel_clock.js";
import { PARAMS_STRIDE, paramsBuffer } from "./params.js";

/** Dispatches in one submission at most. */
export const MOST_DISPATCHES = 512;

/** Commands gather in one encoder, and in one pass where they can, until they are submitted. */
export class CommandStream {
  /** What the dispatches that are not in a graph find their parameters in. */
  readonly params: GPUBuffer;
  dispatches = 0;
  submits = 0;
  readonly #paramBytes = new DataView(new ArrayBuffer(PARAMS_STRIDE * MOST_DISPATCHES));
  #paramSlots = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;

  /** @param clock where kernels are to be timed: each in a pass of its own */
  constructor(
    readonly device: GPUDevice,
    readonly clock: KernelClock | null,
  ) {
    this.params = paramsBuffer(device, MOST_DISPATCHES);
  }

  /** The encoder, outside any pass. */
  commands(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = null;
    this.#encoder ??= this.device.createCommandEncoder();
    return this.#encoder;
  }

  /** The pass that a dispatch of this kernel goes into. */
  pass(kernel: AnyKernel): GPUComputePassEncoder {
    this.dispatches++;
    if (this.clock) {
      this.#pass = this.commands().beginComputePass({ timestampWrites: this.clock.next(kernel.name) });
    }
    this.#pass ??= this.commands().beginComputePass();
    return this.#pass;
  }

  /** @param group binds `params`, beside the kernel's own buffers */
  dispatch(
    kernel: AnyKernel,
    pipeline: GPUComputePipeline,
    group: GPUBindGroup,
    params: Readonly<Record<string, number>>,
    groups: Groups,
  ): void {
    if (this.#paramSlots === MOST_DISPATCHES) this.flush();
    const at = PARAMS_STRIDE * this.#paramSlots++;
    packParams(kernel, params, this.#paramBytes, at);
    const pass = this.pass(kernel);
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group, [at]);
    pass.dispatchWorkgroups(groups[0], groups[1], groups[2]);
  }

  /** Submits what has gathered. */
  flush(): void {
    if (!this.#encoder) return;
    this.#pass?.end();
    if (this.#paramSlots > 0) {
      // Queue order: these bytes arrive after every earlier submission and before this one.
      this.device.queue.writeBuffer(this.params, 0, this.#paramBytes.buffer, 0, this.#paramSlots * PARAMS_STRIDE);
    }
    const submitted = this.clock?.resolve(this.#encoder);
    this.device.queue.submit([this.#encoder.finish()]);
    submitted?.();
    this.submits++;
    this.drop();
  }

  /** Forgets what has gathered. */
  drop(): void {
    this.#encoder = null;
    this.#pass = null;
    this.#paramSlots = 0;
  }
}
