import { ArgumentError } from "../errors.js";
import type { Generator } from "../random.js";
import { type AugmentOptions, cropInto } from "./augment.js";
import type { TileSource } from "./dataset.js";
import type { ChannelStatistics } from "./normalise.js";

export interface LoaderOptions {
  /** Crops in a batch. */
  readonly batch: number;
  /** Height and width of a crop, pixels. */
  readonly crop: number;
  readonly augment: AugmentOptions;
  readonly statistics: ChannelStatistics;
  readonly ignoreIndex: number;
}

/** A batch in host memory. */
export interface Batch {
  readonly images: Float32Array; // [batch, crop, crop, bands], normalised
  readonly labels: Uint32Array; // [batch, crop, crop]; the ignore index throughout where there are no labels
}

/**
 * Endless batches of augmented crops. Every epoch is a new permutation of the tiles, and a batch may span two epochs. Each sample's
 * chance is a stream of its own, named by its number: the position (samples handed out) is therefore the whole state, and
 * the n-th batch is the same however one got there.
 */
export class BatchLoader {
  #drawn = 0;
  #epoch = -1;
  #order: number[] = [];

  /** @param generator only forked, never drawn from. */
  constructor(
    readonly source: TileSource,
    readonly options: LoaderOptions,
    private readonly generator: Generator,
  ) {
    const { batch, crop } = options;
    if (!Number.isInteger(batch) || batch < 1)
      throw new ArgumentError("BatchLoader", `batch must be 1 or more, not ${batch}`);
    if (!Number.isInteger(crop) || crop < 1)
      throw new ArgumentError("BatchLoader", `crop must be 1 or more, not ${crop}`);
    if (source.length === 0) throw new ArgumentError("BatchLoader", `${source.name} holds no tiles`);
  }

  /** Samples handed out so far: all that a checkpoint needs. */
  get position(): number {
    return this.#drawn;
  }
  set position(samples: number) {
    this.#drawn = samples;
  }

  /** Index of the tile that sample number `n` comes from. */
  indexOf(n: number): number {
    const epoch = Math.floor(n / this.source.length);
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#order = [...Array(this.source.length).keys()];
      this.generator.fork(`epoch ${epoch}`).shuffle(this.#order);
    }
    return this.#order[n % this.source.length]!;
  }

  /** @throws DataError where a tile cannot be used. The position moves on only when the whole batch is there. */
  async next(): Promise<Batch> {
    const { batch, crop, augment, statistics, ignoreIndex } = this.options;
    const images = new Float32Array(batch * crop * crop * statistics.mean.length);
    const labels = new Uint32Array(batch * crop * crop);
    for (let slot = 0; slot < batch; slot++) {
      const n = this.#drawn + slot;
      const tile = await this.source.read(this.indexOf(n));
      const chance = this.generator.fork(`sample ${n}`);
      cropInto(tile, crop, augment, statistics, ignoreIndex, chance, { images, labels, slot });
    }
    this.#drawn += batch;
    return { images, labels };
  }
}
