import { describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../src/errors.js";
import { MultiLoss } from "../src/multi_loss.js";
import { binaryCrossEntropy } from "../src/ops/binary_cross_entropy.js";
import { crossEntropy } from "../src/ops/cross_entropy.js";
import { matmul } from "../src/ops/index.js";
import { addWeightedLoss } from "../src/ops/multi_loss.js";
import { reverseGradient } from "../src/ops/reverse_gradient.js";
import { dispose, Tensor } from "../src/tensor.js";
import { allDevices, checkOp, random, referenceDevice, relativeError } from "./harness.js";

const scalar = (value: number) => ({ data: [value], shape: [] });

describe("addWeightedLoss", () => {
  for (const weighting of ["liebel", "kendall"] as const) {
    test(`${weighting}: values, gradients, any shape of one element`, async () => {
      const c = { data: [0.7, -1.3, 2.1], shape: [3] };
      for (const index of [0, 1, 2]) {
        await checkOp(
          (l, w) => {
            const { total, weight } = addWeightedLoss(null, l, w, index, weighting);
            return [total, weight].slice(0, 1);
          },
          [scalar(0.83), c],
        );
        await checkOp(
          (t, l, w) => addWeightedLoss(t, l, w, index, weighting).total,
          [scalar(-0.4), { data: [1.9], shape: [1, 1] }, c],
        );
      }
    });
  }

  test("below the limit of c² the value and the gradient are those at the limit, so c can leave it", async () => {
    for (const device of await allDevices()) {
      for (const [value, sign] of [
        [0.001, 1],
        [-0.001, -1],
        [0, 1],
      ] as const) {
        const [l, c] = [Tensor.scalar(device, 0.5), Tensor.from(device, [value])];
        const { values, gradients } = differentiate([l, c], () => ({
          loss: addWeightedLoss(null, l, c, 0, "liebel").total,
        }));
        expect((await values.loss.item()) / (0.25e4 + Math.log1p(1e-4))).toBeCloseTo(1, 5);
        expect((await gradients[0]!.item()) / 5000).toBeCloseTo(1, 5);
        expect(((await gradients[1]!.item()) * sign) / (0.02 / 1.0001 - 0.5e6)).toBeCloseTo(1, 5);
        dispose(l, c, values, gradients);
      }
      const [l, s] = [Tensor.scalar(device, 0.5), Tensor.from(device, [-50, 90])];
      for (const index of [0, 1]) {
        const { values, gradients } = differentiate([l, s], () => ({
          loss: addWeightedLoss(null, l, s, index, "kendall").total,
        }));
        expect(Number.isFinite(await values.loss.item())).toBe(true);
        const g = (await gradients[1]!.data())[index]!;
        expect(g / (index === 0 ? 0.5 - 0.25e4 : 0.5)).toBeCloseTo(1, 5);
        dispose(values, gradients);
      }
      dispose(l, s);
    }
  });

  test("errors", () => {
    const device = referenceDevice();
    const [l, c, pair, half] = [
      Tensor.scalar(device, 1),
      Tensor.ones(device, [2]),
      Tensor.ones(device, [2]),
      Tensor.zeros(device, [], "u32"),
    ];
    expect(() => addWeightedLoss(null, pair, c, 0, "liebel")).toThrow(ShapeError);
    expect(() => addWeightedLoss(pair, l, c, 0, "liebel")).toThrow(ShapeError);
    expect(() => addWeightedLoss(null, l, l, 0, "liebel")).toThrow(ShapeError);
    expect(() => addWeightedLoss(null, half, c, 0, "liebel")).toThrow(DTypeError);
    expect(() => addWeightedLoss(null, l, c, 2, "liebel")).toThrow(ArgumentError);
    dispose(l, c, pair, half);
  });
});

describe("MultiLoss", () => {
  const names = ["segmentation", "tversky", "domain"] as const;
  const given = { segmentation: 1.2, tversky: 0.4, domain: 0.7 };

  test("liebel: half of each loss and ln 2 each at the start; gradients of losses and of c", async () => {
    for (const device of await allDevices()) {
      using multi = new MultiLoss(device, { names, weighting: "liebel" });
      const c = multi.parameters().get("c")!;
      const losses = names.map((name) => Tensor.scalar(device, given[name]));
      const [segmentation, tversky, domain] = losses as [Tensor, Tensor, Tensor];
      const combine = () => {
        const { total, weights } = multi.combine({ domain, segmentation, tversky });
        return { loss: total, weights };
      };
      const { values, gradients } = differentiate([...losses, c], combine);
      expect(await values.loss.item()).toBeCloseTo(0.5 * 2.3 + 3 * Math.LN2, 6);
      for (const i of [0, 1, 2]) expect(await gradients[i]!.item()).toBeCloseTo(0.5, 6);
      const dc = await gradients[3]!.data();
      for (const [i, name] of names.entries()) expect(dc[i]).toBeCloseTo(1 - given[name], 6);
      expect(await multi.weights()).toEqual({ segmentation: 0.5, tversky: 0.5, domain: 0.5 });
      dispose(values, gradients);

      c.assign([2, -0.5, 1]);
      expect(await multi.weights()).toEqual({ segmentation: 0.125, tversky: 2, domain: 0.5 });
      const moved = multi.combine({ segmentation, tversky, domain });
      const expected = 0.125 * 1.2 + Math.log(5) + 2 * 0.4 + Math.log(1.25) + 0.5 * 0.7 + Math.LN2;
      expect(await moved.total.item()).toBeCloseTo(expected, 5);
      expect(await moved.weights.tversky!.item()).toBeCloseTo(2, 6);
      dispose(moved, losses);
    }
  });

  test("liebel finds its closed-form optimum by gradient descent", async () => {
    const device = referenceDevice();
    using multi = new MultiLoss(device, { names: ["a"], weighting: "liebel" });
    const c = multi.parameters().get("c")!;
    const [l] = [Tensor.scalar(device, 0.1)];
    for (let step = 0; step < 300; step++) {
      const { values, gradients } = differentiate([c], () => ({ loss: multi.combine({ a: l }).total }));
      c.assign([(await c.data())[0]! - 0.05 * (await gradients[0]!.data())[0]!]);
      dispose(values, gradients);
    }
    expect((await c.data())[0]! ** 2).toBeCloseTo((0.1 + Math.sqrt(0.01 + 0.8)) / 4, 6);
    expect((await multi.weights()).a).toBeCloseTo(2, 2);
    l.dispose();
  });

  test("kendall and fixed", async () => {
    for (const device of await allDevices()) {
      const losses = { segmentation: Tensor.scalar(device, 1.2), domain: Tensor.scalar(device, 0.7) };
      using kendall = new MultiLoss(device, { names, weighting: "kendall" });
      kendall
        .parameters()
        .get("c")!
        .assign([Math.log(2), 0, -1]);
      const a = kendall.combine(losses);
      expect(await a.total.item()).toBeCloseTo(0.25 * 1.2 + Math.log(2) / 2 + 0.5 * Math.E * 0.7 - 0.5, 5);
      expect((await kendall.weights()).segmentation).toBeCloseTo(0.25, 6);

      using fixed = new MultiLoss(device, { names, weighting: "fixed", fixed: { domain: 0.1 } });
      expect(fixed.parameters().size).toBe(0);
      const b = fixed.combine(losses);
      expect(await b.total.item()).toBeCloseTo(1.2 + 0.07, 6);
      expect(await b.weights.domain!.item()).toBeCloseTo(0.1, 6);
      expect(await fixed.weights()).toEqual({ segmentation: 1, tversky: 1, domain: 0.1 });
      dispose(a, b, losses);
    }
  });

  test("a subset is learned; a loss that is not given leaves no trace", async () => {
    for (const device of await allDevices()) {
      using multi = new MultiLoss(device, {
        names,
        weighting: "liebel",
        learned: ["tversky", "segmentation"],
        fixed: { domain: 0.3 },
      });
      expect(multi.learned).toEqual(["segmentation", "tversky"]);
      const c = multi.parameters().get("c")!;
      expect(c.shape).toEqual([2]);
      const domain = Tensor.scalar(device, 0.7);
      const segmentation = Tensor.scalar(device, 1.2);
      const both = differentiate([domain, c], () => ({ loss: multi.combine({ domain, segmentation }).total }));
      expect(await both.values.loss.item()).toBeCloseTo(0.21 + 0.6 + Math.LN2, 6);
      expect(await both.gradients[0]!.item()).toBeCloseTo(0.3, 6);
      const dc = await both.gradients[1]!.data();
      expect(dc[0]).toBeCloseTo(-0.2, 6);
      expect(dc[1]).toBe(0);
      using implied = new MultiLoss(device, { names, weighting: "liebel", fixed: { domain: 0.3 } });
      expect(implied.learned).toEqual(["segmentation", "tversky"]);
      dispose(domain, segmentation, both.values, both.gradients);
    }
  });

  test("λ reverses and scales the features' domain gradient, never the discriminator's own", async () => {
    for (const device of await allDevices()) {
      using multi = new MultiLoss(device, { names: ["segmentation", "domain"], weighting: "liebel" });
      const x = Tensor.from(device, random([6, 4], 1).data, [6, 4]);
      const extractor = Tensor.from(device, random([4, 3], 2).data, [4, 3]);
      const classifier = Tensor.from(device, random([3, 2], 3).data, [3, 2]);
      const discriminator = Tensor.from(device, random([3, 1], 4).data, [3, 1]);
      const y = Tensor.from(device, [0, 1, 1, 0, 1, 0], [6], "u32");
      const gradientsAt = async (lambda: number) => {
        const { values, gradients } = differentiate([extractor, classifier, discriminator], () => {
          const features = matmul(x, extractor);
          const segmentation = crossEntropy(matmul(features, classifier), y);
          const domain = binaryCrossEntropy(matmul(reverseGradient(features, lambda), discriminator), 1);
          return { loss: multi.combine({ segmentation, domain }).total };
        });
        const data = await Promise.all(gradients.map((g) => g.data()));
        dispose(values, gradients);
        return [data[0]!, data[1]!, data[2]!] as const;
      };
      const [none, one, four] = [await gradientsAt(0), await gradientsAt(1), await gradientsAt(4)];
      expect(relativeError(four[2], one[2])).toBe(0);
      expect(relativeError(none[2], one[2])).toBe(0);
      expect(relativeError(four[1], one[1])).toBe(0);
      const [shift, shiftFour] = [one, four].map((g) => Array.from(g[0], (v, i) => v - none[0][i]!)) as [
        number[],
        number[],
      ];
      expect(
        relativeError(
          shiftFour,
          shift.map((v) => 4 * v),
        ),
      ).toBeLessThan(1e-5);

      // The features' shift is minus the plain gradient of the weighted domain loss.
      const plain = differentiate([extractor], () => {
        const domain = binaryCrossEntropy(matmul(matmul(x, extractor), discriminator), 1);
        return { loss: multi.combine({ domain }).total };
      });
      const descent = await plain.gradients[0]!.data();
      expect(
        relativeError(
          shift,
          Array.from(descent, (v) => -v),
        ),
      ).toBeLessThan(1e-5);
      dispose(x, extractor, classifier, discriminator, y, plain.values, plain.gradients);
    }
  });

  test("errors name what is wrong", () => {
    const device = referenceDevice();
    const make = (options: Partial<ConstructorParameters<typeof MultiLoss>[1]>) =>
      new MultiLoss(device, { names: ["a", "b"], weighting: "liebel", ...options });
    for (const options of [
      { names: [] },
      { names: ["a", "a"] },
      { learned: ["c"] },
      { learned: ["a", "a"] },
      { fixed: { c: 1 } },
      { fixed: { a: -1 } },
      { fixed: { a: Number.NaN } },
      { learned: ["a"], fixed: { a: 1 } },
      { weighting: "fixed", learned: ["a"] },
    ] satisfies Parameters<typeof make>[0][]) {
      expect(() => make(options), JSON.stringify(options)).toThrow(ArgumentError);
    }
    // @ts-expect-error not a weighting
    expect(() => make({ weighting: "gradnorm" })).toThrow(ArgumentError);
    using multi = make({ fixed: { b: 1 } });
    const [good, pair, whole] = [Tensor.scalar(device, 1), Tensor.ones(device, [2]), Tensor.zeros(device, [], "u32")];
    expect(() => multi.combine({})).toThrow(ArgumentError);
    expect(() => multi.combine({ other: good })).toThrow(ArgumentError);
    expect(() => multi.combine({ a: pair })).toThrow(ShapeError);
    expect(() => multi.combine({ b: pair })).toThrow(ShapeError);
    expect(() => multi.combine({ b: whole })).toThrow(DTypeError);
    dispose(good, pair, whole);
  });
});
