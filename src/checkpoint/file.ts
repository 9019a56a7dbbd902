import { type FileHandle, open, stat } from "node:fs/promises";
import { CheckpointError, DataError } from "../errors.js";
import { formatSpec, isFloat, sameShape } from "../shape.js";
import type { Tensor } from "../tensor.js";
import { CHUNK_BYTES, codeOf, NOT_A_FILE, writeAtomic } from "./atomic.js";
import {
  encodeParts,
  type FileDType,
  type FileTensor,
  headerLength,
  PREFIX_BYTES,
  parseHeader,
  type Safetensors,
  tensorOf,
} from "./safetensors.js";

/** The system's errors under our class, with the file's name. */
async function asCheckpointError<T>(path: string, doing: string, fn: () => Promise<T>): Promise<T> {
  try {
    return await fn();
  } catch (cause) {
    if (cause instanceof DataError) throw new CheckpointError(path, cause.reason, [], { cause });
    // A RangeError: one tensor is larger than any typed array.
    const foreign = cause instanceof RangeError || (cause instanceof Error && codeOf(cause) !== undefined);
    throw foreign ? new CheckpointError(path, `cannot be ${doing}: ${cause.message}`, [], { cause }) : cause;
  }
}

/**
 * Reads a safetensors file: the header first, checked to the last byte, then tensor by tensor.
 * @throws CheckpointError where it cannot be read, is no regular file, or is not valid (see `parseHeader`).
 */
export function readSafetensors(path: string): Promise<Safetensors> {
  return asCheckpointError(path, "read", async () => {
    // Opening a pipe would wait for ever.
    if (!(await stat(path)).isFile()) throw new CheckpointError(path, NOT_A_FILE);
    const handle = await open(path, "r");
    try {
      const { size } = await handle.stat();
      const start = await readBytes(handle, 0, Math.min(size, PREFIX_BYTES + 1), path);
      const length = headerLength(start, size, path);
      const header = await readBytes(handle, PREFIX_BYTES, length, path);
      const { entries, metadata } = parseHeader(header, size, path);
      const tensors = new Map<string, FileTensor>();
      for (const [name, entry] of entries) {
        const bytes = await readBytes(handle, entry.begin, entry.end - entry.begin, path);
        tensors.set(name, tensorOf(name, entry, bytes, path));
      }
      return { tensors, metadata };
    } finally {
      await handle.close();
    }
  });
}

async function readBytes(
  handle: FileHandle,
  position: number,
  length: number,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const { bytesRead } = await handle.read(bytes, at, Math.min(CHUNK_BYTES, length - at), position + at);
    if (bytesRead === 0) throw new CheckpointError(path, "the file shrank while it was read");
    at += bytesRead;
  }
  return bytes;
}

/**
 * Writes a safetensors file atomically (see `writeAtomic`).
 * @throws CheckpointError where it cannot be written or a tensor is not valid: the old file is as it was.
 */
export function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, FileTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  return asCheckpointError(path, "written", () => writeAtomic(path, encodeParts(tensors, metadata, path)));
}

/**
 * Saves tensors (a model's parameters and buffers, an optimiser's moments) by name, as they are when it is called.
 * f32 is written as F32, or F64 on the reference backend, so that nothing is lost; f16 as F16; integers as I32 and U32.
 * @throws CheckpointError as `writeSafetensors`.
 */
export async function saveTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  const entries = await Promise.all(
    [...tensors].map(async ([name, t]): Promise<[string, FileTensor]> => {
      const data = await t.data();
      return [name, { dtype: fileType(t, data instanceof Float64Array), shape: t.shape, data }];
    }),
  );
  await writeSafetensors(path, new Map(entries), metadata);
}

function fileType({ dtype }: Tensor, isDouble: boolean): FileDType {
  if (dtype === "i32") return "I32";
  if (dtype === "u32") return "U32";
  if (isDouble) return "F64";
  return dtype === "f16" ? "F16" : "F32";
}

export interface LoadReport {
  /** Names asked for that the file does not hold. */
  readonly missing: readonly string[];
  /** Names of the file that were not asked for. */
  readonly extra: readonly string[];
  /** Names whose shape or kind of number (float, integer) differs. */
  readonly misshapen: readonly string[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Fills tensors from a file, by name. Floats of any width are converted; integers must fit.
 * @param options `strict` (default true): any difference is an error. Otherwise what matches is loaded and the rest
 *   reported.
 * @throws CheckpointError with the names, where strict and names or shapes differ, an integer does not fit, or the file
 *   is not valid: no tensor has changed then.
 */
export async function loadTensors(
  path: string,
  into: ReadonlyMap<string, Tensor>,
  { strict = true }: { readonly strict?: boolean } = {},
): Promise<LoadReport> {
  const { tensors, metadata } = await readSafetensors(path);
  const missing = [...into.keys()].filter((name) => !tensors.has(name));
  const extra = [...tensors.keys()].filter((name) => !into.has(name));
  const shared = [...into].flatMap(([name, t]) => {
    const found = tensors.get(name);
    return found
      ? [{ name, t, found, fits: sameShape(t.shape, found.shape) && isFloat(t.dtype) === isFloatFile(found) }]
      : [];
  });
  const misshapen = shared.filter(({ fits }) => !fits);
  if (strict && missing.length + extra.length + misshapen.length > 0) {
    const [first] = misshapen;
    const example = first ? ` (${first.name}: ${formatSpec(first.t.spec)} here, ${formatFile(first.found)} there)` : "";
    const reason = `another model: ${missing.length} missing, ${extra.length} extra, ${misshapen.length} misshapen${example}`;
    throw new CheckpointError(path, reason, [...missing, ...extra, ...misshapen.map(({ name }) => name)]);
  }
  const matching = shared.filter(({ fits }) => fits);
  const beyond = matching.filter(({ t, found }) => !isFloat(t.dtype) && !integersFit(t, found));
  if (beyond.length > 0) {
    throw new CheckpointError(
      path,
      "integers do not fit the tensors' type",
      beyond.map(({ name }) => name),
    );
  }
  for (const { t, found } of matching) t.assign(found.data);
  return { missing, extra, misshapen: misshapen.map(({ name }) => name), metadata };
}

const isFloatFile = ({ dtype }: FileTensor): boolean => dtype.includes("F");
const formatFile = ({ dtype, shape }: FileTensor): string => `${dtype}[${shape.join(", ")}]`;

function integersFit({ dtype }: Tensor, { data }: FileTensor): boolean {
  const [low, high] = dtype === "u32" ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1];
  return data.every((value) => value >= low && value <= high);
}
