import type { Backend } from "../../src/backends/backend.js";
import {
  add,
  clamp,
  concat,
  conv2d,
  div,
  globalAvgPool,
  groupNorm,
  maxPool2d,
  mul,
  pad,
  relu,
  reshape,
  resizeBilinear,
  sub,
  transpose,
} from "../../src/ops/index.js";
import { scope, Tensor } from "../../src/tensor.js";
import type { ReadModel, ReadNode } from "./onnx_reader.js";

/** A float tensor as ONNX lays it out, or whole numbers of a shape computation. */
type Value = Tensor | readonly number[];

// Our convolutions, pools and resizes take channels last; weights are [cout, cin, kh, kw] there, [cout, kh, kw, cin] here.
const channelsLast = (x: Tensor): Tensor => transpose(x, [0, 2, 3, 1]);
const channelsFirst = (x: Tensor): Tensor => transpose(x, [0, 3, 1, 2]);
const inOurLayout = (x: Tensor, fn: (x: Tensor) => Tensor): Tensor => channelsFirst(fn(channelsLast(x)));

/** The attributes of a node by name: all must be asked for, so that none goes unnoticed. */
class Attributes {
  readonly #left: Map<string, number | string | readonly number[]>;
  constructor(readonly node: ReadNode) {
    this.#left = new Map(node.attributes);
  }
  take(name: string): number | string | readonly number[] {
    const value = this.#left.get(name);
    if (value === undefined) throw new Error(`${this.node.op} lacks ${name}`);
    this.#left.delete(name);
    return value;
  }
  number = (name: string): number => Number(this.take(name));
  pair(name: string): [number, number] {
    const value = this.take(name);
    if (!Array.isArray(value) || value.length !== 2) throw new Error(`${this.node.op}: ${name} is no pair`);
    return [value[0], value[1]];
  }
  /** Padding, the same before and after, as our ops have it. */
  padding(): [number, number] {
    const value = this.take("pads");
    if (!Array.isArray(value) || value.length !== 4) throw new Error(`${this.node.op}: pads are not four`);
    if (value[0] !== value[2] || value[1] !== value[3]) throw new Error(`${this.node.op}: uneven padding`);
    return [value[0], value[1]];
  }
  end(): void {
    if (this.#left.size > 0)
      throw new Error(`${this.node.op}: unknown attributes ${[...this.#left.keys()].join(", ")}`);
  }
}

/** Runs a graph with our own ops on `device`; the image is `[n, bands, h, w]`, the logits `[n, classes, h, w]`. */
export function runOnnx(model: ReadModel, device: Backend, image: Tensor): Tensor {
  return scope(() => {
    const values = new Map<string, Value>([["image", image]]);
    for (const [name, { dims, data }] of model.constants) {
      values.set(name, data instanceof Float32Array ? Tensor.from(device, data, dims) : Array.from(data, Number));
    }
    for (const node of model.nodes) {
      const attributes = new Attributes(node);
      const [name, ...more] = node.outputs;
      if (name === undefined || more.length > 0 || values.has(name)) throw new Error(`outputs of ${node.op}`);
      values.set(name, execute(node, attributes, values, model.constants));
      attributes.end();
    }
    const logits = values.get("logits");
    if (!(logits instanceof Tensor)) throw new Error("there are no logits");
    return logits;
  });
}

function execute(
  { op, inputs }: ReadNode,
  attributes: Attributes,
  values: ReadonlyMap<string, Value>,
  constants: ReadModel["constants"],
): Value {
  const value = (i: number): Value => {
    const found = values.get(inputs[i] ?? "");
    if (found === undefined) throw new Error(`${op}: input ${i}, "${inputs[i]}", is not there yet`);
    return found;
  };
  const tensor = (i: number): Tensor => {
    const found = value(i);
    if (!(found instanceof Tensor)) throw new Error(`${op}: input ${i} is no float tensor`);
    return found;
  };
  const whole = (i: number): readonly number[] => {
    const found = value(i);
    if (found instanceof Tensor) throw new Error(`${op}: input ${i} is not int64`);
    return found;
  };
  switch (op) {
    case "Conv": {
      const weight = channelsLast(tensor(1));
      const kernel = attributes.pair("kernel_shape");
      if (kernel[0] !== weight.shape[1] || kernel[1] !== weight.shape[2]) throw new Error("Conv: kernel_shape");
      return inOurLayout(tensor(0), (x) =>
        conv2d(x, weight, {
          stride: attributes.pair("strides"),
          padding: attributes.padding(),
          dilation: attributes.pair("dilations"),
          groups: attributes.number("group"),
          ...(inputs.length > 2 && { bias: tensor(2) }),
        }),
      );
    }
    case "MaxPool":
      return inOurLayout(tensor(0), (x) =>
        maxPool2d(x, {
          kernel: attributes.pair("kernel_shape"),
          stride: attributes.pair("strides"),
          padding: attributes.padding(),
        }),
      );
    case "Resize": {
      if (inputs[1] !== "" || inputs[2] !== "") throw new Error("Resize: roi or scales");
      if (attributes.take("mode") !== "linear") throw new Error("Resize: mode");
      const how = attributes.take("coordinate_transformation_mode");
      if (how !== "align_corners" && how !== "half_pixel") throw new Error(`Resize: ${String(how)}`);
      const [n, c, h, w] = whole(3) as [number, number, number, number];
      const x = tensor(0);
      if (n !== x.shape[0] || c !== x.shape[1]) throw new Error("Resize: batch or channels");
      return inOurLayout(x, (map) => resizeBilinear(map, [h, w], { alignCorners: how === "align_corners" }));
    }
    case "InstanceNormalization": {
      const x = tensor(0); // [n, groups, rest]
      const [n, groups, rest] = x.shape as [number, number, number];
      const columns = reshape(transpose(x, [0, 2, 1]), [n, rest, 1, groups]);
      const y = groupNorm(columns, tensor(1), tensor(2), { groups, eps: attributes.number("epsilon") });
      return transpose(reshape(y, [n, rest, groups]), [0, 2, 1]);
    }
    case "Concat": {
      const axis = attributes.number("axis");
      if (axis === 0) return inputs.flatMap((_, i) => whole(i));
      if (axis !== 1) throw new Error("Concat: axis");
      return channelsFirst(concat(inputs.map((_, i) => channelsLast(tensor(i)))));
    }
    case "Shape":
      return tensor(0).shape.slice(attributes.number("start"), attributes.number("end"));
    case "Reshape": {
      const x = tensor(0);
      const sizes = whole(1).map((size, i) => (size === 0 ? x.shape[i]! : size));
      const known = sizes.filter((size) => size !== -1).reduce((a, b) => a * b, 1);
      return reshape(
        x,
        sizes.map((size) => (size === -1 ? x.size / known : size)),
      );
    }
    case "Expand": {
      const x = tensor(0);
      const sizes = whole(1).map((size, i) => Math.max(size, x.shape[i]!)); // two-way broadcasting
      return add(x, Tensor.zeros(x.device, sizes));
    }
    case "Pad": {
      const widths = whole(1);
      const x = tensor(0);
      return pad(
        x,
        x.shape.map((_, i) => [widths[i]!, widths[i + x.rank]!]),
      );
    }
    case "Clip": {
      const [low, high] = [inputs[1], inputs[2]].map((name) => constants.get(name ?? "")!.data[0]);
      return clamp(tensor(0), Number(low), Number(high));
    }
    case "GlobalAveragePool":
      return inOurLayout(tensor(0), globalAvgPool);
    case "Relu":
      return relu(tensor(0));
    case "Add":
      return add(tensor(0), tensor(1));
    case "Sub":
      return sub(tensor(0), tensor(1));
    case "Mul":
      return mul(tensor(0), tensor(1));
    case "Div":
      return div(tensor(0), tensor(1));
    default:
      throw new Error(`there is no ${op}`);
  }
}
