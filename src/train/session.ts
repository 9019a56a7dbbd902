import { differentiate } from "../autograd.js";
import { type CapturedStep, capture } from "../capture.js";
import { cached, type Dataset, type Domain } from "../data/dataset.js";
import { BatchLoader } from "../data/loader.js";
import { type DomainStatistics, statisticsOf } from "../data/normalise.js";
import type { Device } from "../device.js";
import { ConfigError } from "../errors.js";
import { binaryCrossEntropy, crossEntropy, tversky } from "../losses.js";
import {
  adversarialSchedule,
  DeepLabV3Plus,
  DomainDiscriminator,
  type Features,
  tap,
  tapChannels,
} from "../models/index.js";
import { MultiLoss } from "../multi_loss.js";
import { add, clamp, concat, mean, reshape, reverseGradient, scale, slice, stopGradient } from "../ops/index.js";
import {
  Adam,
  AdamW,
  constant,
  cosine,
  EMA,
  ganin,
  type Optimizer,
  type ParameterGroup,
  parameterGroups,
  poly,
  type Schedule,
  SGD,
  warmUp,
} from "../optim/index.js";
import { Generator } from "../random.js";
import { dispose, scope, Tensor, withoutScope } from "../tensor.js";
import type { LossName, TrainConfig } from "./config.js";

/** What one step measured. Losses are those before the step's update. */
export interface StepRecord {
  /** Steps taken, this one included: from 1. */
  readonly step: number;
  /** The weighted sum that was differentiated. */
  readonly total: number;
  readonly losses: Readonly<Partial<Record<LossName, number>>>;
  /** Factors on the losses in the sum. */
  readonly weights: Readonly<Partial<Record<LossName, number>>>;
  /** Of the gradient reversal; 0 without discriminator. */
  readonly lambda: number;
  /** Learning rate of the backbone. */
  readonly lr: number;
  /** Share of the discriminator's verdicts that are right; null without discriminator. */
  readonly discriminatorAccuracy: Readonly<Record<Domain, number>> | null;
  /** L2 norm of all gradients before clipping; null where nothing is clipped. */
  readonly gradientNorm: number | null;
  readonly secondsPerStep: number;
}

/** Everything that changes while training, and how one step changes it. */
export class Session implements Disposable {
  readonly model: DeepLabV3Plus;
  readonly discriminator: DomainDiscriminator | null;
  readonly losses: MultiLoss<LossName>;
  readonly optimiser: Optimizer;
  readonly ema: EMA | null;
  readonly source: BatchLoader;
  readonly target: BatchLoader | null;
  /** Steps taken. */
  step = 0;
  readonly #schedule: Schedule;
  readonly #names: readonly LossName[];
  /** What the step at hand reads: its batch, and the numbers of the schedules. */
  #inputs: Inputs | null = null;
  #lambda = 0;
  #lrScale = 1;
  #warm = false;
  #captured: CapturedStep<Tensor> | null = null;

