// Our side of a case: its operands on a device, its forward pass and what its gradients go to.
import { differentiable } from "../../dist/autograd.js";
import * as lacuna from "../../dist/index.js";

const { Tensor, differentiate } = lacuna;

/** @typedef {import("./cases.mjs").Case} Case */
/** @typedef {import("../../dist/index.js").Device} Device */
/** @typedef {import("../../dist/index.js").Tensor} T */
/**
 * @typedef {object} Source Where operands come from.
 * @property {(shape: readonly number[], seed: number, scale?: number) => T} map Of the case's precision.
 * @property {(shape: readonly number[], seed: number, scale?: number) => T} vector Always f32.
 * @property {(shape: readonly number[], classes: number) => T} labels
 */
/** @typedef {{ forward: () => T, leaves: T[], owned: T[] }} Prepared `owned`: everything to dispose of. */

const count = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);

/** @param {Case} one @param {Source} from @returns {Prepared} */
export function prepare(one, from) {
  const x = from.map(one.x, 1);
  const c = one.x.slice(3);
  switch (one.op) {
    case "conv2d": {
      const { stride, padding, dilation, groups, w: shape = [] } = one;
      const w = from.map(shape, 2, 1 / Math.sqrt(count(shape.slice(1))));
      const forward = () => lacuna.conv2d(x, w, { stride, padding, dilation, groups });
      return { forward, leaves: one.image ? [w] : [x, w], owned: [x, w] };
    }
    case "batchNorm": {
      const { device } = x;
      const [gamma, beta] = [from.vector(c, 2), from.vector(c, 3)];
      const state = { gamma, beta, runningMean: Tensor.zeros(device, c), runningVar: Tensor.ones(device, c) };
      const forward = () => lacuna.batchNorm(x, state, { mode: "train", relu: one.relu ?? false });
      return { forward, leaves: [x, gamma, beta], owned: [x, ...Object.values(state)] };
    }
    case "resizeBilinear": {
      const { size = [0, 0], alignCorners = false } = one;
      return { forward: () => lacuna.resizeBilinear(x, size, { alignCorners }), leaves: [x], owned: [x] };
    }
    case "maxPool":
      return {
        forward: () => lacuna.maxPool2d(x, { kernel: 3, stride: 2, padding: 1 }),
        leaves: [x],
        owned: [x],
      };
    case "softmax":
      return { forward: () => lacuna.softmax(x), leaves: [x], owned: [x] };
    case "crossEntropy":
    case "tversky": {
      const y = from.labels(one.x.slice(0, 3), c[0]);
      const loss = one.op === "tversky" ? lacuna.tversky : lacuna.crossEntropy;
      return { forward: () => loss(x, y), leaves: [x], owned: [x, y] };
    }
    case "upsampledTversky": {
      const { size = [0, 0], alignCorners = false } = one;
      const y = from.labels([one.x[0], ...size], c[0]);
      return { forward: () => lacuna.tversky(x, y, { upsample: { alignCorners } }), leaves: [x], owned: [x, y] };
    }
    default:
      throw new Error(`there are no operands of ${one.op}`);
  }
}

/**
 * A loss whose gradient with respect to `y` is `dy` and that costs nothing: what PyTorch's `y.backward(dy)` is.
 * @param {T} y @param {T} dy
 */
const seeded = (y, dy) => differentiable([y], [dy], Tensor.zeros(y.device, []), (_, [seed]) => [seed.alias()]);

/**
 * Forward and backward.
 * @param {Prepared} prepared @param {readonly T[]} leaves @param {T | null} dy Null for a loss.
 * @param {(forward: () => T) => T} [how] Runs the forward pass.
 */
export function both({ forward }, leaves, dy, how = (f) => f()) {
  const { values, gradients } = differentiate(leaves, () => {
    const y = how(forward);
    return { loss: dy ? seeded(y, dy) : y, y };
  });
  return [values.y, ...gradients];
}
