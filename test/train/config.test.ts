import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/errors.js";
import { DEFAULT_CONFIG, type PartialConfig, resolveConfig } from "../../src/train/index.js";

describe("resolveConfig", () => {
  it("fills in defaults group by group and replaces lists as a whole", () => {
    expect(resolveConfig()).toEqual(DEFAULT_CONFIG);
    const config = resolveConfig({ optim: { lr: 0.5 }, losses: { learned: ["domain"], fixed: { tversky: 2 } } });
    expect(config.optim).toEqual({ ...DEFAULT_CONFIG.optim, lr: 0.5 });
    expect(config.losses.learned).toEqual(["domain"]);
    expect(config.losses.fixed).toEqual({ tversky: 2 });
    expect(resolveConfig(config)).toEqual(config);
    expect(resolveConfig(JSON.parse(JSON.stringify(config)) as PartialConfig)).toEqual(config);
  });

  it.each<[string, unknown]>([
    ["steps", { steps: 0 }],
    ["steps", { steps: 1.5 }],
    ["steps", { steps: Number.NaN }],
    ["crop", { crop: "96" }],
    ["seed", { seed: -1 }],
    ["seed", { seed: 2 ** 40 }],
    ["batch", { batch: 8 }],
    ["batch.source", { batch: { source: 0 } }],
    ["mode", { mode: "both" }],
    ["model.backbone", { model: { backbone: "vgg" } }],
    ["model.backbone", { model: { backbone: "__proto__" } }],
    ["model.outputStride", { model: { outputStride: 32 } }],
    ["model.width", { model: { width: 0 } }],
    ["optim.lr", { optim: { lr: Number.POSITIVE_INFINITY } }],
    ["optim.clipNorm", { optim: { clipNorm: 0 } }],
    ["augment.scale", { augment: { scale: [2, 1] } }],
    ["augment.scale", { augment: { scale: [1] } }],
    ["augment.flip", { augment: { flip: 1 } }],
    ["losses.learned", { losses: { learned: ["dice"] } }],
    ["losses.fixed.dice", { losses: { fixed: { dice: 1 } } }],
    ["losses.fixed.domain", { losses: { fixed: { domain: -1 } } }],
    ["losses.crossEntropy.classWeights", { losses: { crossEntropy: { classWeights: [-1] } } }],
    ["discriminator.strides", { discriminator: { strides: [] } }],
    ["discriminator.tap", { discriminator: { tap: "logits" } }],
    ["schedule.warmUp", { steps: 5, schedule: { warmUp: 6 } }],
    ["ema", { ema: 1 }],
    ["optimizer", { optimizer: {} }],
    ["optim.learningRate", { optim: { learningRate: 1 } }],
    ["__proto__", JSON.parse('{"__proto__": {"steps": 1}}')],
    ["losses.fixed.__proto__", JSON.parse('{"losses": {"fixed": {"__proto__": 1}}}')],
    ["constructor", { constructor: 1 }],
  ])("refuses %s in %j", (path, partial) => {
    let thrown: unknown;
    try {
      resolveConfig(partial as PartialConfig);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ConfigError);
    expect((thrown as ConfigError).path).toBe(path);
  });
});
