import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
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
  dilationH: "u32",
  dilationW: "u32",
} as const;
const forward = channelKernel({
  name: "max_pool2d.forward",
  inputs: ["x"],
  outputs: ["y", "index"],
  params: geometry,
  groups: (p, lanes) => rowGroups(p.outW * lanes, p.images * p.outH),
  batch: { count: "images", buffers: ["x", "y", "index"] },
});
const gradInput = channelKernel({
  name: "max_pool2d.grad_input",
  inputs: ["dy", "index"],
  outputs: ["dx"],
  params: geometry,
  groups: (p, lanes) => rowGroups(p.w * lanes, p.images * p.h),
  batch: { count: "images", buffers: ["dy", "index", "dx"] },
});

export interface MaxPool2dOptions {
  readonly kernel: number | readonly [h: number, w: number];
  /** Distance between windows. Default: the kernel. */
  readonly stride?: number | readonly [h: number, w: number];
  /** Pixels of −∞ on each side, at most half the kernel. Default 0. */
  readonly padding?: number | readonly [h: number, w: number];
  /** Distance between the taps of a window. Default 1. */
  readonly dilation?: number | readonly [h: number, w: number];
}

/**
 * The largest value of each window. Of equal values the first in row-major order counts, as in PyTorch: it alone gets
 * the gradient.
 * @param x `[n, h, w, c]`, f32 or f16.
 * @returns `[n, ⌊(h + 2 · padding − dilation · (kernel − 1) − 1) / stride⌋ + 1, …, c]`.
 * @throws ShapeError where a window does not fit, or lies wholly in the padding; DTypeError; ArgumentError for options
 * out of range.
 */
export function maxPool2d(x: Tensor, options: MaxPool2dOptions): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("maxPool2d", "x must be f32 or f16", { x: x.spec });
  if (x.rank !== 4 || x.size === 0)
    throw new ShapeError("maxPool2d", "x must be [n, h, w, c] and not empty", { x: x.spec });
  const { kernel, stride = kernel, padding = 0, dilation = 1 } = options;
  const axis = (i: 0 | 1) => {
    const [k, s, p, d] = [kernel, stride, padding, dilation].map((v) => (typeof v === "number" ? v : v[i])) as Quad;
    const size = x.shape[i + 1]!;
    const whole = [k, s, d].every((v) => Number.isInteger(v) && v >= 1) && Number.isInteger(p) && p >= 0;
    if (!whole)
      throw new ArgumentError("maxPool2d", "kernel, stride and dilation must be whole and positive, padding whole");
    if (p > k / 2) throw new ArgumentError("maxPool2d", `padding ${p} exceeds half of kernel ${k}`);
    const out = Math.floor((size + 2 * p - d * (k - 1) - 1) / s) + 1;
    if (out < 1) throw new ShapeError("maxPool2d", "the window is larger than the padded map", { x: x.spec });
    for (let o = 0; o < out; o++) {
      const start = o * s - p;
      const first = start < 0 ? Math.ceil(-start / d) : 0; // the first tap that is not above or left of the map
      if (first >= k || start + first * d >= size) {
        throw new ShapeError("maxPool2d", "all taps of a window lie in the padding", { x: x.spec });
      }
    }
    return { k, s, p, d, out };
  };
  const [v, u] = [axis(0), axis(1)];
  const [images, h, w, channels] = x.shape as Quad;
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
    dilationH: v.d,
    dilationW: u.d,
  };
  const shape = [images, v.out, u.out, channels];
  const outputs = [
    { shape, dtype: x.dtype },
    { shape, dtype: "u32" }, // where the maximum stands: y · w + x within its image
  ] as const;
  const { spec } = x;
  return scope(() => {
    const [y, index] = run(forward(channels), [x], outputs, params);
    return differentiable([x], [index], y, (dy, [index]) => run(gradInput(channels), [dy, index], [spec], params));
  });
}

type Quad = [number, number, number, number];
