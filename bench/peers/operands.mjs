// What every case is computed on, as arrays in lacuna's layout (maps NHWC, kernels OHWI): what prepare.ts makes.
import { DILATED_LAYERS } from "../../dist/cli/bench/cases.js";
import { labels, values, weights } from "../../dist/cli/bench/values.js";

/** @typedef {import("../../dist/cli/bench/cases.js").Case} Case */
/** @typedef {{ data: Float32Array, shape: readonly number[] }} Values */
/** @typedef {{ data: Uint32Array, shape: readonly number[] }} Labels */

const sizeOf = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);
/** @param {readonly number[]} shape @param {number} seed @returns {Values} */
const random = (shape, seed, scale = 1) => ({ data: values(sizeOf(shape), seed, scale), shape });
/** @param {readonly number[]} x @param {number} classes @returns {Labels} */
const truth = (x, classes) => ({ data: labels(sizeOf(x.slice(0, 3)), classes, 5), shape: x.slice(0, 3) });

/**
 * @param {Case} one
 * @returns {{ leaves: Values[], constants: Values[], labels: Labels | null, dy: Values | null }} dy: null for losses
 */
export function operandsOf(one) {
  const of = (
    /** @type {Values[]} */ leaves,
    /** @type {readonly number[]} */ y,
    /** @type {Values[]} */ constants = [],
  ) => {
    return { leaves, constants, labels: null, dy: random(y, 9) };
  };
  switch (one.op) {
    case "conv2d": {
      const [n, h, w] = one.x;
      const [cout, kh, kw] = one.w;
      const side = (/** @type {number} */ size, /** @type {number} */ k) =>
        Math.floor((size + 2 * one.padding - one.dilation * (k - 1) - 1) / one.stride) + 1;
      const y = [n, side(h, kh), side(w, kw), cout];
      const [x, kernel] = [random(one.x, 1), random(one.w, 2, Math.sqrt(3 / sizeOf(one.w.slice(1))))];
      return one.image ? of([kernel], y, [x]) : of([x, kernel], y);
    }
    case "matmul": {
      const [a, b] = [random([one.m, one.k], 1), random([one.k, one.n], 2, Math.sqrt(3 / one.k))];
      return of([a, b], [one.m, one.n]);
    }
    case "batchNorm": {
      const c = one.x.slice(3);
      return of([random(one.x, 1), random(c, 2), random(c, 3)], one.x);
    }
    case "softmax":
      return of([random(one.x, 1)], one.x);
    case "resizeBilinear":
      return of([random(one.x, 1)], [one.x[0], ...one.size, one.x[3]]);
    case "crossEntropy":
      return { leaves: [random(one.x, 1)], constants: [], labels: truth(one.x, one.x[3]), dy: null };
    case "dilatedStep":
      return { leaves: [], constants: [random(one.x, 1)], labels: truth(one.x, one.classes), dy: null };
    default:
      throw new Error(`nobody wrote ${one.op} for this engine`);
  }
}

/**
 * Parameters of the dilated net, in the order of names.
 * @param {number} classes @returns {(Values & { name: string })[]}
 */
export function dilatedParameters(classes) {
  /** @type {[string, number[]][]} */
  const shapes = DILATED_LAYERS.flatMap(({ cin, cout }, i) => [
    [`body.${3 * i}.weight`, [cout, 3, 3, cin]],
    [`body.${3 * i + 1}.weight`, [cout]],
    [`body.${3 * i + 1}.bias`, [cout]],
  ]);
  shapes.push(["head.weight", [classes, 1, 1, DILATED_LAYERS.at(-1).cout]], ["head.bias", [classes]]);
  const ordered = shapes.sort(([a], [b]) => (a < b ? -1 : 1));
  return ordered.map(([name, shape], i) => ({ name, shape, data: weights(shape, name, i) }));
}

/**
 * The array with its axes in another order. @template {Float32Array | Uint32Array} A
 * @param {{ data: A, shape: readonly number[] }} from @param {readonly number[]} axes Of the result: which of ours.
 * @returns {{ data: A, shape: number[] }}
 */
export function permute({ data, shape }, axes) {
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const out = /** @type {A} */ (data.slice());
  const to = axes.map((axis) => shape[axis]);
  const index = to.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = data[axes.reduce((at, axis, j) => at + index[j] * strides[axis], 0)];
    for (let j = to.length - 1; j >= 0 && ++index[j] === to[j]; j--) index[j] = 0;
  }
  return { data: out, shape: to };
}
/** NHWC to NCHW, and OHWI to OIHW. */
export const TO_NCHW = [0, 3, 1, 2];
export const FROM_NCHW = [0, 2, 3, 1];

/** A function from h to H pixels along one axis as a matrix [H, h]: each row has the two weights. */
export function bilinearMatrix(/** @type {number} */ from, /** @type {number} */ to, /** @type {boolean} */ aligned) {
  const data = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const at = aligned ? (to > 1 ? (i * (from - 1)) / (to - 1) : 0) : Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(from - 1, Math.floor(at));
    const high = Math.min(from - 1, low + 1);
    data[i * from + low] += 1 - (at - low);
    data[i * from + high] += at - low;
  }
  return { data, shape: [to, from] };
}
