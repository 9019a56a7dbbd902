export { CHECKPOINT, loadTrained, type RunState, readRunState, type TrainedModel } from "./checkpoint.js";
export {
  DEFAULT_CONFIG,
  type LossName,
  type Mode,
  type PartialConfig,
  resolveConfig,
  type TrainConfig,
} from "./config.js";
export { adaptBatchNorm, evaluate, type PredictOptions, predict } from "./evaluate.js";
export type { EvaluationRecord, History } from "./history.js";
export {
  type Chart,
  type ConfusionTable,
  classColour,
  type Picture,
  type PictureGrid,
  paintLabels,
  type Report,
  renderReport,
  type Series,
  type Table,
} from "./report.js";
export { type RunReport, writeRunReport } from "./run_report.js";
export type { StepRecord } from "./session.js";
export { DivergedError, evaluateDomains, type TrainOptions, type TrainResult, train } from "./train.js";
