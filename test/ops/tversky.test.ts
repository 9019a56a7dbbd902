import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { tverskyPresets } from "../../src/losses.js";
import { scale } from "../../src/ops/elementwise.js";
import { type TverskyOptions, tversky } from "../../src/ops/tversky.js";
import type { Shape } from "../../src/shape.js";
import { dispose, Tensor } from "../../src/tensor.js";
import {
  allDevices,
  checkOp,
  labels,
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
