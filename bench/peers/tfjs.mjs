// @tensorflow/tfjs-backend-webgpu's process. Maps are NHWC, its default and the layout of its fastest kernels.
import { DILATED_LAYERS } from "../../dist/cli/bench/cases.js";
import { sample } from "../../dist/cli/bench/values.js";
import { forgetPeak, peakBytes } from "./buffers.mjs";
import { describe, gpu } from "./gpu.mjs";
import { dilatedParameters, operandsOf, permute } from "./operands.mjs";
import { serve } from "./serve.mjs";

// Not tfjs-core alone, which in Node comes without gradients.
const { default: tf } = await import("@tensorflow/tfjs");
const { default: webgpu } = await import("@tensorflow/tfjs-backend-webgpu");

/** @typedef {any} Tensor tf.Tensor */

/** OHWI to HWIO, the kernels of tfjs, and back. */
const TO_HWIO = [1, 2, 3, 0];
const FROM_HWIO = [3, 0, 1, 2];
/** Depthwise: [c, kh, kw, 1] to [kh, kw, c, 1], and back. */
const TO_DEPTHWISE = [1, 2, 0, 3];
const FROM_DEPTHWISE = [2, 0, 1, 3];

let info = "";
/** Its own registration asks for a feature in the wrong way where the adapter has it, and gets no device. */
async function start() {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("no adapter");
  const names = [
    "maxComputeWorkgroupStorageSize",
    "maxComputeWorkgroupsPerDimension",
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxComputeWorkgroupSizeX",
    "maxComputeInvocationsPerWorkgroup",
  ];
  const device = await adapter.requestDevice({
    requiredFeatures: adapter.features.has("timestamp-query") ? ["timestamp-query"] : [],
    requiredLimits: Object.fromEntries(names.map((name) => [name, adapter.limits[name]])),
  });
  info = describe(adapter.info);
  tf.removeBackend("webgpu");
  tf.registerBackend("webgpu", () => new webgpu.WebGPUBackend(device, adapter.info), 3);
  await tf.setBackend("webgpu");
  await tf.ready();
}
const started = start();

async function sync() {
  const backend = tf.backend();
  backend.endComputePassEncoder(); // as its own `time` does
  if (backend.commandEncoder) backend.submitQueue();
  await backend.device.queue.onSubmittedWorkDone();
}

/** @param {import("./operands.mjs").Values} values @returns {Tensor} */
const upload = ({ data, shape }) => tf.tensor(data, [...shape], "float32");
/** @param {Tensor} tensor @param {readonly number[] | null} axes of our layout, where it is another */
async function samplesOf(tensor, axes = null) {
  const [data, { shape }] = [await tensor.data(), tensor];
  return sample(axes && shape.length === 4 ? permute({ data, shape }, axes).data : data);
}

/** Biased variance. @param {Tensor} x @param {Tensor} gamma @param {Tensor} beta */
function batchNorm(x, gamma, beta) {
  const { mean, variance } = tf.moments(x, [0, 1, 2]);
  return { y: tf.batchNorm(x, mean, variance, beta, gamma, 1e-5), mean, variance };
}

/** @param {Tensor} logits [n, h, w, c] @param {Tensor} labels int32 [n, h, w] */
const crossEntropy = (logits, labels) => tf.losses.softmaxCrossEntropy(tf.oneHot(labels, logits.shape[3]), logits);

/** @param {import("../../dist/cli/bench/cases.js").Case} one @returns {(...operands: Tensor[]) => Tensor} */
function functionOf(one) {
  switch (one.op) {
    case "conv2d": {
      const { stride, padding, dilation, groups } = one;
      return groups > 1
        ? (x, w) => tf.depthwiseConv2d(x, w, stride, padding, "NHWC", dilation)
        : (x, w) => tf.conv2d(x, w, stride, padding, "NHWC", dilation);
    }
    case "matmul":
      return (a, b) => tf.matMul(a, b);
    case "batchNorm":
      return (x, gamma, beta) => batchNorm(x, gamma, beta).y;
    case "softmax":
      return (x) => tf.softmax(x);
    case "resizeBilinear":
      return (x) => tf.image.resizeBilinear(x, one.size, one.alignCorners, !one.alignCorners);
    case "crossEntropy":
      return crossEntropy;
    default:
      throw new Error(`nobody wrote ${one.op} for this engine`);
  }
}

