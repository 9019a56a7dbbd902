import { ArgumentError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { runInto } from "../tensor.js";
import { belowOne, Optimizer, type ParameterGroup, type Update } from "./optimizer.js";

const sgd = defineKernel({
  name: "optimizer.sgd",
  inputs: ["dw", "clip"],
  outputs: ["w", "m"],
  params: { count: "u32", lr: "f32", momentum: "f32", decay: "f32", nesterov: "u32" },
  groups: (p) => linear(p.count / 4), // counts of arenas are multiples of 64
  batch: { count: "count", buffers: ["dw", "w", "m"] },
});

export interface SGDOptions {
  /** In [0, 1). Default 0. */
  readonly momentum?: number;
  /** Look ahead by one step of the momentum. Default false; needs momentum. */
  readonly nesterov?: boolean;
}

/**
 * Stochastic gradient descent, PyTorch's rule: g = dw + weightDecay·w, m = momentum·m + g, and
 * w −= lr·m, or lr·(g + momentum·m) with `nesterov` (Sutskever et al., ICML 2013). Dampening is 0.
 */
export class SGD extends Optimizer {
  readonly #momentum: number;
  readonly #nesterov: boolean;

  /** @throws ArgumentError where momentum is out of range, and as Optimizer does. */
  constructor(groups: readonly ParameterGroup[], { momentum = 0, nesterov = false }: SGDOptions = {}) {
    belowOne("SGD", "momentum", momentum);
    if (nesterov && momentum === 0) throw new ArgumentError("SGD", "nesterov needs momentum");
    super(groups, ["momentum"]);
    this.#momentum = momentum;
    this.#nesterov = nesterov;
  }

  protected override update({ w, dw, moments, clip, lr, weightDecay }: Update): void {
    const [m] = moments;
    runInto(sgd, [dw, clip], [w, m!], {
      count: w.size,
      lr,
      momentum: this.#momentum,
      decay: weightDecay,
      nesterov: this.#nesterov ? 1 : 0,
    });
  }
}
