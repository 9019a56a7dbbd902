import type { ProceduralOptions } from "../data/procedural.js";
import type { PartialConfig } from "./config.js";

/** What `lacuna demo` trains, in one place. */
export interface DemoRecipe {
  readonly cities: ProceduralOptions;
  /** Steps of each of the two trainings. */
  readonly steps: number;
  /** Of both trainings. */
  readonly common: PartialConfig;
  /** Over `common`, for the one that adapts. */
  readonly adversarial: PartialConfig;
}

/**
 * Under six minutes on two cores with software Vulkan. Input is normalised by the source's statistics in both cities:
 * each city's own would take out part of the gap before training begins.
 */
export const DEMO: DemoRecipe = {
  cities: { size: 96, train: 192, val: 48, seed: 0 },
  steps: 180,
  common: {
    crop: 64,
    batch: { source: 8, target: 8 },
    normalise: "source",
    augment: { flip: true, rotate90: true, scale: [1, 1], brightness: 0, contrast: 0, saturation: 0 },
    model: { backbone: "resnet18", variant: "paper", outputStride: 16, width: 0.25 },
    optim: { kind: "adamw", lr: 3e-3, weightDecay: 1e-2, clipNorm: 10 },
    schedule: { kind: "poly", warmUp: 0 },
  },
  adversarial: {
    jointBatch: false,
    discriminator: {
      kind: "convolutional",
      tap: "decoder",
      lambda: 1,
      lrFactor: 2,
      width: 32,
      strides: [1, 1, 1],
      kernel: 1,
    },
  },
};

/** A few steps that show that everything works; float64 loops are no place to learn anything. */
export const DEMO_ON_REFERENCE: DemoRecipe = {
  ...DEMO,
  cities: { size: 32, train: 6, val: 2, seed: 0 },
  steps: 3,
  common: {
    ...DEMO.common,
    crop: 32,
    batch: { source: 2, target: 2 },
    model: { ...DEMO.common.model, width: 0.125 },
    schedule: { kind: "poly", warmUp: 0 },
  },
};
