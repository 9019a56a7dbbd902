import type { Samples, SampleType } from "../raster.js";
import { reverse } from "./directory.js";

/** How one block's bytes become samples. */
export interface SampleLayout {
  readonly type: SampleType;
  /** Bits of a sample in the file. */
  readonly bits: number;
  /** Samples that stand side by side for one pixel: all bands, or 1 where each band has blocks of its own. */
  readonly perPixel: number;
  readonly little: boolean;
  /** TIFF's: 1 none, 2 horizontal differences, 3 floating point (Adobe's technical note 3). */
  readonly predictor: number;
}

export const arrayTypes = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
} as const;

/** Bytes of a row of `width` pixels: rows start at whole bytes. */
export const rowBytes = ({ bits, perPixel }: SampleLayout, width: number): number =>
  Math.ceil((width * perPixel * bits) / 8);

/**
 * Samples of a block of rows, its bytes undone in place: predictor and byte order, or bits unpacked.
 * @param bytes `rowBytes * height` of them.
 */
export function samplesOf(
  bytes: Uint8Array<ArrayBuffer>,
  width: number,
  height: number,
  layout: SampleLayout,
): Samples {
  const { type, bits, perPixel, little, predictor } = layout;
  const values = width * perPixel;
  if (bits % 8 !== 0) return unpack(bytes, width, height, layout);
  if (predictor === 3) {
    for (let y = 0; y < height; y++) undoFloatingPoint(bytes, y * values * (bits / 8), values, bits / 8, perPixel);
  } else if (!little) {
    reverse(bytes, bits / 8);
  }
  const samples = new arrayTypes[type](bytes.buffer, bytes.byteOffset, values * height);
  if (predictor === 2) undoDifferences(bytes, values, height, bits, perPixel);
  return samples;
}

/** Whole numbers of the sample's width are summed up along each row, wrapping around, whatever they stand for. */
function undoDifferences(
  bytes: Uint8Array<ArrayBuffer>,
  values: number,
  height: number,
  bits: number,
  perPixel: number,
): void {
  const count = values * height;
  const words =
    bits === 8
      ? bytes
      : bits === 16
        ? new Uint16Array(bytes.buffer, bytes.byteOffset, count)
        : bits === 32
          ? new Uint32Array(bytes.buffer, bytes.byteOffset, count)
          : null;
  if (words) {
    for (let start = 0; start < count; start += values) {
      for (let i = start + perPixel; i < start + values; i++) words[i] = words[i]! + words[i - perPixel]!;
    }
    return;
  }
  const wide = new BigUint64Array(bytes.buffer, bytes.byteOffset, count);
  for (let start = 0; start < count; start += values) {
    for (let i = start + perPixel; i < start + values; i++) wide[i] = wide[i]! + wide[i - perPixel]!;
  }
}

/** Byte differences along a row whose values stand as planes of bytes, the most significant first. */
function undoFloatingPoint(bytes: Uint8Array, start: number, values: number, width: number, perPixel: number): void {
  const length = values * width;
  const planes = bytes.slice(start, start + length);
  for (let i = perPixel; i < length; i++) planes[i] = planes[i]! + planes[i - perPixel]!;
  for (let i = 0; i < values; i++) {
    for (let b = 0; b < width; b++) bytes[start + i * width + (width - 1 - b)] = planes[b * values + i]!;
  }
}

/** Samples of 1, 2, 4 or 12 bits, the most significant bit first. */
function unpack(bytes: Uint8Array, width: number, height: number, layout: SampleLayout): Samples {
  const { bits, perPixel, type } = layout;
  const values = width * perPixel;
  const stride = rowBytes(layout, width);
  const samples = new arrayTypes[type](values * height);
  for (let y = 0; y < height; y++) {
    let [held, have, at] = [0, 0, y * stride];
    for (let i = 0; i < values; i++) {
      for (; have < bits; have += 8) held = ((held << 8) | bytes[at++]!) & 0xfffff;
      have -= bits;
      samples[y * values + i] = (held >> have) & ((1 << bits) - 1);
    }
  }
  return samples;
}
