import { type Dataset, proceduralDataset } from "../../src/data/index.js";
import type { PartialConfig } from "../../src/train/index.js";

/** A network and tiles small enough for float64 loops. */
export const tiny: PartialConfig = {
  steps: 4,
  crop: 16,
  batch: { source: 2, target: 2 },
  normalise: "source",
  model: { width: 0.125, imagePooling: "group" },
  discriminator: { width: 4, strides: [1] },
};
export const tinyCities = (): Dataset => proceduralDataset({ size: 20, train: 3, val: 2, seed: 3 });
