import { ShapeError } from "../errors.js";
import { add, cast, matmul, reshape } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";
import { type Initialiser, torchDefault } from "./initialise.js";
import { Layer } from "./module.js";
import { Parameter } from "./parameter.js";

/** y = x Wᵀ + b on the last axis: `[..., inFeatures]` to `[..., outFeatures]`; W is `[outFeatures, inFeatures]`. */
export class Linear extends Layer {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    initial: Initialiser = torchDefault,
  ) {
    super();
    const shape = [outFeatures, inFeatures];
    const fans = { fanIn: inFeatures, fanOut: outFeatures };
    this.weight = new Parameter(shape, (generator) => initial(shape, generator, fans));
    this.bias = new Parameter([outFeatures], (generator) => torchDefault([outFeatures], generator, fans));
  }

  /** @throws ShapeError where the last axis is not `inFeatures` long. */
  override forward(x: Tensor): Tensor {
    if (x.shape.at(-1) !== this.inFeatures) {
      throw new ShapeError("Linear", `the last axis must have ${this.inFeatures} elements`, { x: x.spec });
    }
    return scope(() => {
      const rows = reshape(x, [x.size / this.inFeatures, this.inFeatures]);
      const [weight, bias] = [cast(this.weight.tensor, x.dtype), cast(this.bias.tensor, x.dtype)];
      const y = add(matmul(rows, weight, { transposeB: true }), bias);
      return reshape(y, [...x.shape.slice(0, -1), this.outFeatures]);
    });
  }
}
