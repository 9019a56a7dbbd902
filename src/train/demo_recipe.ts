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

/** Under six minutes on two cores with software Vulkan. */
export const DEMO: DemoRecipe = {
  cities: { size: 96, train: 96, val: 16, seed: 0 },
  steps: 120,
  common: {
    crop: 96,
    batch: { source: 4, target: 4 },
    normalise: "source",
    augment: { flip: true, rotate90: true, scale: [0.75, 1.5], brightness: 0.1, contrast: 0.1, saturation: 0.1 },
    model: { backbone: "resnet18", variant: "paper", outputStride: 16, width: 0.25 },
    optimiser: { kind: "adamw", lr: 2e-3, weightDecay: 1e-2, clipNorm: 10 },
    schedule: { kind: "poly", warmUp: 5 },
  },
  adversarial: { discriminator: { kind: "convolutional", tap: "aspp", lambda: 0.5, width: 32 } },
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
