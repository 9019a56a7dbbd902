import type { Dataset, Domain, TileSource } from "./dataset.js";

/** What is taken from each channel and what it is divided by, for values in [0, 1]. */
export interface ChannelStatistics {
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/**
 * - `imagenet`: the fixed statistics that pre-trained backbones expect.
 * - `source`: those of `source/train`, for both domains.
 * - `domain`: each domain's own: takes out a colour cast that sensors or haze put on one city.
 */
export type Normalisation = "imagenet" | "source" | "domain";

/** The statistics in use, by domain. Saved with a model: it is worth nothing without them. */
export type DomainStatistics = Readonly<Record<Domain, ChannelStatistics>>;

/** torchvision's constants. */
export const IMAGENET: ChannelStatistics = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Below this a channel is constant and dividing by its deviation would only amplify noise. */
const MIN_STD = 1 / 255;

/** Mean and standard deviation of every channel over every pixel of a split, values in [0, 1]. */
export async function measure(source: TileSource): Promise<ChannelStatistics> {
  const sum = [0, 0, 0];
  const square = [0, 0, 0];
  let pixels = 0;
  for (let index = 0; index < source.length; index++) {
    const { image } = await source.read(index);
    // Whole numbers below 2^53: exact whatever the number of pixels, so no loss in the difference of squares.
    for (let i = 0; i < image.length; i++) {
      const value = image[i]!;
      sum[i % 3]! += value;
      square[i % 3]! += value * value;
    }
    pixels += image.length / 3;
  }
  const mean = sum.map((s) => s / pixels);
  const std = square.map((s, c) => Math.sqrt(Math.max(0, s / pixels - mean[c]! ** 2)));
  const triple = (v: number[]): [number, number, number] => [v[0]!, v[1]!, v[2]!];
  return { mean: triple(mean.map((m) => m / 255)), std: triple(std.map((s) => Math.max(s / 255, MIN_STD))) };
}

/** The statistics that `kind` means for a data set; reads only training images. */
export async function statisticsOf(dataset: Dataset, kind: Normalisation): Promise<DomainStatistics> {
  if (kind === "imagenet") return { source: IMAGENET, target: IMAGENET };
  const source = await measure(dataset.split("source", "train"));
  return { source, target: kind === "source" ? source : await measure(dataset.split("target", "train")) };
}
