import { batchNorm, type BatchNormOptions as OpOptions } from "../ops/index.js";
import type { Tensor } from "../tensor.js";
import { Layer } from "./module.js";
import { Parameter } from "./parameter.js";

export interface BatchNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Share of the batch in the running statistics, PyTorch's sense (TensorFlow's decay is 1 - momentum); default 0.1. */
  readonly momentum?: number;
}

/** What follows in the same passes over memory: a residual is added, then ReLU. */
export type AfterNorm = Pick<OpOptions, "residual" | "relu">;

/**
 * Normalises each channel of `[n, h, w, channels]` over the batch and space while training, by running statistics
 * otherwise, then scales and shifts. Ioffe and Szegedy 2015.
 */
export class BatchNorm extends Layer {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly runningMean: Parameter;
  readonly runningVar: Parameter;
  readonly eps: number;
  /** Share of the batch in the running statistics; may be changed between steps (adaptive batch normalisation does). */
  momentum: number;
  #frozen: boolean;

  constructor(channels: number, { eps = 1e-5, momentum = 0.1 }: BatchNormOptions = {}) {
    super();
    this.#frozen = false;
    this.eps = eps;
    this.momentum = momentum;
    const filled = (value: number) => () => new Float32Array(channels).fill(value);
    this.weight = new Parameter([channels], filled(1));
    this.bias = new Parameter([channels], filled(0));
    this.runningMean = new Parameter([channels], filled(0), false);
    this.runningVar = new Parameter([channels], filled(1), false);
  }

  /** "train" where statistics come from the batch. */
  get mode(): "train" | "eval" | "frozen" {
    return this.#frozen ? "frozen" : this.training ? "train" : "eval";
  }

  protected override setFrozen(frozen: boolean): void {
    this.#frozen = frozen;
  }

  /** @param after Default: nothing follows. */
  override forward(x: Tensor, after: AfterNorm = {}): Tensor {
    const state = {
      gamma: this.weight.tensor,
      beta: this.bias.tensor,
      runningMean: this.runningMean.tensor,
      runningVar: this.runningVar.tensor,
    };
    return batchNorm(x, state, { ...after, mode: this.mode, momentum: this.momentum, eps: this.eps });
  }
}
