import type { TileSource } from "../data/dataset.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { Generator } from "../random.js";
import { dispose, scope, Tensor, withoutScope } from "../tensor.js";
import { adaptBatchNorm, type PredictOptions } from "./evaluate.js";

/** The running statistics of a model on other tiles (AdaBN), kept beside its own. */
export class AdaptedStatistics implements Disposable {
  /** By the names of the model's buffers. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** After which step they were measured; null before the first time. */
  step: number | null = null;
  readonly #model: DeepLabV3Plus;

  constructor(model: DeepLabV3Plus) {
    this.#model = model;
    this.tensors = withoutScope(
      () => new Map([...model.buffers()].map(([name, t]) => [name, Tensor.zeros(t.device, t.shape)])),
    );
  }

  /**
   * Measures them with the weights that the model has now; the model, its own statistics and its chance stay as they are.
   * @throws as `adaptBatchNorm`, and what `options.signal` says.
   */
  async measure(step: number, tiles: TileSource, options: PredictOptions): Promise<void> {
    const model = this.#model;
    const { generator } = model;
    this.step = null;
    this.swap();
    // Dropout draws while statistics are measured: not from what training will draw from.
    model.generator = new Generator(generator.seed).fork(`AdaBN after step ${step}`);
    try {
      await adaptBatchNorm(model, tiles, options);
    } finally {
      model.generator = generator;
      this.swap();
    }
    this.step = step;
  }

  /** Exchanges them and the model's own: before an evaluation, and again after it. */
  swap(): void {
    scope(() => {
      for (const [name, own] of this.#model.buffers()) {
        const adapted = this.tensors.get(name)!;
        const { device } = own;
        const kept = Tensor.uninitialised(device, own.spec);
        device.copy(own.view, kept.view);
        device.copy(adapted.view, own.view);
        device.copy(kept.view, adapted.view);
      }
    });
  }

  dispose(): void {
    dispose(this.tensors);
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
