// Our side of every case: operands on the device, and what is timed.
import { differentiable } from "../dist/autograd.js";
import * as lacuna from "../dist/index.js";
import { labels, sample, values } from "./values.mjs";

const { Tensor, differentiate, scope } = lacuna;

/** @typedef {import("./cases.mjs").Case} Case */
/** @typedef {import("./cases.mjs").Step} Step */
/** @typedef {import("../dist/index.js").Device} Device */
/** @typedef {import("../dist/index.js").Tensor} T */
/**
 * @typedef {object} Prepared
 * @property {Record<string, () => void>} run What is timed, by direction. To be called inside `scope`.
 * @property {() => Promise<number[][]>} check Samples of result and gradients, to compare with the peer's.
 */

/** @param {Device} device @param {Case} one @returns {Prepared} */
export const prepare = (device, one) => (one.op === "step" ? prepareStep(device, one) : prepareOp(device, one));

/** @param {Device} device @param {Exclude<Case, Step>} one @returns {Prepared} */
function prepareOp(device, one) {
  const { forward, leaves, isLoss } = operands(device, one);
  const y = scope(forward);
  const dy = isLoss ? null : Tensor.from(device, values(y.size, 9), y.shape);
  y.dispose();
  const both = () =>
    differentiate(leaves, () => {
      const result = forward();
      return { loss: dy ? seeded(result, dy) : result, result };
    });
  return { run: { forward, both }, check };

  async function check() {
    const { values: made, gradients } = scope(both);
    const read = [made.result, ...gradients];
    const samples = [];
    for (const t of read) samples.push(sample(await t.data()));
    lacuna.dispose(made, gradients);
    return samples;
  }
}

/**
 * A loss whose gradient with respect to `y` is `dy` and that costs nothing: what PyTorch's `y.backward(dy)` is. Any real
 * loss would add kernels of its own to the time.
 * @param {T} y @param {T} dy
 */
const seeded = (y, dy) => differentiable([y], [dy], Tensor.zeros(y.device, []), (_, [seed]) => [seed.alias()]);

/**
 * @param {Device} device @param {Exclude<Case, Step>} one
 * @returns {{ forward: () => T, leaves: T[], isLoss: boolean }}
 */
function operands(device, one) {
  const random = (/** @type {readonly number[]} */ shape, /** @type {number} */ seed, scale = 1) =>
    Tensor.from(device, values(count(shape), seed, scale), shape);
  const x = random(one.x, 1);
  switch (one.op) {
    case "conv2d": {
      const { stride, padding, dilation, groups, image } = one;
      const w = random(one.w, 2, Math.sqrt(3 / count(one.w.slice(1))));
      const forward = () => lacuna.conv2d(x, w, { stride, padding, dilation, groups });
      return { forward, leaves: image ? [w] : [x, w], isLoss: false };
    }
    case "batchNorm":
    case "batchNormRelu": {
      const c = one.x.slice(3);
      const [gamma, beta] = [random(c, 2), random(c, 3)];
      const state = { gamma, beta, runningMean: Tensor.zeros(device, c), runningVar: Tensor.ones(device, c) };
      const relu = one.op === "batchNormRelu";
      const forward = () => lacuna.batchNorm(x, state, { mode: "train", relu });
      return { forward, leaves: [x, gamma, beta], isLoss: false };
    }
    case "resizeBilinear": {
      const { size, alignCorners } = one;
      return { forward: () => lacuna.resizeBilinear(x, size, { alignCorners }), leaves: [x], isLoss: false };
    }
    case "softmax":
      return { forward: () => lacuna.softmax(x), leaves: [x], isLoss: false };
    case "crossEntropy":
    case "tversky": {
      const y = truth(device, one.x, one.x[3]);
      const loss = one.op === "tversky" ? lacuna.tversky : lacuna.crossEntropy;
      return { forward: () => loss(x, y), leaves: [x], isLoss: true };
    }
    case "upsampledTversky": {
      const { size, alignCorners } = one;
      const y = truth(device, [one.x[0], ...size, one.x[3]], one.x[3]);
      return { forward: () => lacuna.tversky(x, y, { upsample: { alignCorners } }), leaves: [x], isLoss: true };
    }
    default:
      throw new Error(`bench: there is no op "${/** @type {Case} */ (one).op}"`);
  }
}

/**
 * Forward, cross entropy + Tversky, backward, AdamW.
 * @param {Device} device @param {Step} one @returns {Prepared}
 */
export function prepareStep(device, one) {
  const { classes, width, lr, weightDecay } = one;
  const model = new lacuna.DeepLabV3Plus(device, { backbone: "resnet18", classes, width });
  const parameters = model.parameters();
  const x = Tensor.from(device, values(count(one.x), 1), one.x);
  const y = truth(device, one.x, classes);
  const optimiser = new lacuna.AdamW(lacuna.parameterGroups(parameters, { lr, weightDecay }));
  const gradientsOf = (/** @type {readonly T[]} */ of) =>
    differentiate(of, () => {
      const logits = model.forward(x);
      return { loss: lacuna.add(lacuna.crossEntropy(logits, y), lacuna.tversky(logits, y)) };
    });
  const step = () => optimiser.step(gradientsOf(optimiser.parameters).gradients);
  return { run: { step }, check };

  /** The loss, and the norm of each gradient, at weights that both sides know and without dropout. */
  async function check() {
    for (const m of model.modules().values()) if (m instanceof lacuna.nn.Dropout) Object.assign(m, { rate: 0 });
    const names = [...parameters.keys()].sort();
    names.forEach((name, i) => {
      const t = /** @type {T} */ (parameters.get(name));
      t.assign(weight(t.shape, name, 100 + i));
    });
    const { values: made, gradients } = scope(() => gradientsOf(names.map((name) => parameters.get(name))));
    const norms = [];
    for (const gradient of gradients) norms.push(Math.hypot(...sample(await gradient.data())));
    const loss = await made.loss.item();
    lacuna.dispose(made, gradients);
    for (const m of model.modules().values()) if (m instanceof lacuna.nn.Dropout) Object.assign(m, { rate: 0.1 });
    return [[loss], norms];
  }
}

/** First values of a parameter; bench/pytorch.py `fill` gives the same. @param {readonly number[]} shape */
function weight(shape, /** @type {string} */ name, /** @type {number} */ seed) {
  if (shape.length > 1) return values(count(shape), seed, Math.sqrt(6 / count(shape.slice(1))));
  const v = values(count(shape), seed, 0.1);
  return name.endsWith("weight") ? v.map((value) => 1 + value) : v;
}

/** @param {Device} device @param {readonly number[]} x @param {number} classes */
const truth = (device, x, classes) =>
  Tensor.from(device, labels(count(x.slice(0, 3)), classes, 5), x.slice(0, 3), "u32");

/** @param {readonly number[]} shape */
const count = (shape) => shape.reduce((a, b) => a * b, 1);
