import { differentiate } from "../autograd.js";
import { type CapturedStep, capture } from "../capture.js";
import { loadPretrained, type PretrainedReport } from "../checkpoint/index.js";
import { cached, type Dataset, type Domain } from "../data/dataset.js";
import { BatchLoader } from "../data/loader.js";
import { type LoaderPlan, LoaderPool } from "../data/loader_pool.js";
import { type DomainStatistics, statisticsOf } from "../data/normalise.js";
import { type ClassTable, classTable } from "../data/sampling.js";
import type { Device } from "../device.js";
import { ConfigError } from "../errors.js";
import { binaryCrossEntropy, crossEntropy, tversky } from "../losses.js";
import {
  adversarialSchedule,
  type DeepLabV3Plus,
  type DomainDiscriminator,
  type Features,
  tap,
} from "../models/index.js";
import type { MultiLoss } from "../multi_loss.js";
import {
  add,
  clamp,
  concat,
  mean,
  mul,
  reshape,
  reverseGradient,
  scale,
  stopGradient,
  watchGradient,
} from "../ops/index.js";
import { EMA, type Optimizer, type Schedule } from "../optim/index.js";
import { Generator } from "../random.js";
import { dispose, scope, Tensor, withoutScope } from "../tensor.js";
import { AdaptedStatistics } from "./adapted.js";
import { buildDiscriminator, buildLosses, buildModel, buildOptimiser, buildSchedule } from "./build.js";
import { isAdversarial, isSelfTraining, type LossName, type TrainConfig } from "./config.js";
import { type Inputs, images, makeInputs } from "./inputs.js";
import { type PseudoLabels, Teacher } from "./teacher.js";

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
  /**
   * L2 norms of the gradients at the map that the discriminator looks at (the logits for softmax and entropy), on their
   * way into the network before it: what the segmentation losses send, weighted as they are in the sum, and what the
   * gradient reversal sends, lambda and the weight included. Null without discriminator.
   */
  readonly gradientNorms: { readonly task: number; readonly reversed: number } | null;
  /** Crops that were trained on, of both domains. */
  readonly images: number;
  readonly secondsPerStep: number;
}

/** Everything that changes while training, and how one step changes it. */
export class Session implements Disposable {
  readonly discriminator: DomainDiscriminator | null;
  readonly losses: MultiLoss<LossName>;
  readonly optimiser: Optimizer;
  readonly ema: EMA | null;
  readonly teacher: Teacher | null;
  readonly adapted: AdaptedStatistics | null;
  readonly source: BatchLoader;
  readonly target: BatchLoader | null;
  /** The same crops as `target`, not recoloured, for the teacher; null where they would be the same or there is none. */
  readonly plain: BatchLoader | null;
  /** Steps taken. */
  step = 0;
  readonly #schedule: Schedule;
  readonly #names: readonly LossName[];
  /** Of gradients: the task's by way of the source and of the target, and the reversed ones. Empty without discriminator. */
  readonly #norms: readonly Tensor[];
  /** What the step at hand reads: its batch, and the numbers of the schedules. */
  #inputs: Inputs | null = null;
  #lambda = 0;
  #selfTrainingWeight = 0;
  #lrScale = 1;
  #warm = false;
  #captured: CapturedStep<Tensor> | null = null;
  readonly #pool: LoaderPool | null;

