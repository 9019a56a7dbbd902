import type { Device } from "../device.js";
import { adaptSegNetDiscriminator, DeepLabV3Plus, DomainDiscriminator, tapChannels } from "../models/index.js";
import { MultiLoss } from "../multi_loss.js";
import {
  Adam,
  AdamW,
  constant,
  cosine,
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
import type { LossName, TrainConfig } from "./config.js";

/** The segmentation network that a configuration describes, with its first values. */
export function buildModel(device: Device, config: TrainConfig, classes: number, bands: number): DeepLabV3Plus {
  const { pretrained: _, ...options } = config.model;
  return new DeepLabV3Plus(device, { ...options, classes, inChannels: bands, seed: config.seed });
}

export function buildDiscriminator(device: Device, config: TrainConfig, model: DeepLabV3Plus): DomainDiscriminator {
  const { kind, width, strides, kernel, tap: at } = config.discriminator;
  const common = {
    inChannels: tapChannels(model, at),
    width,
    seed: new Generator(config.seed).fork("discriminator").seed,
  };
  switch (kind) {
    case "global":
      return new DomainDiscriminator(device, { kind, ...common });
    case "convolutional":
      return new DomainDiscriminator(device, { kind, strides, kernel, ...common });
    case "adaptSegNet":
      return new DomainDiscriminator(device, { ...common, ...adaptSegNetDiscriminator });
  }
}

/** The losses that are weighed by the configuration: all but that of self-training, which its teacher weighs. */
export function buildLosses(device: Device, { losses }: TrainConfig, names: readonly LossName[]): MultiLoss<LossName> {
  const isLearned = (name: LossName) => losses.learned.includes(name) && !(name in losses.fixed);
  const learned = losses.weighting === "fixed" ? [] : names.filter(isLearned);
  const fixed = Object.fromEntries(
    names.filter((name) => name in losses.fixed).map((name) => [name, losses.fixed[name]!]),
  );
  return new MultiLoss(device, { names, weighting: losses.weighting, learned, fixed });
}

export function buildOptimiser(
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

export function buildSchedule({ schedule, steps }: TrainConfig): Schedule {
  const rules = { poly: () => poly(steps), cosine: () => cosine(steps), ganin: () => ganin(steps), constant };
  return warmUp(rules[schedule.kind](), schedule.warmUp);
}
