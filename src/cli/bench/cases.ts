// What is measured: shapes of DeepLabV3+ at output stride 16, and whole steps. Plain data, which travels to PyTorch's side
// as JSON, so that every engine and backend is asked for the same thing.

export type Map4 = readonly [n: number, h: number, w: number, c: number];
type Size = readonly [h: number, w: number];

export interface Convolution {
  readonly name: string;
  readonly op: "conv2d";
  readonly x: Map4;
  /** `[cout, kh, kw, cin / groups]` */
  readonly w: readonly [cout: number, kh: number, kw: number, cin: number];
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
  readonly groups: number;
  /** x is the network's input and takes no gradient. */
  readonly image: boolean;
}
export interface Pointwise {
  readonly name: string;
  readonly op: "batchNorm" | "batchNormRelu" | "softmax";
  readonly x: Map4;
}
export interface Resize {
  readonly name: string;
  readonly op: "resizeBilinear";
  readonly x: Map4;
  readonly size: Size;
  readonly alignCorners: boolean;
}
/** Of logits x and as many labels as pixels. `plainTversky` is the loss made of elementwise ops and sums. */
export interface Loss {
  readonly name: string;
  readonly op: "crossEntropy" | "tversky" | "plainTversky";
  readonly x: Map4;
}
/** The loss of x resized to the size of the labels. */
export interface Upsampled {
  readonly name: string;
  readonly op: "upsampledTversky";
  readonly x: Map4;
  readonly size: Size;
  readonly alignCorners: boolean;
}
/** a `[m, k]` · b `[k, n]` */
export interface Product {
  readonly name: string;
  readonly op: "matmul";
  readonly m: number;
  readonly k: number;
  readonly n: number;
}
/** AdamW on `parameters` numbers. */
export interface Update {
  readonly name: string;
  readonly op: "optimiser";
  readonly parameters: number;
}
/**
 * DeepLabV3+ with ResNet-18 on images x. "step": forward, cross entropy + Tversky, backward, AdamW. "inference": forward
 * with running statistics. "adaptation": "step" with as many images of another domain, a discriminator behind a reversed
 * gradient and learned loss weights.
 */
export interface Step {
  readonly name: string;
  readonly op: "step" | "inference" | "adaptation";
  readonly x: Map4;
  readonly classes: number;
  readonly width: number;
  readonly lr: number;
  readonly weightDecay: number;
}
/**
 * A training step of a small net of dilated convolutions, which can be written in any engine: `DILATED_LAYERS`, each
 * followed by batch norm and ReLU, then 1x1 to the classes with a bias, bilinear with aligned corners (tfjs
 * has no right gradient of the other) to the size of images x, cross entropy and SGD with momentum.
 */
export interface DilatedStep {
  readonly name: string;
  readonly op: "dilatedStep";
  readonly x: Map4;
  readonly classes: number;
  readonly lr: number;
  readonly momentum: number;
}
export type Case = Convolution | Pointwise | Resize | Loss | Upsampled | Product | Update | Step | DilatedStep;

/** 3x3, padded so that stride 1 keeps the size. */
export const DILATED_LAYERS: readonly { cin: number; cout: number; stride: number; dilation: number }[] = [
  { cin: 3, cout: 32, stride: 2, dilation: 1 },
  { cin: 32, cout: 64, stride: 2, dilation: 1 },
  { cin: 64, cout: 64, stride: 1, dilation: 2 },
  { cin: 64, cout: 64, stride: 1, dilation: 4 },
];

export const sizes = ["small", "full"] as const;
export type BenchSize = (typeof sizes)[number];

export const isStep = (one: Case): one is Step | DilatedStep =>
  ["step", "inference", "adaptation", "dilatedStep"].includes(one.op);

/** What the table has of a case. "backward" is "both" less "forward". */
export type Direction = "forward" | "backward" | "both" | "step";
export const directionsOf = (one: Case): readonly Direction[] =>
  isStep(one) || one.op === "optimiser" ? ["step"] : ["forward", "backward", "both"];

type Nameless<C extends Case> = Omit<C, "name">;

