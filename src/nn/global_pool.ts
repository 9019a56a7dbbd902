import { globalAvgPool } from "../ops/index.js";
import type { Tensor } from "../tensor.js";
import { Layer } from "./module.js";

/** Mean over space: `[n, h, w, c]` to `[n, 1, 1, c]`. */
export class GlobalAvgPool extends Layer {
  override forward(x: Tensor): Tensor {
    return globalAvgPool(x);
  }
}
