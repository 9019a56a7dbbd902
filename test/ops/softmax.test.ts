import { describe, expect, test } from "vitest";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { DTypeError, ShapeError } from "../../src/errors.js";
import { logSoftmax, softmax } from "../../src/ops/softmax.js";
import type { Shape } from "../../src/shape.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/softmax.json" with { type: "json" };
import { allDevices, checkOp, random, referenceDevice, webgpuDevice } from "../harness.js";

const ops = { softmax, logSoftmax };

describe.each(golden)("$name of $operand up to $limit", ({ name, operand, limit, ...answer }) => {
  test("agrees with PyTorch", async () => {
    const op = ops[name as keyof typeof ops];
    await checkOp(op, [random(operand, 1, -limit, limit)], {
      golden: answer,
      goldenTolerance: 1e-12,
      half: limit < 10,
    });
  });
});

describe.each(Object.entries(ops))("%s", (name, op) => {
  test.each<[Shape]>([[[1]], [[2]], [[300, 2]], [[2, 9, 9, 21]], [[3, 256]], [[1, 257]], [[2, 1030]]])(
    "%j",
    async (shape) => {
      await checkOp(op, [random(shape, 3, -3, 3)], { half: true });
    },
  );

  test("large logits stay finite, and rows add up", async () => {
    for (const device of await allDevices()) {
      const y = scope(() => op(Tensor.from(device, [1e4, -1e4, 0, -1e4, -1e4, -1e4, 1e4, 1e4, 1e4], [3, 3])));
      const data = [...(await y.data())];
      for (const v of data) expect(Number.isFinite(v)).toBe(true);
      const p = name === "softmax" ? data : data.map(Math.exp);
      [1, 0, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3].forEach((v, i) => {
        expect(p[i]).toBeCloseTo(v, 5);
      });
      y.dispose();
    }
  });

  test("splits over the rows where the device binds less", async () => {
    const whole = await webgpuDevice();
    if (!whole) return;
    using device = await WebGPUBackend.open({ maxBindingBytes: 4096 });
    const x = random([5, 64, 7]);
    const [y, expected] = [device, whole].map((where) => scope(() => op(Tensor.from(where, x.data, x.shape))));
    expect(await y!.data()).toEqual(await expected!.data());
    dispose(y, expected);
  });

  test("refuses integers, scalars and rows of nothing", () => {
    const device = referenceDevice();
    scope(() => {
      expect(() => op(Tensor.zeros(device, [2, 3], "u32"))).toThrow(DTypeError);
      expect(() => op(Tensor.scalar(device, 1))).toThrow(ShapeError);
      expect(() => op(Tensor.zeros(device, [2, 0]))).toThrow(ShapeError);
    });
  });
});
