import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat } from "../shape.js";
import { run, scope, type Tensor } from "../tensor.js";
import { channelKernel, rowGroups } from "./channels.js";

const geometry = {
  images: "u32",
  h: "u32",
  w: "u32",
  channels: "u32",
  outH: "u32",
  outW: "u32",
  kernelH: "u32",
  kernelW: "u32",
  strideH: "u32",
  strideW: "u32",
  padH: "u32",
  padW: "u32",
  countPad: "u32",
} as const;
const forward = channelKernel({
  name: "avg_pool2d.forward",
  inputs: ["x"],
  outputs: ["y"],
  params: geometry,
  groups: (p, lanes) => rowGroups(p.outW * lanes, p.images * p.outH),
  batch: { count: "images", buffers: ["x", "y"] },
});
const gradInput = channelKernel({
  name: "avg_pool2d.grad_input",
  inputs: ["dy"],
  outputs: ["dx"],
  params: geometry,
  groups: (p, lanes) => rowGroups(p.w * lanes, p.images * p.h),
  batch: { count: "images", buffers: ["dy", "dx"] },
});
const sumChunks = channelKernel({
  name: "avg_pool2d.sum_chunks",
  inputs: ["x"],
  outputs: ["sums"],
  params: { images: "u32", rows: "u32", channels: "u32", chunks: "u32", chunkRows: "u32" },
  groups: (p, lanes) => linear(p.images * p.chunks * lanes),
  batch: { count: "images", buffers: ["x", "sums"] },
});
const finishMean = defineKernel({
  name: "avg_pool2d.finish_mean",
  inputs: ["sums"],
  outputs: ["y"],
  params: { images: "u32", rows: "u32", channels: "u32", chunks: "u32" },
  groups: (p) => linear(p.images * p.channels),
});
const spreadMean = channelKernel({
  name: "avg_pool2d.spread_mean",
  inputs: ["dy"],
  outputs: ["dx"],
  params: { images: "u32", rows: "u32", channels: "u32" },
  groups: (p, lanes) => linear(p.images * p.rows * lanes),
  batch: { count: "images", buffers: ["dy", "dx"] },
});

export interface AvgPool2dOptions {
  readonly kernel: number | readonly [h: number, w: number];
  /** Distance between windows. Default: the kernel. */
  readonly stride?: number | readonly [h: number, w: number];
  /** Zeros on each side, at most half the kernel. Default 0. */
  readonly padding?: number | readonly [h: number, w: number];
  /** Divide by the size of the kernel (true, the default), or by the number of pixels of the map in the window. */
  readonly countIncludePad?: boolean;
}

/**
 * The mean of each window, as PyTorch's `avg_pool2d`.
 * @param x `[n, h, w, c]`, f32 or f16.
 * @returns `[n, ⌊(h + 2 · padding − kernel) / stride⌋ + 1, …, c]`.
 * @throws ShapeError where the window does not fit; DTypeError; ArgumentError for options out of range.
 */
export function avgPool2d(x: Tensor, options: AvgPool2dOptions): Tensor {
  checkMap("avgPool2d", x);
  const { kernel, stride = kernel, padding = 0, countIncludePad = true } = options;
  const axis = (i: 0 | 1) => {
    const [k, s, p] = [kernel, stride, padding].map((v) => (typeof v === "number" ? v : v[i])) as [
      number,
      number,
      number,
    ];
    const whole = [k, s].every((v) => Number.isInteger(v) && v >= 1) && Number.isInteger(p) && p >= 0;
    if (!whole) throw new ArgumentError("avgPool2d", "kernel and stride must be whole and positive, padding whole");
    if (p > k / 2) throw new ArgumentError("avgPool2d", `padding ${p} exceeds half of kernel ${k}`);
    const out = Math.floor((x.shape[i + 1]! + 2 * p - k) / s) + 1;
    if (out < 1) throw new ShapeError("avgPool2d", "the window is larger than the padded map", { x: x.spec });
    return { k, s, p, out };
  };
  const [v, u] = [axis(0), axis(1)];
  const [images, h, w, channels] = x.shape as [number, number, number, number];
  const params = {
    images,
    h,
    w,
    channels,
    outH: v.out,
    outW: u.out,
    kernelH: v.k,
    kernelW: u.k,
    strideH: v.s,
    strideW: u.s,
    padH: v.p,
    padW: u.p,
    countPad: countIncludePad ? 1 : 0,
  };
  const { spec } = x;
  const [y] = run(forward(channels), [x], [{ shape: [images, v.out, u.out, channels], dtype: x.dtype }], params);
  return differentiable([x], [], y, (dy) => run(gradInput(channels), [dy], [spec], params));
}

/**
 * The mean of each image and channel.
 * @param x `[n, h, w, c]`, f32 or f16.
 * @returns `[n, 1, 1, c]`.
 * @throws ShapeError where `x` is not a map or empty; DTypeError.
 */
export function globalAvgPool(x: Tensor): Tensor {
  checkMap("globalAvgPool", x);
  const [images, h, w, channels] = x.shape as [number, number, number, number];
  const rows = h * w;
  // At least 16 pixels a thread, at most 64 partial sums to finish.
  const chunkRows = Math.max(16, Math.ceil(rows / Math.min(64, x.device.lanes)));
  const chunks = Math.ceil(rows / chunkRows);
  const partial = { shape: [images, chunks, channels], dtype: "f32" } as const;
  const pooled = { shape: [images, 1, 1, channels], dtype: x.dtype };
  const { spec } = x;
  return scope(() => {
    const [sums] = run(sumChunks(channels), [x], [partial], { images, rows, channels, chunks, chunkRows });
    const [y] = run(finishMean, [sums], [pooled], { images, rows, channels, chunks });
    return differentiable([x], [], y, (dy) => run(spreadMean(channels), [dy], [spec], { images, rows, channels }));
  });
}

function checkMap(op: string, x: Tensor): void {
  if (!isFloat(x.dtype)) throw new DTypeError(op, "x must be f32 or f16", { x: x.spec });
  if (x.rank !== 4 || x.size === 0) throw new ShapeError(op, "x must be [n, h, w, c] and not empty", { x: x.spec });
}
