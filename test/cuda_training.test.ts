import { describe, expect, test } from "vitest";
import type { Backend } from "../src/backends/backend.js";
import { NativeBackend } from "../src/backends/native/index.js";
import { ArgumentError } from "../src/errors.js";
import { DeepLabV3Plus, type Precision } from "../src/models/index.js";
import { type StepRecord, train } from "../src/train/index.js";
import { cpuDevice, hostAddon, hostDevice, referenceDevice, relativeError } from "./harness.js";
import { tiny, tinyCities } from "./train/tiny.js";

const steps = 5;
/** The adversarial run of a tiny DeepLabV3+, all it measured and the weights it ended with. */
async function run(
  device: Backend,
  precision: Precision = "f32",
): Promise<{ records: StepRecord[]; weights: number[] }> {
  const records: StepRecord[] = [];
  using result = await train(
    { ...tiny, steps, ema: 0.9, model: { ...tiny.model, precision }, optim: { clipNorm: 1 } },
    { device, dataset: tinyCities(), onStep: (record) => records.push(record) },
  );
  const tensors = await Promise.all([...result.model.parameters().values()].map((t) => t.data()));
  return { records, weights: tensors.flatMap((data) => [...data]) };
}
const lossesOf = ({ records }: { records: StepRecord[] }) =>
  records.flatMap(({ total, losses }) => [total, ...Object.values(losses)]);
const withoutTimes = (records: StepRecord[]) => records.map(({ secondsPerStep, ...rest }) => rest);

/** A device of its own, as precision is the device's. */
const cuda = (graphs = true): NativeBackend => {
  const device = NativeBackend.open("cuda", { addon: hostAddon, guard: true });
  if (!graphs) Object.defineProperty(device, "graphs", { value: null });
  return device;
};

describe.skipIf(!hostDevice())("training DeepLabV3+ with gradient reversal by the CUDA kernels", () => {
  test("gives the reference's losses", async () => {
    using device = cuda();
    const [got, wanted] = [await run(device), await run(referenceDevice())];
    // Rounding grows from step to step.
    expect(relativeError(lossesOf(got).slice(0, 4), lossesOf(wanted).slice(0, 4))).toBeLessThan(1e-5);
    expect(relativeError(lossesOf(got), lossesOf(wanted))).toBeLessThan(5e-3);
    expect(got.records.every(({ gradientNorm }) => gradientNorm! > 0)).toBe(true);
  });

  test("from the second step on it is a graph, which gives the same bits", async () => {
    using replaying = cuda();
    using eager = cuda(false);
    const [replayed, taken] = [await run(replaying), await run(eager)];
    expect(withoutTimes(replayed.records)).toEqual(withoutTimes(taken.records));
    expect(replayed.weights).toEqual(taken.weights);
  });

  test.each<[Precision, number]>([
    ["tf32", 5e-3],
    ["bf16", 5e-2],
  ])("in %s it starts as in f32, and trains", async (precision, tolerance) => {
    using device = cuda();
    const [got, wanted] = [await run(device, precision), await run(cpuDevice() ?? referenceDevice())];
    expect(relativeError(lossesOf(got).slice(0, 4), lossesOf(wanted).slice(0, 4))).toBeLessThan(tolerance);
    expect(lossesOf(got).every(Number.isFinite)).toBe(true);
    expect(relativeError(lossesOf(got), lossesOf(wanted))).toBeLessThan(0.2);
  });
});

test("a device without a precision says so", () => {
  expect(() => new DeepLabV3Plus(referenceDevice(), { backbone: "resnet18", classes: 2, precision: "bf16" })).toThrow(
    ArgumentError,
  );
  expect(() => new DeepLabV3Plus(referenceDevice(), { backbone: "resnet18", classes: 2, precision: "tf32" })).toThrow(
    ArgumentError,
  );
});
