import { expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { capture } from "../../src/capture.js";
import { DTypeError, ShapeError } from "../../src/errors.js";
import { mul, reverseGradient, scale, sum, watchGradient } from "../../src/ops/index.js";
import { dispose, scope, Tensor, withoutScope } from "../../src/tensor.js";
import { allDevices, referenceDevice } from "../harness.js";

test("writes the norm of what flows back there and nowhere else, in captured steps as well", async () => {
  for (const device of await allDevices()) {
    const [x, task, reversed, weight] = withoutScope(() => [
      Tensor.from(device, [3, -4]),
      Tensor.zeros(device, [1]),
      Tensor.zeros(device, [1]),
      Tensor.from(device, [1, 2]),
    ]) as [Tensor, Tensor, Tensor, Tensor];
    let lambda = 0.5;
    const step = () =>
      scope(() => {
        const { gradients } = differentiate([x], () => {
          const y = scale(x, 1);
          const forTask = watchGradient(y, task);
          const forCritic = reverseGradient(watchGradient(y, reversed), () => lambda);
          return { loss: sum(mul(mul(forTask, forTask), mul(weight, forCritic))) };
        });
        return gradients[0]!;
      });
    // loss = Σ w·y³ in two parts: the task's gradient is 2·w·y², the critic's −λ·w·y²
    const expected = async (gradient: Tensor) => {
      const terms = [9, 32];
      expect((await task.data())[0]).toBeCloseTo(2 * Math.hypot(...terms), 4);
      expect((await reversed.data())[0]).toBeCloseTo(lambda * Math.hypot(...terms), 4);
      const found = [...(await gradient.data())];
      terms.forEach((term, i) => {
        expect(found[i], device.name).toBeCloseTo((2 - lambda) * term, 4);
      });
    };
    using first = step();
    await expected(first);
    using captured = capture(device, step);
    lambda = 0.25;
    captured.replay();
    await expected(captured.values);
    dispose(x, task, reversed, weight);
  }
});

test("refuses what has no gradient and norms that are no number", () => {
  const device = referenceDevice();
  using x = Tensor.from(device, [1, 2]);
  using whole = Tensor.from(device, [1, 2], [2], "u32");
  using norm = Tensor.zeros(device, [1]);
  expect(() => watchGradient(whole, norm)).toThrow(DTypeError);
  expect(() => watchGradient(x, x)).toThrow(ShapeError);
});
