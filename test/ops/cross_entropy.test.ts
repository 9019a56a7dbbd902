import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { type CrossEntropyOptions, crossEntropy } from "../../src/ops/cross_entropy.js";
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
  shape: number[];
  options: CrossEntropyOptions;
  logits: number[];
  labels: number[];
  loss: number;
  gradient: number[];
}
const goldens: Golden[] = JSON.parse(readFileSync(new URL("../golden/cross_entropy.json", import.meta.url), "utf8"));

describe("crossEntropy", () => {
  test.each(goldens)("PyTorch: $name", async ({ shape, options, logits, labels: y, loss, gradient }) => {
    const [w] = outputWeights(1);
    await checkOp(
      (z, t) => crossEntropy(z, t, options),
      [
        { data: logits, shape },
        { data: y, shape: shape.slice(0, -1), dtype: "u32" },
      ],
      { golden: { output: [loss], gradients: [gradient.map((g) => g * w!)] }, goldenTolerance: 1e-12 },
    );
  });

  test.each([[[1, 1, 1, 1]], [[1, 3, 3, 2]], [[2, 7, 5, 21]], [[300, 3]], [[5, 256]], [[2]]])(
    "shape %j",
    async (shape) => {
      const classes = shape.at(-1)!;
      await checkOp((z, t) => crossEntropy(z, t), [random(shape, 4, -5, 5), labels(shape.slice(0, -1), classes, 5)]);
    },
  );

  test("labels beyond the classes count as ignored", async () => {
    const z = random([6, 3], 7, -2, 2);
    const some = { data: [0, 1, 2, 3, 1000, 0xffffffff], shape: [6], dtype: "u32" } as const;
    const few = { data: z.data.slice(0, 9), shape: [3, 3] };
    for (const device of await allDevices()) {
      const made = [
        Tensor.from(device, z.data, z.shape),
        Tensor.from(device, some.data, [6], "u32"),
        Tensor.from(device, few.data, [3, 3]),
        Tensor.from(device, [0, 1, 2], [3], "u32"),
      ] as const;
      const [all, valid] = [crossEntropy(made[0], made[1]), crossEntropy(made[2], made[3])];
      expect(await all.item()).toBeCloseTo(await valid.item(), 6);
      dispose([...made], all, valid);
    }
  });

  test("nothing to learn from: loss and gradient are 0, not NaN", async () => {
    for (const device of await allDevices()) {
      for (const classWeights of [undefined, [0, 1, 1]]) {
        const z = Tensor.from(device, random([4, 3]).data, [4, 3]);
        const y = Tensor.full(device, [4], classWeights ? 0 : 255, "u32");
        const { values, gradients } = differentiate([z], () => ({
          loss: crossEntropy(z, y, classWeights && { classWeights }),
        }));
        expect(await values.loss.item()).toBe(0);
        expect([...(await gradients[0]!.data())].every((g) => g === 0)).toBe(true);
        dispose(z, y, values, gradients);
      }
      const [z, y] = [Tensor.zeros(device, [0, 3]), Tensor.zeros(device, [0], "u32")];
      const loss = crossEntropy(z, y);
      expect(await loss.item()).toBe(0);
      dispose(z, y, loss);
    }
  });

  test("extreme logits stay finite", async () => {
    const data = [1e4, -1e4, 0, -3e38, 3e38, 0, 88, 89, 90, -200, -201, -202, 0, 0, 0];
    for (const device of await allDevices()) {
      const z = Tensor.from(device, data, [5, 3]);
      const y = Tensor.from(device, [0, 1, 0, 1, 2], [5], "u32");
      const { values, gradients } = differentiate([z], () => ({ loss: crossEntropy(z, y) }));
      const softplus = (...d: number[]) => Math.log(d.reduce((s, v) => s + Math.exp(v), 0));
      expect(await values.loss.item()).toBeCloseTo((softplus(0, 1, 2) + softplus(1, 0, -1) + Math.log(3)) / 5, 5);
      const g = await gradients[0]!.data();
      expect([...g].every(Number.isFinite)).toBe(true);
      expect([...g.slice(0, 6)].every((v) => v === 0)).toBe(true);
      dispose(z, y, values, gradients);
    }
  });

  test("sums stay accurate over two million pixels, in parts where the device binds little", async () => {
    if (!(await webgpuDevice())) return;
    const [n, side, classes] = [8, 512, 2];
    const count = n * side * side;
    // 16-bit steps: exact in f32, so that both devices see the same numbers
    const z = Float32Array.from({ length: count * classes }, (_, i) => ((Math.imul(i, 40503) & 0xffff) - 32768) / 8192);
    const y = Uint32Array.from({ length: count }, (_, i) => (i % 5 === 0 ? 255 : Math.imul(i, 2654435761 | 0) >>> 31));
    const run = async (device: Tensor["device"]) => {
      const [a, b] = [Tensor.from(device, z, [n, side, side, classes]), Tensor.from(device, y, [n, side, side], "u32")];
      const { values, gradients } = differentiate([a], () => ({ loss: crossEntropy(a, b, { classWeights: [1, 3] }) }));
      const out = { loss: await values.loss.item(), gradient: await gradients[0]!.data() };
      dispose(a, b, values, gradients);
      return out;
    };
    const expected = await run(referenceDevice());
    const small = await WebGPUBackend.open({ maxBindingBytes: 5_000_000 });
    try {
      for (const device of [(await webgpuDevice())!, small]) {
        const got = await run(device);
        expect(Math.abs(got.loss / expected.loss - 1)).toBeLessThan(1e-6);
        expect(relativeError(got.gradient, expected.gradient)).toBeLessThan(1e-6);
      }
    } finally {
      small.dispose();
    }
  });

  test("errors name what is wrong", () => {
    const device = referenceDevice();
    const z = Tensor.zeros(device, [2, 3]);
    const y = Tensor.zeros(device, [2], "u32");
    const wrong = Tensor.zeros(device, [3], "u32");
    expect(() => crossEntropy(y, y)).toThrow(DTypeError);
    expect(() => crossEntropy(z, z)).toThrow(DTypeError);
    expect(() => crossEntropy(z, wrong)).toThrow(ShapeError);
    for (const options of [
      { labelSmoothing: 1 },
      { labelSmoothing: -0.1 },
      { labelSmoothing: Number.NaN },
      { ignoreIndex: -100 },
      { ignoreIndex: 1.5 },
      { classWeights: [1, 2] },
      { classWeights: [1, 2, -1] },
      { classWeights: [0, 0, 0] },
      { classWeights: [1, 2, Number.POSITIVE_INFINITY] },
    ]) {
      expect(() => crossEntropy(z, y, options), JSON.stringify(options)).toThrow(ArgumentError);
    }
    dispose(z, y, wrong);
  });
});
