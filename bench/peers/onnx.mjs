// Writes ONNX models: as much of the format's protobuf as the peers' cases need (onnx.proto3, field numbers in comments).

/** @typedef {{ name: string, dims: readonly number[], data?: Float32Array | BigInt64Array }} Value float32, or int64 */
/** @typedef {number | string | readonly number[]} Attribute whole number, string, whole numbers */
/** @typedef {{ op: string, inputs: readonly string[], outputs: readonly string[], attributes?: Record<string, Attribute>,
 *   floats?: Record<string, number> }} Node */
/** @typedef {{ nodes: readonly Node[], inputs: readonly Value[], outputs: readonly Value[], constants: readonly Value[] }} Graph */

const OPSET = 17;
const IR_VERSION = 8;
const FLOAT = 1;
const INT64 = 7;

/** @param {number | bigint} value not negative @returns {Buffer} */
function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 128 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}
const key = (/** @type {number} */ field, /** @type {number} */ wire) => varint((field << 3) | wire);
const whole = (/** @type {number} */ field, /** @type {number} */ value) =>
  Buffer.concat([key(field, 0), varint(BigInt.asUintN(64, BigInt(value)))]);
/** A string, message or bytes. @param {number} field @param {string | Uint8Array} content */
function bytes(field, content) {
  const buffer = Buffer.from(content);
  return Buffer.concat([key(field, 2), varint(buffer.length), buffer]);
}
const message = (/** @type {number} */ field, /** @type {readonly Buffer[]} */ ...parts) =>
  bytes(field, Buffer.concat(parts.flat()));
function float(/** @type {number} */ field, /** @type {number} */ value) {
  const four = Buffer.alloc(4);
  four.writeFloatLE(value);
  return Buffer.concat([key(field, 5), four]);
}

/** AttributeProto: name 1, f 2, i 3, s 4, ints 8, type 20. @param {string} name @param {Attribute} value */
function attribute(name, value) {
  if (typeof value === "number") return message(5, [bytes(1, name), whole(3, value), whole(20, 2)]);
  if (typeof value === "string") return message(5, [bytes(1, name), bytes(4, value), whole(20, 3)]);
  return message(5, [bytes(1, name), ...value.map((v) => whole(8, v)), whole(20, 7)]);
}

/** NodeProto: input 1, output 2, op_type 4, attribute 5. @param {Node} node */
function nodeProto({ op, inputs, outputs, attributes = {}, floats = {} }) {
  return message(1, [
    ...inputs.map((name) => bytes(1, name)),
    ...outputs.map((name) => bytes(2, name)),
    bytes(4, op),
    ...Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    ...Object.entries(floats).map(([name, value]) => message(5, [bytes(1, name), float(2, value), whole(20, 1)])),
  ]);
}

const typeOf = (/** @type {Value} */ { data }) => (data instanceof BigInt64Array ? INT64 : FLOAT);

/** TensorProto: dims 1, data_type 2, name 8, raw_data 9. @param {Value} value */
function tensorProto(value) {
  const { name, dims, data } = value;
  if (!data) throw new Error(`onnx: the constant ${name} has no values`);
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return message(5, [...dims.map((d) => whole(1, d)), whole(2, typeOf(value)), bytes(8, name), bytes(9, raw)]);
}

/** ValueInfoProto: name 1, type 2 → tensor_type 1 → elem_type 1, shape 2 → dim 1 → dim_value 1. @param {number} field @param {Value} value */
function valueProto(field, value) {
  const shape = message(
    2,
    value.dims.map((d) => message(1, [whole(1, d)])),
  );
  return message(field, [bytes(1, value.name), message(2, [message(1, [whole(1, typeOf(value)), shape])])]);
}

/** ModelProto: ir_version 1, graph 7 (node 1, name 2, initializer 5, input 11, output 12), opset_import 8. @param {Graph} graph */
export function encodeModel({ nodes, inputs, outputs, constants }) {
  const graph = message(7, [
    ...nodes.map(nodeProto),
    bytes(2, "case"),
    ...constants.map(tensorProto),
    ...inputs.map((value) => valueProto(11, value)),
    ...outputs.map((value) => valueProto(12, value)),
  ]);
  return Buffer.concat([whole(1, IR_VERSION), graph, message(8, [bytes(1, ""), whole(2, OPSET)])]);
}
