import { differentiable, isTracked } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear, type ParamsOf } from "../kernel.js";
import { type DType, isFloat, type Spec, sameShape, sizeOf } from "../shape.js";
import { batchParts, run, scope, type Tensor } from "../tensor.js";
import { converted } from "./cast.js";
import { add, reluGradient } from "./elementwise.js";

const geometry = {
  n: "u32",
  height: "u32",
  width: "u32",
  cin: "u32",
  out_height: "u32",
  out_width: "u32",
  cout: "u32",
  kh: "u32",
  kw: "u32",
  stride_h: "u32",
  stride_w: "u32",
  pad_top: "u32",
  pad_left: "u32",
  dilation_h: "u32",
  dilation_w: "u32",
  groups: "u32",
} as const;
type Geometry = ParamsOf<typeof geometry>;

/** What happens to a sum before it is stored: y = relu(sum + bias + residual), each part where it is asked for. */
const epilogue = { has_bias: "u32", has_residual: "u32", relu: "u32" } as const;

/** Pixels and channels that one thread of the dense kernels owns. */
const TILE = 4;
const tilesOf = (count: number): number => Math.ceil(count / TILE);
/** Tiles of channels: none of them reaches over the end of a group. */
const channelTiles = (channels: number, groups: number): number => groups * tilesOf(channels / groups);

const outputTiles = (p: Geometry): number => tilesOf(p.n * p.out_height * p.out_width);
/** Input pixels of one tile lie a stride apart: tiles are cut in each of the stride_h · stride_w phases separately. */
const inputTiles = (p: Geometry): number =>
  p.stride_h * p.stride_w * tilesOf(p.n * Math.ceil(p.height / p.stride_h) * Math.ceil(p.width / p.stride_w));
const weightTiles = (p: Geometry): number => channelTiles(p.cout, p.groups) * p.kh * p.kw * tilesOf(p.cin / p.groups);

const transposeWeight = defineKernel({
  name: "conv2d.transpose_weight",
  inputs: ["w"],
  outputs: ["wt"],
  params: { cout: "u32", taps: "u32" },
  groups: (p) => linear(p.cout * Math.ceil(p.taps / 4)),
});

const forwardOf = <const N extends string>(name: `conv2d.${N}`) =>
  defineKernel({
    name,
    inputs: ["x", "wt", "bias", "residual"],
    outputs: ["y"],
    params: { ...geometry, ...epilogue },
    groups: (p) => linear(outputTiles(p) * channelTiles(p.cout, p.groups)),
    batch: { count: "n", buffers: ["x", "residual", "y"] },
  });
const forward = forwardOf("conv2d.forward");
/** Channels of a group in multiples of four, as in every kernel of this suffix. */
const forwardVec4 = forwardOf("conv2d.forward_vec4");
const forwardDepthwise = defineKernel({
  name: "conv2d.forward_depthwise",
  inputs: ["x", "w", "bias", "residual"],
  outputs: ["y"],
  params: { ...geometry, ...epilogue },
  groups: (p) => linear(outputTiles(p) * p.cout),
  batch: { count: "n", buffers: ["x", "residual", "y"] },
});

const gradInputOf = <const N extends string>(name: `conv2d.${N}`, channels: (p: Geometry) => number) =>
  defineKernel({
    name,
    inputs: ["dy", "w"],
    outputs: ["dx"],
    params: geometry,
    groups: (p) => linear(inputTiles(p) * channels(p)),
    batch: { count: "n", buffers: ["dy", "dx"] },
  });
const gradInput = gradInputOf("conv2d.grad_input", (p) => channelTiles(p.cin, p.groups));
const gradInputVec4 = gradInputOf("conv2d.grad_input_vec4", (p) => channelTiles(p.cin, p.groups));
const gradInputDepthwise = gradInputOf("conv2d.grad_input_depthwise", (p) => p.cin);

const gradWeightOf = <const N extends string>(name: `conv2d.${N}`, threads: (p: Geometry) => number) =>
  defineKernel({
    name,
    inputs: ["x", "dy"],
    outputs: ["partials"],
    params: { ...geometry, rows_per_split: "u32", splits: "u32" },
    groups: (p) => linear(p.splits * threads(p)),
  });
