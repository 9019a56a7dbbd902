export {
  asppRates,
  type Backbone,
  backbones,
  DeepLabV3Plus,
  type DeepLabV3PlusOptions,
  type DeepLabVariant,
  deepLabVariants,
  type Features,
} from "./deeplab_v3_plus.js";
export {
  adaptSegNetDiscriminator,
  adversarialSchedule,
  type ConvolutionalDiscriminatorOptions,
  DomainDiscriminator,
  type DomainDiscriminatorOptions,
  type GlobalDiscriminatorOptions,
} from "./domain_discriminator.js";
export { exportOnnx, type OnnxOptions } from "./onnx.js";
export { type Precision, precisions } from "./precision.js";
export { type Tap, tap, tapChannels, taps } from "./tap.js";
