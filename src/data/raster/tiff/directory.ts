import { DataError } from "../../../errors.js";
import type { RawTag } from "../raster.js";
import type { RegularFile } from "../regular_file.js";

/** Bytes of one value of each TIFF type, by number; BigTIFF's are the last three. */
const TYPE_BYTES: Readonly<Record<number, number>> = {
  ...{ 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4 },
  ...{ 16: 8, 17: 8, 18: 8 },
};
/** More directories, or entries of one, than any raster has. */
const MAX_DIRECTORIES = 256;
const MAX_ENTRIES = 4096;
/** Of one tag's values: offsets of four million blocks. */
const MAX_TAG_BYTES = 32 * 2 ** 20;

interface Entry {
  readonly type: number;
  readonly count: number;
  /** Where the values stand, in the file's byte order. */
  readonly offset: number;
}

/** One image file directory: its tags are read when they are asked for, each checked against the file's size first. */
export class Directory {
  constructor(
    private readonly file: RegularFile,
    private readonly little: boolean,
    private readonly entries: ReadonlyMap<number, Entry>,
  ) {}

  has(tag: number): boolean {
    return this.entries.has(tag);
  }

  /** A tag's values, little-endian; null where the directory lacks it. @throws DataError for values beyond the file. */
  async raw(tag: number): Promise<RawTag | null> {
    const entry = this.entries.get(tag);
    if (!entry) return null;
    const width = TYPE_BYTES[entry.type];
    if (!width) throw new DataError(this.file.path, `tag ${tag} has the unknown type ${entry.type}`);
    const length = width * entry.count;
    if (length > MAX_TAG_BYTES || entry.offset + length > this.file.size) {
      throw new DataError(this.file.path, `tag ${tag} claims ${entry.count} values, more than the file can hold`);
    }
    const bytes = await this.file.read(entry.offset, length);
    // A rational is two words of four bytes.
    if (!this.little) reverse(bytes, entry.type === 5 || entry.type === 10 ? 4 : width);
    return { type: entry.type, count: entry.count, bytes };
  }

  /** A tag as numbers. @throws DataError where it holds none, or whole numbers beyond 2^53. */
  async numbers(tag: number): Promise<Float64Array | null> {
    const raw = await this.raw(tag);
    if (!raw) return null;
    const { type, count, bytes } = raw;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const width = TYPE_BYTES[type]!;
    const read = readers[type];
    if (!read) throw new DataError(this.file.path, `tag ${tag} should hold numbers, its type is ${type}`);
    const values = new Float64Array(count);
    for (let i = 0; i < count; i++) values[i] = read(view, i * width);
    return values;
  }

  /** The first value of a tag, or what it stands for where it is missing. */
  async number(tag: number, missing: number): Promise<number> {
    return (await this.numbers(tag))?.[0] ?? missing;
  }

  /** A tag of text, up to its first zero. */
  async text(tag: number): Promise<string | null> {
    const raw = await this.raw(tag);
    return raw && new TextDecoder("latin1").decode(raw.bytes).split("\0")[0]!;
  }
}

const readers: Readonly<Record<number, (view: DataView, at: number) => number>> = {
  1: (v, at) => v.getUint8(at),
  3: (v, at) => v.getUint16(at, true),
  4: (v, at) => v.getUint32(at, true),
  6: (v, at) => v.getInt8(at),
  7: (v, at) => v.getUint8(at),
  8: (v, at) => v.getInt16(at, true),
  9: (v, at) => v.getInt32(at, true),
  11: (v, at) => v.getFloat32(at, true),
  12: (v, at) => v.getFloat64(at, true),
  13: (v, at) => v.getUint32(at, true),
  16: (v, at) => Number(v.getBigUint64(at, true)),
  17: (v, at) => Number(v.getBigInt64(at, true)),
  18: (v, at) => Number(v.getBigUint64(at, true)),
};

/** Turns the bytes of every word of `width` around, in place. */
export function reverse(bytes: Uint8Array, width: number): void {
  for (let start = 0; width > 1 && start + width <= bytes.length; start += width) {
    for (let i = 0, j = width - 1; i < j; i++, j--) {
      const kept = bytes[start + i]!;
      bytes[start + i] = bytes[start + j]!;
      bytes[start + j] = kept;
    }
  }
}

/** The directories of a TIFF or BigTIFF file, in order. */
export interface Tiff {
  readonly little: boolean;
  readonly directories: readonly Directory[];
}

/**
 * Reads the header and the chain of directories.
 * @throws DataError where the file is no TIFF, or the chain is broken, endless or leaves the file.
 */
export async function readDirectories(file: RegularFile): Promise<Tiff> {
  const fail = (reason: string): never => {
    throw new DataError(file.path, reason);
  };
  const head = await file.read(0, Math.min(16, file.size));
  const view = new DataView(head.buffer);
  const little = head[0] === 0x49;
  if (head.length < 8) return fail("cut off: the header of a TIFF has 8 bytes");
  const version = view.getUint16(2, little);
  const big = version === 43;
  if (big && (head.length < 16 || view.getUint16(4, little) !== 8)) return fail("not a BigTIFF header");
  let next = big ? Number(view.getBigUint64(8, little)) : view.getUint32(4, little);
  const [countBytes, entryBytes, wordBytes] = big ? [8, 20, 8] : [2, 12, 4];
  const seen = new Set<number>();
  const directories: Directory[] = [];
  while (next !== 0) {
    if (seen.has(next)) return fail("its directories form a loop");
    if (seen.size === MAX_DIRECTORIES) return fail(`more than ${MAX_DIRECTORIES} directories`);
    seen.add(next);
    if (next + countBytes > file.size) return fail(`a directory should stand at byte ${next}, beyond the end`);
    const word = (v: DataView, at: number) => (big ? Number(v.getBigUint64(at, little)) : v.getUint32(at, little));
    const counted = new DataView((await file.read(next, countBytes)).buffer);
    const count = big ? word(counted, 0) : counted.getUint16(0, little);
    if (count === 0 || count > MAX_ENTRIES) return fail(`a directory of ${count} entries`);
    const start = next + countBytes;
    const length = count * entryBytes;
    if (start + length > file.size) return fail("a directory leaves the file");
    const table = new DataView((await file.read(start, length)).buffer);
    const entries = new Map<number, Entry>();
    for (let i = 0; i < count; i++) {
      const at = i * entryBytes;
      const tag = table.getUint16(at, little);
      const type = table.getUint16(at + 2, little);
      const values = word(table, at + 4);
      const bytes = (TYPE_BYTES[type] ?? 0) * values;
      const field = at + 4 + wordBytes;
      const offset = bytes <= wordBytes ? start + field : word(table, field);
      if (!entries.has(tag)) entries.set(tag, { type, count: values, offset });
    }
    directories.push(new Directory(file, little, entries));
    // Some writers end the file without the last link.
    const link = start + length;
    next = link + wordBytes <= file.size ? word(new DataView((await file.read(link, wordBytes)).buffer), 0) : 0;
  }
  if (directories.length === 0) return fail("holds no image");
  return { little, directories };
}
