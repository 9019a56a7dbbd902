import { describe, expect, it } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { binaryCrossEntropy, crossEntropy } from "../../src/losses.js";
import { DeepLabV3Plus, DomainDiscriminator, type Tap, tap, tapChannels, taps } from "../../src/models/index.js";
import { add, argmax, max, reverseGradient, softmax, watchGradient } from "../../src/ops/index.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import { adaptBatchNorm, type PartialConfig, resolveConfig, type StepRecord, train } from "../../src/train/index.js";
import { Session } from "../../src/train/session.js";
import { allDevices, cpuDevice, labels, random, referenceDevice } from "../harness.js";
import { tiny, tinyCities } from "./tiny.js";

async function records(config: PartialConfig, device = referenceDevice()): Promise<StepRecord[]> {
  const seen: StepRecord[] = [];
  (await train(config, { device, dataset: tinyCities(), onStep: (r) => seen.push(r) }))[Symbol.dispose]();
  return seen;
}

/** Little more than a fifth, and a float: what a network that knows next to nothing gives the best of five classes. */
const THRESHOLD = 1647 / 8192;

describe("self-training", () => {
  const config: PartialConfig = {
    ...tiny,
    mode: "self-training",
    steps: 3,
    selfTraining: { decay: 0.75, threshold: THRESHOLD, warmUp: 1 },
    losses: { fixed: { selfTraining: 2 } },
  };

  it("weighs its loss by the share of confident pixels, after the warm-up", async () => {
    const seen = await records(config);
    for (const r of seen) {
      expect(Object.keys(r.losses)).toEqual(["crossEntropy", "tversky", "selfTraining"]);
      expect([r.discriminatorAccuracy, r.gradientNorms, r.lambda, r.images]).toEqual([null, null, 0, 4]);
      expect(r.losses.selfTraining).toBeGreaterThan(0);
    }
    const [q1, q2, q3] = seen.map((r) => r.weights.selfTraining!);
    expect(q1).toBe(0);
    expect(q2! >= 0 && q2! <= 2 && q3! >= 0 && q3! <= 2).toBe(true);
    const [first] = await records({ ...config, steps: 1, selfTraining: { threshold: 0, warmUp: 0 } });
    expect(first!.weights.selfTraining).toBe(2); // every pixel is confident
    const { losses, weights, total } = first!;
    const learned = 0.5 * (losses.crossEntropy! + losses.tversky!) + 2 * Math.LN2;
    expect(total).toBeCloseTo(learned + weights.selfTraining! * losses.selfTraining!, 10);
    const [never] = await records({ ...config, steps: 1, selfTraining: { threshold: 1, warmUp: 0 } });
    expect(never!.weights.selfTraining).toBe(0);
  });

  it("labels by the average of the student's weights and the student's statistics", async () => {
    for (const device of await allDevices()) {
      using session = await Session.start(device, resolveConfig(config), tinyCities());
      const name = "segmentation_head.0.weight";
      const weight = session.model.parameters().get(name)!;
      const history = [[...(await weight.data())]];
      for (let i = 0; i < 3; i++) {
        await session.advance();
        history.push([...(await weight.data())]);
      }
      // min(1 − 1 / (t + 1), decay): the first update takes the student's weights, then a mean, then two thirds.
      const expected = history[0]!.map((_, i) => {
        const [w1, w2, w3] = [history[1]![i]!, history[2]![i]!, history[3]![i]!];
        return ((w1 + w2) / 2) * (2 / 3) + w3 / 3;
      });
      const at = session.optimiser.parameters.indexOf(weight);
      const average = [...(await session.teacher!.ema.averages[at]!.data())];
      average.forEach((value, i) => {
        expect(value, device.name).toBeCloseTo(expected[i]!, 5);
      });

      // The student in evaluation, with the teacher's weights, says the same.
      using images = Tensor.from(device, random([2, 16, 16, 3], 5).data, [2, 16, 16, 3]);
      const said = session.teacher!.label(images);
      for (const [i, t] of session.optimiser.parameters.entries()) {
        device.copy(session.teacher!.ema.averages[i]!.view, t.view);
      }
      session.model.eval();
      const same = scope(() => {
        const p = softmax(session.model.forward(images));
        return { labels: argmax(p), best: max(p, { axes: [-1] }) };
      });
      expect(await said.labels.data()).toEqual(await same.labels.data());
      const best = [...(await same.best.data())];
      const share = best.reduce((n, p) => n + (p >= THRESHOLD ? 1 : 0), 0) / best.length;
      expect(share > 0 && share < 1).toBe(true);
      expect((await said.confident.data())[0]).toBeCloseTo(share, 5);
      dispose(said, same);
    }
  });

  it("goes together with a discriminator, in one batch and in two", async () => {
    for (const jointBatch of [true, false]) {
      const both = { ...config, mode: "adversarial+self-training", jointBatch, steps: 2 } as const;
      const seen = await records({ ...both, batch: { source: 2, target: 3 } });
      expect(Object.keys(seen[1]!.losses)).toEqual(["crossEntropy", "tversky", "domain", "selfTraining"]);
      expect(seen[1]!.images).toBe(5);
      const { losses, weights, total, gradientNorms } = seen[0]!; // in the warm-up
      const learned = 0.5 * (losses.crossEntropy! + losses.tversky! + losses.domain!) + 3 * Math.LN2;
      expect(total).toBeCloseTo(learned, 10);
      expect(weights.selfTraining).toBe(0);
      expect(gradientNorms!.task).toBeGreaterThan(0);
      expect(seen[1]!.gradientNorms!.reversed).toBeGreaterThan(0);
    }
  });

  it("shows the teacher the student's crops as they are", async () => {
    using session = await Session.start(referenceDevice(), resolveConfig(config), tinyCities());
    const [seen, plain] = [await session.target!.next(), await session.plain!.next()];
    expect(plain.images).not.toEqual(seen.images);
    const uncoloured = resolveConfig({ ...config, augment: { brightness: 0, contrast: 0, saturation: 0 } });
    using other = await Session.start(referenceDevice(), uncoloured, tinyCities());
    expect((await other.target!.next()).images).toEqual(plain.images);
    expect(other.plain).toBeNull();
  });
});

