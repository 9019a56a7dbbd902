import type { AugmentOptions } from "../data/augment.js";
import type { Normalisation } from "../data/normalise.js";
import { type Sampling, samplings } from "../data/sampling.js";
import { ConfigError } from "../errors.js";
import {
  type Backbone,
  backbones,
  type DeepLabVariant,
  deepLabVariants,
  type Precision,
  precisions,
  type Tap,
  taps,
} from "../models/index.js";

export const modes = ["source-only", "adversarial", "self-training", "adversarial+self-training"] as const;
export type Mode = (typeof modes)[number];
export type LossName = "crossEntropy" | "tversky" | "domain" | "selfTraining";
export const selections = ["source", "entropy", "im", "snd", "oracle"] as const;
/** What the best checkpoint is chosen by. */
export type Selection = (typeof selections)[number];

/** Everything that decides what a training run computes. Plain JSON: it is saved with every checkpoint. */
export interface TrainConfig {
  /** All see the labels of the source only; all but `source-only` also see unlabelled target tiles. */
  readonly mode: Mode;
  /** Of initial weights, data order, augmentation and dropout. */
  readonly seed: number;
  /** Optimiser steps in all. */
  readonly steps: number;
  /** Height and width of training crops, pixels. */
  readonly crop: number;
  /** Crops of each domain in a step; they may differ. */
  readonly batch: { readonly source: number; readonly target: number };
  /**
   * Source and target through the network in one batch, sharing batch statistics; else one after the other, each with
   * its own, the running statistics becoming a mixture.
   */
  readonly jointBatch: boolean;
  readonly normalise: Normalisation;
  /** Of crops of the source: every tile alike, or by class. */
  readonly sampling: Sampling;
  readonly augment: AugmentOptions;
  readonly model: {
    readonly backbone: Backbone;
    readonly variant: DeepLabVariant;
    readonly outputStride: 8 | 16;
    /** Factor on every channel count. */
    readonly width: number;
    /** Normalisation of the ASPP's image pooling branch. */
    readonly imagePooling: "batch" | "group";
    /** How it computes on CUDA; elsewhere "f32" is all there is. */
    readonly precision: Precision;
    /**
     * Weights to start from, a safetensors file as `loadPretrained` takes it; null: random ones. Read once, when a run
     * begins: one that goes on has its weights in its checkpoint.
     */
    readonly pretrained: string | null;
  };
  /**
   * Self-training only: a teacher, the moving average of the student's weights, labels the target crops before they are
   * recoloured; the student learns these labels on the recoloured crops (Tarvainen & Valpola 2017; Hoyer et al. 2022).
   * The weight of the loss is `losses.fixed.selfTraining`, 1 where it is not named, times the share of confident pixels.
   */
  readonly selfTraining: {
    /** Of the teacher's weights, a step; the first steps are a plain mean. */
    readonly decay: number;
    /** Least probability of a confident pixel's class. */
    readonly threshold: number;
    /** Steps before the loss counts. */
    readonly warmUp: number;
  };
  readonly discriminator: {
    /** `adaptSegNet`: five 4x4 convolutions of stride 2 from 64 channels, for the taps softmax and entropy. */
    readonly kind: "convolutional" | "global" | "adaptSegNet";
    /** What it looks at. */
    readonly tap: Tap;
    /** Largest lambda of the gradient reversal. */
    readonly lambda: number;
    /** How fast lambda rises: lambda · (2 / (1 + exp(−gamma·p)) − 1) at progress p. */
    readonly gamma: number;
    /** Factor on the learning rate. */
    readonly lrFactor: number;
    /** Channels of its first layer. `adaptSegNet` has its own, and its own strides and kernel. */
    readonly width: number;
    /** Of its convolutions, one each; of the convolutional kind only. */
    readonly strides: readonly number[];
    /** Side of its kernels; 1 judges every place by itself. Of the convolutional kind only. */
    readonly kernel: number;
  };
  readonly losses: {
    readonly weighting: "liebel" | "kendall" | "fixed";
    /** Losses whose weights are learned, unless `fixed` names them. Not used with weighting `fixed`. */
    readonly learned: readonly LossName[];
    /** Weights that are not learned; 1 where a loss is not named, 0 leaves a loss out. */
    readonly fixed: Readonly<Partial<Record<LossName, number>>>;
    /** Factor on the learning rate of the learned weights. */
    readonly lrFactor: number;
    readonly crossEntropy: { readonly classWeights: readonly number[] | null; readonly labelSmoothing: number };
    /** alpha weighs false positives, beta false negatives; loss (1 − TI)^(1/gamma). */
    readonly tversky: { readonly alpha: number; readonly beta: number; readonly gamma: number };
  };
  readonly optim: {
    readonly kind: "sgd" | "adam" | "adamw";
    readonly lr: number;
    readonly weightDecay: number;
    /** SGD only. */
    readonly momentum: number;
    /** Factor on the learning rate of everything but the backbone. */
    readonly headFactor: number;
    /** Largest norm of the gradient; null: no limit. */
    readonly clipNorm: number | null;
  };
  readonly schedule: { readonly kind: "poly" | "cosine" | "ganin" | "constant"; readonly warmUp: number };
  /** Decay of the moving average of the weights that is evaluated in place of the weights; null: none. */
  readonly ema: number | null;
  /**
   * Wherever the model is evaluated, and in the end: running statistics of batch normalisation are those of target/train
   * (AdaBN, Li et al. 2016). Training itself is not changed.
   */
  readonly adaBN: boolean;
  /** Steps between evaluations on both val splits; 0: never during training. */
  readonly evaluateEvery: number;
  /**
   * What decides which evaluated model is kept as the best: `source`, mean IoU on source/val; `entropy` (lowest), `im`,
   * `snd` (highest), measured on target images without labels; `oracle`, mean IoU on target/val, which uses its labels.
   */
  readonly select: Selection;
  /** Steps between checkpoints; 0: only at the end and where training is interrupted. */
  readonly checkpointEvery: number;
}

