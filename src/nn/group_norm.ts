import { ArgumentError } from "../errors.js";
import { groupNorm } from "../ops/index.js";
import type { Tensor } from "../tensor.js";
import { Layer } from "./module.js";
import { Parameter } from "./parameter.js";

/** Normalises groups of channels of each image of `[n, h, w, channels]` by themselves, at any batch size. Wu and He 2018. */
export class GroupNorm extends Layer {
  readonly weight: Parameter;
  readonly bias: Parameter;

  /** @throws ArgumentError where `groups` does not divide `channels`. */
  constructor(
    channels: number,
    readonly groups: number,
    readonly eps = 1e-5,
  ) {
    super();
    if (channels % groups !== 0) {
      throw new ArgumentError("GroupNorm", `${groups} groups do not divide ${channels} channels`);
    }
    const filled = (value: number) => () => new Float32Array(channels).fill(value);
    this.weight = new Parameter([channels], filled(1));
    this.bias = new Parameter([channels], filled(0));
  }

  override forward(x: Tensor): Tensor {
    return groupNorm(x, this.weight.tensor, this.bias.tensor, { groups: this.groups, eps: this.eps });
  }
}