  private constructor(
    readonly device: Device,
    readonly config: TrainConfig,
    readonly dataset: Dataset,
    readonly statistics: DomainStatistics,
    readonly model: DeepLabV3Plus,
    table: ClassTable | null,
    workers: number,
    /** What was taken of the weights that the run starts from; null where it starts without, or goes on. */
    readonly pretrained: PretrainedReport | null,
  ) {
    const { mode } = config;
    const all: readonly LossName[] = [
      "crossEntropy",
      "tversky",
      ...(isAdversarial(mode) ? (["domain"] as const) : []),
      ...(isSelfTraining(mode) ? (["selfTraining"] as const) : []),
    ];
    this.#names = all.filter((name) => config.losses.fixed[name] !== 0);
    if (!this.#names.includes("crossEntropy") && !this.#names.includes("tversky")) {
      throw new ConfigError("losses.fixed", "leaves out both crossEntropy and tversky: nothing would be learned");
    }
    const { classWeights } = config.losses.crossEntropy;
    if (classWeights && classWeights.length !== dataset.classes.length) {
      const has = `${classWeights.length} weights for ${dataset.classes.length} classes`;
      throw new ConfigError("losses.crossEntropy.classWeights", has);
    }
    const chance = new Generator(config.seed);
    this.discriminator = this.#names.includes("domain") ? buildDiscriminator(device, config, this.model) : null;
    const weighed = this.#names.filter((name) => name !== "selfTraining");
    this.losses = buildLosses(device, config, weighed);
    this.optimiser = buildOptimiser(config, this.model, this.discriminator, this.losses);
    this.ema = config.ema === null ? null : new EMA(this.optimiser, config.ema);
    this.teacher = this.#names.includes("selfTraining")
      ? new Teacher(
          buildModel(device, config, dataset.classes.length, dataset.bands),
          this.model,
          this.optimiser,
          config.selfTraining,
        )
      : null;
    this.adapted = config.adaBN ? new AdaptedStatistics(this.model) : null;
    this.#norms = withoutScope(() => (this.discriminator ? [0, 0, 0, 0].map(() => Tensor.zeros(device, [1])) : []));
    this.#schedule = buildSchedule(config);
    const { brightness, contrast, saturation } = config.augment;
    const recolours = brightness > 0 || contrast > 0 || saturation > 0;
    // Strengths of zero leave every other draw as it is: the crops are those of the target.
    const uncoloured = { ...config.augment, brightness: 0, contrast: 0, saturation: 0 };
    const plans: LoaderPlan[] = [];
    const plan = (domain: Domain, augment = config.augment): number => {
      const options = { crop: config.crop, augment, statistics: statistics[domain], ignoreIndex: dataset.ignoreIndex };
      return plans.push({ domain, options, seed: chance.fork(`${domain} tiles`).seed }) - 1;
    };
    const source = plan("source");
    const target = this.discriminator || this.teacher ? plan("target") : null;
    const plain = this.teacher && recolours ? plan("target", uncoloured) : null;
    this.#pool = workers > 0 && dataset.origin ? new LoaderPool(dataset.origin, plans, workers) : null;
    const loader = (index: number, byClass: ClassTable | null = null) => {
      const { domain, options, seed } = plans[index]!;
      const tiles = dataset.split(domain, "train");
      const all = { batch: config.batch[domain], ...options };
      const maker = this.#pool?.maker(index) ?? null;
      return new BatchLoader(maker ? tiles : cached(tiles), all, new Generator(seed), byClass, maker);
    };
    this.source = loader(source, table);
    this.target = target === null ? null : loader(target);
    this.plain = plain === null ? null : loader(plain);
  }

