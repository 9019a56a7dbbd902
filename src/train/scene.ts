import { placeInto } from "../data/augment.js";
import type { Tile } from "../data/dataset.js";
import { toTile } from "../data/image.js";
import type { ChannelStatistics } from "../data/normalise.js";
import type { Raster } from "../data/raster/raster.js";
import { ArgumentError } from "../errors.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { softmax } from "../ops/index.js";
import { scope, Tensor } from "../tensor.js";
import { evaluating, roundUp } from "./evaluate.js";

export interface SceneOptions {
  /** Of the images' domain. */
  readonly statistics: ChannelStatistics;
  /** Side of a window, pixels: a multiple of 16. */
  readonly window: number;
  /** Share of a window that its neighbour covers, too: 0 … 0.9. */
  readonly overlap: number;
  /** Windows that go through the network together. */
  readonly batch: number;
  /** Rows above this one are not wanted; default 0. */
  readonly from?: number;
  readonly signal?: AbortSignal;
  /** Called after every batch. */
  readonly onProgress?: (windows: number, total: number) => void;
}

/** Rows of a scene, finished. */
export interface SceneRows {
  readonly y: number;
  readonly rows: number;
  /** Probabilities, which sum to 1. */
  readonly probabilities: Float32Array; // [rows, width, classes]
  /** 0 where nothing was measured. */
  readonly valid: Uint8Array; // [rows, width]
}

/**
 * Class probabilities of a scene of any size, from windows that overlap and are blended by a Gaussian (σ = window / 8,
 * 0.001 at least, as MONAI's sliding window inference does), so that no seam shows where they meet. Memory holds the rows
 * of one row of windows. The rows come in order, and their bits do not depend on `from`.
 * @throws ArgumentError for options out of range; DataError where the scene is damaged; the signal's reason.
 */
export async function* predictScene(
  model: DeepLabV3Plus,
  raster: Raster,
  options: SceneOptions,
): AsyncGenerator<SceneRows> {
  const { window, overlap, batch, from = 0, signal } = options;
  if (!Number.isInteger(window) || window < 16 || window % 16 !== 0) {
    throw new ArgumentError("predictScene", `window must be a multiple of 16, not ${window}`);
  }
  if (!(overlap >= 0 && overlap <= 0.9)) {
    throw new ArgumentError("predictScene", `overlap must be from 0 to 0.9, not ${overlap}`);
  }
  using _ = evaluating(model);
  const { width, height } = raster.info;
  const { classes } = model;
  const [tall, wide] = [Math.min(window, height), Math.min(window, width)];
  const stride = Math.max(1, Math.round(window * (1 - overlap)));
  const [ys, xs] = [starts(height, tall, stride), starts(width, wide, stride)];
  const rows = ys.filter((y) => y + tall > from);
  const importance = { y: gaussian(tall), x: gaussian(wide) };

  const blend = new Blend(width, tall, classes, rows[0] ?? 0);
  let done = 0;
  let ahead = readBatch(raster, rows[0]!, xs.slice(0, batch), tall, wide);
  for (const [r, y] of rows.entries()) {
    for (let first = 0; first < xs.length; first += batch) {
      signal?.throwIfAborted();
      const tiles = await ahead;
      // The next windows are read while the device computes.
      const more = first + batch < xs.length;
      const next = more ? y : rows[r + 1];
      const columns = more ? xs.slice(first + batch, first + 2 * batch) : xs.slice(0, batch);
      if (next !== undefined) {
        ahead = readBatch(raster, next, columns, tall, wide);
        ahead.catch(() => {}); // thrown where it is awaited
      }
      const probabilities = await probabilitiesOf(model, tiles, options.statistics);
      tiles.forEach((tile, i) => {
        blend.add(tile, probabilities, i, y, xs[first + i]!, importance);
      });
      done += tiles.length;
      options.onProgress?.(done, rows.length * xs.length);
    }
    const end = rows[r + 1] ?? height;
    const finished = blend.take(end);
    const hidden = Math.max(0, Math.min(from - finished.y, finished.rows));
    if (hidden < finished.rows) {
      yield {
        y: finished.y + hidden,
        rows: finished.rows - hidden,
        probabilities: finished.probabilities.subarray(hidden * width * classes),
        valid: finished.valid.subarray(hidden * width),
      };
    }
  }
}

