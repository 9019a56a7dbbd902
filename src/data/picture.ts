import type { Tile } from "./dataset.js";

/** Shares of a band's pixels that a stretch leaves black and white. */
const CUT = 0.02;

/**
 * A tile as people look at it, 8-bit RGB: 8-bit images of three bands as they are; else the first three bands (the first
 * alone where there are two or fewer), each stretched from its 2nd to its 98th percentile. What was not measured is black.
 */
export function displayed({ height, width, bands, image, valid }: Tile): Uint8Array {
  if (bands === 3 && image instanceof Uint8Array && !valid) return image;
  const out = new Uint8Array(height * width * 3); // [height, width, 3]
  for (let channel = 0; channel < 3; channel++) {
    const band = bands >= 3 ? channel : 0;
    const [low, high] = image instanceof Uint8Array ? [0, 255] : percentiles(image, bands, band, valid);
    for (let p = 0; p < height * width; p++) {
      if (valid && valid[p] === 0) continue;
      out[p * 3 + channel] = Math.round(
        255 * Math.min(1, Math.max(0, (image[p * bands + band]! - low) / (high - low))),
      );
    }
  }
  return out;
}

/** Never equal, so that they can be divided by their difference. */
function percentiles(
  image: ArrayLike<number>,
  bands: number,
  band: number,
  valid: Uint8Array | null,
): [number, number] {
  const values: number[] = [];
  for (let p = 0; p * bands < image.length; p++) if (!valid || valid[p] === 1) values.push(image[p * bands + band]!);
  if (values.length === 0) return [0, 1];
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  const [low, high] = [at(CUT), at(1 - CUT)];
  return high > low ? [low, high] : [low, low + 1];
}