  /**
   * @param statistics of a checkpoint, which will be loaded; else they are measured, and pretrained weights are read.
   * @param workers Threads that make crops; 0: this one. What is computed does not depend on it.
   * @throws CheckpointError for pretrained weights that cannot be used; ConfigError, ArgumentError for a configuration
   * that this data set or the model cannot take; DataError.
   */
  static async start(
    device: Device,
    config: TrainConfig,
    dataset: Dataset,
    statistics?: DomainStatistics,
    workers = 0,
  ): Promise<Session> {
    const measured = statistics ?? (await statisticsOf(dataset, config.normalise));
    const { sampling } = config;
    const tiles = dataset.split("source", "train");
    const table = sampling === "uniform" ? null : await classTable(tiles, dataset.classes.length, sampling);
    const model = buildModel(device, config, dataset.classes.length, dataset.bands);
    try {
      const { pretrained } = config.model;
      // Before anything copies the weights: averages and a teacher start from them.
      const loaded = pretrained !== null && statistics === undefined ? await loadPretrained(model, pretrained) : null;
      return new Session(device, config, dataset, measured, model, table, workers, loaded);
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  /** One update of everything. @throws DataError where a tile cannot be used; DeviceError. */
  async advance(): Promise<StepRecord> {
    const started = performance.now();
    const { config, dataset, device, optimiser } = this;
    this.#lambda = this.discriminator
      ? config.discriminator.lambda * adversarialSchedule(this.step / config.steps, config.discriminator.gamma)
      : 0;
    const { warmUp } = config.selfTraining;
    this.#selfTrainingWeight = this.step < warmUp ? 0 : (config.losses.fixed.selfTraining ?? 1);
    this.#lrScale = this.#schedule(this.step);
    const source = await this.source.next();
    const target = this.target ? await this.target.next() : null;
    const plain = this.plain ? await this.plain.next() : null;
    this.#inputs ??= makeInputs(device, config, dataset.bands, { target: target !== null, plain: plain !== null });
    this.#inputs.x.assign(source.images);
    this.#inputs.y.assign(source.labels);
    if (target) this.#inputs.t!.assign(target.images);
    if (plain) this.#inputs.plain!.assign(plain.images);
    const measured = this.#take();
    const numbers = await measured.data(); // the step's one wait for results
    if (!this.#captured) measured.dispose();
    const gradientNorm = config.optim.clipNorm === null ? null : await optimiser.gradientNorm();
    this.step++;
    const count = this.#names.length;
    const named = (from: number) => Object.fromEntries(this.#names.map((name, i) => [name, numbers[from + i]!]));
    const [sourceAsTarget, targetAsTarget, ...norms] = numbers.subarray(1 + 2 * count);
    return {
      step: this.step,
      total: numbers[0]!,
      losses: named(1),
      weights: named(1 + count),
      lambda: this.#lambda,
      lr: config.optim.lr * this.#lrScale,
      discriminatorAccuracy: this.discriminator ? { source: 1 - sourceAsTarget!, target: targetAsTarget! } : null,
      gradientNorm,
      gradientNorms: this.discriminator
        ? { task: Math.hypot(norms[0]!, norms[1]!), reversed: Math.hypot(norms[2]!, norms[3]!) }
        : null,
      images: config.batch.source + (target ? config.batch.target : 0),
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
    const inputs = this.#inputs!;
    const taught = this.teacher?.label(inputs.plain ?? inputs.t!) ?? null;
    const { values, gradients } = differentiate(optimiser.parameters, () => this.#loss(inputs, taught));
    optimiser.step(gradients, {
      lrScale: () => this.#lrScale,
      ...(config.optim.clipNorm !== null && { clipNorm: config.optim.clipNorm }),
    });
    this.ema?.update(() => this.step);
    this.teacher?.ema.update(() => this.step);
    return concat([values.measured, ...this.#norms]);
  }

  /** Total loss, and what is to be read of the step: total, losses, their weights, shares of verdicts "target". */
  #loss(inputs: Inputs, taught: PseudoLabels | null): { loss: Tensor; measured: Tensor } {
    const { config, dataset, discriminator } = this;
    const { logits, verdicts } = this.#forward(inputs);
    const ignoreIndex = dataset.ignoreIndex;
    const { classWeights, labelSmoothing } = config.losses.crossEntropy;
    const compute: Record<Exclude<LossName, "selfTraining">, () => Tensor> = {
      crossEntropy: () =>
        crossEntropy(logits.source, inputs.y, { ignoreIndex, labelSmoothing, ...(classWeights && { classWeights }) }),
      tversky: () => tversky(logits.source, inputs.y, { ignoreIndex, ...config.losses.tversky }),
      domain: () => {
        const { source, target } = verdicts!;
        return scale(add(binaryCrossEntropy(source, 0), binaryCrossEntropy(target, 1)), 0.5);
      },
    };
    const losses: { [K in LossName]?: Tensor } = {};
    for (const name of this.losses.names) if (name !== "selfTraining") losses[name] = compute[name]();
    let { total, weights }: { total: Tensor; weights: { [K in LossName]?: Tensor } } = this.losses.combine(losses);
    if (taught) {
      const selfTraining = crossEntropy(logits.target!, taught.labels, { ignoreIndex });
      const weight = scale(taught.confident, () => this.#selfTrainingWeight);
      total = add(total, mul(selfTraining, weight));
      losses.selfTraining = selfTraining;
      weights = { ...weights, selfTraining: weight };
    }
    const parts = [total, ...this.#names.map((name) => losses[name]!), ...this.#names.map((name) => weights[name]!)];
    // A steep ramp is the step function but for logits within 1e-20 of 0.
    const share = (z: Tensor) => mean(clamp(scale(stopGradient(z), 1e20), 0, 1));
    if (discriminator && verdicts) parts.push(share(verdicts.source), share(verdicts.target));
    return { loss: total, measured: concat(parts.map((part) => reshape(stopGradient(part), [1]))) };
  }

  /** Logits, and the discriminator's verdicts, of both domains, from one joint pass or from one each. */
  #forward({ x, t }: Inputs): { logits: ByDomain; verdicts: Required<ByDomain> | null } {
    if (!t) return { logits: { source: this.model.forward(x) }, verdicts: null };
    if (!this.config.jointBatch) {
      const [source, target] = [this.#judged(x, "source"), this.#judged(t, "target")];
      const verdicts = source.verdict && target.verdict ? { source: source.verdict, target: target.verdict } : null;
      return { logits: { source: source.logits, target: target.logits }, verdicts };
    }
    const { logits, verdict } = this.#judged(concat([x, t], 0), "source");
    const [n, m] = [x.shape[0]!, t.shape[0]!];
    const parted = (both: Tensor) => ({ source: images(both, 0, n), target: images(both, n, m) });
    return { logits: parted(logits), verdicts: verdict && parted(verdict) };
  }

  /**
   * Logits of images and the verdicts on them behind the gradient reversal, with the norms of both gradients watched
   * where the discriminator looks.
   * @param place whose norms they count as; those of both are joined later.
   */
  #judged(x: Tensor, place: Domain): { logits: Tensor; verdict: Tensor | null } {
    const { model, discriminator, config } = this;
    if (!discriminator) return { logits: model.forward(x), verdict: null };
    const looksAt = config.discriminator.tap;
    const at = looksAt === "softmax" || looksAt === "entropy" ? "logits" : looksAt;
    const [task, reversed] =
      place === "source" ? [this.#norms[0]!, this.#norms[2]!] : [this.#norms[1]!, this.#norms[3]!];
    const found = model.features(x, (map, here) => (here === at ? watchGradient(map, task) : map));
    const seen: Features = { ...found, [at]: watchGradient(found[at], reversed) };
    const verdict = discriminator.forward(reverseGradient(tap(seen, looksAt), () => this.#lambda));
    return { logits: at === "logits" ? watchGradient(found.logits, task) : found.logits, verdict };
  }

  /**
   * Measures the adapted statistics of this step, where the configuration has them, unless that was done.
   * @throws what `signal` says, DataError.
   */
  async measureAdapted(signal?: AbortSignal): Promise<void> {
    if (!this.adapted || this.adapted.step === this.step) return;
    this.ema?.swap();
    try {
      const tiles = this.dataset.split("target", "train");
      await this.adapted.measure(this.step, tiles, { statistics: this.statistics.target, ...(signal && { signal }) });
    } finally {
      this.ema?.swap();
    }
  }

  /** Makes the model what is evaluated, until it is disposed: averaged weights and the adapted statistics of this step. */
  asEvaluated(): Disposable {
    const swap = () => {
      this.ema?.swap();
      if (this.adapted?.step === this.step) this.adapted.swap();
    };
    swap();
    return { [Symbol.dispose]: swap };
  }

  dispose(): void {
    this.#pool?.dispose();
    this.#captured?.dispose();
    dispose(this.#inputs, this.#norms);
    this.adapted?.dispose();
    this.teacher?.dispose();
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

interface ByDomain {
  readonly source: Tensor;
  readonly target?: Tensor;
}
