import { defineKernel, linear } from "../kernel.js";
import type { Spec } from "../shape.js";
import { batchParts, run, runInto, Tensor } from "../tensor.js";
import { channelKernel } from "./channels.js";

// The sums over rows that batch normalisation needs, in two stages and a fixed order.
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
const reduceGradient = channelKernel({
  name: "batch_norm.reduce_gradient",
  inputs: ["x", "dy", "mean", "rstd"],
  outputs: ["dgammas", "dbetas"],
  params: { rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32", first: "u32" },
  groups: (p, lanes) => linear(p.chunks * lanes),
});
const reduceGradientRelu = channelKernel({
  name: "batch_norm.reduce_gradient_relu",
  inputs: ["x", "dy", "gamma", "beta", "mean", "rstd"],
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

/** `[rows, c]`: split by rows where it exceeds the binding limit, whatever the size of an image. */
const asRows = (x: Tensor): Tensor => x.alias([x.size / x.shape[x.rank - 1]!, x.shape[x.rank - 1]!]);
export const vector = (channels: number): Spec => ({ shape: [channels], dtype: "f32" });
export const matrix = (rows: number, channels: number): Spec => ({ shape: [rows, channels], dtype: "f32" });

/** Mean and 1 / √(var + eps) of each channel; moves the running statistics. */
export function momentsOf(
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

/** What the gradients need of each channel, `[c]` each. */
export interface Channels {
  readonly gamma: Tensor;
  readonly beta: Tensor;
  readonly mean: Tensor;
  readonly rstd: Tensor;
}

/**
 * dgamma = Σ g · x̂ and dbeta = Σ g over the rows, where x̂ = (x − mean) · rstd and g is dy: all of it, or with `relu` what
 * a ReLU behind the norm lets through, where x̂ · gamma + beta > 0.
 */
export function parameterGradients(
  x: Tensor,
  dy: Tensor,
  { gamma, beta, mean, rstd }: Channels,
  relu: boolean,
): [dgamma: Tensor, dbeta: Tensor] {
  const channels = mean.size;
  const parts = batchParts("batchNorm", [asRows(x), asRows(dy)]).map(([x, dy]) => ({ x, dy, ...chunksOf(x) }));
  let chunks = parts.reduce((sum, part) => sum + part.chunks, 0);
  let dgammas = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let dbetas = Tensor.uninitialised(x.device, matrix(chunks, channels)); // [chunks, c]
  let first = 0;
  for (const { x, dy, ...part } of parts) {
    const params = { ...part, channels, first };
    if (relu) runInto(reduceGradientRelu(channels), [x, dy, gamma, beta, mean, rstd], [dgammas, dbetas], params);
    else runInto(reduceGradient(channels), [x, dy, mean, rstd], [dgammas, dbetas], params);
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
