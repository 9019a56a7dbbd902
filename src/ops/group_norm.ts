import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Spec } from "../shape.js";
import { run, scope, type Tensor } from "../tensor.js";
import { channelKernel } from "./channels.js";

// x is seen as [images, rows, channels]. Statistics are gathered per image, chunk of rows and channel, which serves any
// number of groups alike, then merged over the chunks, then over the channels of a group.
const reduceMoments = channelKernel({
  name: "group_norm.reduce_moments",
  inputs: ["x"],
  outputs: ["means", "m2s"],
  params: { images: "u32", rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32" },
  groups: (p, lanes) => linear(p.images * p.chunks * lanes),
  batch: { count: "images", buffers: ["x", "means", "m2s"] },
});
const mergeMoments = defineKernel({
  name: "group_norm.merge_moments",
  inputs: ["means", "m2s"],
  outputs: ["mean", "m2"],
  params: { images: "u32", rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32" },
  groups: (p) => linear(p.images * p.channels),
});
/** The result is the group's, repeated for each of its channels: the passes over the map need not know of groups. */
const finishMoments = defineKernel({
  name: "group_norm.finish_moments",
  inputs: ["means", "m2s"],
  outputs: ["mean", "rstd"],
  params: { images: "u32", rows: "u32", channels: "u32", groupSize: "u32", eps: "f32" },
  groups: (p) => linear(p.images * p.channels),
});
const normalize = channelKernel({
  name: "group_norm.normalize",
  inputs: ["x", "gamma", "beta", "mean", "rstd"],
  outputs: ["y"],
  params: { images: "u32", rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(p.images * Math.ceil(p.rows / 4) * lanes),
  batch: { count: "images", buffers: ["x", "mean", "rstd", "y"] },
});
const reduceGradient = channelKernel({
  name: "group_norm.reduce_gradient",
  inputs: ["x", "dy", "mean", "rstd"],
  outputs: ["dgammas", "dbetas"],
  params: { images: "u32", rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32" },
  groups: (p, lanes) => linear(p.images * p.chunks * lanes),
  batch: { count: "images", buffers: ["x", "dy", "mean", "rstd", "dgammas", "dbetas"] },
});
/** Sums the middle axis of [outer, terms, channels]: over the chunks of an image, then over the images. */
const mergeGradient = defineKernel({
  name: "group_norm.merge_gradient",
  inputs: ["dgammas", "dbetas"],
  outputs: ["dgamma", "dbeta"],
  params: { outer: "u32", terms: "u32", channels: "u32" },
  groups: (p) => linear(p.outer * p.channels),
});
const groupGradient = defineKernel({
  name: "group_norm.group_gradient",
  inputs: ["dgammas", "dbetas", "gamma"],
  outputs: ["slope", "shift"],
  params: { images: "u32", rows: "u32", channels: "u32", groupSize: "u32" },
  groups: (p) => linear(p.images * p.channels),
});
const gradInput = channelKernel({
  name: "group_norm.grad_input",
  inputs: ["x", "dy", "gamma", "mean", "rstd", "slope", "shift"],
  outputs: ["dx"],
  params: { images: "u32", rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(p.images * Math.ceil(p.rows / 4) * lanes),
  batch: { count: "images", buffers: ["x", "dy", "mean", "rstd", "slope", "shift", "dx"] },
});

export interface GroupNormOptions {
  /** Divides the channels into this many groups of neighbours. */
  readonly groups: number;
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
}

/**
 * Group normalisation (Wu & He, 2018): y = (x − mean) / √(var + eps) · gamma + beta, where mean and biased variance are
 * those of one image's group of channels. Independent of the batch, so it also trains at batch 1. A group must not be a
 * single value (1 x 1 map, one channel a group): its output would be beta whatever x is.
 * @param x `[n, …, c]`, f32 or f16.
 * @param gamma f32 `[c]`; `beta` likewise.
 * @returns the shape and type of `x`.
 * @throws ShapeError where shapes do not fit or a group is a single value; DTypeError; ArgumentError where the groups
 * do not divide the channels or eps is negative.
 */
export function groupNorm(x: Tensor, gamma: Tensor, beta: Tensor, { groups, eps = 1e-5 }: GroupNormOptions): Tensor {
  const operands = { x: x.spec, gamma: gamma.spec, beta: beta.spec };
  if (!isFloat(x.dtype)) throw new DTypeError("groupNorm", "x must be f32 or f16", operands);
  if (gamma.dtype !== "f32" || beta.dtype !== "f32")
    throw new DTypeError("groupNorm", "gamma and beta must be f32", operands);
  if (x.rank < 2 || x.size === 0) throw new ShapeError("groupNorm", "x must be [n, …, c] and not empty", operands);
  const images = x.shape[0]!;
  const channels = x.shape[x.rank - 1]!;
  const rows = x.size / (images * channels);
  if ([gamma, beta].some((t) => t.rank !== 1 || t.size !== channels)) {
    throw new ShapeError("groupNorm", `x has ${channels} channels, so gamma and beta must be [${channels}]`, operands);
  }
  if (!Number.isInteger(groups) || groups < 1 || channels % groups !== 0) {
    throw new ArgumentError("groupNorm", `${groups} groups do not divide ${channels} channels`, operands);
  }
  if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) {
    throw new ArgumentError("groupNorm", `eps must be finite and not negative, not ${eps}`);
  }
  const groupSize = channels / groups;
  if (rows * groupSize === 1) throw new ShapeError("groupNorm", "a group of a single value has no variance", operands);

  return scope(() => {
    const size = { images, rows, channels };
    const chunking = { ...size, ...chunksOf(images, rows, channels, x.device.lanes) };
    const perChunk: Spec = { shape: [images, chunking.chunks, channels], dtype: "f32" };
    const perImage: Spec = { shape: [images, channels], dtype: "f32" };
    const vector: Spec = { shape: [channels], dtype: "f32" };
    const [means, m2s] = run(reduceMoments(channels), [x], [perChunk, perChunk], chunking);
    const merged = run(mergeMoments, [means, m2s], [perImage, perImage], chunking);
    const [mean, rstd] = run(finishMoments, merged, [perImage, perImage], { ...size, groupSize, eps });
    const [y] = run(normalize(channels), [x, gamma, beta, mean, rstd], [x.spec], size);

    return differentiable([x, gamma, beta], [x, gamma, mean, rstd], y, (dy, [x, gamma, mean, rstd]) => {
      const parts = run(reduceGradient(channels), [x, dy, mean, rstd], [perChunk, perChunk], chunking);
      const [dgammas, dbetas] = run(mergeGradient, parts, [perImage, perImage], {
        outer: images,
        terms: chunking.chunks,
        channels,
      });
      const [dgamma, dbeta] = run(mergeGradient, [dgammas, dbetas], [vector, vector], {
        outer: 1,
        terms: images,
        channels,
      });
      const [slope, shift] = run(groupGradient, [dgammas, dbetas, gamma], [perImage, perImage], { ...size, groupSize });
      const [dx] = run(gradInput(channels), [x, dy, gamma, mean, rstd, slope, shift], [x.spec], size);
      return [dx, dgamma, dbeta];
    });
  });
}

/**
 * How the first stage cuts an image: about 32,768 threads over the batch, at most 64 chunks (and at most `most`), at
 * least 16 rows each.
 */
function chunksOf(images: number, rows: number, channels: number, most: number): { chunks: number; chunkRows: number } {
  const lanes = images * (channels % 4 === 0 ? channels / 4 : channels);
  const chunkRows = Math.max(16, Math.ceil(rows / Math.min(64, most)), Math.ceil((rows * lanes) / 32768));
  return { chunks: Math.ceil(rows / chunkRows), chunkRows };
}