/** Where windows start along an axis; the last is moved back to the edge. */
function starts(size: number, window: number, stride: number): number[] {
  const out: number[] = [];
  for (let at = 0; at + window < size; at += stride) out.push(at);
  out.push(size - window);
  return out;
}

/** Importance along one axis. */
function gaussian(size: number): Float32Array {
  const [centre, sigma] = [(size - 1) / 2, size / 8];
  return Float32Array.from({ length: size }, (_, i) => Math.exp(-0.5 * ((i - centre) / sigma) ** 2));
}
/** Least importance of a pixel: corners count for little, but for something. */
const LEAST = 1e-3;

function readBatch(raster: Raster, y: number, xs: readonly number[], height: number, width: number): Promise<Tile[]> {
  return Promise.all(
    xs.map(async (x): Promise<Tile> => {
      const samples = await raster.readWindow({ x, y, width, height });
      return { name: raster.info.file, ...toTile(raster.info, samples, height, width), label: null };
    }),
  );
}

/** `[n, height, width, classes]`, padded to what every variant takes. */
async function probabilitiesOf(
  model: DeepLabV3Plus,
  tiles: readonly Tile[],
  statistics: ChannelStatistics,
): Promise<{ data: ArrayLike<number>; height: number; width: number }> {
  const { height: tall, width: wide, bands } = tiles[0]!;
  const [height, width] = [roundUp(tall), roundUp(wide)];
  const images = new Float32Array(tiles.length * height * width * bands);
  tiles.forEach((tile, slot) => {
    placeInto(tile, height, width, statistics, images, slot);
  });
  const device = [...model.parameters().values()][0]!.device;
  const out = scope(() => softmax(model.forward(Tensor.from(device, images, [tiles.length, height, width, bands]))));
  const data = await out.data();
  out.dispose();
  return { data, height, width };
}

/** Sums of weighted probabilities, and of the weights, for the rows that windows still touch. */
class Blend {
  /** First row that is held. */
  #y: number;
  readonly #sums: Float32Array; // [tall, width, classes]
  readonly #weights: Float32Array; // [tall, width]
  readonly #valid: Uint8Array; // [tall, width]

  constructor(
    readonly width: number,
    readonly tall: number,
    readonly classes: number,
    y: number,
  ) {
    this.#y = y;
    this.#sums = new Float32Array(tall * width * classes);
    this.#weights = new Float32Array(tall * width);
    this.#valid = new Uint8Array(tall * width);
  }

  /** Adds window `slot` of a batch, whose top left pixel is at (`y`, `x`) of the scene. */
  add(
    tile: Tile,
    batch: { data: ArrayLike<number>; height: number; width: number },
    slot: number,
    y: number,
    x: number,
    importance: { readonly y: Float32Array; readonly x: Float32Array },
  ): void {
    const { classes } = this;
    for (let row = 0; row < tile.height; row++) {
      for (let column = 0; column < tile.width; column++) {
        const weight = Math.max(LEAST, importance.y[row]! * importance.x[column]!);
        const from = ((slot * batch.height + row) * batch.width + column) * classes;
        const pixel = (y - this.#y + row) * this.width + x + column;
        for (let c = 0; c < classes; c++) {
          const to = pixel * classes + c;
          this.#sums[to] = this.#sums[to]! + weight * batch.data[from + c]!;
        }
        this.#weights[pixel] = this.#weights[pixel]! + weight;
        this.#valid[pixel] = tile.valid ? tile.valid[row * tile.width + column]! : 1;
      }
    }
  }

  /** Hands out the rows above `end`, to which no more will be added, and makes room for as many below. */
  take(end: number): SceneRows {
    const { width, classes } = this;
    const rows = end - this.#y;
    const pixels = rows * width;
    const probabilities = this.#sums.slice(0, pixels * classes);
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < classes; c++) probabilities[p * classes + c]! /= this.#weights[p]!;
    }
    const valid = this.#valid.slice(0, pixels);
    for (const [array, size] of [
      [this.#sums, pixels * classes],
      [this.#weights, pixels],
      [this.#valid, pixels],
    ] as const) {
      array.copyWithin(0, size);
      array.fill(0, array.length - size);
    }
    const y = this.#y;
    this.#y = end;
    return { y, rows, probabilities, valid };
  }
}
