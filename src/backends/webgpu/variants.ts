import { type Groups, linear, MAX_GROUPS } from "../../kernel.js";

/** What of an adapter decides which kernels suit it. */
export interface Traits {
  /** A CPU in disguise: it loads for one lane after the other, and barriers are dear there. */
  readonly software: boolean;
  /** Lanes that every subgroup has at least; 0 where there are none. */
  readonly subgroupLanes: number;
}
export type KernelParams = Readonly<Record<string, number>>;

/**
 * Another shader for a kernel of the contract: same bindings, same parameters, same results up to rounding. Its file is
 * shaders/op/verb_noun.name.wgsl, with the kernel's own entry point.
 */
export interface Variant {
  readonly name: string;
  /** The kind of adapter on which it is a good guess; on the other kind only the tuner tries it. Default: both. */
  readonly prefers?: "gpu" | "software";
  /** May it run with these parameters on such an adapter? */
  readonly fits: (params: KernelParams, traits: Traits) => boolean;
  readonly groups: (params: KernelParams) => Groups;
  /** Values of the shader's `override`s. Each set of values is compiled by itself: only what pays belongs here. */
  readonly constants?: (params: KernelParams) => Readonly<Record<string, number>>;
}

const mayLaunch = (groups: Groups): boolean => groups.every((n) => n <= MAX_GROUPS);

/** Workgroups, where each owns a square tile of results of so many rows and columns. */
type TileGrid = (p: KernelParams, size: number) => Groups;
const inputChannels = (p: KernelParams): number => p.cin! / p.groups!; // of a group, as the next
const outputChannels = (p: KernelParams): number => p.cout! / p.groups!;
/** Pixels times output channels: no tile reaches over the end of a group. */
const forwardTiles: TileGrid = (p, size) => {
  const pixelTiles = Math.ceil((p.n! * p.out_height! * p.out_width!) / size);
  return linear(pixelTiles * p.groups! * Math.ceil(outputChannels(p) / size), 1);
};
/** Pixels, of each of the stride_h · stride_w phases by themselves as in the plain kernels, times input channels. */
const inputTiles: TileGrid = (p, size) => {
  const phasePixels = p.n! * Math.ceil(p.height! / p.stride_h!) * Math.ceil(p.width! / p.stride_w!);
  const pixelTiles = p.stride_h! * p.stride_w! * Math.ceil(phasePixels / size);
  return linear(pixelTiles * p.groups! * Math.ceil(inputChannels(p) / size), 1);
};
/** Output times input channels, for each tap and split. */
const tapTiles: TileGrid = (p, size) => {
  const tiles = Math.ceil(outputChannels(p) / size) * Math.ceil(inputChannels(p) / size);
  return [p.kh! * p.kw!, p.groups! * tiles, p.splits!];
};
/** Taps and input channels on one axis, times output channels, for each split. */
const columnTiles: TileGrid = (p, size) => {
  const columns = Math.ceil((p.kh! * p.kw! * inputChannels(p)) / size);
  return [columns, p.groups! * Math.ceil(outputChannels(p) / size), p.splits!];
};
const productTiles: TileGrid = (p, size) => linear(Math.ceil(p.m! / size) * Math.ceil(p.n! / size), 1);

type Fits = (p: KernelParams) => boolean;
/** `fits` keeps away what would leave most of a tile idle. */
const ofTiles = (name: string, prefers: "gpu" | "software", size: number, grid: TileGrid, fits: Fits): Variant => ({
  name,
  prefers,
  fits: (p) => fits(p) && mayLaunch(grid(p, size)),
  groups: (p) => grid(p, size),
});
/** In workgroup memory. */
const tile64 = (grid: TileGrid, fits: Fits): Variant => ofTiles("tile64", "gpu", 64, grid, fits);
const tile32 = (grid: TileGrid, fits: Fits): Variant => ofTiles("tile32", "gpu", 32, grid, fits);
/** Eight lanes of a subgroup load what they then hand round: for adapters that load for one lane after the other. */
const broadcast = (grid: TileGrid, fits: Fits): Variant => {
  const variant = ofTiles("broadcast", "software", 32, grid, fits);
  return { ...variant, fits: (p, traits) => traits.subgroupLanes >= 8 && variant.fits(p, traits) };
};

/** Maps over rows of channels, four channels a thread: of 16 rows that follow one another. */
const strip: Variant = {
  name: "strip",
  prefers: "software",
  fits: () => true,
  groups: (p) => linear((Math.ceil(p.rows! / 16) * p.channels!) / 4, 64),
};

/** Bilinear interpolation where a thread walks along the axis: over 64 outputs, or 16 inputs on the way back. */
const walk = (width: 1 | 4): Variant => ({
  name: "walk",
  prefers: "software",
  fits: (p) => p.stepW! <= p.scaleW!, // as wide as x, or wider
  groups: (p) => linear((p.images! * p.outH! * Math.ceil(p.outW! / 64) * p.channels!) / width, 64),
});
const walkBack = (width: 1 | 4): Variant => ({
  name: "walk",
  prefers: "software",
  fits: () => true,
  groups: (p) => linear((p.outer! * Math.ceil(p.size! / 16) * p.channels!) / width, 64),
});

/** Depthwise 3x3 at stride 1: a thread has four channels of a tile of results that lie a dilation apart. */
const [SLIDE_ROWS, SLIDE_COLUMNS] = [8, 4];
const slides = (p: KernelParams): boolean =>
  p.kh === 3 && p.kw === 3 && p.stride_h === 1 && p.stride_w === 1 && p.cin === p.cout && p.cin! % 4 === 0;
