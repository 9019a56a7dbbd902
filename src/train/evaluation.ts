import type { Dataset, Domain, TileSource } from "../data/dataset.js";
import type { ChannelStatistics, DomainStatistics } from "../data/normalise.js";
import { ConfigError } from "../errors.js";
import type { ConfusionMatrix } from "../metrics.js";
import type { DeepLabV3Plus } from "../models/index.js";
import { foldBatchNorms } from "../nn/index.js";
import { softmax } from "../ops/index.js";
import { Generator } from "../random.js";
import { scope } from "../tensor.js";
import type { Selection, TrainConfig } from "./config.js";
import { batches, evaluate, evaluating, type PredictOptions, upload } from "./evaluate.js";
import type { EvaluationRecord } from "./history.js";
import type { Session } from "./session.js";
import { Validator, type ValidatorScores } from "./validators.js";

/** Tiles that validators look at, at most, evenly spread over the split. */
const VALIDATED_TILES = 256;
/** Pixels that the soft neighbourhood density compares with each other, at most. */
const SAMPLED_PIXELS = 2048;

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

/** What needs no labels of the target is measured on target/val, or on target/train where there is none. */
function unlabelled(dataset: Dataset): TileSource | null {
  const split = (["val", "train"] as const).find((name) => dataset.has("target", name));
  return split ? dataset.split("target", split) : null;
}

/**
 * Entropy, information maximisation and soft neighbourhood density of a model's class probabilities over tiles without
 * their labels: at most 256 tiles, evenly spread; the density over a random sample of at most 2048 measured pixels, an
 * equal number of each tile, the same at every call.
 */
export async function validate(
  model: DeepLabV3Plus,
  tiles: TileSource,
  { statistics, batch = 8, signal }: PredictOptions,
): Promise<ValidatorScores | null> {
  const used = Math.min(tiles.length, VALIDATED_TILES);
  const some: TileSource = {
    name: tiles.name,
    length: used,
    read: (index) => tiles.read(Math.floor(((index + 0.5) * tiles.length) / used)),
  };
  const validator = new Validator(model.classes);
  const chance = new Generator(0);
  const samples = Math.ceil(SAMPLED_PIXELS / used);
  let seen = 0;
  using _mode = evaluating(model);
  using _folded = foldBatchNorms(model);
  for await (const group of batches(some, batch)) {
    signal?.throwIfAborted();
    const probabilities = scope(() => softmax(model.forward(upload(model, group, statistics)))); // [n, h, w, classes]
    const data = await probabilities.data();
    const [, height, width] = probabilities.shape as [number, number, number];
    probabilities.dispose();
    group.forEach((tile, slot) => {
      const pixels = tile.height * tile.width;
      const drawn = chance.fork(`tile ${seen++}`).uniform(samples);
      const sampled = new Set(Array.from(drawn, (u) => Math.floor(u * pixels)));
      for (let pixel = 0; pixel < pixels; pixel++) {
        if (tile.valid && tile.valid[pixel] === 0) continue;
        const y = Math.floor(pixel / tile.width);
        validator.add(data, (slot * height + y) * width + (pixel - y * tile.width), sampled.has(pixel));
      }
    });
  }
  return validator.scores();
}

/** Larger is better; null where it was not measured. */
export function scoreOf(
  { sourceMeanIoU, targetMeanIoU, validators }: EvaluationRecord,
  select: Selection,
): number | null {
  switch (select) {
    case "source":
      return sourceMeanIoU;
    case "oracle":
      return targetMeanIoU;
    case "entropy":
      return validators && -validators.entropy;
    case "im":
    case "snd":
      return validators?.[select] ?? null;
  }
}

/** @throws ConfigError where a configuration asks for evaluations that the data set has no tiles for. */
export function checkEvaluation({ select, adaBN, evaluateEvery }: TrainConfig, dataset: Dataset): void {
  if (adaBN && !dataset.has("target", "train")) {
    throw new ConfigError("adaBN", "adapts to target/train, which the data set lacks");
  }
  if (evaluateEvery === 0) return;
  const needed = select === "source" ? "source/val" : select === "oracle" ? "target/val" : "target/val or target/train";
  const has =
    select === "source"
      ? dataset.has("source", "val")
      : select === "oracle"
        ? dataset.has("target", "val")
        : unlabelled(dataset);
  if (!has) throw new ConfigError("select", `${select} is measured on ${needed}, which the data set lacks`);
}

/**
 * Mean IoU on both val splits and what needs no labels, with the averaged weights and adapted statistics where the
 * configuration has those.
 * @returns null where `signal` cut it short.
 */
export async function evaluateSession(session: Session, signal?: AbortSignal): Promise<EvaluationRecord | null> {
  const { model, dataset, statistics, step } = session;
  const options = (of: ChannelStatistics) => ({ statistics: of, ...(signal && { signal }) });
  try {
    await session.measureAdapted(signal);
    using _ = session.asEvaluated();
    const { source, target } = await evaluateDomains(model, dataset, statistics, signal);
    const tiles = unlabelled(dataset);
    return {
      step,
      sourceMeanIoU: source?.scores().meanIoU ?? null,
      targetMeanIoU: target?.scores().meanIoU ?? null,
      validators: tiles && (await validate(model, tiles, options(statistics.target))),
    };
  } catch (error) {
    if (signal?.aborted) return null;
    throw error;
  }
}