export const DEFAULT_CONFIG: TrainConfig = {
  mode: "adversarial",
  seed: 0,
  steps: 1000,
  crop: 192,
  batch: { source: 8, target: 8 },
  jointBatch: false,
  normalise: "domain",
  sampling: "uniform",
  augment: { flip: true, rotate90: true, scale: [0.75, 1.5], brightness: 0.2, contrast: 0.2, saturation: 0.2 },
  model: {
    backbone: "resnet18",
    variant: "paper",
    outputStride: 16,
    width: 1,
    imagePooling: "batch",
    precision: "f32",
    pretrained: null,
  },
  selfTraining: { decay: 0.999, threshold: 0.968, warmUp: 0 },
  discriminator: {
    kind: "convolutional",
    tap: "decoder",
    lambda: 1,
    gamma: 10,
    lrFactor: 1,
    width: 64,
    strides: [1, 1, 1],
    kernel: 1,
  },
  losses: {
    weighting: "liebel",
    learned: ["crossEntropy", "tversky", "domain"],
    fixed: {},
    lrFactor: 1,
    crossEntropy: { classWeights: null, labelSmoothing: 0 },
    tversky: { alpha: 0.7, beta: 0.3, gamma: 1 },
  },
  optim: { kind: "adamw", lr: 1e-3, weightDecay: 1e-2, momentum: 0.9, headFactor: 1, clipNorm: 10 },
  schedule: { kind: "poly", warmUp: 0 },
  ema: null,
  adaBN: false,
  evaluateEvery: 0,
  select: "source",
  checkpointEvery: 200,
};

/** Does training in this mode oppose a discriminator? */
export const isAdversarial = (mode: Mode): boolean => mode.startsWith("adversarial");
/** Does a teacher label the target's crops? */
export const isSelfTraining = (mode: Mode): boolean => mode.endsWith("self-training");

