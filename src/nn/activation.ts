import { clamp, leakyRelu, relu } from "../ops/index.js";
import type { Tensor } from "../tensor.js";
import { Layer } from "./module.js";

/** max(x, 0). */
export class ReLU extends Layer {
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** min(max(x, 0), 6), as MobileNet has it. */
export class ReLU6 extends Layer {
  override forward(x: Tensor): Tensor {
    return clamp(x, 0, 6);
  }
}

/** x where positive, `slope` x elsewhere. */
export class LeakyReLU extends Layer {
  constructor(readonly slope: number) {
    super();
  }
  override forward(x: Tensor): Tensor {
    return leakyRelu(x, this.slope);
  }
}