/** Gives a case the name that its contents make. `label` tells steps apart. */
function named<C extends Case>(one: Nameless<C>, label = ""): C {
  return { name: nameOf(one as C, label), ...one } as C; // a case without its name, and its name
}
function nameOf(one: Case, label: string): string {
  if (one.op === "optimiser") return `adamW ${one.parameters}`;
  if (one.op === "matmul") return `matmul ${one.m}x${one.k}x${one.n}`;
  const x = one.x.join("x");
  switch (one.op) {
    case "conv2d": {
      const [cout, kernel] = one.w;
      const rate = kernel === 3 ? ` rate ${one.dilation}` : "";
      if (one.groups > 1) return `depthwise ${kernel}x${kernel}${rate} ${x}`;
      return `conv2d ${kernel}x${kernel}${rate}${one.stride > 1 ? ` stride ${one.stride}` : ""} ${x}->${cout}`;
    }
    case "resizeBilinear":
      return `resizeBilinear ${x}->${one.size.join("x")}${one.alignCorners ? " aligned" : ""}`;
    case "upsampledTversky":
      return `tversky ${x}->${one.size.join("x")}`;
    case "step":
    case "inference":
    case "adaptation":
      return `${one.op} ${label} ${x}`;
    case "dilatedStep":
      return `step dilated net ${x}`;
    default:
      return `${one.op} ${x}`;
  }
}

type DenseOptions = Partial<Pick<Convolution, "stride" | "dilation" | "image">> & { kernel?: number };
export function dense(x: Map4, cout: number, options: DenseOptions = {}): Convolution {
  const { stride = 1, dilation = 1, image = false, kernel = 3 } = options;
  const padding = (dilation * (kernel - 1)) / 2;
  return named({ op: "conv2d", x, w: [cout, kernel, kernel, x[3]], stride, padding, dilation, groups: 1, image });
}
export const depthwise = (x: Map4, dilation: number): Convolution =>
  named({
    op: "conv2d",
    x,
    w: [x[3], 3, 3, 1],
    stride: 1,
    padding: dilation,
    dilation,
    groups: x[3],
    image: false,
  });
/** Of one map. */
export const of = (op: Pointwise["op"] | Loss["op"], x: Map4): Pointwise | Loss => named<Pointwise | Loss>({ op, x });
export const resize = (x: Map4, size: Size, alignCorners: boolean): Resize =>
  named({ op: "resizeBilinear", x, size, alignCorners });
export const product = (m: number, k: number, n: number): Product => named({ op: "matmul", m, k, n });
export const dilatedStep = (x: Map4): DilatedStep =>
  named({ op: "dilatedStep", x, classes: 21, lr: 0.05, momentum: 0.9 });
const upsampled = (x: Map4, size: Size): Upsampled => named({ op: "upsampledTversky", x, size, alignCorners: false });
const optimiser = (parameters: number): Update => named({ op: "optimiser", parameters });
const network = (op: Step["op"], label: string, x: Map4, width: number, lr: number): Step =>
  named({ op, x, classes: 6, width, lr, weightDecay: 1e-2 }, label);

/** At full size. */
const full: readonly Case[] = [
  ...[1, 6, 12, 18].map((dilation) => dense([2, 33, 33, 256], 256, { dilation })),
  dense([2, 64, 64, 64], 64),
  dense([2, 129, 129, 304], 256),
  dense([2, 33, 33, 1280], 256, { kernel: 1 }),
  dense([2, 128, 128, 64], 48, { kernel: 1 }),
  dense([2, 256, 256, 3], 64, { kernel: 7, stride: 2, image: true }),
  product(512, 512, 512),
  ...[1, 6, 12].map((dilation) => depthwise([2, 64, 64, 256], dilation)),
  ...[1, 6, 12].map((dilation) => depthwise([2, 33, 33, 960], dilation)),
  of("batchNorm", [2, 128, 128, 64]),
  of("batchNorm", [2, 33, 33, 256]),
  of("batchNormRelu", [2, 128, 128, 64]),
  resize([2, 64, 64, 21], [256, 256], false),
  resize([2, 33, 33, 256], [129, 129], true),
  of("softmax", [2, 256, 256, 6]),
  of("softmax", [2, 256, 256, 21]),
  of("crossEntropy", [2, 256, 256, 6]),
  of("crossEntropy", [2, 256, 256, 21]),
  of("tversky", [2, 256, 256, 6]),
  of("tversky", [2, 256, 256, 21]),
  of("plainTversky", [2, 256, 256, 21]),
  upsampled([2, 64, 64, 21], [256, 256]),
  optimiser(12_000_000), // about what DeepLabV3+ with ResNet-18 has
  network("inference", "deeplab resnet18", [2, 256, 256, 3], 1, 1e-3),
  network("step", "deeplab resnet18", [2, 256, 256, 3], 1, 1e-3),
  network("adaptation", "deeplab resnet18", [2, 256, 256, 3], 1, 1e-3),
  dilatedStep([2, 128, 128, 3]),
  network("step", "demo", [8, 64, 64, 3], 0.25, 3e-3), // src/train/demo_recipe.ts
  network("adaptation", "demo", [8, 64, 64, 3], 0.25, 3e-3),
];