/** What the caller says; the rest is DEFAULT_CONFIG. Lists are replaced as a whole. */
export type PartialConfig = DeepPartial<TrainConfig>;
type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { readonly [K in keyof T]?: DeepPartial<T[K]> }
    : T;

/** Entries that take one of a few values, dotted. */
export const CHOICES: Readonly<Record<string, readonly unknown[]>> = {
  mode: modes,
  select: selections,
  normalise: ["imagenet", "source", "domain"],
  sampling: samplings,
  "model.backbone": backbones,
  "model.variant": deepLabVariants,
  "model.outputStride": [8, 16],
  "model.imagePooling": ["batch", "group"],
  "model.precision": precisions,
  "discriminator.kind": ["convolutional", "global", "adaptSegNet"],
  "discriminator.tap": taps,
  "losses.weighting": ["liebel", "kendall", "fixed"],
  "optim.kind": ["sgd", "adam", "adamw"],
  "schedule.kind": ["poly", "cosine", "ganin", "constant"],
};

/** The weight of self-training is the teacher's confidence: not learned. */
const LEARNABLE: readonly string[] = ["crossEntropy", "tversky", "domain"];
const LOSSES: readonly string[] = [...LEARNABLE, "selfTraining"];

interface Range {
  readonly min?: number;
  readonly max?: number;
  /** The smallest value is itself out of range. */
  readonly above?: boolean;
  readonly whole?: boolean;
  readonly nullable?: boolean;
}
const RANGES: Readonly<Record<string, Range>> = {
  seed: { min: 0, max: 2 ** 32 - 1, whole: true },
  steps: { min: 1, max: 1e9, whole: true },
  crop: { min: 16, max: 8192, whole: true },
  "batch.source": { min: 1, max: 4096, whole: true },
  "batch.target": { min: 1, max: 4096, whole: true },
  "augment.brightness": { min: 0, max: 1 },
  "augment.contrast": { min: 0, max: 1 },
  "augment.saturation": { min: 0, max: 1 },
  "model.width": { min: 0, above: true, max: 8 },
  "selfTraining.decay": { min: 0, max: 0.999999 },
  "selfTraining.threshold": { min: 0, max: 1 },
  "selfTraining.warmUp": { min: 0, max: 1e9, whole: true },
  "discriminator.lambda": { min: 0, max: 1e3 },
  "discriminator.gamma": { min: 0, above: true, max: 1e3 },
  "discriminator.lrFactor": { min: 0, max: 1e3 },
  "discriminator.width": { min: 1, max: 4096, whole: true },
  "discriminator.kernel": { min: 1, max: 15, whole: true },
  "losses.lrFactor": { min: 0, max: 1e3 },
  "losses.crossEntropy.labelSmoothing": { min: 0, max: 1 },
  "losses.tversky.alpha": { min: 0, max: 1e3 },
  "losses.tversky.beta": { min: 0, max: 1e3 },
  "losses.tversky.gamma": { min: 1, max: 100 },
  "optim.lr": { min: 0, max: 1e3 },
  "optim.weightDecay": { min: 0, max: 1e3 },
  "optim.momentum": { min: 0, max: 0.9999 },
  "optim.headFactor": { min: 0, max: 1e3 },
  "optim.clipNorm": { min: 0, above: true, nullable: true },
  "schedule.warmUp": { min: 0, max: 1e9, whole: true },
  ema: { min: 0, max: 0.999999, nullable: true },
  evaluateEvery: { min: 0, max: 1e9, whole: true },
  checkpointEvery: { min: 0, max: 1e9, whole: true },
};

/**
 * Fills in the defaults and checks every entry.
 * @throws ConfigError naming the entry (`optim.lr`) that is unknown, of the wrong type or out of range.
 */
