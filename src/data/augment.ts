import type { Generator } from "../random.js";
import { fullScale, type Tile } from "./dataset.js";
import type { ChannelStatistics } from "./normalise.js";

export interface AugmentOptions {
  /** Mirror left-right and top-bottom, each with probability ½: aerial images have no up. */
  readonly flip: boolean;
  /** Turn by 0, 90, 180 or 270 degrees, each with probability ¼. */
  readonly rotate90: boolean;
  /** Smallest and largest factor of size, drawn evenly. [1, 1] keeps the ground sample distance. */
  readonly scale: readonly [number, number];
  /** Largest relative change, 0 … 1: factors are drawn evenly from [1 − v, 1 + v]. */
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
}

export const NO_AUGMENTATION: AugmentOptions = {
  flip: false,
  rotate90: false,
  scale: [1, 1],
  brightness: 0,
  contrast: 0,
  saturation: 0,
};

/** Everything that chance decides about one crop. */
interface Draw {
  readonly mirrorX: boolean;
  readonly mirrorY: boolean;
  readonly turns: number;
  readonly height: number;
  readonly width: number;
  readonly top: number;
  readonly left: number;
  readonly brightness: number;
  readonly contrast: number;
  readonly saturation: number;
}

/** Where one crop is written: a slot of a batch. */
export interface CropTarget {
  readonly images: Float32Array; // [n, crop, crop, bands], normalised
  readonly labels: Uint32Array; // [n, crop, crop]
  readonly slot: number;
}

/**
 * Cuts a random square of `crop` pixels out of a tile, scaled, mirrored, turned and recoloured. The image is interpolated
 * bilinearly, the label takes the nearest pixel of the same place. Where the scaled tile is smaller than the crop, the
 * rest is the mean colour (0 after normalisation) and the ignore index; so are pixels that were not measured. The number
 * of values drawn from `generator` never depends on the options, so that a change of one leaves the other draws as they were.
 */
export function cropInto(
  tile: Tile,
  crop: number,
  options: AugmentOptions,
  statistics: ChannelStatistics,
  ignoreIndex: number,
  generator: Generator,
  { images, labels, slot }: CropTarget,
): void {
  const draw = drawFrom(tile, crop, options, generator);
  const { rows, columns } = axes(tile, crop, draw);
  const recolour = recolouring(tile, draw);
  const { mean, std } = statistics;
  const { bands, image, valid, width } = tile;
  const scale = fullScale(image);
  const pixel = new Float64Array(bands);
  for (let y = 0; y < crop; y++) {
    for (let x = 0; x < crop; x++) {
      const at = (slot * crop + y) * crop + x;
      // Undo the turn and the mirrors: (v, u) is the place in the upright crop.
      let [v, u] = [y, x];
      for (let t = 0; t < draw.turns; t++) [v, u] = [u, crop - 1 - v];
      if (draw.mirrorY) v = crop - 1 - v;
      if (draw.mirrorX) u = crop - 1 - u;
      const [row, column] = [rows[v]!, columns[u]!];
      if (!row || !column || (valid && valid[row.nearest * width + column.nearest] === 0)) {
        images.fill(0, at * bands, (at + 1) * bands);
        labels[at] = ignoreIndex;
        continue;
      }
      const nearest = row.nearest * width + column.nearest;
      labels[at] = tile.label ? tile.label[nearest]! : ignoreIndex;
      const corners = [row.low, row.high].flatMap((r) => [r * width + column.low, r * width + column.high]);
      // Between a measured pixel and one that was not there is nothing to interpolate.
      const [a, b, c, d] =
        valid && corners.some((p) => valid[p] === 0) ? [nearest, nearest, nearest, nearest] : corners;
      for (let band = 0; band < bands; band++) {
        const above = image[a! * bands + band]! * (1 - column.weight) + image[b! * bands + band]! * column.weight;
        const below = image[c! * bands + band]! * (1 - column.weight) + image[d! * bands + band]! * column.weight;
        pixel[band] = (above * (1 - row.weight) + below * row.weight) / scale;
      }
      recolour(pixel);
      for (let band = 0; band < bands; band++) images[at * bands + band] = (pixel[band]! - mean[band]!) / std[band]!;
    }
  }
}

