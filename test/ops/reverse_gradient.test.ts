import { expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { ArgumentError, DTypeError } from "../../src/errors.js";
import { mul, sum } from "../../src/ops/index.js";
import { reverseGradient, stopGradient } from "../../src/ops/reverse_gradient.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import { allDevices, referenceDevice } from "../harness.js";

test.each([0, 0.25, 1, 3])("forward the identity, backward -%s times the gradient", async (lambda) => {
  for (const device of await allDevices()) {
    for (const dtype of ["f32", "f16"] as const) {
      if (!device.supports(dtype)) continue;
      const [x, w] = [Tensor.from(device, [1, -2, 3], [3], dtype), Tensor.from(device, [0.5, 4, -1], [3], dtype)];
      const { values, gradients } = differentiate([x], () => {
        const y = reverseGradient(x, lambda);
        return { y, loss: sum(mul(y, w)) };
      });
      expect([...(await values.y.data())]).toEqual([1, -2, 3]);
      expect([...(await gradients[0]!.data())].map((v) => v + 0)).toEqual([0.5, 4, -1].map((v) => 0 - lambda * v));
      dispose(values, gradients, x, w);
    }
  }
});

test("twice is once with the product, with two signs", async () => {
  for (const device of await allDevices()) {
    const x = Tensor.from(device, [1, 2]);
    const { values, gradients } = differentiate([x], () => ({ loss: sum(reverseGradient(reverseGradient(x, 2), 3)) }));
    expect([...(await gradients[0]!.data())]).toEqual([6, 6]);
    dispose(values, gradients, x);
  }
});

test("stopGradient: the values pass, the gradient does not", async () => {
  for (const device of await allDevices()) {
    const x = Tensor.from(device, [2, -3]);
    const { values, gradients } = differentiate([x], () => ({ loss: sum(mul(x, stopGradient(x))) }));
    expect(await values.loss.item()).toBe(13);
    expect([...(await gradients[0]!.data())]).toEqual([2, -3]); // not twice that
    dispose(values, gradients, x);
  }
});

test("refuses what has no meaning", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [2]);
    for (const lambda of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => reverseGradient(x, lambda)).toThrow(ArgumentError);
    }
    expect(() => reverseGradient(Tensor.zeros(referenceDevice(), [2], "i32"), 1)).toThrow(DTypeError);
  });
});
