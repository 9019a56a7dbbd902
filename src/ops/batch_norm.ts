import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Spec } from "../shape.js";
import { batchParts, run, runInto, scope, Tensor } from "../tensor.js";
import { channelKernel } from "./channels.js";

// x is seen as [rows, channels]. A chunk is what one thread of the first stage reads: `chunkRows` rows of its channels.
const reduceMoments = channelKernel({
  name: "batch_norm.reduce_moments",
  inputs: ["x"],
  outputs: ["counts", "means", "m2s"],
  params: { rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32", first: "u32" },
  groups: (p, lanes) => linear(p.chunks * lanes),
});
const mergeMoments = defineKernel({
  name: "batch_norm.merge_moments",
  inputs: ["counts", "means", "m2s"],
  outputs: ["mergedCounts", "mergedMeans", "mergedM2s"],
  params: { channels: "u32", chunks: "u32", fanIn: "u32" },
  groups: (p) => linear(Math.ceil(p.chunks / p.fanIn) * p.channels),
});
const finishMoments = defineKernel({
  name: "batch_norm.finish_moments",
  inputs: ["counts", "means", "m2s"],
  outputs: ["mean", "rstd", "runningMean", "runningVar"],
  params: { channels: "u32", chunks: "u32", momentum: "f32", eps: "f32" },
  groups: (p) => linear(p.channels),
});
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
const reduceGradient = channelKernel({
  name: "batch_norm.reduce_gradient",
  inputs: ["x", "dy", "mean", "rstd"],
  outputs: ["dgammas", "dbetas"],
  params: { rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32", first: "u32" },
  groups: (p, lanes) => linear(p.chunks * lanes),
});
const mergeGradient = defineKernel({
  name: "batch_norm.merge_gradient",
  inputs: ["dgammas", "dbetas"],
  outputs: ["dgamma", "dbeta"],
  params: { channels: "u32", chunks: "u32", fanIn: "u32" },
  groups: (p) => linear(Math.ceil(p.chunks / p.fanIn) * p.channels),
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
}

/**
 * Batch normalisation over all axes but the last: y = (x − mean) / √(var + eps) · gamma + beta (Ioffe, Szegedy 2015).
 * Normalises with the biased variance; the running variance takes the unbiased one, as PyTorch does.
 * The statistics are means and sums of squared deviations per chunk, merged by Chan's formula in a fixed order.
 * @param x `[…, c]`, f32 or f16; the state is f32, `[c]`.
 * @returns the shape and type of `x`.
 * @throws ShapeError where the state does not fit `x`, `x` is empty, or `train` finds one value per channel;
 * DTypeError for types other than these; ArgumentError for momentum outside 0 … 1 or a negative eps.
 */
export function batchNorm(x: Tensor, state: BatchNormState, options: BatchNormOptions): Tensor {
  const { gamma, beta, runningMean, runningVar } = state;
  const { mode, momentum = 0.1, eps = 1e-5 } = options;
  const channels = x.shape[x.rank - 1] ?? 0;
  const rows = channels > 0 ? x.size / channels : 0;
  check(x, state, momentum, eps);
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
    const [y] = run(normalize(channels), [x, gamma, beta, mean, rstd], [x.spec], { rows, channels });

    if (mode === "frozen") {
      return differentiable([x, gamma, beta], [gamma, rstd], y, (dy, [gamma, rstd]) => {
        const [dx] = run(gradInputFixed(channels), [dy, gamma, rstd], [dy.spec], { rows, channels });
        return [dx, null, null];
      });
    }
    return differentiable([x, gamma, beta], [x, gamma, mean, rstd], y, (dy, [x, gamma, mean, rstd]) => {
      const [dgamma, dbeta] = parameterGradients(x, dy, mean, rstd);
      const [dx] =
        mode === "train"
          ? run(gradInput(channels), [x, dy, gamma, mean, rstd, dgamma, dbeta], [x.spec], {
              rows,
              channels,
              total: rows,
            })
          : run(gradInputFixed(channels), [dy, gamma, rstd], [dy.spec], { rows, channels });
      return [dx, dgamma, dbeta];
    });
  });
}

/** `[rows, c]`: split by rows where it exceeds the binding limit, whatever the size of an image. */
const asRows = (x: Tensor): Tensor => x.alias([x.size / x.shape[x.rank - 1]!, x.shape[x.rank - 1]!]);
const vector = (channels: number): Spec => ({ shape: [channels], dtype: "f32" });
const matrix = (rows: number, channels: number): Spec => ({ shape: [rows, channels], dtype: "f32" });

/** Mean and 1 / √(var + eps) of each channel; moves the running statistics. */
function momentsOf(
  x: Tensor,
  runningMean: Tensor,
  runningVar: Tensor,
  momentum: number,
  eps: number,
): [Tensor, Tensor] {
  const channels = runningMean.size;
  const parts = batchParts("batchNorm", [asRows(x)]).map(([x]) => ({ x, ...chunksOf(x) }));
  let chunks = parts.reduce((sum, part) => sum + part.chunks, 0);
  let counts = Tensor.uninitialised(x.device, vector(chunks));
  let means = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let m2s = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let first = 0;
  for (const { x, ...part } of parts) {
    runInto(reduceMoments(channels), [x], [counts, means, m2s], { ...part, channels, first });
    first += part.chunks;
  }
  if (chunks > MANY) {
    const fanIn = Math.ceil(Math.sqrt(chunks));
    const merged = Math.ceil(chunks / fanIn);
    const specs = [vector(merged), matrix(merged, channels), matrix(merged, channels)] as const;
    [counts, means, m2s] = run(mergeMoments, [counts, means, m2s], specs, { channels, chunks, fanIn });
    chunks = merged;
  }
  const mean = Tensor.uninitialised(x.device, vector(channels));
  const rstd = Tensor.uninitialised(x.device, vector(channels));
  const outputs = [mean, rstd, runningMean, runningVar] as const;
  runInto(finishMoments, [counts, means, m2s], outputs, { channels, chunks, momentum, eps });
  return [mean, rstd];
}

/** dgamma = Σ dy · x̂ and dbeta = Σ dy over the rows, where x̂ = (x − mean) · rstd. */
function parameterGradients(x: Tensor, dy: Tensor, mean: Tensor, rstd: Tensor): [dgamma: Tensor, dbeta: Tensor] {
  const channels = mean.size;
  const parts = batchParts("batchNorm", [asRows(x), asRows(dy)]).map(([x, dy]) => ({ x, dy, ...chunksOf(x) }));
  let chunks = parts.reduce((sum, part) => sum + part.chunks, 0);
  let dgammas = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let dbetas = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let first = 0;
  for (const { x, dy, ...part } of parts) {
    runInto(reduceGradient(channels), [x, dy, mean, rstd], [dgammas, dbetas], { ...part, channels, first });
    first += part.chunks;
  }
  if (chunks > MANY) {
    const fanIn = Math.ceil(Math.sqrt(chunks));
    const merged = Math.ceil(chunks / fanIn);
    const specs = [matrix(merged, channels), matrix(merged, channels)] as const;
    [dgammas, dbetas] = run(mergeGradient, [dgammas, dbetas], specs, { channels, chunks, fanIn });
    chunks = merged;
  }
  return run(mergeGradient, [dgammas, dbetas], [vector(channels), vector(channels)], {
    channels,
    chunks,
    fanIn: chunks,
  });
}

/** More chunks than this are merged in two steps, so that no thread walks through more than about this many. */
const MANY = 64;

/**
 * How the first stage cuts its rows: about 32,768 threads (enough to saturate a large GPU with four loads in flight
 * each), at most 1024 chunks for the second stage (one on a CPU, whose kernel splits it), at least 16 rows a thread.
 */
function chunksOf(x: Tensor): { rows: number; chunks: number; chunkRows: number } {
  const channels = x.shape[x.rank - 1]!;
  const rows = x.size / channels;
  const lanes = channels % 4 === 0 ? channels / 4 : channels;
  const chunkRows = Math.max(16, Math.ceil(rows / Math.min(1024, x.device.lanes)), Math.ceil((rows * lanes) / 32768));
  return { rows, chunks: Math.ceil(rows / chunkRows), chunkRows };
}

function check(x: Tensor, state: BatchNormState, momentum: number, eps: number): void {
  const { gamma, beta, runningMean, runningVar } = state;
  const vectors = { gamma, beta, runningMean, runningVar };
  const operands: Record<string, Spec> = { x: x.spec };
  for (const [name, t] of Object.entries(vectors)) operands[name] = t.spec;
  if (!isFloat(x.dtype)) throw new DTypeError("batchNorm", "x must be f32 or f16", operands);
  if (Object.values(vectors).some((t) => t.dtype !== "f32")) {
    throw new DTypeError("batchNorm", "gamma, beta and the running statistics must be f32", operands);
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
