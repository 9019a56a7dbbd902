import { defineKernel, linear } from "../kernel.js";
import { runInto } from "../tensor.js";
import { belowOne, Optimizer, type ParameterGroup, positive, type Update } from "./optimizer.js";

const adam = defineKernel({
  name: "optimizer.adam",
  inputs: ["dw", "clip"],
  outputs: ["w", "m", "v"],
  // keep: factor on w before the update (decoupled decay); decay: coupled; rate1, rate2: 1 - beta1, 1 - beta2, which
  // f32 subtraction would spoil; lr: with the first moment's bias correction; root: 1 / sqrt of the second's.
  params: {
    count: "u32",
    lr: "f32",
    keep: "f32",
    decay: "f32",
    rate1: "f32",
    beta2: "f32",
    rate2: "f32",
    root: "f32",
    eps: "f32",
  },
  groups: (p) => linear(p.count / 4), // counts of arenas are multiples of 64
  batch: { count: "count", buffers: ["dw", "w", "m", "v"] },
});

export interface AdamOptions {
  /** Decay of the averages of the gradient and of its square, each in [0, 1). Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to the root of the second moment. Default 1e-8. */
  readonly eps?: number;
}

/**
 * Adam (Kingma & Ba, ICLR 2015, algorithm 1) in PyTorch's form:
 * w −= lr·m̂ / (√v̂ + eps). Weight decay is added to the gradient.
 */
export class Adam extends Optimizer {
  readonly #betas: readonly [number, number];
  readonly #eps: number;

  /** @throws ArgumentError where a beta is outside [0, 1) or eps not above 0, and as Optimizer does. */
  constructor(groups: readonly ParameterGroup[], { betas = [0.9, 0.999], eps = 1e-8 }: AdamOptions = {}) {
    const op = new.target.name;
    belowOne(op, "betas[0]", betas[0]);
    belowOne(op, "betas[1]", betas[1]);
    positive(op, "eps", eps);
    super(groups, ["mean", "square"]);
    this.#betas = betas;
    this.#eps = eps;
  }

  /** Is weight decay applied to the parameters rather than added to the gradient? */
  protected get decoupled(): boolean {
    return false;
  }

  protected override update({ w, dw, moments, clip, lr, weightDecay, step }: Update): void {
    const [m, v] = moments;
    const [beta1, beta2] = this.#betas;
    runInto(adam, [dw, clip], [w, m!, v!], {
      count: w.size,
      lr: () => lr() / (1 - beta1 ** step()),
      keep: this.decoupled ? () => 1 - lr() * weightDecay : 1,
      decay: this.decoupled ? 0 : weightDecay,
      rate1: 1 - beta1,
      beta2,
      rate2: 1 - beta2,
      root: () => 1 / Math.sqrt(1 - beta2 ** step()),
      eps: this.#eps,
    });
  }
}

/** Adam with decoupled weight decay, w −= lr·weightDecay·w (Loshchilov & Hutter, ICLR 2019, algorithm 2). */
export class AdamW extends Adam {
  protected override get decoupled(): boolean {
    return true;
  }
}
