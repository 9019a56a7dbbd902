import { access } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type PretrainedReport, writeAtomic } from "../checkpoint/index.js";
import type { Dataset } from "../data/dataset.js";
import type { Device } from "../device.js";
import { BEST, CHECKPOINT, loadTrained } from "../train/checkpoint.js";
import type { TrainConfig } from "../train/config.js";
import { evaluateDomains } from "../train/evaluation.js";
import type { EvaluationRecord } from "../train/history.js";
import { writeRunReport } from "../train/run_report.js";
import { type SeedScores, type SeedsReport, seedsMarkdown, seedsRow } from "../train/seeds.js";
import { type TrainResult, train } from "../train/train.js";
import { type Surroundings, writeConfigFile } from "./config_file.js";
import { environment } from "./environment.js";
import type { Interrupt } from "./interrupt.js";
import { formatTime, type Progress } from "./progress.js";

/** What the runs of one command share. */
export interface Runs {
  readonly device: Device;
  readonly dataset: Dataset;
  /** Threads that make crops. */
  readonly workers: number;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
  /** Put into config.yaml beside the configuration and the run's own `out`. */
  readonly surroundings: Surroundings;
  /** As it was typed. */
  readonly command: string;
}

/** Trains in `folder` and writes config.yaml, report.html and report.json there. @returns the exit code. */
export async function trainOnce(runs: Runs, config: TrainConfig, folder: string): Promise<number> {
  const { interrupt, progress } = runs;
  using result = await trainLogged(runs, config, folder, config.mode);
  if (interrupt.code !== null) return stopped(runs, result);
  if (!(await reported(runs, result, folder))) return interrupt.code ?? 0;
  const { best } = result.history;
  if (best) progress.say(`${BEST}: the model after step ${best.step}, best by ${config.select}`);
  progress.say(`${formatTime(result.history.seconds)} of training; report: ${join(folder, "report.html")}`);
  return interrupt.code ?? 0;
}

/**
 * Trains every seed into a folder of its own, `seed-N`, one after the other, and writes seeds.json and seeds.md: mean
 * and deviation of the last checkpoints' scores. Seeds that are finished are only scored.
 * @returns the exit code.
 */
export async function trainSeeds(
  runs: Runs,
  config: TrainConfig,
  folder: string,
  seeds: readonly number[],
): Promise<number> {
  const { interrupt, progress, dataset, device } = runs;
  const plain: SeedScores[] = [];
  const adapted: SeedScores[] = [];
  for (const seed of seeds) {
    const place = join(folder, `seed-${seed}`);
    progress.restart();
    let steps = 0;
    const label = `seed ${seed}, ${config.mode}`;
    using result = await trainLogged(runs, { ...config, seed }, place, label, () => steps++);
    if (interrupt.code !== null) return stopped(runs, result);
    try {
      if (steps === 0 && (await exists(join(place, "report.json")))) progress.say(`seed ${seed}: finished before`);
      else if (!(await reported(runs, result, place))) return interrupt.code ?? 0;
      const score = (model: TrainResult["model"]) =>
        evaluateDomains(model, dataset, result.statistics, interrupt.signal);
      (config.adaBN ? adapted : plain).push(await score(result.model));
      if (config.adaBN) {
        using unadapted = await loadTrained(join(place, CHECKPOINT), device, { adapted: false });
        plain.push(await score(unadapted.model));
      }
    } catch (error) {
      if (interrupt.code !== null) return interrupt.code; // all is saved; the same command scores
      throw error;
    }
  }
  const report: SeedsReport = {
    seeds,
    classes: dataset.classes,
    rows: [
      seedsRow(config.mode, dataset.classes, plain),
      ...(config.adaBN ? [seedsRow(`${config.mode} + AdaBN`, dataset.classes, adapted)] : []),
    ],
  };
  const text = seedsMarkdown(report);
  await writeAtomic(join(folder, "seeds.json"), `${JSON.stringify(report, null, 2)}\n`);
  await writeAtomic(join(folder, "seeds.md"), text);
  for (const line of text.trimEnd().split("\n")) progress.say(line);
  return interrupt.code ?? 0;
}

