export * from "./avg_pool2d.js";
export * from "./batch_norm.js";
export { type BinaryCrossEntropyOptions, binaryCrossEntropy } from "./binary_cross_entropy.js";
export * from "./cast.js";
export * from "./concat.js";
export { type Conv2dOptions, conv2d } from "./conv2d.js";
export { type CrossEntropyOptions, crossEntropy } from "./cross_entropy.js";
export * from "./dropout.js";
export {
  add,
  addScalar,
  clamp,
  div,
  exp,
  leakyRelu,
  log,
  mul,
  neg,
  pow,
  relu,
  scale,
  sigmoid,
  softplus,
  sqrt,
  sub,
  tanh,
} from "./elementwise.js";
export * from "./group_norm.js";
export { type MatmulOptions, matmul } from "./matmul.js";
export * from "./max_pool2d.js";
export * from "./one_hot.js";
export * from "./pad.js";
export * from "./random.js";
export * from "./reduce.js";
export * from "./reshape.js";
export * from "./resize_bilinear.js";
export * from "./resize_nearest.js";
export * from "./reverse_gradient.js";
export * from "./slice.js";
export * from "./softmax.js";
export * from "./transpose.js";
export { type TverskyOptions, tversky } from "./tversky.js";
export { watchGradient } from "./watch_gradient.js";
