import { ArgumentError } from "../errors.js";
import { logSoftmax, mul, scale, softmax } from "../ops/index.js";
import { scope, type Tensor } from "../tensor.js";
import type { DeepLabV3Plus, Features } from "./deeplab_v3_plus.js";

export const taps = ["encoder", "aspp", "decoder", "softmax", "entropy"] as const;
/** Where a discriminator looks: at features, at class probabilities, or at their entropy. */
export type Tap = (typeof taps)[number];

/**
 * What the discriminator sees: a feature map as it is; "softmax", the probabilities of `[n, h, w, classes]` (AdaptSegNet);
 * "entropy", the weighted self-information -p log₂ p / log₂ classes (ADVENT, Vu et al. 2019, equation 6).
 * @throws ArgumentError for "softmax" and "entropy" of a single class, which say nothing.
 */
export function tap(features: Features, at: Tap): Tensor {
  switch (at) {
    case "encoder":
    case "aspp":
    case "decoder":
      return features[at];
    case "softmax":
      classesOf(features, at);
      return softmax(features.logits);
    case "entropy": {
      const classes = classesOf(features, at);
      return scope(() => {
        const information = mul(softmax(features.logits), logSoftmax(features.logits));
        return scale(information, -1 / Math.log(classes));
      });
    }
  }
}

/** Channels of `tap(model.features(x), at)`: a discriminator's `inChannels`. */
export const tapChannels = (model: DeepLabV3Plus, at: Tap): number =>
  at === "softmax" || at === "entropy" ? model.classes : model.channels[at];

function classesOf({ logits }: Features, at: Tap): number {
  const classes = logits.shape.at(-1)!;
  if (classes < 2) throw new ArgumentError("tap", `"${at}" needs two classes or more`, { logits: logits.spec });
  return classes;
}
