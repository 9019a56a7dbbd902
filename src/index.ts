// The public names of the core, and nothing else. `lacuna/checkpoint`, `lacuna/data` and `lacuna/train` hold the rest.
export { differentiate } from "./autograd.js";
export type { BackendName, BackendStats } from "./backends/backend.js";
export type { WebGPUOptions } from "./backends/webgpu/index.js";
export { type CapturedStep, capture } from "./capture.js";
export { backendNames, type Device, type DeviceReport, devices, open } from "./device.js";
export * from "./errors.js";
export * from "./losses.js";
export {
  BoundaryCounts,
  type BoundaryCountsJSON,
  type BoundaryOptions,
  type BoundaryScores,
  type ClassBoundaryScores,
} from "./metrics/boundary.js";
export {
  type ClassScores,
  ConfusionMatrix,
  type ConfusionMatrixJSON,
  type ConfusionMatrixOptions,
  type Scores,
  type ScoresOptions,
} from "./metrics.js";
export * from "./models/index.js";
export { MultiLoss, type MultiLossOptions } from "./multi_loss.js";
export * as nn from "./nn/index.js";
export * from "./ops/index.js";
export * from "./optim/index.js";
export { Generator, type GeneratorState } from "./random.js";
export { eachStep, type Live } from "./recording.js";
export type { DType, Shape, Spec, TensorData } from "./shape.js";
export { dispose, scope, Tensor, withoutScope } from "./tensor.js";
