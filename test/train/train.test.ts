import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readSafetensors, writeSafetensors } from "../../src/checkpoint/index.js";
import { CheckpointError, ConfigError } from "../../src/errors.js";
import {
  BEST,
  CHECKPOINT,
  DivergedError,
  type EvaluationRecord,
  loadTrained,
  METRICS,
  type PartialConfig,
  resolveConfig,
  type StepRecord,
  train,
} from "../../src/train/index.js";
import { Session } from "../../src/train/session.js";
import { allDevices, referenceDevice, webgpuDevice } from "../harness.js";
import { tiny, tinyCities } from "./tiny.js";

const folders: string[] = [];
const folder = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), "lacuna-train-")));
  return folders.at(-1)!;
};
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

/** Trains and disposes; what was reported of every step. */
async function records(config: PartialConfig): Promise<StepRecord[]> {
  const seen: StepRecord[] = [];
  const result = await train(config, { device: referenceDevice(), dataset: tinyCities(), onStep: (r) => seen.push(r) });
  expect(result.finished).toBe(true);
  result[Symbol.dispose]();
  return seen;
}

describe("train", () => {
  it("adapts: three losses with learned weights, a rising lambda, a discriminator", async () => {
    const seen = await records({ ...tiny, steps: 3, batch: { source: 2, target: 3 } });
    expect(seen.map((r) => r.step)).toEqual([1, 2, 3]);
    expect(seen[0]!.lambda).toBe(0);
    expect(seen[1]!.lambda).toBeCloseTo(2 / (1 + Math.exp(-10 / 3)) - 1, 12);
    expect(seen[0]!.weights).toEqual({ crossEntropy: 0.5, tversky: 0.5, domain: 0.5 });
    expect(seen[2]!.weights.tversky).not.toBe(0.5);
    expect(seen[0]!.losses.domain).toBeCloseTo(Math.LN2, 1);
    const { losses, total } = seen[0]!;
    const sum = 0.5 * (losses.crossEntropy! + losses.tversky! + losses.domain!) + 3 * Math.LN2;
    expect(total).toBeCloseTo(sum, 10); // Σ ½·c⁻²·L + ln(1 + c²) at c = 1
    for (const r of seen) {
      const { source, target } = r.discriminatorAccuracy!;
      expect([source, target].every((share) => share >= 0 && share <= 1)).toBe(true);
      expect(r.gradientNorm).toBeGreaterThan(0);
    }
    expect(seen[1]!.lr).toBeCloseTo(1e-3 * (2 / 3) ** 0.9, 12);
  });

  it("sees the target only where it adapts", async () => {
    const data = tinyCities();
    const reads: string[] = [];
    const watched = {
      ...data,
      split: (...[domain, split]: Parameters<typeof data.split>) => {
        reads.push(`${domain}/${split}`);
        return data.split(domain, split);
      },
    };
    const config = { ...tiny, steps: 1, mode: "source-only" } as const;
    using result = await train(config, {
      device: referenceDevice(),
      dataset: watched,
      onStep: (r) => {
        expect(Object.keys(r.losses)).toEqual(["crossEntropy", "tversky"]);
        expect(r.discriminatorAccuracy).toBeNull();
        expect(r.lambda).toBe(0);
      },
    });
    expect(result.step).toBe(1);
    expect(new Set(reads)).toEqual(new Set(["source/train"]));
  });

  it("may pass both domains through in one batch, and fix or leave out losses", async () => {
    const losses = { weighting: "fixed", fixed: { tversky: 0, domain: 2 } } as const;
    const [only] = await records({ ...tiny, steps: 1, jointBatch: true, losses });
    expect(Object.keys(only!.losses)).toEqual(["crossEntropy", "domain"]);
    expect(only!.weights).toEqual({ crossEntropy: 1, domain: 2 });
    expect(only!.total).toBeCloseTo(only!.losses.crossEntropy! + 2 * only!.losses.domain!, 10);
  });

  it.each([
    [{ losses: { fixed: { crossEntropy: 0, tversky: 0 } } }, "losses.fixed"],
    [{ losses: { crossEntropy: { classWeights: [1, 2] } } }, "losses.crossEntropy.classWeights"],
  ] as const)(
    "refuses a configuration that the data cannot take, and leaves nothing behind: %j",
    async (config, path) => {
      const failed = await train({ ...tiny, ...config }, { device: referenceDevice(), dataset: tinyCities() }).catch(
        (e: unknown) => e,
      );
      expect(failed).toBeInstanceOf(ConfigError);
      expect((failed as ConfigError).path).toBe(path);
    },
  );

  it("keeps as many buffers and bytes after every step", async () => {
    const device = await webgpuDevice();
    if (!device) return; // test/run.mjs has said so
    using session = await Session.start(
      device,
      resolveConfig({ ...tiny, mode: "adversarial+self-training", steps: 10, ema: 0.9 }),
      tinyCities(),
    );
    const after: string[] = [];
    await session.advance(); // the second step is captured, and keeps its results
    for (let i = 1; i < 10; i++) {
      await session.advance();
      after.push(`${device.stats.live} buffers, ${device.stats.bytes} bytes`);
    }
    expect(new Set(after).size).toBe(1);
  });
});

