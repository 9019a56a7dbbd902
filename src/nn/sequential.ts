import { scope, type Tensor } from "../tensor.js";
import { Layer } from "./module.js";

/** Layers one after the other, named 0, 1, …; what lies between them is freed at the end. */
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
    return scope(() => this.layers.reduce((value, layer) => layer.forward(value), x));
  }
}
