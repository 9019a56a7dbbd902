import { bytes, concat, float, integer, message, type Piece } from "./protobuf.js";

/** A whole number, whole numbers, text, or a number that is stored as a float. */
export type OnnxAttribute = number | readonly number[] | string | { readonly float: number };

/** One operation: values by name in, one value out. An empty name is an input left out. */
export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

/** A constant: float32, or int64 where something counts or indexes. */
export interface OnnxConstant {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** A float32 input or output; a name in place of a size that the caller chooses at every run. */
export interface OnnxValue {
  readonly name: string;
  readonly dims: readonly (number | string)[];
}

export interface OnnxModel {
  /** In an order in which every value is made before it is used. */
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly OnnxConstant[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  /** Text that runtimes hand to the application (`metadata_props`). */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Of the operators; 17 is read by onnxruntime 1.12 and later. */
const OPSET = 17;
const IR_VERSION = 8;

const FLOAT = 1;
const INT64 = 7;

/** AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20. */
function attribute(name: string, value: OnnxAttribute): Piece {
  const typed = (type: number, ...content: Piece[]) => message(5, bytes(1, name), ...content, integer(20, type));
  if (typeof value === "number") return typed(2, integer(3, value));
  if (typeof value === "string") return typed(3, bytes(4, value));
  if ("float" in value) return typed(1, float(2, value.float));
  return typed(7, ...value.map((each) => integer(8, each)));
}

/** NodeProto: input 1, output 2, name 3, op_type 4, attribute 5. */
const node = ({ op, inputs, output, attributes }: OnnxNode): Piece =>
  message(
    1,
    ...inputs.map((name) => bytes(1, name)),
    bytes(2, output),
    bytes(3, output),
    bytes(4, op),
    ...Object.entries(attributes).map(([name, value]) => attribute(name, value)),
  );

/** TensorProto: dims 1, data_type 2, name 8, raw_data 9 (little endian, as every machine is that this runs on). */
const constant = ({ name, dims, data }: OnnxConstant): Piece =>
  message(
    5,
    ...dims.map((size) => integer(1, size)),
    integer(2, data instanceof Float32Array ? FLOAT : INT64),
    bytes(8, name),
    bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  );

/** ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1 → dim_value 1 or dim_param 2. */
function value(field: number, { name, dims }: OnnxValue): Piece {
  const sizes = dims.map((size) => message(1, typeof size === "number" ? integer(1, size) : bytes(2, size)));
  return message(field, bytes(1, name), message(2, message(1, integer(1, FLOAT), message(2, ...sizes))));
}

/**
 * The bytes of an ONNX file, in pieces. Format: onnx.proto of github.com/onnx/onnx, of which this writes float32 graphs
 * without control flow. The same model gives the same bytes.
 */
export function encodeOnnx(model: OnnxModel): readonly Uint8Array[] {
  // ModelProto: ir_version 1, producer_name 2, graph 7 (node 1, name 2, initializer 5, input 11, output 12),
  // opset_import 8 (domain 1, version 2), metadata_props 14 (key 1, value 2).
  const graph = message(
    7,
    ...model.nodes.map(node),
    bytes(2, "lacuna"),
    ...model.constants.map(constant),
    ...model.inputs.map((each) => value(11, each)),
    ...model.outputs.map((each) => value(12, each)),
  );
  return concat(
    integer(1, IR_VERSION),
    bytes(2, "lacuna"),
    graph,
    message(8, bytes(1, ""), integer(2, OPSET)),
    ...[...model.metadata].map(([name, text]) => message(14, bytes(1, name), bytes(2, text))),
  ).parts;
}
