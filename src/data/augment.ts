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
  const rows = along(draw.top, draw.height, tile.height, crop);
  const columns = along(draw.left, draw.width, tile.width, crop);
  const [vRow, uRow] = upright(draw, crop);
  const recolour = recolouring(tile, draw);
  const { mean, std } = statistics;
  const { bands, image, valid, width } = tile;
  const scale = fullScale(image);
  const pixel = new Float64Array(bands);
  for (let y = 0; y < crop; y++) {
    for (let x = 0; x < crop; x++) {
      const at = (slot * crop + y) * crop + x;
      const v = vRow.start + vRow.down * y + vRow.right * x;
      const u = uRow.start + uRow.down * y + uRow.right * x;
      const nearest = rows.nearest[v]! * width + columns.nearest[u]!;
      const isOutside = rows.nearest[v]! < 0 || columns.nearest[u]! < 0;
      if (isOutside || (valid && valid[nearest] === 0)) {
        images.fill(0, at * bands, (at + 1) * bands);
        labels[at] = ignoreIndex;
        continue;
      }
      labels[at] = tile.label ? tile.label[nearest]! : ignoreIndex;
      const [low, high] = [rows.low[v]! * width, rows.high[v]! * width];
      const [left, right] = [columns.low[u]!, columns.high[u]!];
      let [a, b, c, d] = [low + left, low + right, high + left, high + right];
      // Between a measured pixel and one that was not there is nothing to interpolate.
      if (valid && (valid[a] === 0 || valid[b] === 0 || valid[c] === 0 || valid[d] === 0)) a = b = c = d = nearest;
      const [wy, wx] = [rows.weight[v]!, columns.weight[u]!];
      for (let band = 0; band < bands; band++) {
        const above = image[a * bands + band]! * (1 - wx) + image[b * bands + band]! * wx;
        const below = image[c * bands + band]! * (1 - wx) + image[d * bands + band]! * wx;
        pixel[band] = (above * (1 - wy) + below * wy) / scale;
      }
      recolour?.(pixel);
      for (let band = 0; band < bands; band++) images[at * bands + band] = (pixel[band]! - mean[band]!) / std[band]!;
    }
  }
}

/** A coordinate of the upright crop as a sum over the row and column of the turned one. */
interface Affine {
  readonly start: number;
  readonly down: number;
  readonly right: number;
}

/** Undoes turns and mirrors: the row and the column in the upright crop of a pixel of the finished one. */
function upright({ turns, mirrorX, mirrorY }: Draw, crop: number): [Affine, Affine] {
  const opposite = ({ start, down, right }: Affine): Affine => ({
    start: crop - 1 - start,
    down: -down,
    right: -right,
  });
  let [v, u]: [Affine, Affine] = [
    { start: 0, down: 1, right: 0 },
    { start: 0, down: 0, right: 1 },
  ];
  for (let t = 0; t < turns; t++) [v, u] = [u, opposite(v)];
  return [mirrorY ? opposite(v) : v, mirrorX ? opposite(u) : u];
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

/** Where the rows or columns of the upright crop lie in the tile: two neighbours, the weight of the second, the nearest. */
interface Axis {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly weight: Float64Array;
  /** -1 outside the tile. */
  readonly nearest: Int32Array;
}

/** Pixel centres stand at halves. */
function along(start: number, scaled: number, size: number, crop: number): Axis {
  const axis: Axis = {
    low: new Int32Array(crop),
    high: new Int32Array(crop),
    weight: new Float64Array(crop),
    nearest: new Int32Array(crop).fill(-1),
  };
  for (let i = 0; i < crop; i++) {
    const place = i + start;
    if (place < 0 || place >= scaled) continue;
    const at = Math.min(Math.max(((place + 0.5) * size) / scaled - 0.5, 0), size - 1);
    const low = Math.floor(at);
    axis.low[i] = low;
    axis.high[i] = Math.min(low + 1, size - 1);
    axis.weight[i] = at - low;
    axis.nearest[i] = Math.min(Math.floor(at + 0.5), size - 1);
  }
  return axis;
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
 * @returns null where nothing changes.
 */
function recolouring(tile: Tile, { brightness, contrast, saturation }: Draw): ((pixel: Float64Array) => void) | null {
  if (brightness === 1 && contrast === 1 && saturation === 1) return null;
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
