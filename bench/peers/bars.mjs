/** @typedef {import("../dist/cli/bench/cases.js").Case} Case */
/**
 * @typedef {object} Bars At least so many times PyTorch's speed (issue 3), by direction.
 * @property {number} [forward]
 * @property {number} [backward]
 * @property {number} [both]
 * @property {number} [step]
 */

/** @param {Case} one @returns {Bars | null} null: bench/pytorch.py does not know the op. */
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
