import { DataError } from "../errors.js";
import { type Dataset, type Domain, fullScale, type TileSource, type TileType } from "./dataset.js";

/** What is taken from each band and what it is divided by, for values over `fullScale`: one number a band. */
export interface ChannelStatistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/**
 * - `imagenet`: the fixed statistics that pre-trained backbones expect, of 8-bit RGB.
 * - `source`: those of `source/train`, for both domains.
 * - `domain`: each domain's own: takes out a colour cast that sensors or haze put on one city.
 */
export type Normalisation = "imagenet" | "source" | "domain";

/** The statistics in use, by domain. Saved with a model: it is worth nothing without them. */
export type DomainStatistics = Readonly<Record<Domain, ChannelStatistics>>;

/** torchvision's constants. */
export const IMAGENET: ChannelStatistics = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Below this a band is constant, and dividing by its deviation would only amplify noise: one step of the type. */
const leastDeviation = (type: TileType, mean: number): number =>
  type === "u8" ? 1 / 255 : type === "u16" ? 1 / 65535 : Math.max(1e-12, 1e-6 * Math.abs(mean));

/**
 * Mean and standard deviation of every band over every measured pixel of a split, values over `fullScale`.
 * @throws DataError where no pixel was measured, or a tile cannot be used.
 */
export async function measure(source: TileSource, bands: number, type: TileType): Promise<ChannelStatistics> {
  const sum = new Float64Array(bands);
  const square = new Float64Array(bands);
  let pixels = 0;
  let scale = 1;
  for (let index = 0; index < source.length; index++) {
    const { image, valid } = await source.read(index);
    scale = fullScale(image);
    // Whole numbers of 8 bits sum up exactly, whatever the number of pixels: no loss in the difference of squares.
    for (let i = 0, p = 0; i < image.length; p++) {
      if (valid && valid[p] === 0) {
        i += bands;
        continue;
      }
      pixels++;
      for (let band = 0; band < bands; band++, i++) {
        const value = image[i]!;
        sum[band]! += value;
        square[band]! += value * value;
      }
    }
  }
  if (pixels === 0) throw new DataError(source.name, "no pixel of any tile was measured: all are no-data");
  const mean = Array.from(sum, (s) => s / pixels);
  const std = Array.from(square, (s, b) => Math.sqrt(Math.max(0, s / pixels - mean[b]! ** 2)) / scale);
  return {
    mean: mean.map((m) => m / scale),
    std: std.map((s, b) => Math.max(s, leastDeviation(type, mean[b]! / scale))),
  };
}

/**
 * The statistics that `kind` means for a data set; reads only training images.
 * @throws DataError for `imagenet` on anything but 8-bit RGB, and as `measure`.
 */
export async function statisticsOf(dataset: Dataset, kind: Normalisation): Promise<DomainStatistics> {
  const { bands, type } = dataset;
  if (kind === "imagenet") {
    if (bands !== 3 || type !== "u8") {
      throw new DataError(
        dataset.name,
        `normalise: imagenet is for 8-bit RGB, these images have ${bands} bands, ${type}`,
      );
    }
    return { source: IMAGENET, target: IMAGENET };
  }
  const of = (domain: Domain) => measure(dataset.split(domain, "train"), bands, type);
  const source = await of("source");
  return { source, target: kind === "source" ? source : await of("target") };
}
