import { ArgumentError } from "../errors.js";
import { conv2d, type Conv2dOptions as OpOptions } from "../ops/index.js";
import type { Tensor } from "../tensor.js";
import { type Initialiser, torchDefault } from "./initialise.js";
import { Layer } from "./module.js";
import { Parameter } from "./parameter.js";

export interface Conv2dOptions {
  /** Default 1. */
  readonly stride?: number;
  /** Zeros added on every side; default: half the dilated kernel, so that stride 1 keeps the size (odd kernels). */
  readonly padding?: number;
  /** Default 1. */
  readonly dilation?: number;
  /** Default 1; `inChannels` makes it depthwise. */
  readonly groups?: number;
  /** First values of the bias, or null for none (the default: a normalisation follows). */
  readonly bias?: Initialiser | null;
  /** Default: PyTorch's. */
  readonly initial?: Initialiser;
}

/** Convolution of `[n, h, w, inChannels]`; the weight is `[outChannels, kernel, kernel, inChannels / groups]`. */
export class Conv2d extends Layer {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly stride: number;
  readonly padding: number;
  readonly dilation: number;
  readonly groups: number;

  /** @throws ArgumentError where `groups` does not divide both channel counts. */
  constructor(inChannels: number, outChannels: number, kernel: number, options: Conv2dOptions = {}) {
    super();
    const { stride = 1, dilation = 1, groups = 1, bias = null, initial = torchDefault } = options;
    if (inChannels % groups !== 0 || outChannels % groups !== 0) {
      throw new ArgumentError("Conv2d", `${groups} groups do not divide ${inChannels} and ${outChannels} channels`);
    }
    this.stride = stride;
    this.dilation = dilation;
    this.groups = groups;
    this.padding = options.padding ?? Math.floor((dilation * (kernel - 1)) / 2);
    const shape = [outChannels, kernel, kernel, inChannels / groups];
    // Both fans count one group: a depthwise kernel meets k² inputs and k² outputs however many channels there are.
    const area = kernel * kernel;
    const fans = { fanIn: (area * inChannels) / groups, fanOut: (area * outChannels) / groups };
    this.weight = new Parameter(shape, (generator) => initial(shape, generator, fans));
    this.bias = bias && new Parameter([outChannels], (generator) => bias([outChannels], generator, fans));
  }

  /** Those of the op's options that say which pixels and channels meet. */
  get geometry(): Required<Pick<OpOptions, "stride" | "padding" | "dilation" | "groups">> {
    const { stride, padding, dilation, groups } = this;
    return { stride, padding, dilation, groups };
  }

  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight.tensor, { ...this.geometry, ...(this.bias && { bias: this.bias.tensor }) });
  }
}
