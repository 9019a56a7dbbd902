export { Adam, type AdamOptions, AdamW } from "./adam.js";
export { EMA } from "./ema.js";
export { type GroupOptions, parameterGroups } from "./groups.js";
export { Optimizer, type OptimizerState, type ParameterGroup, type StepOptions } from "./optimizer.js";
export { constant, cosine, ganin, poly, type Schedule, warmUp } from "./schedules.js";
export { SGD, type SGDOptions } from "./sgd.js";
