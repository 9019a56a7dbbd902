import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Dataset, Domain } from "../data/dataset.js";
import type { DomainStatistics } from "../data/normalise.js";
import type { Device } from "../device.js";
import { LacunaError } from "../errors.js";
import type { ConfusionMatrix } from "../metrics.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { CHECKPOINT, resumeRun, saveRun } from "./checkpoint.js";
import { type PartialConfig, resolveConfig, type TrainConfig } from "./config.js";
import { evaluate } from "./evaluate.js";
import { EMPTY_HISTORY, type EvaluationRecord, type History, withStep } from "./history.js";
import { Session, type StepRecord } from "./session.js";

export interface TrainOptions {
  readonly device: Device;
  readonly dataset: Dataset;
  /** Where checkpoints go. An unfinished run that is there already is continued, with the same bits as if it had never stopped. */
  readonly folder?: string;
  readonly onStep?: (record: StepRecord) => void;
  readonly onEvaluation?: (record: EvaluationRecord) => void;
  /** Stops after the step in progress; a run with a folder leaves a complete checkpoint. */
  readonly signal?: AbortSignal;
}

/** What training gives. Dispose of it, or let `using` do so. */
export interface TrainResult extends Disposable {
  readonly config: TrainConfig;
  /** In evaluation mode; its weights are the moving average where the configuration keeps one. */
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
 * Trains a DeepLabV3+ on the labels of the source, and in mode `adversarial` also on unlabelled tiles of the target,
 * whose features a discriminator behind a gradient reversal makes indistinguishable (Ganin & Lempitsky 2015).
 * @throws ConfigError for a configuration that is not one; DataError; CheckpointError where the folder's checkpoint
 * cannot be used or written; DivergedError; DeviceError.
 */
export async function train(config: PartialConfig, options: TrainOptions): Promise<TrainResult> {
  const resolved = resolveConfig(config);
  const { device, dataset, folder, signal } = options;
  const file = folder === undefined ? null : join(folder, CHECKPOINT);
  if (folder !== undefined) await mkdir(folder, { recursive: true });
  const { session, history: before } =
    file !== null && (await exists(file))
      ? await resumeRun(file, device, resolved, dataset)
      : { session: await Session.start(device, resolved, dataset), history: EMPTY_HISTORY };
  try {
    const history = await run(session, before, file, options);
    session.ema?.swap();
    session.model.eval();
    return {
      config: resolved,
      model: session.model,
      statistics: session.statistics,
      step: session.step,
      finished: session.step >= resolved.steps,
      history,
      [Symbol.dispose]: () => session.dispose(),
    };
  } catch (error) {
    session.dispose();
    throw error;
  }

  async function run(session: Session, start: History, file: string | null, options: TrainOptions): Promise<History> {
    const { steps, evaluateEvery, checkpointEvery } = resolved;
    const due = (every: number) => every > 0 && session.step > 0 && session.step % every === 0;
    let history = start;
    let saved = session.step;
    for (;;) {
      if (due(evaluateEvery) && history.evaluations.at(-1)?.step !== session.step && !signal?.aborted) {
        const { record, seconds } = await evaluateSession(session, signal);
        if (record) {
          history = { ...history, evaluations: [...history.evaluations, record], seconds: history.seconds + seconds };
          options.onEvaluation?.(record);
        }
      }
      if (session.step >= steps || signal?.aborted) break;
      const record = await session.advance();
      if (!Number.isFinite(record.total)) throw new DivergedError(record);
      history = withStep(history, record, steps);
      options.onStep?.(record);
      if (file !== null && due(checkpointEvery) && session.step < steps) {
        await saveRun(file, session, history);
        saved = session.step;
      }
    }
    if (file !== null && (saved !== session.step || history !== start)) await saveRun(file, session, history);
    return history;
  }
}

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

/** Mean IoU on both val splits, with the averaged weights where there are any; no record where `signal` cut it short. */
async function evaluateSession(
  session: Session,
  signal: AbortSignal | undefined,
): Promise<{ record: EvaluationRecord | null; seconds: number }> {
  const started = performance.now();
  session.ema?.swap();
  try {
    const { source, target } = await evaluateDomains(session.model, session.dataset, session.statistics, signal);
    const record = {
      step: session.step,
      sourceMeanIoU: source?.scores().meanIoU ?? null,
      targetMeanIoU: target?.scores().meanIoU ?? null,
    };
    return { record, seconds: (performance.now() - started) / 1000 };
  } catch (error) {
    if (signal?.aborted) return { record: null, seconds: 0 };
    throw error;
  } finally {
    session.ema?.swap();
  }
}

/** Confusion matrices on the val splits of both domains; null where the data set lacks one. */
export async function evaluateDomains(
  model: DeepLabV3Plus,
  dataset: Dataset,
  statistics: DomainStatistics,
  signal?: AbortSignal,
): Promise<Record<Domain, ConfusionMatrix | null>> {
  const on = async (domain: Domain) => {
    if (!dataset.has(domain, "val")) return null;
    const tiles = dataset.split(domain, "val");
    return evaluate(model, dataset, tiles, { statistics: statistics[domain], ...(signal && { signal }) });
  };
  return { source: await on("source"), target: await on("target") };
}
