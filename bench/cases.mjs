// What is measured: shapes of DeepLabV3+ at output stride 16, and whole training steps. Plain data, which travels to the
// peer as JSON, so that both sides are asked for the same thing.

/**
 * @typedef {object} Bars At least so many times the peer's speed (issue 3), by direction.
 * @property {number} [forward]
 * @property {number} [backward]
 * @property {number} [both]
 * @property {number} [step]
 */
/** @typedef {readonly [n: number, h: number, w: number, c: number]} Map4 */
/** @typedef {{ name: string, bars: Bars }} Named */
/**
 * @typedef {Named & { op: "conv2d", x: Map4, w: readonly number[], stride: number, padding: number, dilation: number,
 *   groups: number, image: boolean }} Convolution `image`: x is the network's input and takes no gradient.
 */
/** @typedef {Named & { op: "batchNorm" | "batchNormRelu" | "softmax", x: Map4 }} Pointwise */
/** @typedef {Named & { op: "resizeBilinear", x: Map4, size: readonly [number, number], alignCorners: boolean }} Resize */
/** @typedef {Named & { op: "crossEntropy" | "tversky", x: Map4 }} Loss Of logits x and as many labels as pixels. */
/**
 * @typedef {Named & { op: "upsampledTversky", x: Map4, size: readonly [number, number], alignCorners: boolean }} Upsampled
 *   The loss of x resized to the size of the labels; the peer resizes first.
 */
/** @typedef {Named & { op: "step", x: Map4, classes: number, width: number, lr: number, weightDecay: number }} Step */
/** @typedef {Convolution | Pointwise | Resize | Loss | Upsampled | Step} Case */

/** @param {Map4} x @param {number} cout @param {Partial<Convolution>} [options] @returns {Convolution} */
function dense(x, cout, { stride = 1, dilation = 1, image = false, w = [cout, 3, 3, x[3]] } = {}) {
  const [, kernel] = w;
  const skips = kernel === 3 && dilation >= 12 && x[1] === 33; // most taps fall outside the map
  const rate = kernel === 3 ? ` rate ${dilation}` : "";
  return {
    name: `conv2d ${kernel}x${kernel}${rate}${stride > 1 ? ` stride ${stride}` : ""} ${x.join("x")}->${cout}`,
    op: "conv2d",
    x,
    w,
    stride,
    dilation,
    padding: (dilation * (kernel - 1)) / 2,
    groups: 1,
    image,
    bars: image ? {} : { forward: skips ? 1.2 : 0.8, backward: 0.8 },
  };
}

/** @param {Map4} x @param {number} dilation @returns {Convolution} */
const depthwise = (x, dilation) => ({
  name: `depthwise 3x3 rate ${dilation} ${x.join("x")}`,
  op: "conv2d",
  x,
  w: [x[3], 3, 3, 1],
  stride: 1,
  dilation,
  padding: dilation,
  groups: x[3],
  image: false,
  bars: { both: 1.5 },
});

/** @param {Pointwise["op"]} op @param {Map4} x @returns {Pointwise} */
const pointwise = (op, x) => ({ name: `${op} ${x.join("x")}`, op, x, bars: { both: 1 } });

/** @param {Map4} x @param {readonly [number, number]} size @param {boolean} alignCorners @returns {Resize} */
const resize = (x, size, alignCorners) => ({
  name: `resizeBilinear ${x.join("x")}->${size.join("x")}${alignCorners ? " aligned" : ""}`,
  op: "resizeBilinear",
  x,
  size,
  alignCorners,
  bars: { both: 1 },
});

/** @param {"crossEntropy" | "tversky"} op @param {Map4} x @returns {Loss} */
const loss = (op, x) => ({ name: `${op} ${x.join("x")}`, op, x, bars: { both: op === "tversky" ? 3 : 1 } });

/** @param {Map4} x @param {readonly [number, number]} size @returns {Upsampled} */
const upsampled = (x, size) => ({
  name: `tversky ${x.join("x")}->${size.join("x")}`,
  op: "upsampledTversky",
  x,
  size,
  alignCorners: false,
  bars: {},
});

/** @param {string} label @param {Map4} x @param {{ width: number, lr: number }} options @returns {Step} */
const step = (label, x, { width, lr }) => ({
  name: `step ${label} ${x.join("x")}`,
  op: "step",
  x,
  classes: 6,
  width,
  lr,
  weightDecay: 1e-2,
  bars: { step: 1 },
});

/** @type {readonly Case[]} */
export const cases = [
  ...[1, 6, 12, 18].map((dilation) => dense([2, 33, 33, 256], 256, { dilation })),
  dense([2, 64, 64, 64], 64),
  dense([2, 129, 129, 304], 256),
  dense([2, 33, 33, 1280], 256, { w: [256, 1, 1, 1280] }),
  dense([2, 128, 128, 64], 48, { w: [48, 1, 1, 64] }),
  dense([2, 256, 256, 3], 64, { w: [64, 7, 7, 3], stride: 2, image: true }),
  ...[1, 6, 12].map((dilation) => depthwise([2, 64, 64, 256], dilation)),
  ...[1, 6, 12].map((dilation) => depthwise([2, 33, 33, 960], dilation)),
  pointwise("batchNorm", [2, 128, 128, 64]),
  pointwise("batchNorm", [2, 33, 33, 256]),
  pointwise("batchNormRelu", [2, 128, 128, 64]),
  resize([2, 64, 64, 21], [256, 256], false),
  resize([2, 33, 33, 256], [129, 129], true),
  pointwise("softmax", [2, 256, 256, 6]),
  pointwise("softmax", [2, 256, 256, 21]),
  loss("crossEntropy", [2, 256, 256, 6]),
  loss("crossEntropy", [2, 256, 256, 21]),
  loss("tversky", [2, 256, 256, 6]),
  loss("tversky", [2, 256, 256, 21]),
  upsampled([2, 64, 64, 21], [256, 256]),
  step("deeplab resnet18", [2, 256, 256, 3], { width: 1, lr: 1e-3 }),
  step("demo", [8, 64, 64, 3], { width: 0.25, lr: 3e-3 }), // src/train/demo_recipe.ts
];

/** @param {Case} one @returns {readonly ("forward" | "backward" | "both" | "step")[]} What the table has of it. */
export const directionsOf = (one) => (one.op === "step" ? ["step"] : ["forward", "backward", "both"]);
