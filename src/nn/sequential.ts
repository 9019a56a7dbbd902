import { scope, type Tensor } from "../tensor.js";
import { ReLU } from "./activation.js";
import { BatchNorm } from "./batch_norm.js";
import { Conv2d } from "./conv.js";
import { convBatchNorm } from "./fold_batch_norm.js";
import { Layer } from "./module.js";

/**
 * Layers one after the other, named 0, 1, …; what lies between them is freed at the end. A ReLU right after a batch
 * normalisation is computed with it, and the two are part of the convolution before them while `foldBatchNorms` holds.
 */
export class Sequential extends Layer {
  readonly layers: readonly Layer[];
  /** The layers, and in the place of a sequence its own: a normalisation may follow a convolution at the end of one. */
  readonly #steps: readonly Layer[];

  constructor(...layers: Layer[]) {
    super();
    this.layers = layers;
    this.#steps = layers.flatMap((layer) =>
      layer.constructor === Sequential ? (layer as Sequential).#steps : [layer],
    );
  }

  protected override fields(): Iterable<readonly [string, unknown]> {
    return Object.entries(this.layers);
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      let y = x;
      // The classes themselves: a subclass may compute something else.
      const is = (i: number, kind: typeof Conv2d | typeof BatchNorm | typeof ReLU) =>
        this.#steps[i]?.constructor === kind;
      for (let i = 0; i < this.#steps.length; i++) {
        const conv = is(i, Conv2d) && is(i + 1, BatchNorm) ? (this.#steps[i++] as Conv2d) : null;
        const layer = this.#steps[i]!;
        if (!is(i, BatchNorm)) {
          y = layer.forward(y);
          continue;
        }
        const after = { relu: is(i + 1, ReLU) };
        y = conv ? convBatchNorm(conv, layer as BatchNorm, y, after) : (layer as BatchNorm).forward(y, after);
        if (after.relu) i++;
      }
      return y;
    });
  }
}
