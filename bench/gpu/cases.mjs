// What is checked and timed on a card: layers of DeepLabV3+ ResNet-50 at output stride 16 and 512x512 images. Plain data,
// which travels to PyTorch as JSON.

/** @typedef {readonly [n: number, h: number, w: number, c: number]} Map4 */
/**
 * @typedef {object} Case
 * @property {string} name
 * @property {"conv2d" | "batchNorm" | "resizeBilinear" | "maxPool" | "softmax" | "crossEntropy" | "tversky"
 *   | "upsampledTversky" | "sgd" | "adamw"} op
 * @property {Map4} x Of optimisers: one row of all parameters.
 * @property {readonly number[]} [w]
 * @property {number} [stride]
 * @property {number} [padding]
 * @property {number} [dilation]
 * @property {number} [groups]
 * @property {boolean} [image] The network's input: no gradient goes to it.
 * @property {boolean} [relu] After the norm.
 * @property {readonly [number, number]} [size] Resized to.
 * @property {boolean} [alignCorners]
 * @property {Bars} bars
 */
/**
 * @typedef {object} Bars What issue 4 asks for.
 * @property {number} [ratio] PyTorch's time over ours, in each direction.
 * @property {number} [compiled] The same against `torch.compile`.
 * @property {number} [bandwidth] Share of the bandwidth of a copy on the device.
 */

/** @param {string} name @param {Map4} x @param {number} cout @param {Partial<Case> & { kernel?: number }} [options] @returns {Case} */
const dense = (name, x, cout, { kernel = 3, stride = 1, dilation = 1, image = false, bars = { ratio: 1 } } = {}) => ({
  name,
  op: "conv2d",
  x,
  w: [cout, kernel, kernel, x[3]],
  stride,
  dilation,
  padding: (dilation * (kernel - 1)) / 2,
  groups: 1,
  image,
  bars,
});

/** @param {Map4} x @param {number} dilation @returns {Case} */
const depthwise = (x, dilation) => ({
  name: `depthwise ${x[3]} @${x[1]} rate ${dilation}`,
  op: "conv2d",
  x,
  w: [x[3], 3, 3, 1],
  stride: 1,
  dilation,
  padding: dilation,
  groups: x[3],
  bars: { ratio: 2 },
});

const SKIPS = { bars: { ratio: 1.2 } }; // most taps see nothing but padding

/** The heaviest convolutions, as the project's guide to kernels lists them. @param {number} n @returns {Case[]} */
export const denseLayers = (n) => [
  dense("decoder 304->256 3x3 @128", [n, 128, 128, 304], 256),
  dense("decoder 256->256 3x3 @128", [n, 128, 128, 256], 256),
  dense("ASPP 2048->256 rate 6 @32", [n, 32, 32, 2048], 256, { dilation: 6 }),
  dense("ASPP 2048->256 rate 12 @32", [n, 32, 32, 2048], 256, { dilation: 12, ...SKIPS }),
  dense("ASPP 2048->256 rate 18 @32", [n, 32, 32, 2048], 256, { dilation: 18, ...SKIPS }),
  ...[2, 4, 8].map((dilation) => dense(`512->512 rate ${dilation} @32`, [n, 32, 32, 512], 512, { dilation })),
  dense("1024->2048 1x1 @32", [n, 32, 32, 1024], 2048, { kernel: 1 }),
  dense("256->128 1x1 @128", [n, 128, 128, 256], 128, { kernel: 1 }),
  dense("512->2048 1x1 @32", [n, 32, 32, 512], 2048, { kernel: 1 }),
  dense("2048->512 1x1 @32", [n, 32, 32, 2048], 512, { kernel: 1 }),
];
/** @param {number} n @returns {Case} */
export const stem = (n) =>
  dense("3->64 7x7 stride 2 @512", [n, 512, 512, 3], 64, { kernel: 7, stride: 2, image: true, bars: {} });
/** @param {number} n @returns {Case} */
export const strided = (n) => dense("128->128 3x3 stride 2 @128", [n, 128, 128, 128], 128, { stride: 2, bars: {} });

/** @param {number} n @returns {Case[]} */
export const depthwiseLayers = (n) => [
  depthwise([n, 32, 32, 728], 1),
  depthwise([n, 32, 32, 728], 2),
  ...[6, 12, 18].map((dilation) => depthwise([n, 32, 32, 2048], dilation)),
  depthwise([n, 128, 128, 304], 1),
];

/** @param {number} n @returns {Case[]} */
export const mapLayers = (n) => [
  { name: "batch norm 256 @128", op: "batchNorm", x: [n, 128, 128, 256], bars: { bandwidth: 0.9 } },
  { name: "batch norm + ReLU 256 @128", op: "batchNorm", x: [n, 128, 128, 256], relu: true, bars: { bandwidth: 0.9 } },
  {
    name: "bilinear 256 32->128",
    op: "resizeBilinear",
    x: [n, 32, 32, 256],
    size: [128, 128],
    alignCorners: false,
    bars: {},
  },
  { name: "max pool 64 @256", op: "maxPool", x: [n, 256, 256, 64], bars: {} },
];

/** Of f32 logits, in every precision. @param {number} n @returns {Case[]} */
export const lossLayers = (n) => [
  {
    name: "bilinear 21 128->512 f32",
    op: "resizeBilinear",
    x: [n, 128, 128, 21],
    size: [512, 512],
    alignCorners: false,
    bars: {},
  },
  { name: "softmax 21 @512", op: "softmax", x: [n, 512, 512, 21], bars: {} },
  { name: "cross entropy 21 @512", op: "crossEntropy", x: [n, 512, 512, 21], bars: {} },
  {
    name: "Tversky 21 @512",
    op: "tversky",
    x: [n, 512, 512, 21],
    bars: { ratio: 5, compiled: 2, bandwidth: 0.85 },
  },
  {
    name: "Tversky 21 128->512",
    op: "upsampledTversky",
    x: [n, 128, 128, 21],
    size: [512, 512],
    alignCorners: false,
    bars: { ratio: 5, compiled: 2 },
  },
];

/** Over as many parameters as DeepLabV3+ ResNet-50 has. @returns {Case[]} */
export const optimisers = () => [
  { name: "SGD, 40 M parameters", op: "sgd", x: [1, 1, 1, 40_350_000], bars: {} },
  { name: "AdamW, 40 M parameters", op: "adamw", x: [1, 1, 1, 40_350_000], bars: {} },
];

/** The same at an eighth of each size, or what is left of it. @param {Case} one @returns {Case} */
export function shrink(one) {
  const [n, h, w, c] = one.x;
  const side = (/** @type {number} */ v) => Math.max(1, Math.min(v, Math.ceil(v / 8)));
  const channels = (/** @type {number} */ v) => (v <= 21 ? v : Math.max(8, 8 * Math.round(v / 128)));
  const depth = one.groups !== undefined && one.groups > 1;
  return {
    ...one,
    x: one.op === "sgd" || one.op === "adamw" ? [1, 1, 1, 1000] : [Math.min(n, 2), side(h), side(w), channels(c)],
    ...(one.w && { w: [channels(one.w[0]), one.w[1], one.w[2], depth ? 1 : channels(one.w[3])] }),
    ...(depth && { groups: channels(c) }),
    ...(one.size && { size: [side(one.size[0]), side(one.size[1])] }),
  };
}