/** @param {import("../../dist/cli/bench/cases.js").Case} one @returns {import("./serve.mjs").Work} */
function prepareOp(one) {
  const f = functionOf(one);
  const given = operandsOf(one);
  const grouped = one.op === "conv2d" && one.groups > 1;
  const [to, from] = grouped ? [TO_DEPTHWISE, FROM_DEPTHWISE] : [TO_HWIO, FROM_HWIO];
  const isKernel = (/** @type {number} */ i) => one.op === "conv2d" && i === 1;
  const leaves = given.leaves.map((values, i) => upload(isKernel(i) ? permute(values, to) : values));
  const constants = given.labels
    ? [tf.tensor(Int32Array.from(given.labels.data), [...given.labels.shape], "int32")]
    : [];
  const dy = given.dy && upload(given.dy);
  const gradients = tf.valueAndGrads((/** @type {Tensor[]} */ ...xs) => f(...xs, ...constants));
  const forward = () => [f(...leaves, ...constants)];
  const both = () => {
    const { value, grads } = dy ? gradients(leaves, dy) : gradients(leaves);
    return [value, ...grads];
  };
  const direction = (/** @type {() => Tensor[]} */ of) => ({
    run: () => {
      tf.tidy(() => void of());
      return sync();
    },
    samples: async () => {
      const samples = [];
      for (const [i, tensor] of tf.tidy(of).entries())
        samples.push(await samplesOf(tensor, isKernel(i - 1) ? from : null));
      return samples;
    },
  });
  return { forward: direction(forward), both: direction(both) };
}

/**
 * A dilated convolution of stride 1 with a gradient of our own, as tfjs has none. dx: the same dilated convolution of dy with
 * the kernel turned round. dw: a convolution of x with dy for its kernel and the dilation for its stride, where images and
 * channels have changed places.
 * @param {number} dilation
 */
const dilatedWithGradient = (dilation) =>
  tf.customGrad((/** @type {Tensor} */ x, /** @type {Tensor} */ w, /** @type {(ts: Tensor[]) => void} */ save) => {
    save([x, w]);
    const gradFunc = (/** @type {Tensor} */ dy, /** @type {Tensor[]} */ [x, w]) => {
      const turned = tf.transpose(tf.reverse(w, [0, 1]), [0, 1, 3, 2]); // [kh, kw, cout, cin]
      const [images, kernel] = [tf.transpose(x, [3, 1, 2, 0]), tf.transpose(dy, [1, 2, 0, 3])]; // [cin, h, w, n], [h, w, n, cout]
      const dw = () => tf.transpose(tf.conv2d(images, kernel, dilation, dilation), [1, 2, 0, 3]);
      return [() => tf.conv2d(dy, turned, 1, dilation, "NHWC", dilation), dw].map((gradient) => gradient());
    };
    return { value: tf.conv2d(x, w, 1, dilation, "NHWC", dilation), gradFunc };
  });

/**
 * @param {import("../../dist/cli/bench/cases.js").DilatedStep} one @param {boolean} byHand With our own gradient of dilated
 * convolutions. @returns {import("./serve.mjs").Work}
 */
function prepareStep(one, byHand) {
  const declared = dilatedParameters(one.classes);
  const given = operandsOf(one);
  const x = upload(given.constants[0]);
  const labels = tf.tensor(Int32Array.from(given.labels.data), [...given.labels.shape], "int32");
  const variables = new Map(
    declared.map((values) => {
      const { data, shape } = values.shape.length === 4 ? permute(values, TO_HWIO) : values;
      return [values.name, tf.variable(tf.tensor(data, [...shape]), true, values.name)];
    }),
  );
  const ordered = [...variables.values()];
  const running = DILATED_LAYERS.map(({ cout }) => ({
    mean: tf.variable(tf.zeros([cout]), false),
    variance: tf.variable(tf.ones([cout]), false),
  }));
  /** @param {boolean} training Update the running statistics. */
  const lossOf = (training) => {
    const take = (/** @type {string} */ name) => variables.get(name);
    let y = x;
    for (const [i, { stride, dilation }] of DILATED_LAYERS.entries()) {
      const w = take(`body.${3 * i}.weight`);
      const own = byHand && dilation > 1;
      y = own ? dilatedWithGradient(dilation)(y, w) : tf.conv2d(y, w, stride, dilation, "NHWC", dilation);
      const normed = batchNorm(y, take(`body.${3 * i + 1}.weight`), take(`body.${3 * i + 1}.bias`));
      if (training) {
        const { mean, variance } = running[i];
        mean.assign(tf.add(tf.mul(mean, 0.9), tf.mul(normed.mean, 0.1)));
        variance.assign(tf.add(tf.mul(variance, 0.9), tf.mul(normed.variance, 0.1)));
      }
      y = tf.relu(normed.y);
    }
    const small = tf.add(tf.conv2d(y, take("head.weight"), 1, 0), take("head.bias"));
    return crossEntropy(tf.image.resizeBilinear(small, one.x.slice(1, 3), true), labels);
  };
  const optimiser = tf.train.momentum(one.lr, one.momentum);
  return {
    step: {
      run: () => {
        tf.tidy(() => void optimiser.minimize(() => lossOf(true), false, ordered));
        return sync();
      },
      samples: async () => {
        const { value, grads } = tf.tidy(() => tf.variableGrads(() => lossOf(false), ordered));
        const norms = [];
        for (const { name } of declared) norms.push(Math.hypot(...(await samplesOf(grads[name], FROM_HWIO))));
        return [await samplesOf(value), norms];
      },
    },
  };
}

await serve({
  async hello() {
    await started;
    return { description: info };
  },
  async prepare(one) {
    await started;
    return one.op === "dilatedStep" ? prepareStep(one, process.argv.includes("--by-hand")) : prepareOp(one);
  },
  bytes: peakBytes,
  forgetPeak,
});
