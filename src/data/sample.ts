import type { Generator } from "../random.js";
import { type AugmentOptions, cropInto } from "./augment.js";
import type { TileSource } from "./dataset.js";
import type { ChannelStatistics } from "./normalise.js";
import type { Choice } from "./sampling.js";

/** How every crop is cut. */
export interface SampleOptions {
  /** Height and width of a crop, pixels. */
  readonly crop: number;
  readonly augment: AugmentOptions;
  readonly statistics: ChannelStatistics;
  readonly ignoreIndex: number;
}

/** One crop in host memory. */
export interface Sample {
  readonly images: Float32Array; // [crop, crop, bands], normalised
  readonly labels: Uint32Array; // [crop, crop]; the ignore index throughout where there are no labels
}

/** A crop of the tile that was chosen; everything else about it is up to `chance`. @throws DataError for the tile. */
export async function makeSample(
  source: TileSource,
  { tile, shows }: Choice,
  { crop, augment, statistics, ignoreIndex }: SampleOptions,
  chance: Generator,
): Promise<Sample> {
  const read = await source.read(tile);
  const images = new Float32Array(crop * crop * statistics.mean.length);
  const labels = new Uint32Array(crop * crop);
  const show = shows === null || !read.label ? null : pixelOf(read.label, shows, read.width, chance);
  cropInto(read, crop, augment, statistics, ignoreIndex, chance, { images, labels, slot: 0 }, show);
  return { images, labels };
}

/** One of the pixels of a class, each as likely; null where there is none. Draws one value. */
function pixelOf(label: Uint8Array, wanted: number, width: number, chance: Generator) {
  let count = 0;
  for (let i = 0; i < label.length; i++) if (label[i] === wanted) count++;
  let left = Math.floor(chance.uniform(1)[0]! * count);
  for (let i = 0; i < label.length; i++) {
    if (label[i] === wanted && left-- === 0) return { row: Math.floor(i / width), column: i % width };
  }
  return null;
}
