import { CheckpointError } from "../errors.js";
import { fromHalfBits, toHalfBits } from "../half.js";
import type { Shape } from "../shape.js";

/** Element types read from a file. F32, F64, F16, I32 and U32 are also written. */
export type FileDType = "F64" | "I64" | "F32" | "I32" | "U32" | "F16" | "BF16" | "I16" | "U16" | "I8" | "U8" | "BOOL";

export type FileData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array;

/**
 * One tensor of a file. Read: F16 and BF16 are widened to Float32Array, I64 to Float64Array, BOOL is 0 or 1 in Uint8Array.
 * Written: Float32Array as F32 or F16, Float64Array as F64, Int32Array as I32, Uint32Array as U32.
 */
export interface FileTensor {
  readonly dtype: FileDType;
  readonly shape: Shape;
  readonly data: FileData;
}

export interface Safetensors {
  readonly tensors: Map<string, FileTensor>;
  readonly metadata: Map<string, string>;
}

/** Where a tensor lies: bytes from `begin` to `end` (exclusive) of the file. */
export interface FileEntry {
  readonly dtype: FileDType;
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}
export interface Header {
  readonly entries: Map<string, FileEntry>;
  readonly metadata: Map<string, string>;
}

const WIDTH: Readonly<Record<FileDType, number>> = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
const METADATA = "__metadata__";
/** The reference reader's limit too. */
const MAX_HEADER_BYTES = 100_000_000;
/** Bytes before the header: its length, little endian. */
export const PREFIX_BYTES = 8;

/**
 * The bytes of a safetensors file: sorted by element width and name, so that every tensor is aligned; the header is padded
 * to a multiple of eight. The same tensors give the same bytes.
 * @throws CheckpointError where data does not match its shape or type, or a name is reserved or not well-formed Unicode.
 */
export function encode(
  tensors: ReadonlyMap<string, FileTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
  file = "safetensors",
): Uint8Array {
  const parts = encodeParts(tensors, metadata, file);
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** @internal The same in pieces: prefix and header, then one per tensor, so that a large file is not held twice. */
export function encodeParts(
  tensors: ReadonlyMap<string, FileTensor>,
  metadata: ReadonlyMap<string, string>,
  file: string,
): Uint8Array[] {
  const sorted = [...tensors].sort(([a, x], [b, y]) => WIDTH[y.dtype] - WIDTH[x.dtype] || (a < b ? -1 : 1));
  const parts: Uint8Array[] = [];
  const fields: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1));
    fields.push(`"${METADATA}":{${pairs.map(([k, v]) => `${quote(k, file)}:${quote(v, file)}`).join(",")}}`);
  }
  let at = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    if (name === METADATA) throw new CheckpointError(file, "this name is reserved", [name]);
    const bytes = bytesOf(dtype, data);
    if (!bytes) throw new CheckpointError(file, `${data.constructor.name} cannot be written as ${dtype}`, [name]);
    if (bytes.length !== byteLength(shape, dtype)) {
      throw new CheckpointError(file, `${data.length} values do not fill [${shape.join(", ")}]`, [name]);
    }
    const [begin, end] = [at, (at += bytes.length)];
    fields.push(
      `${quote(name, file)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${begin},${end}]}`,
    );
    parts.push(bytes);
  }
  const text = new TextEncoder().encode(`{${fields.join(",")}}`);
  const header = new Uint8Array(PREFIX_BYTES + Math.ceil(text.length / 8) * 8).fill(0x20);
  if (header.length - PREFIX_BYTES > MAX_HEADER_BYTES)
    throw new CheckpointError(file, "the header would exceed 100 MB");
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - PREFIX_BYTES), true);
  header.set(text, PREFIX_BYTES);
  return [header, ...parts];
}

/** A JSON string; a lone surrogate, which UTF-8 cannot hold, would come back as another name. */
function quote(text: string, file: string): string {
  const quoted = JSON.stringify(text);
  if (/[\ud800-\udfff]/u.test(text)) throw new CheckpointError(file, "a name is not well-formed Unicode", [quoted]);
  return quoted;
}