  private constructor(
    readonly device: Device,
    readonly config: TrainConfig,
    readonly dataset: Dataset,
    readonly statistics: DomainStatistics,
  ) {
    const adversarial = config.mode === "adversarial";
    const all: readonly LossName[] = adversarial ? ["crossEntropy", "tversky", "domain"] : ["crossEntropy", "tversky"];
    this.#names = all.filter((name) => config.losses.fixed[name] !== 0);
    if (!this.#names.some((name) => name !== "domain")) {
      throw new ConfigError("losses.fixed", "leaves out both crossEntropy and tversky: nothing would be learned");
    }
    const { classWeights } = config.losses.crossEntropy;
    if (classWeights && classWeights.length !== dataset.classes.length) {
      const has = `${classWeights.length} weights for ${dataset.classes.length} classes`;
      throw new ConfigError("losses.crossEntropy.classWeights", has);
    }
    const chance = new Generator(config.seed);
    this.model = buildModel(device, config, dataset.classes.length, dataset.bands);
    this.discriminator = this.#names.includes("domain") ? buildDiscriminator(device, config, this.model) : null;
    this.losses = buildLosses(device, config, this.#names);
    this.optimiser = buildOptimiser(config, this.model, this.discriminator, this.losses);
    this.ema = config.ema === null ? null : new EMA(this.optimiser, config.ema);
    this.#schedule = buildSchedule(config);
    const loader = (domain: Domain) =>
      new BatchLoader(
        cached(dataset.split(domain, "train")),
        {
          batch: config.batch[domain],
          crop: config.crop,
          augment: config.augment,
          statistics: statistics[domain],
          ignoreIndex: dataset.ignoreIndex,
        },
        chance.fork(`${domain} tiles`),
      );
    this.source = loader("source");
    this.target = this.discriminator ? loader("target") : null;
  }

  /**
   * @param statistics of a checkpoint; else they are measured.
   * @throws ConfigError, ArgumentError for a configuration that this data set or the model cannot take; DataError.
   */
  static async start(
    device: Device,
    config: TrainConfig,
    dataset: Dataset,
    statistics?: DomainStatistics,
  ): Promise<Session> {
    return new Session(device, config, dataset, statistics ?? (await statisticsOf(dataset, config.normalise)));
  }

  /** One update of everything. @throws DataError where a tile cannot be used; DeviceError. */
  async advance(): Promise<StepRecord> {
    const started = performance.now();
    const { config, dataset, device, optimiser } = this;
    this.#lambda = this.discriminator
      ? config.discriminator.lambda * adversarialSchedule(this.step / config.steps, config.discriminator.gamma)
      : 0;
    this.#lrScale = this.#schedule(this.step);
    const source = await this.source.next();
    const target = this.target ? await this.target.next() : null;
    this.#inputs ??= makeInputs(device, config, dataset.bands, this.target !== null);
    this.#inputs.x.assign(source.images);
    this.#inputs.y.assign(source.labels);
    if (target) this.#inputs.t!.assign(target.images);
    const measured = this.#take();
    const numbers = await measured.data(); // the step's one wait for results
    if (!this.#captured) measured.dispose();
    const gradientNorm = config.optim.clipNorm === null ? null : await optimiser.gradientNorm();
    this.step++;
    const count = this.#names.length;
    const named = (from: number) => Object.fromEntries(this.#names.map((name, i) => [name, numbers[from + i]!]));
    const [sourceAsTarget, targetAsTarget] = numbers.subarray(1 + 2 * count);
    return {
      step: this.step,
      total: numbers[0]!,
      losses: named(1),
      weights: named(1 + count),
      lambda: this.#lambda,
      lr: config.optim.lr * this.#lrScale,
      discriminatorAccuracy: this.discriminator ? { source: 1 - sourceAsTarget!, target: targetAsTarget! } : null,
      gradientNorm,
      secondsPerStep: (performance.now() - started) / 1000,
    };
  }

  /**
   * Forward, backward, update. The first time as it is, which loads kernels; then from a graph where the device has those.
   */
  #take(): Tensor {
    if (!this.device.graphs || !this.#warm) {
      this.#warm = true;
      return scope(() => this.#update());
    }
    if (this.#captured) this.#captured.replay();
    else this.#captured = capture(this.device, () => this.#update());
    return this.#captured.values;
  }

  #update(): Tensor {
    const { config, optimiser } = this;
    const { values, gradients } = differentiate(optimiser.parameters, () => this.#loss(this.#inputs!));
    optimiser.step(gradients, {
      lrScale: () => this.#lrScale,
      ...(config.optim.clipNorm !== null && { clipNorm: config.optim.clipNorm }),
    });
    this.ema?.update(() => this.step);
    return values.measured;
  }

  /** Total loss, and what is to be read of the step: total, losses, their weights, shares of verdicts "target". */
  #loss({ x, y, t }: Inputs): { loss: Tensor; measured: Tensor } {
    const { config, dataset, model, discriminator } = this;
    const { logits, verdicts } = this.#forward(x, t);
    const ignoreIndex = dataset.ignoreIndex;
    const { classWeights, labelSmoothing } = config.losses.crossEntropy;
    const compute: Record<LossName, () => Tensor> = {
      crossEntropy: () =>
        crossEntropy(logits, y, { ignoreIndex, labelSmoothing, ...(classWeights && { classWeights }) }),
      tversky: () => tversky(logits, y, { ignoreIndex, ...config.losses.tversky }),
      domain: () => {
        if (!verdicts) throw new Error(`${model.backbone}: a domain loss without discriminator`);
        return scale(add(binaryCrossEntropy(verdicts.source, 0), binaryCrossEntropy(verdicts.target, 1)), 0.5);
      },
    };
    const losses: { [K in LossName]?: Tensor } = {};
    for (const name of this.#names) losses[name] = compute[name]();
    const { total, weights } = this.losses.combine(losses);
    const parts = [total, ...this.#names.map((name) => losses[name]!), ...this.#names.map((name) => weights[name]!)];
    // A steep ramp is the step function but for logits within 1e-20 of 0.
    const share = (z: Tensor) => mean(clamp(scale(stopGradient(z), 1e20), 0, 1));
    if (discriminator && verdicts) parts.push(share(verdicts.source), share(verdicts.target));
    return { loss: total, measured: concat(parts.map((part) => reshape(stopGradient(part), [1]))) };
  }

  /** Logits of the source, and the discriminator's of both domains, from one joint pass or from one each. */
  #forward(x: Tensor, t: Tensor | null): { logits: Tensor; verdicts: Record<Domain, Tensor> | null } {
    const { model, discriminator, config } = this;
    if (!discriminator || !t) return { logits: model.forward(x), verdicts: null };
    const judge = (features: Features) =>
      discriminator.forward(reverseGradient(tap(features, config.discriminator.tap), () => this.#lambda));
    if (!config.jointBatch) {
      const [source, target] = [model.features(x), model.features(t)];
      return { logits: source.logits, verdicts: { source: judge(source), target: judge(target) } };
    }
    const features = model.features(concat([x, t], 0));
    const verdicts = judge(features);
    const [n, m] = [x.shape[0]!, t.shape[0]!];
    return {
      logits: images(features.logits, 0, n),
      verdicts: { source: images(verdicts, 0, n), target: images(verdicts, n, m) },
    };
  }

  dispose(): void {
    this.#captured?.dispose();
    dispose(this.#inputs);
    this.optimiser.dispose();
    this.ema?.dispose();
    this.losses.dispose();
    this.discriminator?.dispose();
    this.model.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A batch on the device. */
interface Inputs {
  /** `[n source, crop, crop, bands]` */
  readonly x: Tensor;
  /** `[n source, crop, crop]`, u32 */
  readonly y: Tensor;
  /** `[n target, crop, crop, bands]`; null without discriminator. */
  readonly t: Tensor | null;
}

function makeInputs(device: Device, { batch, crop }: TrainConfig, bands: number, adversarial: boolean): Inputs {
  return withoutScope(() => ({
    x: Tensor.zeros(device, [batch.source, crop, crop, bands]),
    y: Tensor.zeros(device, [batch.source, crop, crop], "u32"),
    t: adversarial ? Tensor.zeros(device, [batch.target, crop, crop, bands]) : null,
  }));
}

/** `count` images of a batch, from `start` on. */
const images = (x: Tensor, start: number, count: number): Tensor =>
  slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);

/** The segmentation network that a configuration describes, with its first values. */
export function buildModel(device: Device, config: TrainConfig, classes: number, bands: number): DeepLabV3Plus {
  return new DeepLabV3Plus(device, { ...config.model, classes, inChannels: bands, seed: config.seed });
}

function buildDiscriminator(device: Device, config: TrainConfig, model: DeepLabV3Plus): DomainDiscriminator {
  const { kind, width, strides, kernel, tap: at } = config.discriminator;
  const common = {
    inChannels: tapChannels(model, at),
    width,
    seed: new Generator(config.seed).fork("discriminator").seed,
  };
  return new DomainDiscriminator(
    device,
    kind === "global" ? { kind, ...common } : { kind, strides, kernel, ...common },
  );
}

function buildLosses(device: Device, { losses }: TrainConfig, names: readonly LossName[]): MultiLoss<LossName> {
  const isLearned = (name: LossName) => losses.learned.includes(name) && !(name in losses.fixed);
  const learned = losses.weighting === "fixed" ? [] : names.filter(isLearned);
  const fixed = Object.fromEntries(
    names.filter((name) => name in losses.fixed).map((name) => [name, losses.fixed[name]!]),
  );
  return new MultiLoss(device, { names, weighting: losses.weighting, learned, fixed });
}

function buildOptimiser(
  { optim, discriminator, losses }: TrainConfig,
  model: DeepLabV3Plus,
  critic: DomainDiscriminator | null,
  multi: MultiLoss<LossName>,
): Optimizer {
  const { kind, lr, weightDecay, momentum, headFactor } = optim;
  const isHead = (name: string) => !name.startsWith("encoder.");
  const groups: ParameterGroup[] = parameterGroups(model.parameters(), { lr, headFactor, weightDecay, isHead });
  if (critic) {
    const own = parameterGroups(critic.parameters(), { lr: lr * discriminator.lrFactor, weightDecay });
    groups.push(...own.map((group) => ({ ...group, name: `discriminator.${group.name}` })));
  }
  const c = multi.parameters();
  // Decay would pull c towards 0, which raises the weights.
  if (c.size > 0) groups.push({ name: "lossWeights", parameters: c, lr: lr * losses.lrFactor, weightDecay: 0 });
  switch (kind) {
    case "sgd":
      return new SGD(groups, { momentum });
    case "adam":
      return new Adam(groups);
    case "adamw":
      return new AdamW(groups);
  }
}

function buildSchedule({ schedule, steps }: TrainConfig): Schedule {
  const rules = { poly: () => poly(steps), cosine: () => cosine(steps), ganin: () => ganin(steps), constant };
  return warmUp(rules[schedule.kind](), schedule.warmUp);
}
