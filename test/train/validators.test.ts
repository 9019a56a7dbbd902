import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { DeepLabV3Plus } from "../../src/models/index.js";
import { softmax } from "../../src/ops/index.js";
import { scope, Tensor } from "../../src/tensor.js";
import { checkEvaluation, scoreOf, validate } from "../../src/train/evaluation.js";
import { resolveConfig, softNeighbourhoodDensity, Validator } from "../../src/train/index.js";
import { referenceDevice } from "../harness.js";
import { tinyCities } from "./tiny.js";

interface Golden {
  readonly classes: number;
  readonly probabilities: number[];
  readonly entropy: number;
  readonly im: number;
  readonly snd: number;
}
const goldens = JSON.parse(
  readFileSync(new URL("../golden/validators.json", import.meta.url), "utf8"),
) as readonly Golden[];

describe("validators", () => {
  it.each(goldens)("agree with PyTorch on $classes classes", ({ classes, probabilities, entropy, im, snd }) => {
    const validator = new Validator(classes);
    for (let row = 0; row < probabilities.length / classes; row++) validator.add(probabilities, row, true);
    const scores = validator.scores()!;
    expect(scores.entropy).toBeCloseTo(entropy, 12);
    expect(scores.im).toBeCloseTo(im, 12);
    expect(scores.snd).toBeCloseTo(snd, 10);
  });

  it("tell certain and varied predictions from certain ones of a single class", () => {
    const certain = (classOf: (i: number) => number) => {
      const validator = new Validator(3);
      for (let i = 0; i < 30; i++) {
        const row = [0, 0, 0];
        row[classOf(i)] = 1;
        validator.add(row, 0, true);
      }
      return validator.scores()!;
    };
    const [varied, single] = [certain((i) => i % 3), certain(() => 1)];
    expect([varied.entropy, single.entropy]).toEqual([0, 0]);
    expect(varied.im).toBeCloseTo(Math.log(3), 12);
    expect(single.im).toBeCloseTo(0, 12);
    expect(single.snd).toBeCloseTo(Math.log(29), 12);
    expect(varied.snd).toBeCloseTo(Math.log(9), 4); // nine others of its class
    expect(softNeighbourhoodDensity([1, 0, 1, 0], 2)).toBeCloseTo(0, 12);
    expect(new Validator(3).scores()).toBeNull();
  });

  it("measures measured pixels only, whatever a batch holds", async () => {
    const device = referenceDevice();
    using model = new DeepLabV3Plus(device, { backbone: "resnet18", classes: 5, width: 0.125, seed: 4 });
    const statistics = { mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2] };
    const tiles = tinyCities().split("target", "val");
    const masked = {
      ...tiles,
      length: tiles.length,
      read: async (i: number) => {
        const tile = await tiles.read(i);
        const valid = new Uint8Array(tile.height * tile.width).fill(1);
        valid.fill(0, 0, 100);
        return { ...tile, valid };
      },
    };
    const whole = await validate(model, masked, { statistics });
    const parts = await validate(model, masked, { statistics, batch: 1 });
    expect(parts!.entropy).toBeCloseTo(whole!.entropy, 12);
    expect(parts!.snd).toBeCloseTo(whole!.snd, 10);
    expect(model.training).toBe(true);

    // Entropy of the first tile by hand.
    const only = await validate(model, { ...masked, length: 1, read: () => masked.read(0) }, { statistics });
    const { image, valid, height, width } = await masked.read(0);
    const side = 32;
    const data = new Float32Array(side * side * 3);
    for (let p = 0; p < height * width; p++) {
      if (valid[p] === 0) continue;
      const at = (Math.floor(p / width) * side + (p % width)) * 3;
      for (let b = 0; b < 3; b++) data[at + b] = (image[p * 3 + b]! / 255 - 0.4) / 0.2;
    }
    model.eval();
    const probabilities = scope(() => softmax(model.forward(Tensor.from(device, data, [1, side, side, 3]))));
    const found = await probabilities.data();
    probabilities.dispose();
    let sum = 0;
    let count = 0;
    for (let p = 0; p < height * width; p++) {
      if (valid[p] === 0) continue;
      count++;
      const at = (Math.floor(p / width) * side + (p % width)) * 5;
      for (let c = 0; c < 5; c++) sum -= found[at + c]! * Math.log(found[at + c]!);
    }
    expect(only!.entropy).toBeCloseTo(sum / count, 5);
  });
});

describe("select", () => {
  const record = {
    step: 1,
    sourceMeanIoU: 0.5,
    targetMeanIoU: 0.25,
    validators: { entropy: 0.75, im: 0.125, snd: 6 },
  };

  it("turns every choice into a score of which more is better", () => {
    const scores = (["source", "oracle", "entropy", "im", "snd"] as const).map((select) => scoreOf(record, select));
    expect(scores).toEqual([0.5, 0.25, -0.75, 0.125, 6]);
    expect(scoreOf({ ...record, validators: null }, "snd")).toBeNull();
    expect(scoreOf({ ...record, validators: null }, "entropy")).toBeNull();
  });

  it("is refused by name where the data set has nothing to measure it on", () => {
    const lacking = (...missing: string[]) => ({
      ...tinyCities(),
      has: (domain: string, split: string) => !missing.includes(`${domain}/${split}`),
    });
    const asked = (entries: object) => resolveConfig({ evaluateEvery: 1, ...entries });
    const check = (entries: object, ...missing: string[]) => checkEvaluation(asked(entries), lacking(...missing));
    expect(() => check({}, "source/val")).toThrow(/^select: source is measured on source\/val/);
    expect(() => check({ select: "oracle" }, "target/val")).toThrow(/^select: oracle/);
    expect(() => check({ select: "im" }, "target/val")).not.toThrow();
    expect(() => check({ select: "im" }, "target/val", "target/train")).toThrow(/^select: im/);
    expect(() => check({ evaluateEvery: 0 }, "source/val")).not.toThrow();
    expect(() => check({ adaBN: true }, "target/train")).toThrow(/^adaBN/);
  });
});