const slideTiles = (p: KernelParams, height: number, width: number): number => {
  const [down, across] = [p.dilation_h!, p.dilation_w!];
  return p.n! * Math.ceil(height / (SLIDE_ROWS * down)) * down * Math.ceil(width / (SLIDE_COLUMNS * across)) * across;
};
const slide = (items: (p: KernelParams) => number): Variant => ({
  name: "slide",
  prefers: "software",
  fits: slides,
  groups: (p) => linear((items(p) * p.cout!) / 4, 64),
});

/** The shaders that hold a row of classes in registers declare so many: more would spill. */
const MOST_CLASSES = 32;
/** Workgroups of 64 that hold a row in registers, as the number of classes is a constant. */
const inRegisters = (threads: (p: KernelParams) => number): Variant => ({
  name: "registers",
  fits: (p) => p.classes! <= MOST_CLASSES,
  groups: (p) => linear(threads(p), 64),
  constants: (p) => ({ CLASSES: p.classes! }),
});
/** One thread per row. */
const rowInRegisters = inRegisters((p) => (p.units ?? 1) * p.rows!);

/** Of one level of sums: short enough for f32 (ops/partials.ts). */
const LONGEST_CHUNK = 64;
/** Three sums of each class in registers: with more classes nothing is gained (measured on lavapipe). */
const MOST_SUMMED_CLASSES = 12;
const chunkInRegisters: Variant = {
  ...inRegisters((p) => p.units! * p.chunks!),
  name: "rows",
  prefers: "software",
  fits: (p) => p.classes! <= MOST_SUMMED_CLASSES && p.rows! <= LONGEST_CHUNK * p.chunks!,
};

/** By kernel, best guess first. The kernel's plain shader always fits, and is better than what prefers another adapter. */
export const variants: Readonly<Record<string, readonly Variant[]>> = {
  "batch_norm.grad_input_fixed_relu_vec4": [strip],
  "batch_norm.grad_input_fixed_vec4": [strip],
  "batch_norm.grad_input_relu_vec4": [strip],
  "batch_norm.grad_input_vec4": [strip],
  "batch_norm.normalize_fused_vec4": [strip],
  "batch_norm.normalize_vec4": [strip],
  "conv2d.forward": [broadcast(forwardTiles, (p) => outputChannels(p) >= 12)],
  "conv2d.forward_depthwise": [slide((p) => slideTiles(p, p.out_height!, p.out_width!))],
  "conv2d.forward_vec4": [
    tile64(forwardTiles, (p) => outputChannels(p) > 32),
    tile32(forwardTiles, (p) => outputChannels(p) >= 16),
    broadcast(forwardTiles, (p) => outputChannels(p) >= 12),
  ],
  "conv2d.grad_input": [broadcast(inputTiles, (p) => inputChannels(p) >= 12)],
  "conv2d.grad_input_depthwise": [slide((p) => slideTiles(p, p.height!, p.width!))],
  "conv2d.grad_input_vec4": [
    tile64(inputTiles, (p) => inputChannels(p) > 32),
    tile32(inputTiles, (p) => inputChannels(p) >= 16),
    broadcast(inputTiles, (p) => inputChannels(p) >= 12),
  ],
  "conv2d.grad_weight": [
    broadcast(columnTiles, (p) => p.kh! * p.kw! * inputChannels(p) >= 8 && outputChannels(p) >= 4),
  ],
  "conv2d.grad_weight_depthwise": [slide((p) => p.splits!)],
  "conv2d.grad_weight_vec4": [
    tile64(tapTiles, (p) => Math.min(inputChannels(p), outputChannels(p)) > 32),
    tile32(tapTiles, (p) => Math.min(inputChannels(p), outputChannels(p)) >= 16),
    broadcast(tapTiles, (p) => inputChannels(p) >= 16 && outputChannels(p) >= 8),
  ],
  "cross_entropy.forward": [inRegisters((p) => p.threads!)],
  "cross_entropy.grad_logits": [rowInRegisters],
  "matmul.multiply": [broadcast(productTiles, (p) => Math.min(p.m!, p.n!) >= 12)],
  "matmul.multiply_vec4": [
    tile64(productTiles, (p) => Math.min(p.m!, p.n!) > 32),
    tile32(productTiles, (p) => Math.min(p.m!, p.n!) >= 16),
    broadcast(productTiles, (p) => Math.min(p.m!, p.n!) >= 12),
  ],
  "resize_bilinear.forward": [walk(1)],
  "resize_bilinear.forward_vec4": [walk(4)],
  "resize_bilinear.grad_axis": [walkBack(1)],
  "resize_bilinear.grad_axis_vec4": [walkBack(4)],
  "softmax.backward": [rowInRegisters],
  "softmax.forward": [rowInRegisters],
  "softmax.log_backward": [rowInRegisters],
  "softmax.log_forward": [rowInRegisters],
  "tversky.grad_softmax": [inRegisters((p) => Math.ceil((p.units! * p.rows!) / 8))],
  "tversky.norm_upsampled": [inRegisters((p) => p.images! * p.h! * p.outW!)],
  "tversky.row_norm": [rowInRegisters],
  "tversky.sums_softmax": [chunkInRegisters],
};

/** What can run a kernel, best guess first; null is its plain shader. */
export function candidatesFor(kernel: string, params: KernelParams, traits: Traits): (Variant | null)[] {
  const fitting = (variants[kernel] ?? []).filter(({ fits }) => fits(params, traits));
  const kind = traits.software ? "software" : "gpu";
  const good = fitting.filter(({ prefers }) => prefers === undefined || prefers === kind);
  return [...good, null, ...fitting.filter((variant) => !good.includes(variant))];
}
