import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decode, encode, type FileTensor, type Safetensors } from "../../src/checkpoint/index.js";
import { CheckpointError } from "../../src/errors.js";
import { values } from "../harness.js";

const f32 = (shape: number[], seed = 1): FileTensor => ({
  dtype: "F32",
  shape,
  data: Float32Array.from(
    values(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
  ),
});

/** A file with any header text and data, well-formed or not. */
function fileOf(header: string | Uint8Array, data: number | Uint8Array = 0, length?: number | bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const tail = typeof data === "number" ? new Uint8Array(data) : data;
  const out = new Uint8Array(8 + text.length + tail.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(length ?? text.length), true);
  out.set(text, 8);
  out.set(tail, 8 + text.length);
  return out;
}
const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const bytes = (...list: number[]) => Uint8Array.from([...list, ...new Array(64).fill(0)]);

test("reads what the reference implementation writes, every type exactly", () => {
  const { tensors, metadata } = decode(readFileSync(new URL("../golden/checkpoint.safetensors", import.meta.url)));
  expect([...metadata].sort()).toEqual([
    ["epoch", "3"],
    ["größe", "a\nb"],
  ]);
  const ramp = [0, 1, 2, 3, 4, 5];
  const expected: Record<string, [string, ArrayLike<number>]> = {
    f64: ["F64", Float64Array.from(ramp, (v) => v / 3)],
    f32: ["F32", Float32Array.from(ramp, (v) => v / 3)],
    // binary16 and bfloat16 keep 11 and 8 significant bits of k / 3
    f16: ["F16", Float32Array.of(0, 1365 / 4096, 1365 / 2048, 1, 1365 / 1024, 1707 / 1024)],
    bf16: ["BF16", Float32Array.of(0, 171 / 512, 171 / 256, 1, 171 / 128, 213 / 128)],
    i64: ["I64", Float64Array.from(ramp, (v) => (v === 0 ? 0 : v * -(2 ** 50)))],
    i32: ["I32", Int32Array.from(ramp, (v) => v * -(2 ** 28))],
    u32: ["U32", Uint32Array.from(ramp, (v) => v * 2 ** 29)],
    i16: ["I16", Int16Array.from(ramp, (v) => v * -1000)],
    u16: ["U16", Uint16Array.from(ramp, (v) => v * 13000)],
    i8: ["I8", Int8Array.from(ramp, (v) => v * -25)],
    u8: ["U8", Uint8Array.from(ramp, (v) => v * 51)],
    bool: ["BOOL", Uint8Array.from(ramp, (v) => v % 2)],
  };
  for (const [name, [dtype, data]] of Object.entries(expected)) {
    expect(tensors.get(name), name).toEqual({ dtype, shape: [2, 3], data });
  }
  expect(tensors.get("scalar")).toEqual({ dtype: "F32", shape: [], data: Float32Array.of(1.5) });
  expect(tensors.get("empty")).toEqual({ dtype: "F32", shape: [0, 3], data: new Float32Array(0) });
  expect(tensors.get("__proto__")?.data[0]).toBe(1);
  expect(tensors.get('schlüssel "☃" \\ 😀')?.data[0]).toBe(2);
  expect(tensors.size).toBe(16);
});

describe("round trip", () => {
  const tensors = new Map<string, FileTensor>([
    ["b", f32([3, 5])],
    ["a", f32([7], 2)],
    ["doubles", { dtype: "F64", shape: [2], data: Float64Array.of(Math.PI, -0) }],
    ["halves", { dtype: "F16", shape: [3], data: Float32Array.of(0.5, 65504, 2 ** -24) }],
    ["ints", { dtype: "I32", shape: [2], data: Int32Array.of(-(2 ** 31), 2 ** 31 - 1) }],
    ["counts", { dtype: "U32", shape: [], data: Uint32Array.of(2 ** 32 - 1) }],
    ["none", f32([0, 4])],
    ["__proto__", f32([1])],
    ["constructor", f32([1])],
    ['"\\\n\u0001ü😀', f32([1])],
    ["", f32([1])],
  ]);
  const metadata = new Map([
    ["__proto__", "x"],
    ["config", '{"a": [1, "ü"]}'],
  ]);

  test("values, shapes, types, names and metadata come back", () => {
    const back = decode(encode(tensors, metadata));
    expect(new Map([...back.tensors].sort())).toEqual(new Map([...tensors].sort()));
    expect(new Map([...back.metadata].sort())).toEqual(metadata);
    expect(decode(encode(new Map()))).toEqual({ tensors: new Map(), metadata: new Map() } satisfies Safetensors);
  });

  test("the bytes do not depend on the order of the maps, and every tensor is aligned", () => {
    const file = encode(tensors, metadata);
    expect(encode(new Map([...tensors].reverse()), new Map([...metadata].reverse()))).toEqual(file);
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    expect(length % 8).toBe(0);
    const header = new TextDecoder().decode(file.subarray(8, 8 + length));
    const widths: Record<string, number> = { F64: 8, F32: 4, I32: 4, U32: 4, F16: 2 };
    for (const [, dtype, begin] of header.matchAll(/"dtype":"(\w+)".*?"data_offsets":\[(\d+),/g)) {
      expect(Number(begin) % widths[dtype!]!).toBe(0);
    }
  });

  test("views into larger buffers are written as what they show", () => {
    const data = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
    expect(decode(encode(new Map([["x", { dtype: "F32", shape: [2], data }]]))).tensors.get("x")?.data).toEqual(
      Float32Array.of(2, 3),
    );
  });

  test.each<[string, string, FileTensor]>([
    ["a shape that the data does not fill", "x", { ...f32([3]), shape: [4] }],
    ["doubles as F32", "x", { dtype: "F32", shape: [1], data: new Float64Array(1) }],
    ["a type that is only read", "x", { dtype: "BF16", shape: [1], data: new Float32Array(1) }],
    ["the reserved name", "__metadata__", f32([1])],
    ["a name that UTF-8 cannot hold", "\ud800", f32([1])],
  ])("refuses to write %s", (_, name, tensor) => {
    expect(() => encode(new Map([[name, tensor]]))).toThrow(CheckpointError);
  });
  test("refuses metadata that UTF-8 cannot hold", () => {
    expect(() => encode(new Map(), new Map([["a", "x\udc00"]]))).toThrow(CheckpointError);
  });
});

describe("refuses", () => {
  const one = entry("F32", "[1]", "[0,4]");
  const deep = "[".repeat(200_000);
  const malformed: Record<string, Uint8Array> = {
    "an empty file": new Uint8Array(0),
    "seven bytes": new Uint8Array(7),
    "a length and nothing else": fileOf("", 0, 2),
    "a header of no bytes": fileOf(""),
    "a header longer than the file": fileOf("{}", 0, 3),
    "a length of 2^64 - 1": fileOf("{}", 0, 2n ** 64n - 1n),
    "a length of 2^63": fileOf("{}", 0, 2n ** 63n),
    "a header that is no JSON": fileOf("hello   "),
    "a header that starts with a space": fileOf(" {}"),
    "a byte order mark": fileOf("\ufeff{}"),
    "an array": fileOf("[]"),
    "a header that is not closed": fileOf(`{"a":${one}`, 4),
    "a comma before the brace": fileOf(`{"a":${one},}`, 4),
    "two headers": fileOf("{}{}"),
    "something after the header": fileOf("{} x"),
    "a zero byte after the header": fileOf("{}\0"),
    "UTF-8 that is not": fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)),
    "a lone surrogate": fileOf(`{"\\ud800":${one}}`, 4),
    "an unknown escape": fileOf(`{"\\x":${one}}`, 4),
    "a line break in a string": fileOf(`{"a\nb":${one}}`, 4),
    "a string that does not end": fileOf('{"a'),
    "a string that ends in a backslash": fileOf('{"a\\'),
    "a name twice": fileOf(`{"a":${one},"a":${entry("F32", "[1]", "[4,8]")}}`, 8),
    "a name twice, once escaped": fileOf(`{"a":${one},"\\u0061":${entry("F32", "[1]", "[4,8]")}}`, 8),
    "a field twice": fileOf('{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
    "metadata twice": fileOf('{"__metadata__":{},"__metadata__":{}}'),
    "a metadata key twice": fileOf('{"__metadata__":{"a":"1","a":"2"}}'),
    "metadata that is a number": fileOf('{"__metadata__":{"a":1}}'),
    "metadata that is an object": fileOf('{"__metadata__":{"a":{}}}'),
    "metadata that is null": fileOf('{"__metadata__":null}'),
    "an unknown field": fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}', 4),
    "no dtype": fileOf('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4),
    "no shape": fileOf('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4),
    "no offsets": fileOf('{"a":{"dtype":"F32","shape":[1]}}', 4),
    "a tensor that is null": fileOf('{"a":null}'),
    "an unknown type": fileOf(`{"a":${entry("F8_E4M3", "[4]", "[0,4]")}}`, 4),
    "a type from the prototype": fileOf(`{"a":${entry("toString", "[]", "[0,4]")}}`, 4),
    "a type in lower case": fileOf(`{"a":${entry("f32", "[1]", "[0,4]")}}`, 4),
    "a negative size": fileOf(`{"a":${entry("F32", "[-1]", "[0,4]")}}`, 4),
    "a size with a fraction": fileOf(`{"a":${entry("F32", "[1.0]", "[0,4]")}}`, 4),
    "a size with an exponent": fileOf(`{"a":${entry("F32", "[1e0]", "[0,4]")}}`, 4),
    "a size with a leading zero": fileOf(`{"a":${entry("F32", "[01]", "[0,4]")}}`, 4),
    "a size beyond 2^53": fileOf(`{"a":${entry("F32", "[9007199254740993]", "[0,4]")}}`, 4),
    "a product beyond 2^53": fileOf(`{"a":${entry("F32", "[4294967296,4294967296]", "[0,4]")}}`, 4),
    "a product that wraps to the right size in 64 bits": fileOf(
      `{"a":${entry("F32", "[4611686018427387905]", "[0,4]")}}`,
      4,
    ),
    "a product beyond 2^53 that ends in zero": fileOf(`{"a":${entry("F32", "[4294967296,4294967296,0]", "[0,0]")}}`),
    "a nested shape": fileOf(`{"a":${entry("F32", "[[1]]", "[0,4]")}}`, 4),
    "a shape nested without end": fileOf(`{"a":${entry("F32", deep, "[0,4]")}}`, 4),
    "one offset": fileOf(`{"a":${entry("F32", "[1]", "[4]")}}`, 4),
    "three offsets": fileOf(`{"a":${entry("F32", "[1]", "[0,4,8]")}}`, 8),
    "offsets the wrong way round": fileOf(`{"a":${entry("F32", "[1]", "[4,0]")}}`, 4),
    "offsets that do not match the shape": fileOf(`{"a":${entry("F32", "[2]", "[0,4]")}}`, 4),
    "offsets beyond the file": fileOf(`{"a":${entry("F32", "[2]", "[0,8]")}}`, 4),
    "a hole at the start": fileOf(`{"a":${entry("F32", "[1]", "[4,8]")}}`, 8),
    "a hole between": fileOf(`{"a":${one},"b":${entry("F32", "[1]", "[8,12]")}}`, 12),
    "an overlap": fileOf(`{"a":${entry("F32", "[2]", "[0,8]")},"b":${entry("F32", "[2]", "[4,12]")}}`, 12),
    "the same bytes twice": fileOf(`{"a":${one},"b":${one}}`, 4),
    "bytes after the last tensor": fileOf(`{"a":${one}}`, 5),
    "bytes and no tensor": fileOf("{}", 1),
    "an I64 beyond 2^53": fileOf(`{"a":${entry("I64", "[1]", "[0,8]")}}`, Uint8Array.of(1, 0, 0, 0, 0, 0, 32, 0)),
    "a BOOL of 2": fileOf(`{"a":${entry("BOOL", "[1]", "[0,1]")}}`, Uint8Array.of(2)),
    "a zip archive, PyTorch's": bytes(0x50, 0x4b, 0x03, 0x04, 0, 0, 8, 8),
    "a pickle": bytes(0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20),
    "an HDF5 file": bytes(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a),
    "a GGUF file": bytes(0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0),
    "a NumPy array": bytes(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0),
    "a gzip archive": bytes(0x1f, 0x8b, 8, 0),
  };
  expect(Object.keys(malformed).length).toBeGreaterThanOrEqual(60);

  test.each(Object.entries(malformed))("%s", (_, file) => {
    expect(() => decode(file, "the.file")).toThrow(CheckpointError);
    try {
      decode(file, "the.file");
    } catch (error) {
      expect((error as CheckpointError).file).toBe("the.file");
    }
  });

  test("other formats by their magic bytes, with the way to convert a pickle", () => {
    const errorFor = (name: string) => {
      try {
        decode(malformed[name]!);
      } catch (error) {
        return error as CheckpointError;
      }
      throw new Error(`${name} was read`);
    };
    for (const name of ["a pickle", "a zip archive, PyTorch's"]) {
      expect(errorFor(name).reason).toContain("can run programs");
      expect(errorFor(name).hint).toContain("weights_only=True");
      expect(errorFor(name).hint).toContain("save_file");
    }
    expect(errorFor("an HDF5 file").reason).toContain("HDF5");
    expect(errorFor("an HDF5 file").hint).toContain("safetensors.numpy");
    expect(errorFor("a GGUF file").hint).toBeNull();
  });

  test("a pickle whose first bytes are also a possible length", () => {
    const pickle = new Uint8Array(1000); // 80 02 00 … = 640, less than the file
    pickle.set([0x80, 0x02]);
    expect(() => decode(pickle)).toThrow(/pickle/);
  });

  test("every truncation of a file, and every extension", () => {
    const file = encode(
      new Map([
        ["a", f32([2, 2])],
        ["b", f32([1])],
      ]),
      new Map([["k", "v"]]),
    );
    decode(file);
    for (let length = 0; length < file.length; length++) {
      expect(() => decode(file.subarray(0, length)), `${length} bytes`).toThrow(CheckpointError);
    }
    expect(() => decode(Uint8Array.from([...file, 0]))).toThrow(CheckpointError);
  });

  test("or reads any mutant, and throws nothing else", () => {
    const file = encode(
      new Map([
        ["a", f32([2, 2])],
        ["b", f32([1])],
      ]),
      new Map([["k", "v"]]),
    );
    const length = Number(new DataView(file.buffer).getBigUint64(0, true));
    let refused = 0;
    for (let at = 0; at < 8 + length; at++) {
      for (const value of [0, 0x22, 0x30, 0x39, 0x5c, 0x7b, 0x7d, 0xff]) {
        const mutant = file.slice();
        mutant[at] = value;
        try {
          decode(mutant);
        } catch (error) {
          expect(error).toBeInstanceOf(CheckpointError);
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });
});

test("what is unusual but valid is read", () => {
  const read = (header: string, data: number) => decode(fileOf(header, data)).tensors;
  expect(read("{}      ", 0).size).toBe(0);
  expect(read(`{"b":${entry("F32", "[1]", "[4,8]")},\n\t"a":${entry("F32", "[1]", "[0,4]")} }`, 8).size).toBe(2);
  expect(read(`{"a":${entry("F32", "[ 0 , 3 ]", "[0, 0]")}}`, 0).get("a")?.shape).toEqual([0, 3]);
  expect(
    read(`{"\\u00fc":${entry("U8", "[3]", "[0,3]")},"w":${entry("F32", "[1]", "[3,7]")}}`, 7).get("ü")?.data.length,
  ).toBe(3);
});
