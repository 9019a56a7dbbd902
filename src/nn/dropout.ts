import { dropout } from "../ops/index.js";
import type { Generator } from "../random.js";
import type { Tensor } from "../tensor.js";
import { Layer } from "./module.js";

/** Zeroes a share `rate` of the elements while training and scales the rest by 1 / (1 - rate); else the identity. */
export class Dropout extends Layer {
  constructor(
    readonly rate: number,
    /** Gives the random numbers, which a training step advances: those of the model, which saves and restores them. */
    readonly generator: () => Generator,
  ) {
    super();
  }
  override forward(x: Tensor): Tensor {
    return this.training ? dropout(x, this.rate, this.generator()) : x;
  }
}