/** Little endian, as every machine that has a WebGPU adapter is. Null where the data is not of the kind of `dtype`. */
function bytesOf(dtype: FileDType, data: FileData): Uint8Array | null {
  const raw = () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (dtype === "F16" && data instanceof Float32Array) {
    return new Uint8Array(Uint16Array.from(data, toHalfBits).buffer);
  }
  if (dtype === "F32" && data instanceof Float32Array) return raw();
  if (dtype === "F64" && data instanceof Float64Array) return raw();
  if (dtype === "I32" && data instanceof Int32Array) return raw();
  if (dtype === "U32" && data instanceof Uint32Array) return raw();
  return null;
}

/**
 * Reads a whole safetensors file from memory. Nothing is trusted: see `parseHeader`.
 * @param file Names the file in errors.
 * @throws CheckpointError where the file is not valid to the last byte.
 */
export function decode(bytes: Uint8Array, file = "safetensors"): Safetensors {
  const length = headerLength(bytes, bytes.length, file);
  const { entries, metadata } = parseHeader(bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + length), bytes.length, file);
  const tensors = new Map<string, FileTensor>();
  for (const [name, entry] of entries) {
    // A copy: views need alignment. Not slice(), which on Node's Buffer is no copy.
    tensors.set(name, tensorOf(name, entry, new Uint8Array(bytes.subarray(entry.begin, entry.end)), file));
  }
  return { tensors, metadata };
}

/**
 * Length of the header, from the first bytes of a file (more than eight, where it has more).
 * @throws CheckpointError where the file is of another format (pickles and archives are named, the way to convert them is
 *   the error's `hint`) or the length exceeds the file or 100 MB.
 */
export function headerLength(start: Uint8Array, fileBytes: number, file: string): number {
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const length = fileBytes < PREFIX_BYTES ? -1n : view.getBigUint64(0, true);
  const fits = length >= 0n && length <= BigInt(fileBytes - PREFIX_BYTES);
  // A pickle's magic bytes are also a plausible length: only what follows tells them apart.
  if (fits && length <= BigInt(MAX_HEADER_BYTES) && start[PREFIX_BYTES] === 0x7b) return Number(length);
  const other = foreignFormat(start);
  if (other) throw new CheckpointError(file, other.reason, [], { hint: other.hint ?? null });
  if (length < 0n) throw new CheckpointError(file, `${fileBytes} bytes are too few for a safetensors file`);
  if (!fits)
    throw new CheckpointError(file, `a header of ${length} bytes exceeds the file: cut off, or no safetensors file`);
  if (length > BigInt(MAX_HEADER_BYTES)) throw new CheckpointError(file, `a header of ${length} bytes exceeds 100 MB`);
  throw new CheckpointError(file, "the header does not start with {: not a safetensors file");
}

/** Runs nothing that the file may hold: `weights_only`. */
const CONVERT_PICKLE =
  'convert it with PyTorch: python -c "import sys, torch, safetensors.torch as s; ' +
  "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); d = d.get('model_state', d.get('state_dict', d)); " +
  's.save_file({k: v.clone().contiguous() for k, v in d.items()}, sys.argv[2])" in.pth out.safetensors';
const CONVERT_ARRAYS = "convert it with NumPy: safetensors.numpy.save_file({name: array, …}, 'out.safetensors')";

interface ForeignFormat {
  readonly reason: string;
  readonly hint?: string;
}

const MAGIC: readonly (readonly [bytes: readonly number[], format: ForeignFormat])[] = [
  [
    [0x50, 0x4b, 0x03, 0x04],
    { reason: "a zip archive, as torch.save writes, which can run programs when read", hint: CONVERT_PICKLE },
  ],
  [[0x50, 0x4b, 0x05, 0x06], { reason: "an empty zip archive, not a safetensors file" }],
  [
    [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a],
    { reason: "an HDF5 file, not a safetensors file", hint: CONVERT_ARRAYS },
  ],
  [[0x47, 0x47, 0x55, 0x46], { reason: "a GGUF file, not a safetensors file" }],
  [[0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59], { reason: "a NumPy array, not a safetensors file", hint: CONVERT_ARRAYS }],
  [[0x1f, 0x8b], { reason: "a gzip archive, not a safetensors file" }],
];

/** Which other format a file is of, by its first bytes; null where they are not known. */
function foreignFormat(start: Uint8Array): ForeignFormat | null {
  if (start[0] === 0x80 && start[1]! >= 2 && start[1]! <= 5) {
    return {
      reason: "a Python pickle, as old torch.save writes, which can run programs when read",
      hint: CONVERT_PICKLE,
    };
  }
  return MAGIC.find(([bytes]) => bytes.every((byte, i) => start[i] === byte))?.[1] ?? null;
}

/**
 * Checks the header against the file: every tensor as long as its shape and type say, end to end from the header to the
 * file's last byte, no holes, no overlap; no name and no field twice; metadata of strings only.
 * @param bytes The header alone, `headerLength` bytes.
 * @throws CheckpointError otherwise.
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number, file: string): Header {
  const dataStart = PREFIX_BYTES + bytes.length;
  const { raw, metadata } = new HeaderReader(bytes, file).read();
  const entries = new Map<string, FileEntry>();
  const byPosition = [...raw].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { dtype, shape, begin, end }] of byPosition) {
    if (!Object.hasOwn(WIDTH, dtype)) throw new CheckpointError(file, `the type ${dtype} is not supported`, [name]);
    const known = dtype as FileDType; // just checked
    if (begin !== at)
      throw new CheckpointError(file, `there is a hole or an overlap at byte ${at} of the data`, [name]);
    if (end - begin !== byteLength(shape, known)) {
      throw new CheckpointError(file, `${end - begin} bytes do not hold ${dtype}[${shape.join(", ")}]`, [name]);
    }
    at = end;
    entries.set(name, { dtype: known, shape, begin: dataStart + begin, end: dataStart + end });
  }
  if (dataStart + at !== fileBytes) {
    const reason = dataStart + at > fileBytes ? "the file is cut off" : "the file is longer than its tensors";
    throw new CheckpointError(file, `${reason}: ${fileBytes} bytes instead of ${dataStart + at}`);
  }
  return { entries, metadata };
}

/** Bytes of a tensor; NaN, equal to nothing, where they exceed what a double counts exactly. */
function byteLength(shape: Shape, dtype: FileDType): number {
  let bytes = WIDTH[dtype];
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return Number.NaN;
  }
  return bytes;
}

/**
 * The values of one entry.
 * @param bytes Its bytes alone, in a buffer of their own.
 * @throws CheckpointError where an I64 is not exact in a double, or a BOOL neither 0 nor 1.
 */
export function tensorOf(
  name: string,
  { dtype, shape }: FileEntry,
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
): FileTensor {
  return { dtype, shape, data: valuesOf(name, dtype, bytes.buffer, file) };
}

function valuesOf(name: string, dtype: FileDType, buffer: ArrayBuffer, file: string): FileData {
  switch (dtype) {
    case "F64":
      return new Float64Array(buffer);
    case "F32":
      return new Float32Array(buffer);
    case "F16":
      return Float32Array.from(new Uint16Array(buffer), fromHalfBits);
    case "BF16":
      // The upper half of an f32.
      return new Float32Array(Uint32Array.from(new Uint16Array(buffer), (bits) => bits << 16).buffer);
    case "I64":
      return Float64Array.from(new BigInt64Array(buffer), (value) => {
        const exact = Number(value);
        if (!Number.isSafeInteger(exact)) throw new CheckpointError(file, `${value} exceeds 2^53`, [name]);
        return exact;
      });
    case "I32":
      return new Int32Array(buffer);
    case "U32":
      return new Uint32Array(buffer);
    case "I16":
      return new Int16Array(buffer);
    case "U16":
      return new Uint16Array(buffer);
    case "I8":
      return new Int8Array(buffer);
    case "U8":
      return new Uint8Array(buffer);
    case "BOOL": {
      const flags = new Uint8Array(buffer);
      if (flags.some((flag) => flag > 1)) throw new CheckpointError(file, "a BOOL is neither 0 nor 1", [name]);
      return flags;
    }
  }
}

