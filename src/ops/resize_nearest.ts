import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { isFloat } from "../shape.js";
import { run, type Tensor } from "../tensor.js";
import { channelKernel, rowGroups } from "./channels.js";

const params = { images: "u32", h: "u32", w: "u32", channels: "u32", outH: "u32", outW: "u32" } as const;
const forward = channelKernel({
  name: "resize_nearest.forward",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p, lanes) => rowGroups(p.outW * lanes, p.images * p.outH),
  batch: { count: "images", buffers: ["x", "y"] },
});
const gradInput = channelKernel({
  name: "resize_nearest.grad_input",
  inputs: ["dy"],
  outputs: ["dx"],
  params,
  groups: (p, lanes) => rowGroups(p.w * lanes, p.images * p.h),
  batch: { count: "images", buffers: ["dy", "dx"] },
});

/**
 * Output pixel i is input pixel ⌊i · in / out⌋ on each axis, in whole numbers: PyTorch's `interpolate(mode="nearest")`
 * without its rounding of in / out to f32.
 * @param x `[n, h, w, c]`, f32 or f16.
 * @param size height and width of the result.
 * @returns `[n, ...size, c]`.
 * @throws ShapeError, DTypeError; ArgumentError for a size that is not whole and positive, or so large that coordinates
 * leave 32 bits.
 */
export function resizeNearest(x: Tensor, size: readonly [h: number, w: number]): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("resizeNearest", "x must be f32 or f16", { x: x.spec });
  if (x.rank !== 4 || x.size === 0) {
    throw new ShapeError("resizeNearest", "x must be [n, h, w, c] and not empty", { x: x.spec });
  }
  const [images, h, w, channels] = x.shape as [number, number, number, number];
  const [outH, outW] = size;
  if (!size.every((s) => Number.isInteger(s) && s > 0)) {
    throw new ArgumentError("resizeNearest", `the size must be whole and positive, not ${outH} x ${outW}`);
  }
  if (Math.max((h + 1) * (outH + 1), (w + 1) * (outW + 1)) >= 2 ** 31) {
    throw new ArgumentError("resizeNearest", `${outH} x ${outW} from ${h} x ${w} exceeds what 32-bit coordinates hold`);
  }
  const values = { images, h, w, channels, outH, outW };
  const { spec } = x;
  const [y] = run(forward(channels), [x], [{ shape: [images, outH, outW, channels], dtype: x.dtype }], values);
  return differentiable([x], [], y, (dy) => run(gradInput(channels), [dy], [spec], values));
}
