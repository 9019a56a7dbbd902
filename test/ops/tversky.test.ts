import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { ReferenceBackend } from "../../src/backends/reference/index.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { focalTversky, tverskyPresets } from "../../src/losses.js";
import { scale } from "../../src/ops/elementwise.js";
import { resizeBilinear } from "../../src/ops/resize_bilinear.js";
import { type TverskyOptions, tversky } from "../../src/ops/tversky.js";
import type { Shape } from "../../src/shape.js";
import { dispose, Tensor } from "../../src/tensor.js";
import {
  allDevices,
  checkOp,
  labels,
  type Operand,
  outputWeights,
  random,
  referenceDevice,
  relativeError,
  webgpuDevice,
} from "../harness.js";

interface Golden {
  name: string;
  mode: "multiclass" | "binary" | "multilabel";
  preset: keyof typeof tverskyPresets | null;
  options: TverskyOptions;
  shape: number[];
  logits: number[];
  labelShape: number[];
  labels: number[];
  loss: number;
  gradient: number[];
}
const goldens: Golden[] = JSON.parse(readFileSync(new URL("../golden/tversky.json", import.meta.url), "utf8"));

/** Loss and gradient on one device. */
async function evaluate(
  device: Backend,
  z: ArrayLike<number>,
  shape: Shape,
  y: ArrayLike<number>,
  yShape: Shape,
  options: TverskyOptions,
) {
  const [logits, truth] = [Tensor.from(device, z, shape), Tensor.from(device, y, yShape, "u32")];
  const { values, gradients } = differentiate([logits], () => ({ loss: tversky(logits, truth, options) }));
  const result = { loss: await values.loss.item(), gradient: await gradients[0]!.data() };
  dispose(logits, truth, values, gradients);
  return result;
}

