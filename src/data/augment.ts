import type { Generator } from "../random.js";
import type { Tile } from "./dataset.js";
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
  readonly images: Float32Array; // [n, crop, crop, 3], normalised
  readonly labels: Uint32Array; // [n, crop, crop]
  readonly slot: number;
}

/**
 * Cuts a random square of `crop` pixels out of a tile, scaled, mirrored, turned and recoloured. The image is interpolated
 * bilinearly, the label takes the nearest pixel of the same place. Where the scaled tile is smaller than the crop, the
 * rest is the mean colour (0 after normalisation) and the ignore index. The number of values drawn from `generator` never depends on
 * the options, so that a change of one option leaves the other draws as they were.
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
  const rgb = [0, 0, 0];
  for (let y = 0; y < crop; y++) {
    for (let x = 0; x < crop; x++) {
      const at = (slot * crop + y) * crop + x;
      // Undo the turn and the mirrors: (v, u) is the place in the upright crop.
      let [v, u] = [y, x];
      for (let t = 0; t < draw.turns; t++) [v, u] = [u, crop - 1 - v];
      if (draw.mirrorY) v = crop - 1 - v;
      if (draw.mirrorX) u = crop - 1 - u;
      const [row, column] = [rows[v]!, columns[u]!];
      if (!row || !column) {
        images.fill(0, at * 3, at * 3 + 3);
        labels[at] = ignoreIndex;
        continue;
      }
      labels[at] = tile.label ? tile.label[row.nearest * tile.width + column.nearest]! : ignoreIndex;
      for (let c = 0; c < 3; c++) {
        const value = (r: number, q: number) => tile.image[(r * tile.width + q) * 3 + c]!;
        const above = value(row.low, column.low) * (1 - column.weight) + value(row.low, column.high) * column.weight;
        const below = value(row.high, column.low) * (1 - column.weight) + value(row.high, column.high) * column.weight;
        rgb[c] = (above * (1 - row.weight) + below * row.weight) / 255;
      }
      recolour(rgb);
      for (let c = 0; c < 3; c++) images[at * 3 + c] = (rgb[c]! - mean[c]!) / std[c]!;
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

const luma = (r: number, g: number, b: number): number => 0.299 * r + 0.587 * g + 0.114 * b;

/** Brightness scales, contrast spreads about the tile's mean grey, saturation about each pixel's own grey. */
function recolouring(tile: Tile, { brightness, contrast, saturation }: Draw): (rgb: number[]) => void {
  if (brightness === 1 && contrast === 1 && saturation === 1) return () => {};
  let total = 0;
  for (let i = 0; i < tile.image.length; i += 3) total += luma(tile.image[i]!, tile.image[i + 1]!, tile.image[i + 2]!);
  const mean = (total / (tile.image.length / 3) / 255) * brightness;
  return (rgb) => {
    for (let c = 0; c < 3; c++) rgb[c] = mean + contrast * (brightness * rgb[c]! - mean);
    const grey = luma(rgb[0]!, rgb[1]!, rgb[2]!);
    for (let c = 0; c < 3; c++) rgb[c] = Math.min(1, Math.max(0, grey + saturation * (rgb[c]! - grey)));
  };
}

/** A whole tile, normalised, in the top left corner of a slot of `height` x `width`; the rest as in `cropInto`. */
export function placeInto(
  tile: Tile,
  height: number,
  width: number,
  { mean, std }: ChannelStatistics,
  images: Float32Array,
  slot: number,
): void {
  const start = slot * height * width * 3;
  images.fill(0, start, start + height * width * 3);
  for (let y = 0; y < tile.height; y++) {
    for (let x = 0; x < tile.width; x++) {
      const [from, to] = [(y * tile.width + x) * 3, start + (y * width + x) * 3];
      for (let c = 0; c < 3; c++) images[to + c] = (tile.image[from + c]! / 255 - mean[c]!) / std[c]!;
    }
  }
}