const depthwiseWeights = (p: Geometry): number => p.cout * p.kh * p.kw;
const gradWeight = gradWeightOf("conv2d.grad_weight", weightTiles);
const gradWeightVec4 = gradWeightOf("conv2d.grad_weight_vec4", weightTiles);
const gradWeightDepthwise = gradWeightOf("conv2d.grad_weight_depthwise", depthwiseWeights);

const gradBias = defineKernel({
  name: "conv2d.grad_bias",
  inputs: ["dy"],
  outputs: ["partials"],
  params: { pixels: "u32", cout: "u32", pixels_per_split: "u32", splits: "u32" },
  groups: (p) => linear(p.splits * p.cout),
});
const reducePartials = defineKernel({
  name: "conv2d.reduce_partials",
  inputs: ["partials"],
  outputs: ["y"],
  params: { count: "u32", splits: "u32" },
  groups: (p) => linear(p.count),
});

export interface Conv2dOptions {
  /** `[cout]`, added to every pixel. */
  readonly bias?: Tensor;
  /** `[n, oh, ow, cout]` of x's type, added to the result in the same pass over memory. */
  readonly residual?: Tensor;
  /** ReLU at the end, in the same pass. Default false. */
  readonly relu?: boolean;
  /** Input pixels between neighbouring output pixels: one number, or [h, w]. Default 1. */
  readonly stride?: number | readonly [h: number, w: number];
  /** Zeros around the map: one number, [h, w] or [top, bottom, left, right]. Default 0. */
  readonly padding?:
    | number
    | readonly [h: number, w: number]
    | readonly [top: number, bottom: number, left: number, right: number];
  /** Input pixels between neighbouring taps of the kernel: one number, or [h, w]. Default 1. */
  readonly dilation?: number | readonly [h: number, w: number];
  /** Groups of channels that do not see each other; cin for a depthwise convolution. Default 1. */
  readonly groups?: number;
}

/**
 * Two-dimensional convolution (cross-correlation, as everywhere in deep learning):
 * y[n, i, j, o] = bias[o] + Σ x[n, i·stride + kh·dilation − top, j·stride + kw·dilation − left, c] · w[o, kh, kw, c],
 * over the taps that fall inside the map and the input channels of o's group. Where asked, + residual[n, i, j, o] and then
 * ReLU, whose gradient at 0 is 0.
 * @param x `[n, h, w, cin]`, f32 or a half
 * @param w `[cout, kh, kw, cin / groups]`, of x's type or f32, as is the bias: f32 weights are rounded to x's type for the
 * products, and their gradient is f32, as the weights that an optimiser keeps want it
 * @returns `[n, oh, ow, cout]` with oh = ⌊(h + top + bottom − dilation·(kh − 1) − 1) / stride⌋ + 1, and ow likewise
 * @throws ShapeError where shapes do not fit (the residual must have the result's) or the kernel is larger than the padded
 * map; DTypeError; ArgumentError for a stride, padding, dilation or number of groups out of range.
 */
export function conv2d(x: Tensor, w: Tensor, options: Conv2dOptions = {}): Tensor {
  const { bias, residual, relu = false } = options;
  const p = geometryOf(x, w, options);
  const inputs = [x, w, ...(bias ? [bias] : []), ...(residual ? [residual] : [])];
  // What nobody will read is neither saved nor computed: the gradient of an image, the weights' of a frozen layer.
  const [wantsX, wantsW] = [isTracked(x), isTracked(w)];
  const { spec: xSpec } = x;
  const { spec: wSpec } = w;
  return scope(() => {
    const [wHere, biasHere] = [converted(w, x.dtype), bias && converted(bias, x.dtype)];
    const y = convolve(p, x, wHere, { bias: biasHere, residual, relu });
    const saved = [...(relu ? [y] : []), ...(wantsX ? [wHere] : []), ...(wantsW ? [x] : [])];
    return differentiable(inputs, saved, y, (dy, kept) => {
      const dsum = relu ? reluGradient(dy, kept[0]!) : dy; // of the sum that ReLU is applied to
      return [
        wantsX ? pullInput(p, dsum, kept[relu ? 1 : 0]!, xSpec) : null,
        wantsW ? pullWeight(p, kept[kept.length - 1]!, dsum, wSpec) : null,
        ...(bias ? [pullBias(dsum, bias.dtype)] : []),
        ...(residual ? [dsum] : []),
      ];
    });
  });
}