/** Channels of feature maps: a quarter, in multiples of four, so that the same kernels run. Classes stay. */
const fewer = (channels: number): number => (channels > 21 ? Math.max(4, 4 * Math.round(channels / 16)) : channels);
/** Half a side, which stays odd where it is odd: 129 becomes 65. */
const halved = (side: number): number => Math.ceil(side / 2);

/**
 * A smaller case of the same op. Convolutions lose channels and keep their maps, so that as many taps fall outside; other
 * maps lose half their sides, too.
 */
export function smaller(one: Case): Case {
  if (one.op === "optimiser") return optimiser(Math.ceil(one.parameters / 8));
  if (one.op === "matmul") {
    const [m, k, n] = [one.m, one.k, one.n].map((side) => Math.max(4, 4 * Math.round(side / 8))) as [
      number,
      number,
      number,
    ];
    return product(m, k, n); // multiples of four, so that the same kernels run
  }
  const [, h, w, c] = one.x;
  switch (one.op) {
    case "conv2d": {
      const cin = fewer(c);
      const groups = one.groups > 1 ? cin : 1;
      const [cout, kh, kw] = [one.groups > 1 ? cin : fewer(one.w[0]), one.w[1], one.w[2]];
      return named<Convolution>({ ...nameless(one), x: [1, h, w, cin], w: [cout, kh, kw, cin / groups], groups });
    }
    case "resizeBilinear":
    case "upsampledTversky": {
      const size: Size = [halved(one.size[0]), halved(one.size[1])];
      return named<Resize | Upsampled>({ ...nameless(one), x: [1, halved(h), halved(w), fewer(c)], size });
    }
    case "step":
    case "inference":
    case "adaptation": {
      const label = one.name.split(" ").slice(1, -1).join(" ");
      const x: Map4 = [2, Math.max(32, h / 2), Math.max(32, w / 2), c];
      return named<Step>({ ...nameless(one), x, width: Math.max(0.125, one.width / 2) }, label);
    }
    case "dilatedStep":
      return dilatedStep([2, Math.max(32, h / 2), Math.max(32, w / 2), c]);
    default:
      return named<Pointwise | Loss>({ ...nameless(one), x: [1, halved(h), halved(w), fewer(c)] });
  }
}

function nameless<C extends Case>(one: C): Nameless<C> {
  const { name: _, ...rest } = one;
  return rest;
}

/** Every case; "small" is for software adapters, at a fraction of the work. */
export const casesOf = (size: BenchSize): readonly Case[] =>
  size === "full" ? full : full.map((one) => (isStep(one) ? smaller(smaller(one)) : smaller(one)));

/** Multiply-adds of a convolution; for the rest what takes the reference as long. */
function costOf(one: Case): number {
  switch (one.op) {
    case "conv2d": {
      const [n, h, w] = one.x;
      return (n * h * w * one.w.reduce((a, b) => a * b, 1)) / one.stride ** 2;
    }
    case "resizeBilinear":
    case "upsampledTversky":
      return 100 * one.x[0] * one.size[0] * one.size[1] * one.x[3];
    case "matmul":
      return one.m * one.k * one.n;
    case "optimiser":
      return 30 * one.parameters;
    case "step":
    case "inference":
    case "adaptation":
    case "dilatedStep":
      return Number.POSITIVE_INFINITY;
    default:
      return 100 * one.x.reduce((a, b) => a * b, 1);
  }
}
/** A second or so of the reference. */
const CHECKED_COST = 5e7;

/** The case itself where the reference is through it in a moment, else the largest smaller one of which that is so. */
export function checkable(one: Case): Case {
  if (costOf(one) <= CHECKED_COST) return one;
  const next = smaller(one);
  return next.name === one.name ? one : checkable(next);
}
