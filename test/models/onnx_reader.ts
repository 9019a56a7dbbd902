// Reads ONNX files, independently of the writer: every field that it does not know is an error.

export interface ReadTensor {
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}
export interface ReadNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, number | string | readonly number[]>;
}
export interface ReadModel {
  readonly irVersion: number;
  readonly opset: number;
  readonly nodes: readonly ReadNode[];
  readonly constants: ReadonlyMap<string, ReadTensor>;
  /** Name to sizes and names of sizes. */
  readonly inputs: ReadonlyMap<string, readonly (number | string)[]>;
  readonly outputs: ReadonlyMap<string, readonly (number | string)[]>;
  readonly metadata: ReadonlyMap<string, string>;
}

type Field = number | Uint8Array;
type Fields = ReadonlyMap<number, readonly Field[]>;

/** The fields of a message; those with four bytes are kept as bytes. */
function fieldsOf(bytes: Uint8Array, known: readonly number[]): Fields {
  const found = new Map<number, Field[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error("onnx: a number is cut off");
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(BigInt.asIntN(64, value));
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Error("onnx: a field is cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = varint();
    const field = key >>> 3;
    if (!known.includes(field)) throw new Error(`onnx: field ${field} is not expected here`);
    const value = [varint, null, () => take(varint()), null, null, () => take(4)][key & 7]?.();
    if (value === undefined) throw new Error(`onnx: wire type ${key & 7}`);
    found.set(field, [...(found.get(field) ?? []), value]);
  }
  return found;
}

const numbers = (fields: Fields, field: number): number[] =>
  (fields.get(field) ?? []).map((value) => {
    if (typeof value !== "number") throw new Error(`onnx: field ${field} is no number`);
    return value;
  });
const blobs = (fields: Fields, field: number): Uint8Array[] =>
  (fields.get(field) ?? []).map((value) => {
    if (typeof value === "number") throw new Error(`onnx: field ${field} is a number`);
    return value;
  });
const texts = (fields: Fields, field: number): string[] =>
  blobs(fields, field).map((value) => new TextDecoder("utf-8", { fatal: true }).decode(value));
function one<T>(values: readonly T[]): T {
  if (values.length !== 1) throw new Error(`onnx: ${values.length} values in place of one`);
  return values[0]!;
}

function attributeOf(bytes: Uint8Array): [string, number | string | readonly number[]] {
  const fields = fieldsOf(bytes, [1, 2, 3, 4, 8, 20]);
  const name = one(texts(fields, 1));
  switch (one(numbers(fields, 20))) {
    case 1: {
      const four = one(blobs(fields, 2));
      return [name, new DataView(four.buffer, four.byteOffset).getFloat32(0, true)];
    }
    case 2:
      return [name, one(numbers(fields, 3))];
    case 3:
      return [name, one(texts(fields, 4))];
    case 7:
      return [name, numbers(fields, 8)];
    default:
      throw new Error(`onnx: the type of ${name}`);
  }
}

function nodeOf(bytes: Uint8Array): ReadNode {
  const fields = fieldsOf(bytes, [1, 2, 3, 4, 5]);
  return {
    op: one(texts(fields, 4)),
    inputs: texts(fields, 1),
    outputs: texts(fields, 2),
    attributes: new Map(blobs(fields, 5).map(attributeOf)),
  };
}

function tensorOf(bytes: Uint8Array): [string, ReadTensor] {
  const fields = fieldsOf(bytes, [1, 2, 8, 9]);
  const raw = Uint8Array.from(one(blobs(fields, 9))).buffer;
  const type = one(numbers(fields, 2));
  if (type !== 1 && type !== 7) throw new Error(`onnx: element type ${type}`);
  const tensor = { dims: numbers(fields, 1), data: type === 1 ? new Float32Array(raw) : new BigInt64Array(raw) };
  if (tensor.data.length !== tensor.dims.reduce((a, b) => a * b, 1)) throw new Error("onnx: dims do not hold the data");
  return [one(texts(fields, 8)), tensor];
}

function inputOf(bytes: Uint8Array): [string, (number | string)[]] {
  const fields = fieldsOf(bytes, [1, 2]);
  const type = fieldsOf(one(blobs(fieldsOf(one(blobs(fields, 2)), [1]), 1)), [1, 2]);
  if (one(numbers(type, 1)) !== 1) throw new Error("onnx: a value is not float32");
  const dims = blobs(fieldsOf(one(blobs(type, 2)), [1]), 1).map((dim) => {
    const size = fieldsOf(dim, [1, 2]);
    return size.has(1) ? one(numbers(size, 1)) : one(texts(size, 2));
  });
  return [one(texts(fields, 1)), dims];
}

export function readOnnx(pieces: readonly Uint8Array[]): ReadModel {
  const model = fieldsOf(new Uint8Array(Buffer.concat(pieces)), [1, 2, 7, 8, 14]);
  const graph = fieldsOf(one(blobs(model, 7)), [1, 2, 5, 11, 12]);
  const opset = fieldsOf(one(blobs(model, 8)), [1, 2]);
  if (one(texts(opset, 1)) !== "") throw new Error("onnx: operators of another domain");
  return {
    irVersion: one(numbers(model, 1)),
    opset: one(numbers(opset, 2)),
    nodes: blobs(graph, 1).map(nodeOf),
    constants: new Map(blobs(graph, 5).map(tensorOf)),
    inputs: new Map(blobs(graph, 11).map(inputOf)),
    outputs: new Map(blobs(graph, 12).map(inputOf)),
    metadata: new Map(
      blobs(model, 14).map((pair) => {
        const fields = fieldsOf(pair, [1, 2]);
        return [one(texts(fields, 1)), one(texts(fields, 2))] as const;
      }),
    ),
  };
}
