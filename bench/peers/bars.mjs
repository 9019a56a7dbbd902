import { fused, maps, plain, products, step } from "./cases.mjs";

/** @typedef {import("../../dist/cli/bench/cases.js").Case} Case */
/** @typedef {import("./rows.mjs").Row} Row */
/**
 * @typedef {object} Bars At least so many times PyTorch's speed on the CPU (issue 3), by direction.
 * @property {number} [forward]
 * @property {number} [backward]
 * @property {number} [both]
 * @property {number} [step]
 */

/** @param {Case} one @returns {Bars | null} null: no case of the CPU's. */
export function barsOf(one) {
  switch (one.op) {
    case "conv2d": {
      if (one.groups > 1) return { both: 1.5 };
      if (one.image) return {};
      const skips = one.w[1] === 3 && one.dilation >= 12 && one.x[1] === 33; // most taps fall outside the map
      return { forward: skips ? 1.2 : 0.8, backward: 0.8 };
    }
    case "batchNorm":
    case "batchNormRelu":
    case "softmax":
    case "resizeBilinear":
    case "crossEntropy":
      return { both: 1 };
    case "tversky":
      return { both: 3 };
    case "upsampledTversky":
      return {};
    case "step":
      return { step: 1 };
    default:
      return null;
  }
}

/**
 * @typedef {object} WebGPUBar Geometric mean of ratios over the cases; each must be 1 at least, too.
 * @property {string} work
 * @property {readonly Case[]} cases
 * @property {string} direction
 * @property {number} atLeast
 * @property {readonly string[] | null} peers Whose fastest is meant; null: any WebGPU engine that can.
 */
/** Issue 5. @type {readonly WebGPUBar[]} */
export const webgpuBars = [
  { work: "dense 3x3, 1x1 and matmul, forward", cases: products, direction: "forward", atLeast: 1.5, peers: null },
  { work: "the same, forward + backward", cases: products, direction: "both", atLeast: 2.5, peers: ["jax-js"] },
  { work: "depthwise, batch norm, bilinear, softmax", cases: maps, direction: "both", atLeast: 1.5, peers: null },
  { work: "training step, dilated net", cases: [step], direction: "step", atLeast: 2.5, peers: ["jax-js"] },
  { work: "its first step, no shader cache", cases: [step], direction: "first", atLeast: 5, peers: ["jax-js"] },
  { work: "the same", cases: [step], direction: "first", atLeast: 1, peers: ["tfjs by hand"] },
];

/**
 * Fused Tversky beside the same from plain ops: lacuna against itself. `given` is what both must hold, logits, their
 * gradient and labels: the bar is on the bytes beyond it.
 */
export const TVERSKY = { fused, plain, direction: "both", atLeast: 5, bytes: 8, given: givenBytes(fused) };

/** @param {{ x: readonly number[] }} one */
function givenBytes({ x }) {
  const logits = x.reduce((a, b) => a * b, 1);
  return 4 * (2 * logits + logits / /** @type {number} */ (x.at(-1)));
}
