// onnxruntime-node's process, on its WebGPU provider: forward only. Maps are NCHW, as ONNX has them; the provider lays them out
// as it likes when the session is made. Inputs and results stay on the device.
import { sample } from "../../dist/cli/bench/values.js";
import { encodeModel } from "./onnx.mjs";
import { FROM_NCHW, operandsOf, permute, TO_NCHW } from "./operands.mjs";
import { serve } from "./serve.mjs";

const { default: ort } = await import("onnxruntime-node");

/** @typedef {import("./onnx.mjs").Graph} Graph */
/** @typedef {import("./onnx.mjs").Value} Value */

const PROVIDER = { executionProviders: [{ name: "webgpu" }], logSeverityLevel: /** @type {const} */ (3) };

/** @param {string} name @param {readonly number[]} values @returns {Value} */
const whole = (name, values) => ({ name, dims: [values.length], data: BigInt64Array.from(values, BigInt) });

/**
 * A graph from x to y. @param {import("../../dist/cli/bench/cases.js").Case} one @param {Value[]} leaves and constants: x
 * first, NCHW @param {readonly number[]} y Its shape. @returns {Graph}
 */
function graphOf(one, [x, ...rest], y) {
  const inputs = [{ name: "x", dims: x.dims }];
  const outputs = [{ name: "y", dims: y }];
  /** @param {string} op @param {Value[]} constants @param {object} more */
  const of = (op, constants, more = {}) => {
    const names = ["x", ...constants.map(({ name }) => name)];
    return { nodes: [{ op, inputs: names, outputs: ["y"], ...more }], inputs, outputs, constants };
  };
  switch (one.op) {
    case "conv2d": {
      const { padding, stride, dilation, groups } = one;
      const pads = [padding, padding, padding, padding];
      const kernel_shape = one.w.slice(1, 3);
      const attributes = {
        kernel_shape,
        pads,
        strides: [stride, stride],
        dilations: [dilation, dilation],
        group: groups,
      };
      return of("Conv", rest, { attributes });
    }
    case "matmul":
      return of("MatMul", rest);
    case "batchNorm": {
      const c = one.x[3];
      const running = [0, 1].map((value) => ({
        name: `running${value}`,
        dims: [c],
        data: new Float32Array(c).fill(value),
      }));
      const graph = of("BatchNormalization", [...rest, ...running], {
        attributes: { training_mode: 1 },
        floats: { epsilon: 1e-5 },
      });
      const [node] = graph.nodes;
      return { ...graph, nodes: [{ ...node, outputs: ["y", "mean", "variance"] }] };
    }
    case "softmax":
      return of("Softmax", [], { attributes: { axis: -1 } });
    case "resizeBilinear": {
      const mode = one.alignCorners ? "align_corners" : "half_pixel";
      const graph = of("Resize", [whole("sizes", y)], {
        attributes: { mode: "linear", coordinate_transformation_mode: mode },
      });
      const [node] = graph.nodes;
      return { ...graph, nodes: [{ ...node, inputs: ["x", "", "", "sizes"] }] }; // neither region nor scales
    }
    case "crossEntropy":
      return of("SoftmaxCrossEntropyLoss", rest);
    default:
      throw new Error(`nobody wrote ${one.op} for this engine`);
  }
}

/**
 * With a second result, on the host: y's first element, for which `run` waits. It costs a copy of four bytes.
 * @param {Graph} graph @param {readonly number[]} y @returns {Graph}
 */
function withProbe(graph, y) {
  const [from, to] = [
    whole(
      "from",
      y.map(() => 0),
    ),
    whole(
      "to",
      y.map(() => 1),
    ),
  ];
  return {
    ...graph,
    nodes: [...graph.nodes, { op: "Slice", inputs: ["y", "from", "to"], outputs: ["probe"] }],
    outputs: [...graph.outputs, { name: "probe", dims: y.map(() => 1) }],
    constants: [...graph.constants, from, to],
  };
}

/** A copy on the device. @param {Value} x */
async function upload({ dims, data }) {
  const one = { name: "one", dims: [1], data: Float32Array.of(1) };
  const graph = {
    nodes: [{ op: "Mul", inputs: ["host", "one"], outputs: ["x"] }],
    inputs: [{ name: "host", dims }],
    outputs: [{ name: "x", dims }],
    constants: [one],
  };
  const session = await ort.InferenceSession.create(encodeModel(graph), {
    ...PROVIDER,
    preferredOutputLocation: "gpu-buffer",
  });
  const { x } = await session.run({ host: new ort.Tensor("float32", /** @type {Float32Array} */ (data), [...dims]) });
  return x;
}

/** @param {import("../../dist/cli/bench/cases.js").Case} one @returns {Promise<import("./serve.mjs").Work>} */
async function prepare(one) {
  const given = operandsOf(one);
  const nchw = one.op !== "softmax" && one.op !== "matmul";
  const turn = (/** @type {import("./operands.mjs").Values} */ values) =>
    nchw && values.shape.length === 4 ? permute(values, TO_NCHW) : values;
  /** @type {Value[]} */
  const operands = [...given.leaves, ...given.constants].map((values, i) => {
    const { data, shape } = turn(values);
    return { name: `operand${i}`, dims: shape, data };
  });
  if (given.labels) {
    operands.push({ name: "labels", dims: given.labels.shape, data: BigInt64Array.from(given.labels.data, BigInt) });
  }
  const y = given.dy ? (nchw ? TO_NCHW.map((axis) => given.dy.shape[axis]) : given.dy.shape) : [];
  const graph = graphOf(one, operands, y);
  /** @type {() => any} */
  let timed = () => null;
  return {
    forward: {
      run: () => timed(),
      async samples() {
        const checked = await ort.InferenceSession.create(encodeModel(graph), PROVIDER);
        const [{ data, dims }] = operands;
        const host = new ort.Tensor("float32", /** @type {Float32Array} */ (data), [...dims]);
        const result = /** @type {Float32Array} */ ((await checked.run({ x: host })).y.data);
        const location = { y: "gpu-buffer", probe: "cpu" };
        const probed = y.length > 0 ? withProbe(graph, y) : graph; // a scalar is its own probe
        const session = await ort.InferenceSession.create(encodeModel(probed), {
          ...PROVIDER,
          ...(y.length > 0 && { preferredOutputLocation: /** @type {any} */ (location) }),
        });
        const x = await upload(operands[0]);
        timed = async () => {
          const results = await session.run({ x });
          results.y.dispose();
        };
        const back = nchw && y.length === 4 ? permute({ data: result, shape: y }, FROM_NCHW).data : result;
        return [sample(back)];
      },
    },
  };
}

await serve({
  hello: async () => ({ description: "its own Dawn" }),
  prepare,
  bytes: () => null, // it has a device of its own
});