function drawFrom(tile: Tile, crop: number, options: AugmentOptions, generator: Generator): Draw {
  const u = generator.uniform(9);
  const [low, high] = options.scale;
  const factor = low + u[0]! * (high - low);
  const height = Math.max(1, Math.round(tile.height * factor));
  const width = Math.max(1, Math.round(tile.width * factor));
  // Anywhere inside where the tile is larger than the crop; anywhere that shows all of it where it is smaller.
  const place = (size: number, at: number) => Math.sign(size - crop) * Math.floor(at * (Math.abs(size - crop) + 1));
  const change = (strength: number, at: number) => 1 + strength * (2 * at - 1);
  return {
    height,
    width,
    top: place(height, u[1]!),
    left: place(width, u[2]!),
    mirrorX: options.flip && u[3]! < 0.5,
    mirrorY: options.flip && u[4]! < 0.5,
    turns: options.rotate90 ? Math.floor(u[5]! * 4) : 0,
    brightness: change(options.brightness, u[6]!),
    contrast: change(options.contrast, u[7]!),
    saturation: change(options.saturation, u[8]!),
  };
}

/** Where one row or column of the crop lies in the tile: two neighbours, the weight of the second, and the nearest. */
interface Sample {
  readonly low: number;
  readonly high: number;
  readonly weight: number;
  readonly nearest: number;
}

/** Samples by row and by column of the upright crop; undefined outside the tile. Pixel centres stand at halves. */
function axes(tile: Tile, crop: number, draw: Draw): { rows: (Sample | undefined)[]; columns: (Sample | undefined)[] } {
  const along = (start: number, scaled: number, size: number) =>
    Array.from({ length: crop }, (_, i): Sample | undefined => {
      const place = i + start;
      if (place < 0 || place >= scaled) return undefined;
      const at = Math.min(Math.max(((place + 0.5) * size) / scaled - 0.5, 0), size - 1);
      const low = Math.floor(at);
      return {
        low,
        high: Math.min(low + 1, size - 1),
        weight: at - low,
        nearest: Math.min(Math.floor(at + 0.5), size - 1),
      };
    });
  return { rows: along(draw.top, draw.height, tile.height), columns: along(draw.left, draw.width, tile.width) };
}

/** Luma of three bands (ITU-R BT.601), the mean of any other number. */
function greyOf(samples: ArrayLike<number>, at: number, bands: number): number {
  if (bands === 3) return 0.299 * samples[at]! + 0.587 * samples[at + 1]! + 0.114 * samples[at + 2]!;
  let total = 0;
  for (let band = 0; band < bands; band++) total += samples[at + band]!;
  return total / bands;
}

/**
 * Brightness scales, contrast spreads about the tile's mean grey, saturation about each pixel's own grey. Unsigned types
 * are kept within their range.
 */
function recolouring(tile: Tile, { brightness, contrast, saturation }: Draw): (pixel: Float64Array) => void {
  if (brightness === 1 && contrast === 1 && saturation === 1) return () => {};
  const { image, valid, bands } = tile;
  let total = 0;
  let pixels = 0;
  for (let i = 0, p = 0; i < image.length; i += bands, p++) {
    if (valid && valid[p] === 0) continue;
    total += greyOf(image, i, bands);
    pixels++;
  }
  const mean = (total / Math.max(1, pixels) / fullScale(image)) * brightness;
  const [low, high] = image instanceof Float32Array ? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] : [0, 1];
  return (pixel) => {
    for (let b = 0; b < bands; b++) pixel[b] = mean + contrast * (brightness * pixel[b]! - mean);
    const grey = greyOf(pixel, 0, bands);
    for (let b = 0; b < bands; b++) pixel[b] = Math.min(high, Math.max(low, grey + saturation * (pixel[b]! - grey)));
  };
}

/** A whole tile, normalised, in the top left corner of a slot of `height` x `width`; the rest as in `cropInto`. */
export function placeInto(
  tile: Tile,
  height: number,
  width: number,
  { mean, std }: ChannelStatistics,
  images: Float32Array, // [n, height, width, bands]
  slot: number,
): void {
  const { bands, image, valid } = tile;
  const scale = fullScale(image);
  const start = slot * height * width * bands;
  images.fill(0, start, start + height * width * bands);
  for (let y = 0; y < tile.height; y++) {
    for (let x = 0; x < tile.width; x++) {
      const pixel = y * tile.width + x;
      if (valid && valid[pixel] === 0) continue;
      const [from, to] = [pixel * bands, start + (y * width + x) * bands];
      for (let b = 0; b < bands; b++) images[to + b] = (image[from + b]! / scale - mean[b]!) / std[b]!;
    }
  }
}
