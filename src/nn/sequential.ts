import { scope, type Tensor } from "../tensor.js";
import { ReLU } from "./activation.js";
import { BatchNorm } from "./batch_norm.js";
import { Layer } from "./module.js";

/**
 * Layers one after the other, named 0, 1, …; what lies between them is freed at the end. A ReLU right after a batch
 * normalisation is computed with it.
 */
export class Sequential extends Layer {
  readonly layers: readonly Layer[];

  constructor(...layers: Layer[]) {
    super();
    this.layers = layers;
  }

  protected override fields(): Iterable<readonly [string, unknown]> {
    return Object.entries(this.layers);
  }

  override forward(x: Tensor): Tensor {
    return scope(() => {
      let y = x;
      for (let i = 0; i < this.layers.length; i++) {
        const [layer, next] = [this.layers[i]!, this.layers[i + 1]];
        // The classes themselves: a subclass may compute something else.
        if (layer.constructor === BatchNorm && next?.constructor === ReLU) {
          y = (layer as BatchNorm).forward(y, { relu: true });
          i++;
        } else y = layer.forward(y);
      }
      return y;
    });
  }
}
