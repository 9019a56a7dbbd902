import { ArgumentError } from "../errors.js";
import type { Generator } from "../random.js";
import type { TileSource } from "./dataset.js";
import { makeSample, type Sample, type SampleOptions } from "./sample.js";
import { type Choice, type ClassTable, choose } from "./sampling.js";

export interface LoaderOptions extends SampleOptions {
  /** Crops in a batch. */
  readonly batch: number;
}

/** A batch in host memory. */
export interface Batch {
  readonly images: Float32Array; // [batch, crop, crop, bands], normalised
  readonly labels: Uint32Array; // [batch, crop, crop]; the ignore index throughout where there are no labels
}

/** Makes crops somewhere else: a pool of threads. */
export interface SampleMaker {
  /** Crop number `n`, of the tile that was chosen. */
  make(n: number, choice: Choice): Promise<Sample>;
}

/**
 * Endless batches of augmented crops. Every epoch is a new permutation of the tiles, and a batch may span two epochs;
 * with a class table tiles are drawn by class instead. Each sample's chance is a stream of its own, named by its number:
 * the position (samples handed out) is therefore the whole state, and the n-th batch is the same however one got there,
 * and whoever made it. The next batch is made while the caller works on this one.
 */
export class BatchLoader {
  #drawn = 0;
  #epoch = -1;
  #order: number[] = [];
  /** The batch from this position on, in the making. */
  #ahead: { readonly from: number; readonly batch: Promise<Batch> } | null = null;

  /**
   * @param generator only forked, never drawn from.
   * @param table Choose tiles by class; null: every one once an epoch.
   * @param maker Default: this thread, whenever it waits for something else.
   */
  constructor(
    readonly source: TileSource,
    readonly options: LoaderOptions,
    private readonly generator: Generator,
    private readonly table: ClassTable | null = null,
    private readonly maker: SampleMaker | null = null,
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

  /** Where sample number `n` comes from. */
  choiceOf(n: number): Choice {
    if (this.table) return choose(this.table, this.generator.fork(`choice ${n}`));
    const epoch = Math.floor(n / this.source.length);
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#order = [...Array(this.source.length).keys()];
      this.generator.fork(`epoch ${epoch}`).shuffle(this.#order);
    }
    return { tile: this.#order[n % this.source.length]!, shows: null };
  }

  /** @throws DataError where a tile cannot be used. The position moves on only when the whole batch is there. */
  async next(): Promise<Batch> {
    const from = this.#drawn;
    const ahead = this.#ahead?.from === from ? this.#ahead.batch : this.#make(from);
    this.#ahead = null;
    const batch = await ahead;
    this.#drawn = from + this.options.batch;
    const next = this.#make(this.#drawn);
    next.catch(() => {}); // thrown where it is awaited, if it ever is
    this.#ahead = { from: this.#drawn, batch: next };
    return batch;
  }

  async #make(from: number): Promise<Batch> {
    const { batch, crop, statistics } = this.options;
    const images = new Float32Array(batch * crop * crop * statistics.mean.length);
    const labels = new Uint32Array(batch * crop * crop);
    const put = (sample: Sample, slot: number) => {
      images.set(sample.images, slot * sample.images.length);
      labels.set(sample.labels, slot * sample.labels.length);
    };
    const { maker } = this;
    if (maker) {
      const made = Array.from({ length: batch }, (_, slot) => maker.make(from + slot, this.choiceOf(from + slot)));
      (await Promise.all(made)).forEach(put);
      return { images, labels };
    }
    for (let slot = 0; slot < batch; slot++) {
      await new Promise(setImmediate); // when the thread waits: what the caller does with the last batch goes first
      const n = from + slot;
      put(await makeSample(this.source, this.choiceOf(n), this.options, this.generator.fork(`sample ${n}`)), slot);
    }
    return { images, labels };
  }
}
