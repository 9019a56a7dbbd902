export { BEST, CHECKPOINT, loadTrained, type RunState, readRunState, type TrainedModel } from "./checkpoint.js";
export {
  DEFAULT_CONFIG,
  type LossName,
  type Mode,
  type PartialConfig,
  resolveConfig,
  type Selection,
  type TrainConfig,
} from "./config.js";
export { adaptBatchNorm, evaluate, type PredictOptions, predict } from "./evaluate.js";
export type { Best, EvaluationRecord, History } from "./history.js";
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
export { METRICS, type MetricsLine } from "./run_folder.js";
export { type RunReport, writeRunReport } from "./run_report.js";
export type { StepRecord } from "./session.js";
export { DivergedError, evaluateDomains, type TrainOptions, type TrainResult, train } from "./train.js";
export { SND_TEMPERATURE, softNeighbourhoodDensity, Validator, type ValidatorScores } from "./validators.js";
export type { Warning, WarningName } from "./warnings.js";