const isDepthwise = (p: Geometry): boolean => p.groups === p.cin && p.groups > 1;
const inVectors = (p: Geometry): boolean => (p.cin / p.groups) % 4 === 0 && (p.cout / p.groups) % 4 === 0;

interface Epilogue {
  readonly bias: Tensor | undefined;
  readonly residual: Tensor | undefined;
  readonly relu: boolean;
}

function convolve(p: Geometry, x: Tensor, w: Tensor, { bias, residual, relu }: Epilogue): Tensor {
  const spec: Spec = { shape: [p.n, p.out_height, p.out_width, p.cout], dtype: x.dtype };
  const params = { ...p, has_bias: bias ? 1 : 0, has_residual: residual ? 1 : 0, relu: relu ? 1 : 0 };
  // Something must be bound in the place of a bias or residual that is not there; it is not read. x is cut along n, too.
  if (isDepthwise(p)) return run(forwardDepthwise, [x, w, bias ?? w, residual ?? x], [spec], params)[0];
  const taps = w.size / p.cout;
  using wt = run(transposeWeight, [w], [{ shape: [taps, p.cout], dtype: w.dtype }], { cout: p.cout, taps })[0];
  return run(inVectors(p) ? forwardVec4 : forward, [x, wt, bias ?? wt, residual ?? x], [spec], params)[0];
}

function pullInput(p: Geometry, dy: Tensor, w: Tensor, spec: Spec): Tensor {
  const kernel = isDepthwise(p) ? gradInputDepthwise : inVectors(p) ? gradInputVec4 : gradInput;
  return run(kernel, [dy, w], [spec], p)[0];
}

/** Bounds on the pixels that one thread adds up in sequence. */
const MIN_PIXELS = 64;
const MAX_PIXELS = 4096;

function pullWeight(p: Geometry, x: Tensor, dy: Tensor, spec: Spec): Tensor {
  const kernel = isDepthwise(p) ? gradWeightDepthwise : inVectors(p) ? gradWeightVec4 : gradWeight;
  const threads = isDepthwise(p) ? depthwiseWeights(p) : weightTiles(p);
  return batchParts("conv2d", [x, dy])
    .map(([xs, dys]) => {
      const n = xs.shape[0]!;
      const rows = n * p.out_height;
      const rows_per_split = Math.ceil(perSplit(rows * p.out_width, threads, sizeOf(spec.shape), x) / p.out_width);
      const splits = Math.ceil(rows / rows_per_split);
      const partials: Spec = { shape: [splits, ...spec.shape], dtype: "f32" };
      return total(run(kernel, [xs, dys], [partials], { ...p, n, rows_per_split, splits })[0], spec);
    })
    .reduce((a, b) => add(a, b));
}

function pullBias(dy: Tensor, dtype: DType): Tensor {
  const cout = dy.shape[3]!;
  const spec: Spec = { shape: [cout], dtype };
  return batchParts("conv2d", [dy])
    .map(([dys]) => {
      const pixels = dys.size / cout;
      const pixels_per_split = perSplit(pixels, cout, cout, dy);
      const splits = Math.ceil(pixels / pixels_per_split);
      const partials: Spec = { shape: [splits, cout], dtype: "f32" };
      return total(run(gradBias, [dys], [partials], { pixels, cout, pixels_per_split, splits })[0], spec);
    })
    .reduce((a, b) => add(a, b));
}

/** How many pixels one split adds up, where `threads` threads make the `count` sums of one split; all on one lane. */
function perSplit(pixels: number, threads: number, count: number, { device }: Tensor): number {
  if (device.lanes === 1) return pixels;
  const busy = Math.min(Math.ceil(device.lanes / threads), pixels / MIN_PIXELS);
  const wanted = Math.max(Math.ceil(pixels / MAX_PIXELS), busy);
  const splits = Math.max(1, Math.min(wanted, Math.floor(device.maxBindingBytes / (4 * count))));
  return Math.ceil(pixels / splits);
}

