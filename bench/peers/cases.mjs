// What WebGPU engines are compared on: the table of bars of issue 5.
import { dense, depthwise, dilatedStep, of, product, resize } from "../../dist/cli/bench/cases.js";

/** @typedef {import("../../dist/cli/bench/cases.js").Case} Case */

/** @type {readonly Case[]} */
export const products = [
  ...[1, 6, 12, 18].map((dilation) => dense([1, 33, 33, 256], 256, { dilation })),
  dense([1, 33, 33, 1280], 256, { kernel: 1 }),
  product(512, 512, 512),
];
/** @type {readonly Case[]} */
export const maps = [
  depthwise([1, 33, 33, 256], 6),
  of("batchNorm", [1, 33, 33, 256]),
  resize([1, 33, 33, 256], [129, 129], true),
  of("softmax", [1, 129, 129, 21]),
];
/** @type {readonly Case[]} */
export const losses = [of("crossEntropy", [1, 129, 129, 21])];
export const step = dilatedStep([2, 128, 128, 3]);
/** The same loss in kernels of its own, and from plain ops. */
export const fused = of("tversky", [1, 129, 129, 21]);
export const plain = of("plainTversky", [1, 129, 129, 21]);

export const cases = [...products, ...maps, ...losses, step, fused, plain];
