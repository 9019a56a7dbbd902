import { access } from "node:fs/promises";
import { join } from "node:path";
import type { PretrainedReport } from "../checkpoint/index.js";
import type { Dataset } from "../data/dataset.js";
import type { DomainStatistics } from "../data/normalise.js";
import type { Device } from "../device.js";
import { LacunaError } from "../errors.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { BEST, CHECKPOINT, EMPTY_MEMORY, type Memory, resumeRun, saveRun } from "./checkpoint.js";
import { type PartialConfig, resolveConfig, type TrainConfig } from "./config.js";
import { checkEvaluation, evaluateSession, scoreOf } from "./evaluation.js";
import { type EvaluationRecord, type History, withStep } from "./history.js";
import { RunFolder } from "./run_folder.js";
import { Session, type StepRecord } from "./session.js";
import { observe, type Warning } from "./warnings.js";

export { evaluateDomains } from "./evaluation.js";

export interface TrainOptions {
  readonly device: Device;
  readonly dataset: Dataset;
  /**
   * Where checkpoints, metrics and event files go. An unfinished run that is there already is continued, with the same
   * bits as if it had never stopped.
   */
  readonly folder?: string;
  /** Threads that decode tiles and cut crops; default 0: this one. What is computed does not depend on it. */
  readonly workers?: number;
  /**
   * Before the first step of this process: the configuration is accepted and the folder is ours. `step`: those taken;
   * `pretrained`: what was taken of the weights that a new run starts from.
   */
  readonly onStart?: (step: number, pretrained: PretrainedReport | null) => Promise<void>;
  readonly onStep?: (record: StepRecord) => void;
  /** `isBest`: by what `select` says, so far. */
  readonly onEvaluation?: (record: EvaluationRecord, isBest: boolean) => void;
  readonly onWarning?: (warning: Warning) => void;
  /** Stops after the step in progress; a run with a folder leaves a complete checkpoint. */
  readonly signal?: AbortSignal;
}

/** What training gives. Dispose of it, or let `using` do so. */
export interface TrainResult extends Disposable {
  readonly config: TrainConfig;
  /**
   * In evaluation mode; its weights are the moving average where the configuration keeps one, its running statistics
   * those adapted to the target where it says so and the run is finished.
   */
  readonly model: DeepLabV3Plus;
  readonly statistics: DomainStatistics;
  /** Steps taken. */
  readonly step: number;
  /** False where `signal` stopped the run before its last step. */
  readonly finished: boolean;
  readonly history: History;
}

/** A loss became infinite or no number: the learning rate is too high, or the data is broken. Weights are worth nothing. */
export class DivergedError extends LacunaError {
  constructor(readonly record: StepRecord) {
    super(`the loss is ${record.total} at step ${record.step}: training diverged`);
  }
}

/**
 * Trains a DeepLabV3+ on the labels of the source and, as the mode says, on unlabelled tiles of the target: adversarially,
 * a discriminator behind a gradient reversal makes the features of both indistinguishable (Ganin & Lempitsky 2015); by
 * self-training, a teacher labels the target (Tarvainen & Valpola 2017).
 * @throws ConfigError for a configuration that is not one; DataError; CheckpointError where the folder's checkpoint
 * cannot be used or written, or another process trains in the folder; DivergedError; DeviceError.
 */
export async function train(config: PartialConfig, options: TrainOptions): Promise<TrainResult> {
  const resolved = resolveConfig(config);
  checkEvaluation(resolved, options.dataset);
  const folder = options.folder === undefined ? null : await RunFolder.open(options.folder);
  try {
    return await trainIn(folder, resolved, options);
  } finally {
    await folder?.close();
  }
}

async function trainIn(folder: RunFolder | null, config: TrainConfig, options: TrainOptions): Promise<TrainResult> {
  const { device, dataset, workers } = options;
  const file = folder && join(folder.path, CHECKPOINT);
  const { session, memory: before } =
    file !== null && (await exists(file))
      ? await resumeRun(file, device, config, dataset, workers)
      : { session: await Session.start(device, config, dataset, undefined, workers), memory: EMPTY_MEMORY };
  try {
    await options.onStart?.(session.step, session.pretrained);
    await folder?.begin(session.step);
    const { history } = await run(folder, session, before, options);
    session.asEvaluated(); // for good
    session.model.eval();
    return {
      config,
      model: session.model,
      statistics: session.statistics,
      step: session.step,
      finished: session.step >= config.steps,
      history,
      [Symbol.dispose]: () => session.dispose(),
    };
  } catch (error) {
    session.dispose();
    throw error;
  }
}

/** Steps, evaluations and checkpoints up to the end, or until the signal. */
async function run(
  folder: RunFolder | null,
  session: Session,
  before: Memory,
  { signal, onStep, onEvaluation, onWarning }: TrainOptions,
): Promise<Memory> {
  const { steps, evaluateEvery, checkpointEvery } = session.config;
  const due = (every: number) => every > 0 && session.step > 0 && session.step % every === 0;
  let memory = before;
  /** What the last checkpoint remembers. */
  let saved = before;
  let adaptedBefore = session.adapted?.step;
  const save = async () => {
    if (!folder) return;
    folder.sync(); // what a checkpoint counts as done must be written
    await saveRun(join(folder.path, CHECKPOINT), session, memory);
    saved = memory;
    adaptedBefore = session.adapted?.step;
  };
  for (;;) {
    const { evaluations } = memory.history;
    if (due(evaluateEvery) && evaluations.at(-1)?.step !== session.step && !signal?.aborted) {
      const started = performance.now();
      const record = await evaluateSession(session, signal);
      if (record) {
        memory = withEvaluation(memory, record, session.config, (performance.now() - started) / 1000);
        folder?.evaluation(record);
        const isBest = memory.history.best?.step === session.step;
        if (folder && isBest) await saveRun(join(folder.path, BEST), session, memory, "model");
        onEvaluation?.(record, isBest);
      }
    }
    if (session.step >= steps || signal?.aborted) break;
    if (due(checkpointEvery) && saved !== memory) await save();
    const record = await session.advance();
    folder?.step(record);
    if (!Number.isFinite(record.total)) throw new DivergedError(record);
    const { state: warnings, said } = observe(memory.warnings, record, session.losses.learned);
    memory = { history: withStep(memory.history, record, steps), warnings };
    onStep?.(record);
    for (const warning of said) {
      folder?.warning(warning);
      onWarning?.(warning);
    }
  }
  if (session.step >= steps) {
    try {
      await session.measureAdapted(signal);
    } catch (error) {
      if (!signal?.aborted) throw error; // the same command measures them
    }
  }
  if (saved !== memory || adaptedBefore !== session.adapted?.step) await save();
  return memory;
}

function withEvaluation(memory: Memory, record: EvaluationRecord, { select }: TrainConfig, seconds: number): Memory {
  const { history } = memory;
  const score = scoreOf(record, select);
  const better = score !== null && Number.isFinite(score) && (history.best === null || score > history.best.score);
  return {
    ...memory,
    history: {
      ...history,
      evaluations: [...history.evaluations, record],
      best: better ? { step: record.step, score } : history.best,
      seconds: history.seconds + seconds,
    },
  };
}

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );
