import { describe, expect, test } from "vitest";
import { differentiable, differentiate } from "../src/autograd.js";
import { ReferenceBackend } from "../src/backends/reference/index.js";
import { DisposedError, OperandError, ScopeError, ShapeError } from "../src/errors.js";
import { add, mul, relu, scale } from "../src/ops/elementwise.js";
import * as ops from "../src/ops/index.js";
import { sum } from "../src/ops/reduce.js";
import { Generator } from "../src/random.js";
import { dispose, scope, Tensor, withoutScope } from "../src/tensor.js";
import { allDevices, checkOp, random, referenceDevice, values } from "./harness.js";

const device = referenceDevice();

describe("differentiate", () => {
  test("adds up gradients that meet: x + x, x used thrice", async () => {
    await checkOp((x) => add(x, x), [random([5])]);
    await checkOp((x) => add(mul(x, x), scale(x, 3)), [random([5])]);
  });
  test("gives zeros for a parameter that the loss does not depend on", async () => {
    const [a, b] = [Tensor.from(device, [1, 2]), Tensor.from(device, [3, 4, 5])];
    const { values, gradients } = differentiate([a, b], () => ({ loss: sum(a) }));
    expect([...(await gradients[0]!.data())]).toEqual([1, 1]);
    expect([...(await gradients[1]!.data())]).toEqual([0, 0, 0]);
    dispose(values, gradients, a, b);
  });
  test("gives each of two equal parameters its own gradient", async () => {
    const a = Tensor.from(device, [1, 2]);
    const { values, gradients } = differentiate([a, a], () => ({ loss: sum(a) }));
    gradients[0]!.dispose();
    expect([...(await gradients[1]!.data())]).toEqual([1, 1]);
    dispose(values, gradients, a);
  });
  test("a parameter that is the loss itself", async () => {
    const a = Tensor.scalar(device, 2);
    const { values, gradients } = differentiate([a], () => ({ loss: a }));
    expect(await gradients[0]!.item()).toBe(1);
    expect(values.loss).toBe(a);
    dispose(gradients, a);
  });
  test("passes on what else the function returns and frees the rest", async () => {
    const a = Tensor.from(device, [1, 2]);
    const before = device.stats.live;
    const { values, gradients } = differentiate([a], () => {
      const h = relu(scale(a, 2));
      return { loss: sum(h), h, note: "kept" };
    });
    expect(values.note).toBe("kept");
    expect([...(await values.h.data())]).toEqual([2, 4]);
    expect(device.stats.live).toBe(before + 3); // loss, h, gradient
    dispose(values, gradients, a);
  });
  test("leaks nothing when the function throws", () => {
    const a = Tensor.from(device, [1, 2]);
    const before = device.stats.live;
    expect(() =>
      differentiate([a], () => {
        relu(scale(a, 2));
        throw new Error("from the loss");
      }),
    ).toThrow("from the loss");
    expect(device.stats.live).toBe(before);
    const again = differentiate([a], () => ({ loss: sum(a) })); // the tape is closed
    dispose(again, a);
  });
  test("refuses losses of more than one element, nesting and async functions", () => {
    const a = Tensor.from(device, [1, 2]);
    expect(() => differentiate([a], () => ({ loss: scale(a, 2) }))).toThrow(ShapeError);
    expect(() => differentiate([a], () => differentiate([a], () => ({ loss: sum(a) })).values)).toThrow(ScopeError);
    const misuse = async () => ({ loss: sum(a) });
    expect(() => differentiate([a], misuse as unknown as () => { loss: Tensor })).toThrow(ScopeError);
    a.dispose();
  });
  test("records nothing outside", () => {
    const a = Tensor.from(device, [1, 2]);
    let pulled = 0;
    const y = scope(() =>
      differentiable([a], [a], scale(a, 2), (dy) => {
        pulled++;
        return [dy];
      }),
    );
    dispose(
      differentiate([a], () => ({ loss: sum(a) })),
      y,
      a,
    );
    expect(pulled).toBe(0);
  });
});