interface RawEntry {
  readonly dtype: string;
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads the one form of JSON that a header has. Not JSON.parse, which keeps the last of two equal keys, rounds large
 * numbers and nests without limit.
 */
class HeaderReader {
  readonly #text: string;
  #at = 0;

  constructor(
    bytes: Uint8Array,
    readonly file: string,
  ) {
    try {
      this.#text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch (cause) {
      throw new CheckpointError(file, "the header is not valid UTF-8", [], { cause });
    }
  }

  read(): { raw: Map<string, RawEntry>; metadata: Map<string, string> } {
    const raw = new Map<string, RawEntry>();
    let metadata = new Map<string, string>();
    this.#object((name) => {
      if (name === METADATA) metadata = this.#strings();
      else raw.set(name, this.#entry(name));
    });
    if (this.#peek() !== "") this.#fail("something follows the last brace");
    return { raw, metadata };
  }

  #strings(): Map<string, string> {
    const out = new Map<string, string>();
    this.#object((key) => out.set(key, this.#string()));
    return out;
  }

  #entry(name: string): RawEntry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.#object((field) => {
      if (field === "dtype") dtype = this.#string();
      else if (field === "shape") shape = this.#numbers();
      else if (field === "data_offsets") offsets = this.#numbers();
      else this.#fail(`unknown field ${JSON.stringify(field)}`, name);
    });
    if (dtype === undefined || !shape || !offsets) return this.#fail("dtype, shape or data_offsets is missing", name);
    const [begin, end] = offsets;
    if (offsets.length !== 2) return this.#fail("data_offsets are not a begin and an end", name);
    return { dtype, shape, begin: begin!, end: end! };
  }

  /** Calls `member` with each key, at the place of its value. */
  #object(member: (key: string) => void): void {
    const seen = new Set<string>();
    this.#list("{", "}", () => {
      const key = this.#string();
      if (seen.has(key)) this.#fail("a key stands twice", key);
      seen.add(key);
      this.#expect(":");
      member(key);
    });
  }

  #numbers(): number[] {
    const out: number[] = [];
    this.#list("[", "]", () => out.push(this.#number()));
    return out;
  }

  #list(open: string, close: string, item: () => void): void {
    this.#expect(open);
    if (this.#peek() !== close) {
      item();
      while (this.#peek() === ",") {
        this.#at++;
        item();
      }
    }
    this.#expect(close);
  }

  #number(): number {
    this.#peek();
    const digits = /(?:0|[1-9][0-9]*)(?![0-9.eE])/y;
    digits.lastIndex = this.#at;
    const found = digits.exec(this.#text)?.[0];
    if (found === undefined) return this.#fail("expected a whole number, zero or more");
    if (!Number.isSafeInteger(Number(found))) this.#fail(`${found.slice(0, 24)} exceeds 2^53`);
    this.#at += found.length;
    return Number(found);
  }

  #string(): string {
    if (this.#peek() !== '"') this.#fail("expected a string");
    let end = this.#at + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === "\\" ? 2 : 1;
    const token = this.#text.slice(this.#at, end + 1);
    let value: string;
    try {
      value = JSON.parse(token) as string; // one string token: escapes and control characters are JSON.parse's to judge
    } catch {
      return this.#fail("a string is not valid JSON");
    }
    if (/[\ud800-\udfff]/u.test(value)) this.#fail("a string is not well-formed Unicode");
    this.#at = end + 1;
    return value;
  }

  #expect(character: string): void {
    if (this.#peek() !== character) this.#fail(`expected ${character}`);
    this.#at++;
  }

  /** The next character that is not white space; "" at the end. */
  #peek(): string {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "end")) this.#at++;
    return this.#text[this.#at] ?? "";
  }

  #fail(reason: string, ...keys: string[]): never {
    throw new CheckpointError(this.file, `header, character ${this.#at}: ${reason}`, keys);
  }
}
