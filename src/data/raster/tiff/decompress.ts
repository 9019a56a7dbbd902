import { inflate } from "node:zlib";
import { Decompress as ZstandardStream } from "fzstd";
import { decodeLZW } from "./lzw.js";

/** What compressions are called, for messages; those in `decoders` can be read. */
const NAMES: Readonly<Record<number, string>> = {
  2: "CCITT RLE",
  3: "CCITT fax 3",
  4: "CCITT fax 4",
  6: "old-style JPEG",
  7: "JPEG",
  34661: "JBIG",
  34712: "JPEG 2000",
  34887: "LERC",
  34925: "LZMA",
  50001: "WebP",
  50002: "JPEG XL",
};

export const compressionName = (code: number): string => `${NAMES[code] ?? "an unknown one"} (${code})`;

/** Fills `out` from compressed data as far as that goes; gives the bytes written, or null where the data is damaged. */
type Decoder = (data: Uint8Array, out: Uint8Array) => number | null | Promise<number | null>;

/** By TIFF's code: none, LZW, deflate (and its older code), PackBits, Zstandard. */
export const decoders: Readonly<Record<number, Decoder>> = {
  1: (data, out) => {
    const length = Math.min(data.length, out.length);
    out.set(data.subarray(0, length));
    return length;
  },
  5: decodeLZW,
  8: decodeDeflate,
  32946: decodeDeflate,
  32773: decodePackBits,
  50000: decodeZstd,
};

/** In a thread of Node's pool. Its output is capped by what the block may hold: no bomb can unfold. */
function decodeDeflate(data: Uint8Array, out: Uint8Array): Promise<number | null> {
  return new Promise((resolve) => {
    inflate(data, { maxOutputLength: Math.max(1, out.length), chunkSize: Math.max(64, out.length) }, (error, bytes) => {
      if (error) return resolve(null);
      out.set(bytes);
      resolve(bytes.length);
    });
  });
}

function decodePackBits(data: Uint8Array, out: Uint8Array): number | null {
  let written = 0;
  for (let at = 0; at < data.length && written < out.length; ) {
    const head = (data[at++]! << 24) >> 24; // signed
    if (head === -128) continue;
    const count = Math.min(head >= 0 ? head + 1 : 1 - head, out.length - written);
    if (head >= 0) {
      if (at + count > data.length) return null;
      out.set(data.subarray(at, at + count), written);
      at += head + 1;
    } else {
      if (at === data.length) return null;
      out.fill(data[at++]!, written, written + count);
    }
    written += count;
  }
  return written;
}

/** Block by block, so that a frame which unfolds beyond what its strip or tile may hold is left where it passes that. */
function decodeZstd(data: Uint8Array, out: Uint8Array): number | null {
  let written = 0;
  const stream = new ZstandardStream((chunk) => {
    if (written + chunk.length > out.length) throw new RangeError("more data than the block may hold");
    out.set(chunk, written);
    written += chunk.length;
  });
  try {
    stream.push(data, true);
    return written;
  } catch {
    return null;
  }
}
