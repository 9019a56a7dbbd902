import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { linear, type ParamsOf } from "../kernel.js";
import { isFloat } from "../shape.js";
import { run, type Tensor } from "../tensor.js";
import { channelKernel, rowGroups } from "./channels.js";

/** Sizes of the result and where its rows and columns read (`coordinates`), as parameters of a kernel. */
export const sampling = {
  outH: "u32",
  outW: "u32",
  stepH: "u32",
  offsetH: "i32",
  scaleH: "u32",
  stepW: "u32",
  offsetW: "i32",
  scaleW: "u32",
} as const;

const forward = channelKernel({
  name: "resize_bilinear.forward",
  inputs: ["x"],
  outputs: ["y"],
  params: {
    images: "u32",
    h: "u32",
    w: "u32",
    channels: "u32",
    ...sampling,
  },
  groups: (p) => rowGroups(p.outW * Math.ceil(p.channels / 4), p.images * p.outH),
  batch: { count: "images", buffers: ["x", "y"] },
});
/** One axis of the backward pass: dy is [outer, outSize, channels], dx [outer, size, channels]. */
const gradAxis = channelKernel({
  name: "resize_bilinear.grad_axis",
  inputs: ["dy"],
  outputs: ["dx"],
  params: { outer: "u32", size: "u32", channels: "u32", outSize: "u32", step: "u32", offset: "i32", scale: "u32" },
  groups: (p, lanes) => linear(p.outer * p.size * lanes),
  batch: { count: "outer", buffers: ["dy", "dx"] },
});

/**
 * Where output i reads: (step · i + offset) / scale, clamped to 0 … size − 1. A fraction of whole numbers, so the
 * forward and the backward pass agree exactly on which pixels belong to each other, and with what weight.
 * Corners aligned: i · (size − 1) / (out − 1). Else, between pixel centres: (i + ½) · size / out − ½.
 */
function coordinates(
  size: number,
  out: number,
  alignCorners: boolean,
): { step: number; offset: number; scale: number } {
  return alignCorners
    ? { step: size - 1, offset: 0, scale: Math.max(1, out - 1) }
    : { step: 2 * size, offset: size - out, scale: 2 * out };
}

/**
 * The parameters `sampling` of a resize from [h, w].
 * @throws ArgumentError for a size that is not whole and positive, or so large that coordinates leave 31 bits.
 */
export function samplingOf(
  op: string,
  [h, w]: readonly [h: number, w: number],
  [outH, outW]: readonly [h: number, w: number],
  alignCorners: boolean,
): ParamsOf<typeof sampling> {
  if (![outH, outW].every((s) => Number.isInteger(s) && s > 0)) {
    throw new ArgumentError(op, `the size must be whole and positive, not ${outH} x ${outW}`);
  }
  if (Math.max((h + 1) * outH, (w + 1) * outW) >= 2 ** 28) {
    throw new ArgumentError(op, `${outH} x ${outW} from ${h} x ${w} exceeds what 31-bit coordinates hold`);
  }
  const along = coordinates(h, outH, alignCorners);
  const across = coordinates(w, outW, alignCorners);
  return {
    outH,
    outW,
    stepH: along.step,
    offsetH: along.offset,
    scaleH: along.scale,
    stepW: across.step,
    offsetW: across.offset,
    scaleW: across.scale,
  };
}

/**
 * Bilinear interpolation to any size, up or down, without antialiasing: PyTorch's `interpolate(mode="bilinear")`.
 * @param x `[n, h, w, c]`, f32 or f16.
 * @param size height and width of the result.
 * @param options `alignCorners`: corner pixels' centres map to each other (true), or the image borders do (false).
 * @returns `[n, ...size, c]`.
 * @throws ShapeError, DTypeError; ArgumentError for a size that is not whole and positive, or so large that coordinates
 * leave 31 bits (input times output size of 2²⁸ along an axis: 16,384 each).
 */
export function resizeBilinear(
  x: Tensor,
  size: readonly [h: number, w: number],
  { alignCorners }: { readonly alignCorners: boolean },
): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("resizeBilinear", "x must be f32 or f16", { x: x.spec });
  if (x.rank !== 4 || x.size === 0) {
    throw new ShapeError("resizeBilinear", "x must be [n, h, w, c] and not empty", { x: x.spec });
  }
  const [images, h, w, channels] = x.shape as [number, number, number, number];
  const [outH, outW] = size;
  const at = samplingOf("resizeBilinear", [h, w], size, alignCorners);
  const { dtype } = x;
  const params = { images, h, w, channels, ...at };
  const [y] = run(forward(channels), [x], [{ shape: [images, outH, outW, channels], dtype }], params);
  return differentiable([x], [], y, (dy) => {
    const narrow = { shape: [images, outH, w, channels], dtype };
    const inRow = {
      outer: images * outH,
      size: w,
      channels,
      outSize: outW,
      step: at.stepW,
      offset: at.offsetW,
      scale: at.scaleW,
    };
    const [rows] = run(gradAxis(channels), [dy], [narrow], inRow);
    const inColumn = {
      outer: images,
      size: h,
      channels: w * channels,
      outSize: outH,
      step: at.stepH,
      offset: at.offsetH,
      scale: at.scaleH,
    };
    return run(gradAxis(w * channels), [rows], [{ shape: [images, h, w, channels], dtype }], inColumn);
  });
}
