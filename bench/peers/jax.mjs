// @jax-js/jax's process. Maps are NCHW, the only layout of its convolution; everything is jitted.
import { DILATED_LAYERS } from "../../dist/cli/bench/cases.js";
import { sample } from "../../dist/cli/bench/values.js";
import { forgetPeak, peakBytes } from "./buffers.mjs";
import { describe } from "./gpu.mjs";
import { bilinearMatrix, dilatedParameters, FROM_NCHW, operandsOf, permute, TO_NCHW } from "./operands.mjs";
import { serve } from "./serve.mjs";

const jax = await import("@jax-js/jax"); // looks for the navigator that gpu.mjs made
const { numpy: np, lax, nn, tree, jit, vjp, valueAndGrad } = jax;
const started = jax.init("webgpu");

/** @typedef {any} Array jax.Array; each function consumes its arguments, `.ref` keeps one */

/** @param {import("./operands.mjs").Values} values @param {boolean} nchw @returns {Array} */
function upload(values, nchw) {
  const { data, shape } = nchw && values.shape.length === 4 ? permute(values, TO_NCHW) : values;
  return np.array(/** @type {any} */ (data)).reshape([...shape]);
}
/** Consumes `array`. @param {Array} array @param {boolean} nchw */
async function samplesOf(array, nchw) {
  const { shape } = array;
  const data = /** @type {Float32Array} */ (await array.data());
  return sample(nchw && shape.length === 4 ? permute({ data, shape }, FROM_NCHW).data : data);
}

/** Batch statistics, biased variance. @param {Array} x [n, c, h, w] @param {Array} gamma @param {Array} beta */
function batchNorm(x, gamma, beta, eps = 1e-5) {
  const perChannel = (/** @type {Array} */ v) => v.reshape([1, v.shape[0], 1, 1]);
  const mean = np.mean(x.ref, [0, 2, 3]);
  const centred = x.sub(perChannel(mean.ref));
  const variance = np.mean(np.square(centred.ref), [0, 2, 3]);
  const factor = gamma.mul(np.reciprocal(np.sqrt(variance.ref.add(eps))));
  return { y: centred.mul(perChannel(factor)).add(perChannel(beta)), mean, variance };
}

/** @param {Array} x @param {Array} w @param {number} stride @param {number} padding @param {number} dilation @param {number} [groups] */
const convolution = (x, w, stride, padding, dilation, groups = 1) =>
  lax.convGeneralDilated(
    x,
    w,
    [stride, stride],
    [
      [padding, padding],
      [padding, padding],
    ],
    {
      rhsDilation: [dilation, dilation],
      featureGroupCount: groups,
    },
  );

/** As jax.image does it: a product along each axis. @param {Array} x [n, c, h, w] @param {Array} rows [h, H] @param {Array} columns [w, W] */
function resize(x, rows, columns) {
  const [n, c, h] = x.shape;
  const [height, width] = [rows.shape[1], columns.shape[1]];
  const wide = np.matmul(x.reshape([n * c * h, -1]), columns).reshape([n, c, h, width]);
  const turned = wide.transpose([0, 1, 3, 2]).reshape([n * c * width, h]);
  return np.matmul(turned, rows).reshape([n, c, width, height]).transpose([0, 1, 3, 2]);
}
/** @param {readonly number[]} from @param {readonly number[]} to @param {boolean} aligned @returns {Array[]} */
const resizeMatrices = (from, to, aligned) =>
  [0, 1].map((axis) => upload(permute(bilinearMatrix(from[axis], to[axis], aligned), [1, 0]), false));

/** Mean of -log softmax at the labels. @param {Array} logits @param {Array} labels [n, h, w] @param {number} axis */
function crossEntropy(logits, labels, axis) {
  const classes = logits.shape[axis];
  const oneHot = nn.oneHot(labels, classes);
  const truth = axis === 1 ? oneHot.transpose([0, 3, 1, 2]) : oneHot;
  const pixels = logits.size / classes;
  return nn
    .logSoftmax(logits, axis)
    .mul(truth)
    .sum()
    .mul(-1 / pixels);
}

/**
 * @param {import("../../dist/cli/bench/cases.js").Case} one
 * @returns {{ f: (...leaves: Array[]) => Array, nchw: boolean }} of the leaves and then the constants
 */
function functionOf(one) {
  switch (one.op) {
    case "conv2d": {
      const { stride, padding, dilation, groups } = one;
      return { f: (x, w) => convolution(x, w, stride, padding, dilation, groups), nchw: true };
    }
    case "matmul":
      return { f: np.matmul, nchw: false };
    case "batchNorm":
      return {
        f: (x, gamma, beta) => {
          const { y, mean, variance } = batchNorm(x, gamma, beta);
          mean.dispose();
          variance.dispose();
          return y;
        },
        nchw: true,
      };
    case "softmax":
      return { f: (x) => nn.softmax(x, -1), nchw: false };
    case "resizeBilinear":
      return { f: resize, nchw: true };
    case "crossEntropy":
      return { f: (x, labels) => crossEntropy(x, labels, 3), nchw: false };
    default:
      throw new Error(`nobody wrote ${one.op} for this engine`);
  }
}

/** @param {Array[]} arrays consumed */
async function finish(arrays) {
  await jax.blockUntilReady(arrays);
  tree.dispose(arrays);
}
const refs = (/** @type {Array[]} */ arrays) => arrays.map((array) => array.ref);