describe("scope", () => {
  test("frees what is made inside, keeps what is returned in arrays, objects and maps", async () => {
    const before = device.stats.live;
    const kept = scope(() => {
      const x = Tensor.from(device, [1]);
      scale(x, 2);
      return { list: [scale(x, 3)], map: new Map([["k", scale(x, 4)]]) };
    });
    expect(device.stats.live).toBe(before + 2);
    expect(await kept.list[0]!.item()).toBe(3);
    expect(await kept.map.get("k")!.item()).toBe(4);
    dispose(kept);
    expect(device.stats.live).toBe(before);
  });
  test("hands results on to the scope around it", () => {
    const before = device.stats.live;
    scope(() => {
      const inner = scope(() => Tensor.from(device, [1]));
      expect(inner.disposed).toBe(false);
    });
    expect(device.stats.live).toBe(before);
  });
  test("refuses promises and frees even so", () => {
    const before = device.stats.live;
    expect(() => scope(async () => Tensor.from(device, [1]))).toThrow(ScopeError);
    expect(device.stats.live).toBe(before);
  });
  test("ops made of several kernels leave nothing behind outside a scope", () => {
    const x = Tensor.from(device, values(2 * 6 * 6 * 4), [2, 6, 6, 4]);
    const labels = Tensor.zeros(device, [2, 6, 6], "u32");
    const ones = (size: number) => Tensor.ones(device, [size]);
    const [gamma, beta, runningMean, runningVar] = [ones(4), ones(4), ones(4), ones(4)];
    const w = Tensor.ones(device, [4, 3, 3, 4]);
    const state = { gamma, beta, runningMean, runningVar };
    const calls: Record<string, () => Tensor> = {
      sum: () => ops.sum(x),
      mean: () => ops.mean(x, { axes: [1, 2] }),
      max: () => ops.max(x, { axes: [0, 2] }),
      argmax: () => ops.argmax(x),
      pow: () => ops.pow(x, 0),
      cast: () => ops.cast(x, "f32"),
      conv2d: () => ops.conv2d(x, w, { bias: gamma, padding: 1 }),
      batchNorm: () => ops.batchNorm(x, state, { mode: "train" }),
      groupNorm: () => ops.groupNorm(x, gamma, beta, { groups: 2 }),
      maxPool2d: () => ops.maxPool2d(x, { kernel: 2 }),
      avgPool2d: () => ops.avgPool2d(x, { kernel: 2 }),
      globalAvgPool: () => ops.globalAvgPool(x),
      resizeBilinear: () => ops.resizeBilinear(x, [9, 9], { alignCorners: true }),
      concat: () => ops.concat([x, x]),
      slice: () => ops.slice(x, [0, 1, 1, 0], [2, 3, 3, 4]),
      pad: () =>
        ops.pad(x, [
          [0, 0],
          [1, 1],
          [1, 0],
          [0, 0],
        ]),
      transpose: () => ops.transpose(x, [3, 0, 1, 2]),
      softmax: () => ops.softmax(x),
      logSoftmax: () => ops.logSoftmax(x),
      dropout: () => ops.dropout(x, 0.5, new Generator(1)),
      crossEntropy: () => ops.crossEntropy(x, labels),
      binaryCrossEntropy: () => ops.binaryCrossEntropy(x, 1),
      tversky: () => ops.tversky(x, labels),
    };
    for (const [name, call] of Object.entries(calls)) {
      const before = device.stats.live;
      const y = call();
      expect(device.stats.live - before, name).toBe(name === "cast" ? 0 : 1);
      y.dispose();
      expect(device.stats.live, name).toBe(before);
    }
    dispose(x, labels, state, w);
  });
  test("withoutScope makes tensors that outlive it", () => {
    const kept = scope(() => [withoutScope(() => Tensor.from(device, [1]))].map((t) => ({ t })));
    expect(kept[0]!.t.disposed).toBe(false);
    dispose(kept);
  });
});

describe("errors", () => {
  test("a disposed tensor says so, with its type and shape", async () => {
    for (const d of await allDevices()) {
      const x = Tensor.zeros(d, [2, 3]);
      x.dispose();
      x.dispose(); // harmless
      expect(x.disposed).toBe(true);
      await expect(x.data()).rejects.toThrow(DisposedError);
      expect(() => scale(x, 2)).toThrow(DisposedError);
      try {
        relu(x);
      } catch (error) {
        expect(error).toMatchObject({ operands: { tensor: { shape: [2, 3], dtype: "f32" } } });
      }
    }
  });
  test("shapes that data does not fill", () => {
    expect(() => Tensor.from(device, [1, 2, 3], [2, 2])).toThrow(ShapeError);
    expect(() => Tensor.zeros(device, [2, -1])).toThrow(ShapeError);
    expect(() => Tensor.zeros(device, [1.5])).toThrow(ShapeError);
  });
  test("operands on different devices", () => {
    using other = new ReferenceBackend();
    scope(() => {
      expect(() => add(Tensor.zeros(device, [2]), Tensor.zeros(other, [2]))).toThrow(OperandError);
    });
  });
});