/** Trains with everything that is to be seen of it, and config.yaml in the folder before the first step. */
function trainLogged(
  { device, dataset, workers, progress, interrupt, surroundings, command }: Runs,
  config: TrainConfig,
  folder: string,
  label: string,
  onStep: () => void = () => {},
): Promise<TrainResult> {
  const { signal } = interrupt;
  const around = { ...surroundings, out: resolve(folder) };
  const remark = `Written by lacuna train: this run with every entry. Typed was:\n  ${command}`;
  return train(config, {
    device,
    dataset,
    workers,
    folder,
    signal,
    async onStart(step, pretrained) {
      if (pretrained) progress.say(describePretrained(config.model.pretrained ?? "", pretrained));
      const file = join(folder, "config.yaml");
      // Of a run that goes on it says how it was started.
      if (step === 0 || !(await exists(file))) await writeAtomic(file, writeConfigFile(config, around, [remark]));
    },
    onStep: (record) => {
      onStep();
      progress.step(label, record, config.steps);
    },
    onEvaluation: (record, isBest) => progress.say(describeEvaluation(record, isBest)),
    onWarning: ({ step, message, began }) => progress.say(`step ${step}: ${began ? "warning: " : ""}${message}`),
  });
}

function stopped({ interrupt, progress }: Runs, { step, config }: TrainResult): number {
  progress.say(`stopped at step ${step} of ${config.steps}; the same command continues the run`);
  return interrupt.code ?? 0;
}

/** Writes the report of a run and says its scores. @returns false where a signal cut it short: nothing is written then. */
async function reported(runs: Runs, result: TrainResult, folder: string): Promise<boolean> {
  const { dataset, device, interrupt, progress } = runs;
  let report: Awaited<ReturnType<typeof writeRunReport>>;
  try {
    report = await writeRunReport(result, dataset, device, {
      signal: interrupt.signal,
      command: runs.command,
      environment: environment(),
    });
  } catch (error) {
    if (interrupt.code !== null) return false; // the checkpoint is complete; the same command reports
    throw error;
  }
  await writeAtomic(join(folder, "report.html"), report.html);
  await writeAtomic(join(folder, "report.json"), `${JSON.stringify(report.json, null, 2)}\n`);
  for (const line of report.summary) progress.say(line);
  return true;
}

/** `weights.safetensors (names of smp): encoder taken, decoder taken, segmentation_head unfit, 1 array of the file unused` */
function describePretrained(file: string, { source, parts, adaptedFrom, extra }: PretrainedReport): string {
  const bands = adaptedFrom === null ? "" : `, first convolution adapted from ${adaptedFrom} bands`;
  const unused = extra.length === 0 ? "" : `, ${extra.length} array${extra.length > 1 ? "s" : ""} of the file unused`;
  return `${file} (names of ${source}): ${parts.map(({ part, state }) => `${part} ${state}`).join(", ")}${bands}${unused}`;
}

/** `step 200: mean IoU source 61.2, target 34.5; entropy 0.213, im 0.402, snd 6.81 (best so far)` */
function describeEvaluation(record: EvaluationRecord, isBest: boolean): string {
  const { step, sourceMeanIoU, targetMeanIoU, validators } = record;
  const percent = (value: number | null) => (value === null ? "–" : (100 * value).toFixed(1));
  const unlabelled = validators
    ? `; entropy ${validators.entropy.toFixed(3)}, im ${validators.im.toFixed(3)}, snd ${validators.snd.toFixed(3)}`
    : "";
  const iou = `mean IoU source ${percent(sourceMeanIoU)}, target ${percent(targetMeanIoU)}`;
  return `step ${step}: ${iou}${unlabelled}${isBest ? " (best so far)" : ""}`;
}

const exists = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );
