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
export type { BarChart } from "./report/bars.js";
export type { Chart, Series } from "./report/chart.js";
export type { ConfusionTable } from "./report/confusion.js";
export { classColour, type Picture, type PictureGrid, paintDifference, paintLabels } from "./report/pictures.js";
export { type Report, renderReport } from "./report.js";
export { METRICS, type MetricsLine } from "./run_folder.js";
export { type RunReport, writeRunReport } from "./run_report.js";
export type { StepRecord } from "./session.js";
export { countSplit, type SplitCounts } from "./split_counts.js";
export { csvTable, latexTable, markdownTable, type Table, textTable } from "./tables.js";
export { DivergedError, evaluateDomains, type TrainOptions, type TrainResult, train } from "./train.js";
export { IDENTITY, probabilities, type View, type ViewOptions, viewsOf } from "./tta.js";
export { SND_TEMPERATURE, softNeighbourhoodDensity, Validator, type ValidatorScores } from "./validators.js";
export type { Warning, WarningName } from "./warnings.js";