describe("gradient norms", () => {
  it.each(taps.map((t) => [t]))("tell the task's from the reversed one at %s", async (at: Tap) => {
    const device = referenceDevice();
    using model = new DeepLabV3Plus(device, { backbone: "resnet18", classes: 3, width: 0.125, imagePooling: "group" });
    using critic = new DomainDiscriminator(device, { kind: "global", inChannels: tapChannels(model, at), width: 4 });
    model.eval(); // so that passes do not change statistics
    const x = Tensor.from(device, random([1, 16, 16, 3], 2).data, [1, 16, 16, 3]);
    const y = Tensor.from(device, labels([1, 16, 16], 3, 3).data, [1, 16, 16], "u32");
    const norms = [0, 0].map(() => Tensor.zeros(device, [1])) as [Tensor, Tensor];
    const map = at === "softmax" || at === "entropy" ? "logits" : at;
    const parameters = [...model.parameters().values()];
    const pass = (what: "task" | "reversed" | "both") =>
      scope(() => {
        differentiate(parameters, () => {
          const found = model.features(x, (m, here) => (here === map ? watchGradient(m, norms[0]) : m));
          const seen = { ...found, [map]: watchGradient(found[map], norms[1]) };
          const verdict = critic.forward(reverseGradient(tap(seen, at), 0.5));
          const task = crossEntropy(map === "logits" ? watchGradient(found.logits, norms[0]) : found.logits, y);
          const domain = binaryCrossEntropy(verdict, 1);
          return { loss: what === "task" ? task : what === "reversed" ? domain : add(task, domain) };
        });
      });
    pass("task");
    const task = (await norms[0].data())[0]!;
    expect((await norms[1].data())[0]).toBe(0);
    pass("reversed");
    const reversed = (await norms[1].data())[0]!;
    expect((await norms[0].data())[0]).toBe(task);
    expect(task * reversed).toBeGreaterThan(0);
    // Together each is what it was alone, though both flow into the same map.
    for (const norm of norms) norm.assign([-1]);
    pass("both");
    expect((await norms[0].data())[0]).toBeCloseTo(task, 12);
    expect((await norms[1].data())[0]).toBeCloseTo(reversed, 12);
    dispose(x, y, norms);
  });

  it("are measured in every step, and follow lambda", async () => {
    for (const device of await allDevices()) {
      const seen = await records({ ...tiny, mode: "adversarial", steps: 4 }, device);
      expect(seen[0]!.gradientNorms!.reversed, device.name).toBe(0); // lambda 0
      for (const r of seen) expect(r.gradientNorms!.task).toBeGreaterThan(0);
      for (const r of seen.slice(1)) expect(r.gradientNorms!.reversed).toBeGreaterThan(0);
      expect(new Set(seen.map((r) => r.gradientNorms!.task)).size).toBe(4);
    }
  });

  it("have nothing to reverse without discriminator", async () => {
    const [only] = await records({ ...tiny, mode: "source-only", steps: 1 });
    expect(only!.gradientNorms).toBeNull();
  });
});

describe("adversarial training", () => {
  it("looks at probabilities at the images' size with AdaptSegNet's discriminator", async () => {
    const config = {
      ...tiny,
      crop: 32,
      batch: { source: 1, target: 1 },
      mode: "adversarial",
      discriminator: { kind: "adaptSegNet", tap: "softmax" },
    } as const;
    const device = cpuDevice() ?? referenceDevice(); // 2.8 million parameters are many for float64 loops
    using session = await Session.start(device, resolveConfig({ ...config, steps: 2 }), tinyCities());
    expect(session.discriminator!.parameterCount).toBe(2_766_785); // 1024 less than the 2,767,809 of six classes
    const first = await session.advance();
    const second = await session.advance();
    expect(first.losses.domain).toBeCloseTo(Math.LN2, 1);
    expect(second.gradientNorms!.reversed).toBeGreaterThan(0);
  });
});

describe("AdaBN", () => {
  it("ends with the statistics of target/train, and trains as without", async () => {
    const device = referenceDevice();
    const config: PartialConfig = { ...tiny, mode: "source-only", steps: 1 };
    const dataset = tinyCities();
    using plain = await train(config, { device, dataset });
    using adapted = await train({ ...config, adaBN: true, evaluateEvery: 1 }, { device, dataset });
    for (const [name, t] of plain.model.parameters()) {
      expect(await adapted.model.parameters().get(name)!.data(), name).toEqual(await t.data());
    }
    const tiles = dataset.split("target", "train");
    await adaptBatchNorm(plain.model, tiles, { statistics: plain.statistics.target });
    for (const [name, t] of plain.model.buffers()) {
      const found = [...(await adapted.model.buffers().get(name)!.data())];
      // Dropout comes after most of the network: what lies behind it sees other draws.
      if (name.startsWith("encoder.")) expect(found, name).toEqual([...(await t.data())]);
    }
  });
});