/** The sum of the partial sums, `[splits, ...spec.shape]`. */
function total(partials: Tensor, spec: Spec): Tensor {
  const splits = partials.shape[0]!;
  if (splits === 1 && spec.dtype === "f32") return partials.alias(spec.shape);
  return run(reducePartials, [partials], [spec], { count: sizeOf(spec.shape), splits })[0];
}

function geometryOf(x: Tensor, w: Tensor, options: Conv2dOptions): Geometry {
  const { bias, residual, groups = 1 } = options;
  const operands = {
    x: x.spec,
    w: w.spec,
    ...(bias ? { bias: bias.spec } : {}),
    ...(residual ? { residual: residual.spec } : {}),
  };
  const whole = (name: string, value: number, least: number) => {
    if (!Number.isInteger(value) || value < least) {
      throw new ArgumentError("conv2d", `${name} must be a whole number of at least ${least}, not ${value}`, operands);
    }
    return value;
  };
  const pair = (name: string, value: number | readonly [number, number]) =>
    (typeof value === "number" ? [value, value] : value).map((v) => whole(name, v, 1)) as [number, number];
  const [stride_h, stride_w] = pair("stride", options.stride ?? 1);
  const [dilation_h, dilation_w] = pair("dilation", options.dilation ?? 1);
  const padding = fourSides(options.padding ?? 0).map((v) => whole("padding", v, 0));
  const [top, bottom, left, right] = padding as [number, number, number, number];
  whole("groups", groups, 1);

  const fits = (t: Tensor) => t.dtype === x.dtype || t.dtype === "f32";
  if (!isFloat(x.dtype) || !fits(w) || (bias && !fits(bias))) {
    throw new DTypeError("conv2d", "x must be a float, w and bias of its type or f32", operands);
  }
  if (residual && residual.dtype !== x.dtype) {
    throw new DTypeError("conv2d", "the residual must have x's type", operands);
  }
  if (x.rank !== 4 || w.rank !== 4) {
    throw new ShapeError("conv2d", "x must be [n, h, w, cin] and w [cout, kh, kw, cin / groups]", operands);
  }
  const [n, height, width, cin] = x.shape as [number, number, number, number];
  const [cout, kh, kw, groupCin] = w.shape as [number, number, number, number];
  if (x.size === 0 || w.size === 0) throw new ShapeError("conv2d", "operands must not be empty", operands);
  if (cin % groups !== 0 || cout % groups !== 0) {
    throw new ShapeError("conv2d", `${groups} groups divide neither or only one of cin and cout`, operands);
  }
  if (groupCin !== cin / groups) {
    throw new ShapeError("conv2d", `w must have cin / groups = ${cin / groups} channels, not ${groupCin}`, operands);
  }
  if (bias && !(bias.rank === 1 && bias.size === cout)) {
    throw new ShapeError("conv2d", `bias must have the shape [${cout}]`, operands);
  }
  const out_height = outputSize(height + top + bottom, kh, stride_h, dilation_h);
  const out_width = outputSize(width + left + right, kw, stride_w, dilation_w);
  if (out_height < 1 || out_width < 1) {
    const [needsH, needsW] = [dilation_h * (kh - 1) + 1, dilation_w * (kw - 1) + 1];
    const map = `${height + top + bottom} x ${width + left + right}`;
    throw new ShapeError("conv2d", `the kernel spans ${needsH} x ${needsW}, the padded map only ${map}`, operands);
  }
  const shape = [n, out_height, out_width, cout];
  if (residual && !sameShape(residual.shape, shape)) {
    throw new ShapeError("conv2d", `the residual must have the result's shape, [${shape.join(", ")}]`, operands);
  }
  return {
    n,
    height,
    width,
    cin,
    out_height,
    out_width,
    cout,
    kh,
    kw,
    stride_h,
    stride_w,
    pad_top: top,
    pad_left: left,
    dilation_h,
    dilation_w,
    groups,
  };
}

const outputSize = (padded: number, kernel: number, stride: number, dilation: number): number =>
  Math.floor((padded - dilation * (kernel - 1) - 1) / stride) + 1;

/** [top, bottom, left, right] */
function fourSides(padding: NonNullable<Conv2dOptions["padding"]>): readonly number[] {
  if (typeof padding === "number") return [padding, padding, padding, padding];
  return padding.length === 2 ? [padding[0], padding[0], padding[1], padding[1]] : padding;
}