/** @param {import("../../dist/cli/bench/cases.js").Case} one @returns {import("./serve.mjs").Work} */
function prepareOp(one) {
  const { f, nchw } = functionOf(one);
  const given = operandsOf(one);
  const leaves = given.leaves.map((values) => upload(values, nchw));
  const constants = given.constants.map((values) => upload(values, nchw));
  if (one.op === "resizeBilinear") constants.push(...resizeMatrices(one.x.slice(1, 3), one.size, one.alignCorners));
  const { labels } = given;
  if (labels) constants.push(np.array(Int32Array.from(labels.data)).reshape([...labels.shape]));
  const dy = given.dy && upload(given.dy, nchw);
  if (one.op === "conv2d" && one.image) throw new Error("no case has an image");
  const forward = jit((/** @type {Array[]} */ xs, /** @type {Array[]} */ rest) => [f(...xs, ...rest)]);
  const both = jit((/** @type {Array[]} */ xs, /** @type {Array[]} */ rest, /** @type {Array[]} */ seed) => {
    const of = (/** @type {Array[]} */ ...ys) => f(...ys, ...rest);
    const [y, pull] = vjp(of, xs);
    const gradients = pull(seed[0] ?? np.array(1));
    pull.dispose();
    return [y, ...gradients];
  });
  const direction = (/** @type {() => Array[]} */ run) => ({
    run: () => finish(run()),
    samples: async () => {
      const samples = [];
      for (const array of run()) samples.push(await samplesOf(array, nchw));
      return samples;
    },
  });
  return {
    forward: direction(() => forward(refs(leaves), refs(constants))),
    both: direction(() => both(refs(leaves), refs(constants), dy ? [dy.ref] : [])),
  };
}

/** @param {import("../../dist/cli/bench/cases.js").DilatedStep} one @returns {import("./serve.mjs").Work} */
function prepareStep(one) {
  const declared = dilatedParameters(one.classes);
  const at = new Map(declared.map(({ name }, i) => [name, i]));
  const given = operandsOf(one);
  const x = upload(given.constants[0], true);
  const labels = np.array(Int32Array.from(given.labels.data)).reshape([...given.labels.shape]);
  const [, h, w] = one.x;
  const stride = DILATED_LAYERS.reduce((product, layer) => product * layer.stride, 1);
  const matrices = resizeMatrices([h / stride, w / stride], [h, w], true);
  const initial = () => declared.map((values) => upload(values, true));

  /** @param {Array[]} parameters @param {Array[]} rest image, labels, matrices @returns {[Array, Array[]]} loss, batch statistics */
  const lossOf = (parameters, [image, truth, rows, columns]) => {
    const take = (/** @type {string} */ name) => parameters[at.get(name)];
    /** @type {Array[]} */
    const statistics = [];
    let y = image;
    for (const [i, layer] of DILATED_LAYERS.entries()) {
      y = convolution(y, take(`body.${3 * i}.weight`), layer.stride, layer.dilation, layer.dilation);
      const normed = batchNorm(y, take(`body.${3 * i + 1}.weight`), take(`body.${3 * i + 1}.bias`));
      statistics.push(normed.mean, normed.variance);
      y = nn.relu(normed.y);
    }
    const small = convolution(y, take("head.weight"), 1, 0, 1).add(take("head.bias").reshape([1, one.classes, 1, 1]));
    return [crossEntropy(resize(small, rows, columns), truth, 1), statistics];
  };
  const gradientsOf = (/** @type {Array[]} */ parameters, /** @type {Array[]} */ rest) =>
    valueAndGrad((/** @type {Array[]} */ ps) => lossOf(ps, rest), { hasAux: true })(parameters);

  const step = jit(
    (
      /** @type {Array[]} */ parameters,
      /** @type {Array[]} */ momenta,
      /** @type {Array[]} */ running,
      /** @type {Array[]} */ rest,
    ) => {
      const [[loss, statistics], gradients] = gradientsOf(refs(parameters), rest);
      const moved = momenta.map((m, i) => m.mul(one.momentum).add(gradients[i]));
      return {
        loss,
        parameters: parameters.map((p, i) => p.sub(moved[i].ref.mul(one.lr))),
        momenta: moved,
        running: running.map((r, i) => r.mul(0.9).add(statistics[i].mul(0.1))),
      };
    },
  );
  const check = jit((/** @type {Array[]} */ parameters, /** @type {Array[]} */ rest) => {
    const [[loss, statistics], gradients] = gradientsOf(parameters, rest);
    tree.dispose(statistics);
    return [loss, ...gradients];
  });
  const inputs = () => refs([x, labels, ...matrices]);
  const zeros = (/** @type {Array[]} */ like) => like.map((p) => np.zeros(p.shape));
  let state = { parameters: initial(), momenta: /** @type {Array[]} */ ([]), running: /** @type {Array[]} */ ([]) };
  state.momenta = zeros(state.parameters);
  state.running = DILATED_LAYERS.flatMap(({ cout }) => [np.zeros([cout]), np.ones([cout])]);
  return {
    step: {
      run: async () => {
        const { loss, ...next } = step(state.parameters, state.momenta, state.running, inputs());
        state = next;
        await jax.blockUntilReady([loss, next.parameters]);
        loss.dispose();
      },
      samples: async () => {
        const [loss, ...gradients] = check(initial(), inputs());
        const norms = [];
        for (const gradient of gradients) norms.push(Math.hypot(...(await samplesOf(gradient, true))));
        return [await samplesOf(loss, false), norms];
      },
    },
  };
}

await serve({
  async hello() {
    if (!(await started).includes("webgpu")) throw new Error("jax-js found no WebGPU");
    return { description: describe(jax.getWebGPUDevice().adapterInfo) };
  },
  async prepare(one) {
    await started;
    jax.defaultDevice("webgpu");
    return one.op === "dilatedStep" ? prepareStep(one) : prepareOp(one);
  },
  bytes: peakBytes,
  forgetPeak,
});
