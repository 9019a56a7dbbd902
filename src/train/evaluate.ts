import { placeInto } from "../data/augment.js";
import type { Dataset, Tile, TileSource } from "../data/dataset.js";
import type { ChannelStatistics } from "../data/normalise.js";
import { ArgumentError, DataError } from "../errors.js";
import { ConfusionMatrix } from "../metrics.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { BatchNorm, foldBatchNorms } from "../nn/index.js";
import { argmax } from "../ops/index.js";
import { scope, Tensor } from "../tensor.js";

/** Tiles are padded to multiples of this: every variant and output stride takes such sizes. */
const MULTIPLE = 16;

export interface PredictOptions {
  /** What the model's images are normalised by: those of the tiles' domain. */
  readonly statistics: ChannelStatistics;
  /** Tiles of one size in one batch; default 8. */
  readonly batch?: number;
  readonly signal?: AbortSignal;
}

const roundUp = (size: number): number => Math.ceil(size / MULTIPLE) * MULTIPLE;

/** Tiles of a split in batches of one padded size. */
async function* batches(tiles: TileSource, size: number): AsyncGenerator<Tile[]> {
  let batch: Tile[] = [];
  const sameSize = (a: Tile, b: Tile) =>
    roundUp(a.height) === roundUp(b.height) && roundUp(a.width) === roundUp(b.width);
  for (let index = 0; index < tiles.length; index++) {
    const tile = await tiles.read(index);
    if (batch.length === size || (batch.length > 0 && !sameSize(batch[0]!, tile))) {
      yield batch;
      batch = [];
    }
    batch.push(tile);
  }
  if (batch.length > 0) yield batch;
}

/** Images [n, h, w, bands] of tiles of one padded size. */
function upload(model: DeepLabV3Plus, tiles: readonly Tile[], statistics: ChannelStatistics): Tensor {
  const [height, width] = [roundUp(tiles[0]!.height), roundUp(tiles[0]!.width)];
  const data = new Float32Array(tiles.length * height * width * model.inChannels);
  tiles.forEach((tile, slot) => {
    placeInto(tile, height, width, statistics, data, slot);
  });
  const device = [...model.parameters().values()][0]!.device;
  return Tensor.from(device, data, [tiles.length, height, width, model.inChannels]);
}

/** Puts the model into evaluation until it is disposed, and then back to where it was. */
function evaluating(model: DeepLabV3Plus): Disposable {
  const wasTraining = model.training;
  model.eval();
  return {
    [Symbol.dispose]() {
      if (wasTraining) model.train();
    },
  };
}

/**
 * The most likely class of every pixel, in one pass over each whole tile.
 * @returns one array `[height, width]` a tile, of class indices.
 */
export async function predict(
  model: DeepLabV3Plus,
  tiles: readonly Tile[],
  statistics: ChannelStatistics,
): Promise<Uint8Array[]> {
  const classes = scope(() => {
    using _ = evaluating(model);
    return argmax(model.forward(upload(model, tiles, statistics))); // [n, height, width], u32
  });
  const data = await classes.data();
  const [, height, width] = classes.shape as [number, number, number];
  classes.dispose();
  return tiles.map((tile, slot) => {
    const out = new Uint8Array(tile.height * tile.width);
    for (let y = 0; y < tile.height; y++) {
      const row = (slot * height + y) * width;
      out.set(data.subarray(row, row + tile.width), y * tile.width);
    }
    return out;
  });
}

/**
 * Counts predictions against labels over a whole split, with batch normalisation folded into the convolutions.
 * @throws DataError where a tile has no labels or cannot be read.
 */
export async function evaluate(
  model: DeepLabV3Plus,
  dataset: Dataset,
  tiles: TileSource,
  { statistics, batch = 8, signal }: PredictOptions,
): Promise<ConfusionMatrix> {
  const confusion = new ConfusionMatrix(dataset.classes.length, { ignoreIndex: dataset.ignoreIndex });
  using _mode = evaluating(model);
  using _folded = foldBatchNorms(model);
  for await (const some of batches(tiles, batch)) {
    signal?.throwIfAborted();
    const predictions = await predict(model, some, statistics);
    some.forEach((tile, i) => {
      if (!tile.label) throw new DataError(tile.name, "has no labels to compare with");
      confusion.add(predictions[i]!, tile.label);
    });
  }
  return confusion;
}

/**
 * AdaBN (Li et al. 2016): replaces the running statistics of every batch normalisation by those of the given tiles,
 * which need no labels; weights stay. Each statistic is the mean over the batches, all of which weigh the same.
 * @throws ArgumentError for a model without batch normalisation.
 */
export async function adaptBatchNorm(
  model: DeepLabV3Plus,
  tiles: TileSource,
  { statistics, batch = 8, signal }: PredictOptions,
): Promise<void> {
  const layers = [...model.modules().values()].filter((module) => module instanceof BatchNorm);
  if (layers.length === 0) throw new ArgumentError("adaptBatchNorm", "the model has no batch normalisation");
  const momenta = layers.map((layer) => layer.momentum);
  const wasTraining = model.training;
  try {
    let seen = 0;
    for await (const some of batches(tiles, batch)) {
      signal?.throwIfAborted();
      // A rest of one tile has no statistics where the image pooling is normalised over the batch.
      if (seen > 0 && batch > 1 && some.length === 1) continue;
      seen++;
      for (const layer of layers) layer.momentum = 1 / seen; // the first batch replaces what was there
      model.train();
      scope(() => {
        model.forward(upload(model, some, statistics));
      });
      model.eval();
    }
  } finally {
    layers.forEach((layer, i) => {
      layer.momentum = momenta[i]!;
    });
    if (wasTraining) model.train();
    else model.eval();
  }
}
