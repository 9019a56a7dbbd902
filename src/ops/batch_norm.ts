import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Spec, sameShape } from "../shape.js";
import { run, scope, type Tensor } from "../tensor.js";
import { type Channels, matrix, momentsOf, parameterGradients, vector } from "./batch_norm_sums.js";
import { channelKernel } from "./channels.js";
import { reluGradient } from "./elementwise.js";

// x is seen as [rows, channels]. The sums over the rows are in batch_norm_sums.ts.
const freezeMoments = defineKernel({
  name: "batch_norm.freeze_moments",
  inputs: ["runningMean", "runningVar"],
  outputs: ["mean", "rstd"],
  params: { channels: "u32", eps: "f32" },
  groups: (p) => linear(p.channels),
});
const normalize = channelKernel({
  name: "batch_norm.normalize",
  inputs: ["x", "gamma", "beta", "mean", "rstd"],
  outputs: ["y"],
  params: { rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["x", "y"] },
});
const normalizeFused = channelKernel({
  name: "batch_norm.normalize_fused",
  inputs: ["x", "gamma", "beta", "mean", "rstd", "residual"],
  outputs: ["y"],
  params: { rows: "u32", channels: "u32", add: "u32", relu: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["x", "residual", "y"] },
});
const gradInput = channelKernel({
  name: "batch_norm.grad_input",
  inputs: ["x", "dy", "gamma", "mean", "rstd", "dgamma", "dbeta"],
  outputs: ["dx"],
  params: { rows: "u32", channels: "u32", total: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["x", "dy", "dx"] },
});
const gradInputFixed = channelKernel({
  name: "batch_norm.grad_input_fixed",
  inputs: ["dy", "gamma", "rstd"],
  outputs: ["dx"],
  params: { rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["dy", "dx"] },
});
const packFactors = defineKernel({
  name: "batch_norm.pack_factors",
  inputs: ["gamma", "beta", "mean", "rstd", "dgamma", "dbeta"],
  outputs: ["factors"],
  params: { channels: "u32", total: "u32" },
  groups: (p) => linear(p.channels),
});
const gradInputRelu = channelKernel({
  name: "batch_norm.grad_input_relu",
  inputs: ["x", "dy", "factors"],
  outputs: ["dx"],
  params: { rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["x", "dy", "dx"] },
});
const gradInputFixedRelu = channelKernel({
  name: "batch_norm.grad_input_fixed_relu",
  inputs: ["y", "dy", "gamma", "rstd"],
  outputs: ["dx"],
  params: { rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(Math.ceil(p.rows / 4) * lanes),
  batch: { count: "rows", buffers: ["y", "dy", "dx"] },
});

/** What a batch normalisation layer holds: f32, `[c]` each. */
export interface BatchNormState {
  /** Scale and shift. */
  readonly gamma: Tensor;
  readonly beta: Tensor;
  /** Moving estimates; in mode `train` the call updates them in place. */
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;
}

export interface BatchNormOptions {
  /**
   * `train`: the batch's own statistics, and the running ones move towards them. `eval`: the running statistics.
   * `frozen`: as `eval`, and gamma and beta get no gradient.
   */
  readonly mode: "train" | "eval" | "frozen";
  /** Share of the batch in the new running statistics, 0 … 1 (PyTorch's meaning). Default 0.1. */
  readonly momentum?: number;
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Of x's shape and type, added to what is normalised. Default: nothing. */
  readonly residual?: Tensor;
  /** ReLU after that, in the same passes over memory. Default false. */
  readonly relu?: boolean;
}

/**
 * Batch normalisation over all axes but the last: y = (x − mean) / √(var + eps) · gamma + beta (Ioffe, Szegedy 2015),
 * and where asked + residual and then ReLU, whose gradient at 0 is 0.
 * Normalises with the biased variance; the running variance takes the unbiased one, as PyTorch does.
 * The statistics are means and sums of squared deviations per chunk, merged by Chan's formula in a fixed order.
 * @param x `[…, c]`, f32 or f16; the state is f32, `[c]`.
 * @returns the shape and type of `x`.
 * @throws ShapeError where the state or the residual does not fit `x`, `x` is empty, or `train` finds one value per
 * channel; DTypeError for types other than these; ArgumentError for momentum outside 0 … 1 or a negative eps.
 */
export function batchNorm(x: Tensor, state: BatchNormState, options: BatchNormOptions): Tensor {
  const { gamma, beta, runningMean, runningVar } = state;
  const { mode, momentum = 0.1, eps = 1e-5, residual, relu = false } = options;
  const channels = x.shape[x.rank - 1] ?? 0;
  const rows = channels > 0 ? x.size / channels : 0;
  check(x, state, options);
  if (mode === "train" && rows === 1) {
    const reason =
      "training needs more than one value per channel: the variance of a single one is 0, so the output would be beta " +
      'whatever x is. Use a larger batch or map, groupNorm, or mode "frozen" or "eval" (ASPP image pooling at batch 1)';
    throw new ShapeError("batchNorm", reason, { x: x.spec });
  }
  return scope(() => {
    const [mean, rstd] =
      mode === "train"
        ? momentsOf(x, runningMean, runningVar, momentum, eps)
        : run(freezeMoments, [runningMean, runningVar], [vector(channels), vector(channels)], { channels, eps });
    const y = normalized(x, { gamma, beta, mean, rstd }, relu, residual);

    // Nothing stores the sum with a residual: on the tape a handle stands for it, so that the gradient that reaches it,
    // masked by ReLU, is one and the same for norm and residual, and y and dy are free before the norm's turn.
    const sum = residual ? y.alias() : y;
    // Without a residual, the kernels of the norm's gradients mask dy as they read it: by the output, or in training,
    // where x is read anyway, by x alone.
    const masks = relu && !residual;
    if (mode === "frozen") {
      differentiable([x, gamma, beta], [gamma, rstd, masks ? y : rstd], sum, (dy, [gamma, rstd, y]) => {
        return [throughConstants(dy, gamma, rstd, masks ? y : null), null, null];
      });
    } else {
      const output = masks && mode === "eval" ? y : rstd; // y where it is read, else something that is kept anyway
      differentiable([x, gamma, beta], [x, gamma, beta, mean, rstd, output], sum, (dy, saved) => {
        const [x, gamma, beta, mean, rstd, y] = saved;
        const of = { gamma, beta, mean, rstd };
        const [dgamma, dbeta] = parameterGradients(x, dy, of, masks);
        const dx =
          mode === "train"
            ? throughStatistics(x, dy, of, dgamma, dbeta, masks)
            : throughConstants(dy, gamma, rstd, masks ? y : null);
        return [dx, dgamma, dbeta];
      });
    }
    if (!residual) return y;
    return differentiable([sum, residual], [relu ? y : mean], y, (dy, [y]) => {
      const g = relu ? reluGradient(dy, y) : dy;
      return [g, g];
    });
  });
}

function normalized(x: Tensor, of: Channels, relu: boolean, residual: Tensor | undefined): Tensor {
  const { gamma, beta, mean, rstd } = of;
  const channels = gamma.size;
  const map = { rows: x.size / channels, channels };
  if (!relu && !residual) return run(normalize(channels), [x, gamma, beta, mean, rstd], [x.spec], map)[0];
  // Something must be bound in the place of a residual that is not there; it is not read.
  const params = { ...map, add: residual ? 1 : 0, relu: relu ? 1 : 0 };
  return run(normalizeFused(channels), [x, gamma, beta, mean, rstd, residual ?? x], [x.spec], params)[0];
}

/** dx where mean and rstd are the batch's own; dy is masked by ReLU on the way where asked. */
function throughStatistics(
  x: Tensor,
  dy: Tensor,
  { gamma, beta, mean, rstd }: Channels,
  dgamma: Tensor,
  dbeta: Tensor,
  relu: boolean,
): Tensor {
  const channels = gamma.size;
  const rows = x.size / channels;
  const total = rows;
  if (!relu) {
    const inputs = [x, dy, gamma, mean, rstd, dgamma, dbeta] as const;
    return run(gradInput(channels), inputs, [x.spec], { rows, channels, total })[0];
  }
  const packed = [gamma, beta, mean, rstd, dgamma, dbeta] as const;
  const [factors] = run(packFactors, packed, [matrix(5, channels)], { channels, total });
  return run(gradInputRelu(channels), [x, dy, factors], [x.spec], { rows, channels })[0];
}

/** dx where mean and rstd are constants; dy is masked by the output of a ReLU where there is one. */
function throughConstants(dy: Tensor, gamma: Tensor, rstd: Tensor, y: Tensor | null): Tensor {
  const channels = gamma.size;
  const map = { rows: dy.size / channels, channels };
  return y
    ? run(gradInputFixedRelu(channels), [y, dy, gamma, rstd], [dy.spec], map)[0]
    : run(gradInputFixed(channels), [dy, gamma, rstd], [dy.spec], map)[0];
}

function check(x: Tensor, state: BatchNormState, options: BatchNormOptions): void {
  const { gamma, beta, runningMean, runningVar } = state;
  const { momentum = 0.1, eps = 1e-5, residual } = options;
  const vectors = { gamma, beta, runningMean, runningVar };
  const operands: Record<string, Spec> = { x: x.spec };
  for (const [name, t] of Object.entries(vectors)) operands[name] = t.spec;
  if (residual) operands.residual = residual.spec;
  if (!isFloat(x.dtype)) throw new DTypeError("batchNorm", "x must be f32 or f16", operands);
  if (Object.values(vectors).some((t) => t.dtype !== "f32")) {
    throw new DTypeError("batchNorm", "gamma, beta and the running statistics must be f32", operands);
  }
  if (residual && residual.dtype !== x.dtype) {
    throw new DTypeError("batchNorm", "the residual must have x's type", operands);
  }
  if (residual && !sameShape(residual.shape, x.shape)) {
    throw new ShapeError("batchNorm", "the residual must have x's shape", operands);
  }
  if (x.rank < 2 || x.size === 0) throw new ShapeError("batchNorm", "x must be […, c] and not empty", operands);
  const channels = x.shape[x.rank - 1]!;
  if (Object.values(vectors).some((t) => t.rank !== 1 || t.size !== channels)) {
    throw new ShapeError(
      "batchNorm",
      `x has ${channels} channels, so the other operands must be [${channels}]`,
      operands,
    );
  }
  if (!(momentum >= 0 && momentum <= 1))
    throw new ArgumentError("batchNorm", `momentum must be 0 … 1, not ${momentum}`);
  if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) {
    throw new ArgumentError("batchNorm", `eps must be finite and not negative, not ${eps}`);
  }
}