describe("tversky", () => {
  test.each(goldens)(
    "$name",
    async ({ mode, preset, options, shape, logits, labelShape, labels: y, loss, gradient }) => {
      const [w] = outputWeights(1);
      const all: TverskyOptions = { ...(preset && tverskyPresets[preset]), ...options, mode };
      await checkOp(
        (z, t) => tversky(z, t, all),
        [
          { data: logits, shape },
          { data: y, shape: labelShape, dtype: "u32" },
        ],
        { golden: { output: [loss], gradients: [gradient.map((g) => g * w!)] }, goldenTolerance: 1e-9 },
      );
    },
  );

  const shapes: [Shape, TverskyOptions][] = [
    [[1, 1, 1, 1], {}],
    [[4], {}],
    [[1, 1, 1, 3], { reduce: "image" }],
    [[2, 7, 5, 21], {}],
    [[70, 3], { reduce: "image" }],
    [[3, 2, 3, 256], { reduce: "image", average: "micro" }],
    [[1, 40, 40, 3], { gamma: 4 / 3 }],
    [[300, 16], {}],
    [[131, 24], {}],
    [[2, 65, 30], { reduce: "image" }],
    [[2, 1030], {}],
  ];
  test.each(shapes)("shape %j, %j", async (shape, options) => {
    await checkOp(
      (z, t) => tversky(z, t, options),
      [random(shape, 4, -3, 3), labels(shape.slice(0, -1), shape.at(-1)!, 5)],
    );
  });

  test("binary takes labels and logits with or without the channel", async () => {
    const z = random([2, 3, 2, 1], 3, -2, 2).data;
    const y = labels([2, 3, 2], 2, 8).data;
    for (const device of await allDevices()) {
      const answers = [];
      for (const shape of [
        [2, 3, 2, 1],
        [2, 3, 2],
      ]) {
        for (const yShape of [
          [2, 3, 2, 1],
          [2, 3, 2],
        ]) {
          answers.push((await evaluate(device, z, shape, y, yShape, { mode: "binary", reduce: "image" })).loss);
        }
      }
      expect(new Set(answers).size).toBe(1);
    }
  });

  test("labels that are no class count as ignored", async () => {
    for (const device of await allDevices()) {
      const z = random([4, 3], 9, -2, 2).data;
      const strange = await evaluate(device, z, [4, 3], [0, 2, 3, 0xffffffff], [4], {});
      const ignored = await evaluate(device, z, [4, 3], [0, 2, 255, 255], [4], {});
      expect(strange).toEqual(ignored);
      const sigmoid = await evaluate(device, z.slice(0, 4), [4], [0, 1, 2, 255], [4], { mode: "binary" });
      expect([...sigmoid.gradient.slice(2)]).toEqual([0, 0]);
    }
  });

  test.each(["count", "zero", "skip"] as const)(
    "all ignored, emptyClass %s: finite and without gradient",
    async (emptyClass) => {
      for (const device of await allDevices()) {
        for (const powOrder of ["class", "mean"] as const) {
          for (const mode of ["multiclass", "multilabel"] as const) {
            const y = new Array(mode === "multiclass" ? 4 : 12).fill(255);
            const yShape = mode === "multiclass" ? [2, 2] : [2, 2, 3];
            const options: TverskyOptions = { mode, emptyClass, powOrder, gamma: 4 / 3 };
            const { loss, gradient } = await evaluate(device, random([2, 2, 3]).data, [2, 2, 3], y, yShape, options);
            expect([...gradient].every((g) => g === 0)).toBe(true);
            // "count" has no pixels and no smoothing: TI is 0 / 1e-7
            expect(loss).toBeLessThanOrEqual(
              emptyClass === "count" ? 1 : emptyClass === "zero" ? 1e-4 : powOrder === "mean" ? 1e-4 : 0,
            );
            expect(loss).toBeGreaterThanOrEqual(0);
          }
        }
      }
    },
  );

  test("a class that is absent: skipped, counted as 0, or paying for its false positives", async () => {
    const z = random([5, 3], 12, -2, 2).data;
    const y = [0, 1, 0, 1, 1];
    for (const device of await allDevices()) {
      const at = (options: TverskyOptions) => evaluate(device, z, [5, 3], y, [5], options);
      const [skip, zero, count] = [await at({}), await at({ emptyClass: "zero" }), await at({ emptyClass: "count" })];
      expect(zero.loss / skip.loss).toBeCloseTo(2 / 3, 5);
      expect(count.loss).toBeCloseTo(zero.loss + 1 / 3, 5);
      const chosen = await at({ classes: [0, 1] });
      expect(chosen.loss).toBeCloseTo(skip.loss, 6);
    }
  });

  test("a perfect prediction has a finite gradient for any focal exponent", async () => {
    const z = [200, 0, 0, 0, 200, 0, 0, 0, 200];
    for (const device of await allDevices()) {
      for (const powOrder of ["class", "mean"] as const) {
        for (const gamma of [4 / 3, 4, 0.5]) {
          const { loss, gradient } = await evaluate(device, z, [3, 3], [0, 1, 2], [3], { gamma, powOrder });
          expect([...gradient].every((g) => g === 0)).toBe(true);
          expect(loss).toBeCloseTo(1e-6 ** (1 / gamma), 6);
          const near = await evaluate(
            device,
            z.map((v) => v / 20),
            [3, 3],
            [0, 1, 2],
            [3],
            { gamma, powOrder },
          );
          expect([...near.gradient].every(Number.isFinite)).toBe(true);
          expect(near.gradient[0]).toBeLessThan(0); // raising the right logit still lowers the loss
        }
      }
      const plain = await evaluate(device, z, [3, 3], [0, 1, 2], [3], {});
      expect(plain.loss).toBe(0);
    }
  });

  test("a hopeless prediction under the log loss is finite, too", async () => {
    for (const device of await allDevices()) {
      const { loss, gradient } = await evaluate(device, [200, 0, 0, 200], [2, 2], [1, 0], [2], { logLoss: true });
      expect(loss).toBeCloseTo(-Math.log(1e-7), 4);
      expect([...gradient].every((g) => g === 0)).toBe(true);
    }
  });

  test("extreme logits stay finite in every mode", async () => {
    const z = [1e4, -1e4, 0, -3e38, 3e38, 0, 1e4, 1e4 + 1, 1e4 - 1];
    for (const device of await allDevices()) {
      const soft = await evaluate(device, z, [3, 3], [0, 0, 1], [3], { gamma: 4 / 3 });
      const sigmoid = await evaluate(device, z, [3, 3], [0, 1, 1, 1, 0, 1, 1, 0, 1], [3, 3], { mode: "multilabel" });
      for (const { loss, gradient } of [soft, sigmoid]) {
        expect(Number.isFinite(loss)).toBe(true);
        expect([...gradient].every(Number.isFinite)).toBe(true);
      }
      const expected = await evaluate(referenceDevice(), z, [3, 3], [0, 0, 1], [3], { gamma: 4 / 3 });
      expect(relativeError(soft.gradient, expected.gradient)).toBeLessThan(1e-5);
    }
  });

  test("the upstream gradient scales it", async () => {
    for (const device of await allDevices()) {
      const z = Tensor.from(device, random([6, 3], 2).data, [6, 3]);
      const y = Tensor.from(device, labels([6], 3).data, [6], "u32");
      const once = differentiate([z], () => ({ loss: tversky(z, y) }));
      const thrice = differentiate([z], () => ({ loss: scale(tversky(z, y), 3) }));
      const [a, b] = [await once.gradients[0]!.data(), await thrice.gradients[0]!.data()];
      expect(
        relativeError(
          [...b].map((v) => v / 3),
          a,
        ),
      ).toBeLessThan(1e-6);
      dispose(z, y, once.values, once.gradients, thrice.values, thrice.gradients);
    }
  });

  test("sums stay accurate over four million pixels, whole and in parts", { timeout: 300_000 }, async () => {
    if (!(await webgpuDevice())) return;
    const [n, side] = [4, 1024];
    const pixels = n * side * side;
    // 16-bit steps are exact in f32, so that both devices see the same numbers; the shift makes them nearly right
    const y = Uint32Array.from({ length: pixels }, (_, i) => (i % 7 === 0 ? 255 : i % 50 === 1 ? 1 : 0));
    const z = Float32Array.from({ length: pixels * 2 }, (_, i) => {
      const hit = y[i >> 1] === (i & 1) ? 3 : 0;
      return ((Math.imul(i, 40503) & 0xffff) - 32768) / 16384 + hit;
    });
    const small = await WebGPUBackend.open({ maxBindingBytes: 9_000_000 });
    try {
      for (const options of [{}, { reduce: "image", gamma: 4 / 3 }] satisfies TverskyOptions[]) {
        const shapes = [
          [n, side, side, 2],
          [n, side, side],
        ] as const;
        const expected = await evaluate(referenceDevice(), z, shapes[0], y, shapes[1], options);
        for (const device of [(await webgpuDevice())!, small]) {
          const got = await evaluate(device, z, shapes[0], y, shapes[1], options);
          expect(Math.abs(got.loss / expected.loss - 1)).toBeLessThan(2e-6);
          expect(relativeError(got.gradient, expected.gradient)).toBeLessThan(2e-6);
        }
      }
    } finally {
      small.dispose();
    }
  });

  test("errors name what is wrong", () => {
    const device = referenceDevice();
    const z = Tensor.zeros(device, [2, 3]);
    const y = Tensor.zeros(device, [2], "u32");
    expect(() => tversky(y, y)).toThrow(DTypeError);
    expect(() => tversky(z, z)).toThrow(DTypeError);
    expect(() => tversky(z, y, { mode: "multilabel" })).toThrow(ShapeError);
    expect(() => tversky(z, y, { mode: "binary" })).toThrow(ShapeError);
    const scalar = Tensor.zeros(device, []);
    expect(() => tversky(scalar, y)).toThrow(ShapeError);
    const wrong: TverskyOptions[] = [
      { alpha: -1 },
      { beta: Number.NaN },
      { gamma: 0 },
      { gamma: Number.POSITIVE_INFINITY },
      { smoothNum: -1 },
      { smoothDen: Number.POSITIVE_INFINITY },
      { ignoreIndex: -1 },
      { classes: [] },
      { classes: [3] },
      { classes: [0.5] },
      { classWeights: [1, 1] },
      { classWeights: [1, 1, 1], average: "micro" },
      // @ts-expect-error not a mode
      { mode: "softmax" },
      // @ts-expect-error not a reduction
      { reduce: "perImage" },
      // @ts-expect-error not a rule
      { emptyClass: "nan" },
    ];
    for (const options of wrong) expect(() => tversky(z, y, options), JSON.stringify(options)).toThrow(ArgumentError);
    dispose(z, y, scalar);
  });
});

describe("tversky with upsample", () => {
  type Size = [number, number];
  /** Labels with some that are ignored (255) and some that are no class. */
  const truth = (shape: Shape, classes: number, seed: number) => {
    const y = labels(shape, classes, seed);
    return { ...y, data: y.data.map((v, i) => (i % 7 === 3 ? 255 : i % 11 === 5 ? 200 : v)) };
  };
  const labelShape = (n: number, size: Size, c: number, mode?: TverskyOptions["mode"]) =>
    mode === "multilabel" ? [n, ...size, c] : [n, ...size];

  /** Fused against the two ops, on every device. */
  async function compareWithOps(z: Operand, y: Operand, size: Size, options: TverskyOptions): Promise<void> {
    const { upsample, ...plain } = options;
    for (const device of await allDevices()) {
      const made = [Tensor.from(device, z.data, z.shape), Tensor.from(device, y.data, y.shape, "u32")] as const;
      const fused = differentiate([made[0]], () => ({ loss: tversky(...made, options) }));
      const apart = differentiate([made[0]], () => ({
        loss: tversky(resizeBilinear(made[0], size, upsample!), made[1], plain),
      }));
      const limit = device === referenceDevice() ? 1e-12 : 1e-5;
      expect(Math.abs((await fused.values.loss.item()) - (await apart.values.loss.item()))).toBeLessThan(limit);
      const [a, b] = [await fused.gradients[0]!.data(), await apart.gradients[0]!.data()];
      expect(relativeError(a, b), `${device.description}, gradient`).toBeLessThan(limit);
      dispose(made, fused, apart);
    }
  }

  const cases: [Shape, Size, TverskyOptions][] = [
    [[2, 4, 5, 6], [16, 20], {}],
    [[2, 4, 5, 6], [16, 20], { reduce: "image", gamma: 4 / 3 }],
    [[1, 3, 5, 21], [7, 11], {}],
    [[1, 3, 5, 21], [7, 11], { average: "micro", emptyClass: "count", smoothNum: 1, smoothDen: 1 }],
    [[3, 5, 4, 2], [5, 4], { logLoss: true }],
    [[1, 1, 1, 3], [1, 1], {}],
    [[2, 1, 1, 3], [9, 70], { powOrder: "mean", gamma: 2 }],
    [[1, 1, 6, 1], [4, 13], {}],
    [[2, 7, 1, 5], [8, 3], { classWeights: [1, 0, 2, 1, 0.5] }],
    [[1, 2, 3, 70], [5, 6], { classes: [1, 4, 69] }],
    [[1, 2, 3, 28], [5, 300], {}], // wider than a block of the CUDA kernels, and no multiple of it
    [[1, 10, 36, 3], [40, 140], { reduce: "image" }],
    [[2, 17, 9, 4], [33, 100], { reduce: "image", average: "micro" }],
    [[2, 3, 4, 1], [12, 9], { mode: "binary", reduce: "image", gamma: 4 / 3 }],
    [[2, 3, 4, 3], [7, 16], { mode: "multilabel" }],
    [[1, 3, 4, 3], [5, 17], { mode: "multilabel", ignoreIndex: 0, emptyClass: "count" }],
    [[1, 3, 4, 2], [5, 17], { mode: "multilabel", ignoreIndex: 1, emptyClass: "count", smoothNum: 1 }],
    [[1, 3, 4, 4], [5, 18], { ignoreIndex: 0 }],
    [[1, 5, 2, 21], [5, 9], { mode: "multilabel", average: "micro", reduce: "image" }],
  ];
  describe.each([false, true])("alignCorners %s", (alignCorners) => {
    test.each(cases)("%j to %j, %j", async (shape, size, given) => {
      const [n, , , c] = shape as [number, number, number, number];
      const options = { ...given, upsample: { alignCorners } };
      const sigmoid = given.mode !== undefined;
      const y = truth(labelShape(n, size, c, given.mode), sigmoid ? 2 : c, 5);
      const z = random(shape, 4, -3, 3);
      await checkOp((a, b) => tversky(a, b, options), [z, y]);
      await compareWithOps(z, y, size, options);
    });
  });

  test("for every ratio of 1 … 12 up to 24, along both axes", async () => {
    for (let from = 1; from <= 12; from++) {
      for (let to = from; to <= 24; to += 1 + (from % 3)) {
        const options = { upsample: { alignCorners: to % 2 === 0 } };
        const z = random([1, from, 13 - from, 2], from, -2, 2);
        await compareWithOps(z, truth([1, to, 25 - from], 2, to), [to, 25 - from], options);
      }
    }
  });

  test("in parts of images where the device binds less, whatever they are summed over", async () => {
    if (!(await webgpuDevice())) return;
    const small = await WebGPUBackend.open({ maxBindingBytes: 32_768 });
    try {
      const [n, size, c] = [5, [32, 32] as Size, 4];
      const z = random([n, 8, 8, c], 3, -3, 3);
      for (const given of [{}, { reduce: "image" }, { mode: "multilabel" }] satisfies TverskyOptions[]) {
        const options: TverskyOptions = { ...given, upsample: { alignCorners: false } };
        const mode = options.mode;
        const y = truth(labelShape(n, size, c, mode), mode ? 2 : c, 9);
        const expected = await evaluate(referenceDevice(), z.data, z.shape, y.data, y.shape, options);
        const got = await evaluate(small, z.data, z.shape, y.data, y.shape, options);
        expect(Math.abs(got.loss / expected.loss - 1)).toBeLessThan(2e-6);
        expect(relativeError(got.gradient, expected.gradient)).toBeLessThan(1e-5);
      }
    } finally {
      small.dispose();
    }
  });

  test("extreme logits stay finite, confident pixels keep their gradient", async () => {
    const upsample = { alignCorners: false };
    const z = [1e4, -1e4, 0, -3e38, 3e38, 0, 1e4, 1e4 + 1, 1e4 - 1, 3e38, -3e38, 3e38];
    const y = labels([1, 7, 5], 3, 2).data;
    const bits = labels([1, 7, 5, 3], 2, 2).data;
    for (const device of await allDevices()) {
      const soft = await evaluate(device, z, [1, 2, 2, 3], y, [1, 7, 5], { gamma: 4 / 3, upsample });
      const sigmoid = await evaluate(device, z, [1, 2, 2, 3], bits, [1, 7, 5, 3], { mode: "multilabel", upsample });
      for (const { loss, gradient } of [soft, sigmoid]) {
        expect(Number.isFinite(loss)).toBe(true);
        expect([...gradient].every(Number.isFinite)).toBe(true);
      }
      // all right by 12: what is left of the gradient is the small difference of large numbers
      const sure = [12, 0, 0, 12.5, 0, 0.5, 0, 12, 0, 0, 12.25, 0];
      const sides = Array.from({ length: 32 }, (_, i) => Math.floor(i / 16));
      const at = (d: Backend) => evaluate(d, sure, [1, 2, 2, 3], sides, [1, 8, 4], { upsample });
      const expected = await at(referenceDevice());
      expect(relativeError((await at(device)).gradient, expected.gradient)).toBeLessThan(1e-5);
    }
  });

  test("presets pass it on", async () => {
    for (const device of await allDevices()) {
      const z = Tensor.from(device, random([1, 3, 3, 2]).data, [1, 3, 3, 2]);
      const y = Tensor.from(device, labels([1, 6, 6], 2).data, [1, 6, 6], "u32");
      const upsample = { alignCorners: true };
      const a = focalTversky(z, y, { upsample });
      const b = tversky(z, y, { upsample, gamma: 4 / 3 });
      expect(await a.item()).toBe(await b.item());
      dispose(z, y, a, b);
    }
  });

  test("stores nothing of the size of upsampled logits", () => {
    const upsample = { alignCorners: false };
    const peakOf = (loss: (z: Tensor, y: Tensor) => Tensor) => {
      const device = new ReferenceBackend();
      const [z, y] = [Tensor.zeros(device, [1, 4, 4, 64]), Tensor.zeros(device, [1, 16, 16], "u32")];
      dispose(differentiate([z], () => ({ loss: loss(z, y) })));
      return device.stats.peakBytes;
    };
    const apart = peakOf((z, y) => tversky(resizeBilinear(z, [16, 16], upsample), y));
    expect(peakOf((z, y) => tversky(z, y, { upsample }))).toBeLessThan(apart / 2);
  });

  test("errors name what is wrong", () => {
    const device = referenceDevice();
    const upsample = { alignCorners: false };
    const z = Tensor.zeros(device, [2, 4, 4, 3]);
    const shapes: [Shape, NonNullable<TverskyOptions["mode"]>][] = [
      [[2, 3, 4], "multiclass"],
      [[2, 4, 3], "multiclass"],
      [[1, 8, 8], "multiclass"],
      [[2, 8, 8, 3], "multiclass"],
      [[2, 64], "multiclass"],
      [[2, 8, 8], "multilabel"],
      [[2, 8, 8], "binary"],
    ];
    for (const [shape, mode] of shapes) {
      const y = Tensor.zeros(device, shape, "u32");
      expect(() => tversky(z, y, { upsample, mode }), JSON.stringify(shape)).toThrow(ShapeError);
      y.dispose();
    }
    const [flat, y] = [Tensor.zeros(device, [2, 4, 3]), Tensor.zeros(device, [2, 8, 8], "u32")];
    expect(() => tversky(flat, y, { upsample })).toThrow(ShapeError);
    const [empty, none] = [Tensor.zeros(device, [0, 4, 4, 3]), Tensor.zeros(device, [0, 8, 8], "u32")];
    expect(() => tversky(empty, none, { upsample })).toThrow(ShapeError);
    dispose(z, flat, y, empty, none);
  });
});