describe("a run folder", () => {
  const config: PartialConfig = {
    ...tiny,
    mode: "adversarial+self-training",
    selfTraining: { decay: 0.5, threshold: 0.3, warmUp: 1 },
    ema: 0.9,
    adaBN: true,
    steps: 3,
    evaluateEvery: 2,
    checkpointEvery: 2,
    select: "snd",
    schedule: { kind: "poly", warmUp: 2 },
  };

  it("continues with the same bits, on every device", async () => {
    for (const device of await allDevices()) {
      const dataset = tinyCities();
      const [straight, parted] = [folder(), folder()];
      const evaluations: EvaluationRecord[] = [];
      const whole = await train(config, {
        device,
        dataset,
        folder: straight,
        onEvaluation: (e) => evaluations.push(e),
      });
      expect(whole.finished).toBe(true);
      whole[Symbol.dispose]();
      expect(evaluations.map((e) => e.step)).toEqual([2]);

      const stop = new AbortController();
      const half = await train(config, {
        device,
        dataset,
        folder: parted,
        signal: stop.signal,
        onStep: ({ step }) => {
          if (step === 1) stop.abort();
        },
      });
      expect([half.finished, half.step]).toEqual([false, 1]);
      half[Symbol.dispose]();
      const steps: number[] = [];
      const rest = await train(config, { device, dataset, folder: parted, onStep: (r) => steps.push(r.step) });
      expect([rest.finished, steps]).toEqual([true, [2, 3]]);
      rest[Symbol.dispose]();

      for (const path of [straight, parted]) {
        const kept = readFileSync(join(path, METRICS), "utf8").trimEnd().split("\n");
        expect(kept.map((line) => `${JSON.parse(line).kind} ${JSON.parse(line).step}`)).toEqual([
          "step 1",
          "step 2",
          "evaluation 2",
          "step 3",
        ]);
      }
      const [best, other] = [await readSafetensors(join(straight, BEST)), await readSafetensors(join(parted, BEST))];
      expect(JSON.parse(best.metadata.get("lacuna.run")!)).toMatchObject({ step: 2, history: { best: { step: 2 } } });
      expect([...best.tensors.keys()].some((name) => /^(optimiser|discriminator|teacher)/.test(name))).toBe(false);
      for (const [name, { data }] of best.tensors) expect(other.tensors.get(name)!.data).toEqual(data);

      const [a, b] = [
        await readSafetensors(join(straight, CHECKPOINT)),
        await readSafetensors(join(parted, CHECKPOINT)),
      ];
      expect([...b.tensors.keys()].sort()).toEqual([...a.tensors.keys()].sort());
      for (const part of ["model", "discriminator", "lossWeights", "optimiser", "ema", "teacher", "adaBN"]) {
        expect(
          [...a.tensors.keys()].some((name) => name.startsWith(`${part}.`)),
          part,
        ).toBe(true);
      }
      for (const [name, { data }] of a.tensors) {
        expect(
          Buffer.from(b.tensors.get(name)!.data.buffer).equals(Buffer.from(data.buffer)),
          `${device.name}: ${name}`,
        ).toBe(true);
      }
      const withoutTime = (text: string) => text.replace(/"seconds(PerStep)?":[\d.e-]+/g, "");
      expect(withoutTime(b.metadata.get("lacuna.run")!)).toBe(withoutTime(a.metadata.get("lacuna.run")!));
    }
  });

  it("evaluates the saved model as the trained one, by its averaged weights", async () => {
    const device = referenceDevice();
    const path = folder();
    using result = await train({ ...config, steps: 2 }, { device, dataset: tinyCities(), folder: path });
    using loaded = await loadTrained(join(path, CHECKPOINT), device);
    for (const [name, t] of result.model.parameters()) {
      expect(await loaded.model.parameters().get(name)!.data(), name).toEqual(await t.data());
    }
    using unadapted = await loadTrained(join(path, CHECKPOINT), device, { adapted: false });
    for (const [name, t] of result.model.buffers()) {
      expect(await loaded.model.buffers().get(name)!.data()).toEqual(await t.data());
      expect(await unadapted.model.buffers().get(name)!.data(), name).not.toEqual(await t.data());
    }
    expect(loaded.run.classes).toEqual(tinyCities().classes);
    const { tensors } = await readSafetensors(join(path, CHECKPOINT));
    expect(tensors.get("ema.model.encoder.conv1.weight")!.data).not.toEqual(
      tensors.get("model.encoder.conv1.weight")!.data,
    );
  });

  it("is left complete by an abort, and untouched by one before the first step", async () => {
    const path = folder();
    const options = { device: referenceDevice(), dataset: tinyCities(), folder: path };
    (await train(config, { ...options, signal: AbortSignal.abort() }))[Symbol.dispose]();
    expect(existsSync(join(path, CHECKPOINT))).toBe(false);
    const stop = new AbortController();
    (await train(config, { ...options, signal: stop.signal, onStep: () => stop.abort() }))[Symbol.dispose]();
    const { metadata } = await readSafetensors(join(path, CHECKPOINT));
    expect(JSON.parse(metadata.get("lacuna.run")!)).toMatchObject({ step: 1, positions: { source: 2, target: 2 } });
  });

  it("stops where the loss is no number, and keeps the last checkpoint", async () => {
    const path = folder();
    const stop = new AbortController();
    const options = { device: referenceDevice(), dataset: tinyCities(), folder: path };
    (await train(config, { ...options, signal: stop.signal, onStep: () => stop.abort() }))[Symbol.dispose]();
    const file = join(path, CHECKPOINT);
    const { tensors, metadata } = await readSafetensors(file);
    tensors.get("model.segmentation_head.0.bias")!.data.fill(Number.NaN);
    await writeSafetensors(file, tensors, metadata);
    const before = readFileSync(file);
    await expect(train(config, options)).rejects.toThrow(DivergedError);
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it("refuses another configuration, other classes, and what is no run", async () => {
    const path = folder();
    const options = { device: referenceDevice(), dataset: tinyCities(), folder: path };
    (await train({ ...config, steps: 1, schedule: { warmUp: 0 } }, options))[Symbol.dispose]();
    const refused = async (changed: PartialConfig, dataset = tinyCities()) => {
      const base = { ...config, steps: 1, schedule: { warmUp: 0 } } as const;
      const error = await train({ ...base, ...changed }, { ...options, dataset }).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(CheckpointError);
      return error as CheckpointError;
    };
    expect((await refused({ seed: 9 })).keys).toEqual(["seed: was 0, is 9"]);
    await refused({}, { ...tinyCities(), classes: ["a", "b", "c", "d", "e"] });
    const file = join(path, CHECKPOINT);
    const bytes = readFileSync(file);
    for (const spoilt of [bytes.subarray(0, bytes.length - 1), Buffer.from("{}"), Buffer.alloc(0)]) {
      writeFileSync(file, spoilt);
      await refused({});
      await expect(loadTrained(file, referenceDevice())).rejects.toThrow(CheckpointError);
    }
  });
});
