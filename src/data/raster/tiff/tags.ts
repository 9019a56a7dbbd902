import type { RawTag } from "../raster.js";

const texts = new TextEncoder();

/** A tag of whole numbers of 16 bits. */
export function shorts(...values: readonly number[]): RawTag {
  const bytes = new Uint8Array(values.length * 2);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setUint16(i * 2, value, true);
  });
  return { type: 3, count: values.length, bytes };
}

/** A tag of whole numbers of 32 bits, or of 64 (BigTIFF). */
export function longs(values: ArrayLike<number>, wide = false): RawTag {
  const size = wide ? 8 : 4;
  const bytes = new Uint8Array(values.length * size);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) {
    if (wide) view.setBigUint64(i * 8, BigInt(values[i]!), true);
    else view.setUint32(i * 4, values[i]!, true);
  }
  return { type: wide ? 16 : 4, count: values.length, bytes };
}

/** A tag of floating point numbers of 64 bits. */
export function doubles(values: readonly number[]): RawTag {
  const bytes = new Uint8Array(values.length * 8);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setFloat64(i * 8, value, true);
  });
  return { type: 12, count: values.length, bytes };
}

/** A tag of text, with the zero that ends it. */
export function ascii(text: string): RawTag {
  const bytes = texts.encode(`${text}\0`);
  return { type: 2, count: bytes.length, bytes };
}

/**
 * One directory as it stands at byte `at` of a little-endian file: the sorted entries, no further directory, then the
 * values that do not fit into an entry.
 */
export function encodeDirectory(tags: ReadonlyMap<number, RawTag>, at: number, big: boolean): Uint8Array {
  const sorted = [...tags].sort(([a], [b]) => a - b);
  const [countBytes, entryBytes, word] = big ? [8, 20, 8] : [2, 12, 4];
  const head = countBytes + sorted.length * entryBytes + word;
  const even = (n: number) => n + (n & 1); // values stand at even bytes
  const outside = sorted.reduce((sum, [, { bytes }]) => sum + (bytes.length > word ? even(bytes.length) : 0), 0);
  const out = new Uint8Array(even(head) + outside);
  const view = new DataView(out.buffer);
  const put = (place: number, value: number) =>
    big ? view.setBigUint64(place, BigInt(value), true) : view.setUint32(place, value, true);
  if (big) put(0, sorted.length);
  else view.setUint16(0, sorted.length, true);
  let free = even(head);
  sorted.forEach(([tag, { type, count, bytes }], i) => {
    const entry = countBytes + i * entryBytes;
    view.setUint16(entry, tag, true);
    view.setUint16(entry + 2, type, true);
    put(entry + 4, count);
    const field = entry + 4 + word;
    if (bytes.length <= word) {
      out.set(bytes, field);
      return;
    }
    put(field, at + free);
    out.set(bytes, free);
    free += even(bytes.length);
  });
  return out;
}
