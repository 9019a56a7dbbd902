import { describe, expect, test } from "vitest";
import { differentiable, differentiate } from "../../src/autograd.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { resizeBilinear, sum } from "../../src/ops/index.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/resize_bilinear.json" with { type: "json" };
import { allDevices, checkOp, random, referenceDevice, relativeError, values, webgpuDevice } from "../harness.js";

type Pair = [number, number];

test.each(golden.map((g) => [g.shape, g.size, g.alignCorners, g] as const))(
  "%j to %j, alignCorners %s, as PyTorch",
  async (shape, size, alignCorners, g) => {
    await checkOp((x) => resizeBilinear(x, size as Pair, { alignCorners }), [random(shape)], { golden: g, half: true });
  },
);

const ratios: Pair[] = [
  [1, 1],
  [1, 7],
  [7, 1],
  [3, 17],
  [17, 3],
  [33, 129],
  [129, 33],
  [2, 2],
  [5, 4],
  [64, 63],
  [10, 30],
  [31, 10],
];
describe.each([false, true])("alignCorners %s", (alignCorners) => {
  test.each(ratios)("rows %i to %i", async (from, to) => {
    await checkOp((x) => resizeBilinear(x, [to, 3], { alignCorners }), [random([2, from, 2, 3])]);
  });
  test.each(ratios)("columns %i to %i, three and four channels", async (from, to) => {
    for (const channels of [3, 4]) {
      await checkOp((x) => resizeBilinear(x, [2, to], { alignCorners }), [random([1, 3, from, channels])]);
    }
  });

  // Weights of one output sum to 1, so whatever the gather loses or counts twice shows in the total.
  test("no contribution is lost, for every ratio of 1 … 24", async () => {
    const gpu = await webgpuDevice();
    if (!gpu) return;
    for (let from = 1; from <= 24; from++) {
      const x = Tensor.from(gpu, values(from * 4), [1, from, 1, 4]);
      const totals: number[] = [];
      for (let to = 1; to <= 24; to++) {
        const { values: out, gradients } = differentiate([x], () => ({
          loss: sum(resizeBilinear(x, [to, 1], { alignCorners })),
        }));
        totals.push([...(await gradients[0]!.data())].reduce((a, b) => a + b, 0) / to);
        dispose(out, gradients);
      }
      x.dispose();
      for (const total of totals) expect(total).toBeCloseTo(4, 5);
    }
  });
});

test("more than 65,535 workgroups: a map of 70,000 rows", async () => {
  for (const device of await allDevices()) {
    const y = scope(() =>
      resizeBilinear(Tensor.from(device, [0, 1], [1, 2, 1, 1]), [70_000, 1], { alignCorners: true }),
    );
    const data = await y.data();
    expect(
      relativeError(
        data,
        Float64Array.from({ length: 70_000 }, (_, i) => i / 69_999),
      ),
    ).toBeLessThan(1e-6);
    y.dispose();
  }
});

test("over parts of the batch", async () => {
  if (!(await webgpuDevice())) return;
  const small = await WebGPUBackend.open({ maxBindingBytes: 2 * 16 * 16 * 4 * 4 });
  const run = async (device: WebGPUBackend | ReturnType<typeof referenceDevice>) => {
    const x = Tensor.from(device, values(5 * 8 * 8 * 4), [5, 8, 8, 4]);
    const w = Tensor.from(device, values(5 * 16 * 16 * 4, 2), [5, 16, 16, 4]);
    const { values: out, gradients } = differentiate([x], () => {
      const y = resizeBilinear(x, [16, 16], { alignCorners: false });
      // A scalar whose gradient with respect to y is w: no sum of a map that exceeds the binding limit.
      return { loss: differentiable([y], [w], Tensor.scalar(device, 0), (_, [w]) => [w.alias()]), y };
    });
    const results = [await out.y.data(), await gradients[0]!.data()] as const;
    dispose(x, w, out, gradients);
    return results;
  };
  try {
    const [expected, got] = [await run(referenceDevice()), await run(small)];
    expect(relativeError(got[0], expected[0])).toBeLessThan(1e-6);
    expect(relativeError(got[1], expected[1])).toBeLessThan(1e-6);
  } finally {
    small.dispose();
  }
});

test("refuses what does not fit", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 4, 4, 1]);
    const options = { alignCorners: false };
    expect(() => resizeBilinear(x, [0, 4], options)).toThrow(ArgumentError);
    expect(() => resizeBilinear(x, [4, 1.5], options)).toThrow(ArgumentError);
    expect(() => resizeBilinear(x, [4, 2 ** 27], options)).toThrow(ArgumentError);
    expect(() => resizeBilinear(Tensor.zeros(x.device, [4, 4]), [2, 2], options)).toThrow(ShapeError);
    expect(() => resizeBilinear(Tensor.zeros(x.device, [1, 0, 4, 1]), [2, 2], options)).toThrow(ShapeError);
    expect(() => resizeBilinear(Tensor.zeros(x.device, [1, 4, 4, 1], "i32"), [2, 2], options)).toThrow(DTypeError);
  });
});