export function resolveConfig(partial: PartialConfig = {}): TrainConfig {
  const config = merge(DEFAULT_CONFIG, partial, "") as TrainConfig;
  for (const [path, allowed] of Object.entries(CHOICES)) {
    const value = lookUp(config, path);
    if (!allowed.includes(value))
      throw new ConfigError(path, `must be one of ${allowed.join(", ")}, not ${show(value)}`);
  }
  for (const [path, range] of Object.entries(RANGES)) checkRange(path, lookUp(config, path), range);
  for (const path of ["jointBatch", "augment.flip", "augment.rotate90", "adaBN"]) {
    const value = lookUp(config, path);
    if (typeof value !== "boolean") throw new ConfigError(path, `must be true or false, not ${show(value)}`);
  }
  checkLists(config);
  const { pretrained } = config.model;
  if (pretrained !== null && (typeof pretrained !== "string" || pretrained === "")) {
    throw new ConfigError("model.pretrained", `must be null or the path of a file, not ${show(pretrained)}`);
  }
  if (config.schedule.warmUp > config.steps) throw new ConfigError("schedule.warmUp", "is longer than the training");
  return config;
}

function checkLists({ augment, discriminator, losses }: TrainConfig): void {
  const { scale } = augment;
  const isScale =
    Array.isArray(scale) && scale.length === 2 && scale.every((v) => typeof v === "number" && v >= 0.1 && v <= 10);
  if (!isScale || scale[0] > scale[1])
    throw new ConfigError("augment.scale", "must be [smallest, largest], each from 0.1 to 10");
  const { strides } = discriminator;
  if (!Array.isArray(strides) || strides.length === 0 || strides.some((s) => !Number.isInteger(s) || s < 1 || s > 8)) {
    throw new ConfigError("discriminator.strides", "must list one whole number from 1 to 8 a convolution");
  }
  if (!Array.isArray(losses.learned) || losses.learned.some((name) => !LEARNABLE.includes(name))) {
    throw new ConfigError("losses.learned", `must list some of ${LEARNABLE.join(", ")}`);
  }
  for (const name of Object.keys(losses.fixed)) {
    checkRange(`losses.fixed.${name}`, losses.fixed[name as LossName], { min: 0, max: 1e6 });
  }
  const { classWeights } = losses.crossEntropy;
  const isWeights =
    Array.isArray(classWeights) && classWeights.every((w) => typeof w === "number" && w >= 0 && w < 1e6);
  if (classWeights !== null && !isWeights) {
    throw new ConfigError(
      "losses.crossEntropy.classWeights",
      "must be null or a list of one weight a class, zero or more",
    );
  }
}

function checkRange(
  path: string,
  value: unknown,
  { min = 0, max = Number.MAX_VALUE, above, whole, nullable }: Range,
): void {
  if (nullable && value === null) return;
  const fits = typeof value === "number" && (above ? value > min : value >= min) && value <= max;
  if (!fits || (whole && !Number.isInteger(value))) {
    const kind = whole ? "a whole number" : "a number";
    const limits = `${above ? "above" : "from"} ${min}${max === Number.MAX_VALUE ? "" : ` to ${max}`}`;
    throw new ConfigError(path, `must be ${kind} ${limits}${nullable ? ", or null" : ""}, not ${show(value)}`);
  }
}

/** As JSON, but for NaN and infinities, which it does not have. */
const show = (value: unknown): string => (typeof value === "number" ? String(value) : `${JSON.stringify(value)}`);

function lookUp(config: object, path: string): unknown {
  return path.split(".").reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Entries of `partial` over those of `defaults`; `losses.fixed` is the only record without fixed keys. */
function merge(defaults: unknown, partial: unknown, path: string): unknown {
  if (partial === undefined) return defaults;
  if (!isRecord(defaults)) return partial;
  if (!isRecord(partial)) throw new ConfigError(path, `must be a group of entries, not ${show(partial)}`);
  const known = path === "losses.fixed" ? LOSSES : Object.keys(defaults);
  const merged: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(partial)) {
    const here = path ? `${path}.${key}` : key;
    if (!known.includes(key)) {
      throw new ConfigError(here, `there is no such entry; ${path || "the configuration"} has ${known.join(", ")}`);
    }
    merged[key] = merge(defaults[key], value, here);
  }
  return merged;
}
