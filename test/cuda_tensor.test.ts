// The convolution on the tensor cores of sm_80 (native/cuda/conv2d_tensor.cu), run by the host device as a card of that age.
import { afterAll, describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { NativeBackend } from "../src/backends/native/index.js";
import { fromBfloatBits, toBfloatBits } from "../src/half.js";
import { cast } from "../src/ops/cast.js";
import { type Conv2dOptions, conv2d } from "../src/ops/conv2d.js";
import { mul } from "../src/ops/elementwise.js";
import { sum } from "../src/ops/reduce.js";
import { type DType, type Shape, sizeOf, type TensorData } from "../src/shape.js";
import { dispose, Tensor } from "../src/tensor.js";
import { hostAddon, hostDevice, referenceDevice, relativeError, values } from "./harness.js";

const available = hostDevice() !== null;
const opened: NativeBackend[] = [];
function card(capability: number, reverse = false): NativeBackend {
  const device = NativeBackend.open("cuda", { addon: hostAddon, guard: true, reverse, capability });
  opened.push(device);
  return device;
}
afterAll(async () => {
  for (const device of opened) {
    await device.sync(); // looks at the guard zones
    device.dispose();
  }
});

type Options = Omit<Conv2dOptions, "bias">;
interface Case {
  readonly x: Shape;
  readonly w: Shape;
  readonly options?: Options;
  readonly bias?: boolean;
  /** y's shape: a residual is added, and then ReLU. */
  readonly residual?: Shape;
}

/** Numbers that bf16 and tf32 hold, so that products are exact on every path. */
const rounded = (count: number, seed: number) => values(count, seed).map((v) => fromBfloatBits(toBfloatBits(v)));

/** y, dx, dw and perhaps db and the residual's gradient of the sum of y times fixed weights. */
async function evaluate(device: Backend, c: Case, dtype: DType, numbers = rounded): Promise<TensorData[]> {
  const x = Tensor.from(device, numbers(sizeOf(c.x), 1), c.x, dtype);
  const w = Tensor.from(device, numbers(sizeOf(c.w), 2), c.w, dtype);
  const bias = c.bias ? Tensor.from(device, numbers(c.w[0]!, 3), [c.w[0]!], dtype) : undefined;
  const residual = c.residual && Tensor.from(device, numbers(sizeOf(c.residual), 5), c.residual, dtype);
  const more = [...(bias ? [bias] : []), ...(residual ? [residual] : [])];
  const { values: made, gradients } = differentiate([x, w, ...more], () => {
    const y = conv2d(x, w, { ...c.options, ...(bias && { bias }), ...(residual && { residual, relu: true }) });
    return { loss: sum(mul(cast(y, "f32"), Tensor.from(device, numbers(y.size, 4), y.shape))), y };
  });
  const all = await Promise.all([made.y, ...gradients].map((t) => t.data()));
  dispose(x, w, more, made.loss, made.y, gradients);
  return all;
}

const cases: Case[] = [
  { x: [1, 1, 1, 8], w: [8, 1, 1, 8] },
  { x: [2, 9, 10, 40], w: [72, 1, 1, 40], bias: true },
  { x: [1, 7, 9, 12], w: [20, 3, 3, 12], options: { padding: 1 }, bias: true, residual: [1, 7, 9, 20] }, // pieces of f32 only
  { x: [1, 16, 17, 72], w: [80, 3, 3, 72], options: { padding: 1 }, bias: true, residual: [1, 16, 17, 80] }, // large tiles, tails in all of them
  { x: [3, 11, 13, 16], w: [24, 3, 3, 16], options: { padding: 2, dilation: 2 }, bias: true },
  { x: [1, 13, 12, 16], w: [24, 3, 3, 16], options: { padding: 6, dilation: 6 } },
  { x: [2, 13, 14, 16], w: [8, 3, 3, 16], options: { padding: 12, dilation: 12 } },
  { x: [1, 19, 18, 8], w: [16, 3, 3, 8], options: { padding: 18, dilation: 18 } }, // outer taps meet single pixels
  { x: [1, 6, 6, 8], w: [8, 3, 3, 8], options: { padding: 6, dilation: 6 } }, // only the middle tap meets the map
  { x: [3, 24, 24, 8], w: [72, 3, 3, 8], options: { padding: 18, dilation: 18 }, bias: true }, // squares of pixels, large
  { x: [2, 32, 31, 72], w: [16, 3, 3, 72], options: { padding: 12, dilation: 12 } }, // squares in y and dx
  { x: [2, 13, 15, 24], w: [40, 3, 3, 24], options: { padding: 1, stride: 2 }, residual: [2, 7, 8, 40] },
  { x: [1, 13, 9, 16], w: [8, 3, 3, 16], options: { padding: [1, 0, 2, 3], stride: [3, 1] } },
  { x: [1, 17, 19, 16], w: [24, 3, 3, 16], options: { padding: 3, stride: 2, dilation: 3 } },
  { x: [2, 9, 8, 16], w: [16, 1, 1, 16], options: { stride: 2 } }, // three phases of dx have no tap
  { x: [1, 4, 4, 8], w: [8, 2, 2, 8], options: { stride: 5 } }, // the stride is larger than the map
  { x: [2, 3, 5, 8], w: [8, 5, 7, 8], options: { padding: [2, 3] } }, // the kernel is larger than the map
  { x: [1, 43, 3, 136], w: [200, 1, 1, 136], bias: true }, // 129 pixels; many turns of the ring
  { x: [2, 20, 20, 200], w: [136, 1, 1, 200] }, // tiles of dw over several blocks, blocks over several tiles
  { x: [1, 12, 12, 136], w: [72, 3, 3, 136], options: { padding: 4, dilation: 4 } },
  { x: [1, 8, 8, 16], w: [8, 8, 9, 16], options: { padding: 4 } }, // more taps than this path takes
];

describe.skipIf(!available)("convolution on tensor cores", () => {
  describe.each(cases)("$x * $w, $options", (c) => {
    test("bf16", async () => {
      const expected = await evaluate(referenceDevice(), c, "f32");
      const got = await evaluate(card(80), c, "bf16");
      got.forEach((data, i) => {
        expect(relativeError(data, expected[i]!), ["y", "dx", "dw", "db"][i]).toBeLessThan(4e-3);
      });
      expect(await evaluate(card(80, true), c, "bf16"), "the same bits in any order of threads").toEqual(got);
    });
    test("tf32", async () => {
      const expected = await evaluate(referenceDevice(), c, "f32");
      const [device, backwards] = [card(80), card(80, true)];
      for (const each of [device, backwards]) each.allowTf32!(true);
      const got = await evaluate(device, c, "f32");
      got.forEach((data, i) => {
        expect(relativeError(data, expected[i]!), ["y", "dx", "dw", "db"][i]).toBeLessThan(2e-6);
      });
      expect(await evaluate(backwards, c, "f32"), "the same bits in any order of threads").toEqual(got);
    });
  });

  // So these are the kernels that run: y, dx and dw of f32 that tf32 does not hold.
  test.each([
    { capability: 80, allowed: true, least: 5e-5, most: 2e-3 },
    { capability: 80, allowed: false, least: 0, most: 5e-6 },
    { capability: 75, allowed: true, least: 0, most: 5e-6 },
  ])("f32 is rounded where it may be: $capability, $allowed", async ({ capability, allowed, least, most }) => {
    const c: Case = { x: [1, 9, 10, 24], w: [16, 3, 3, 24], options: { padding: 1 } };
    const expected = await evaluate(referenceDevice(), c, "f32", values);
    const device = card(capability);
    device.allowTf32!(allowed);
    const got = await evaluate(device, c, "f32", values);
    got.forEach((data, i) => {
      const error = relativeError(data, expected[i]!);
      expect(error).toBeGreaterThanOrEqual(least);
      expect(error).toBeLessThan(most);
    });
  });
});
