// The convolution's path for the H100 and H200 (native/cuda/conv2d_hopper.cu), whose instructions have twins on the host
// device: bf16, one group, channels in multiples of eight. Other tests of conv2d hardly have such shapes.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { fromBfloatBits, toBfloatBits } from "../src/half.js";
import { cast } from "../src/ops/cast.js";
import { type Conv2dOptions, conv2d } from "../src/ops/conv2d.js";
import { mul } from "../src/ops/elementwise.js";
import { sum } from "../src/ops/reduce.js";
import { type Shape, sizeOf, type TensorData } from "../src/shape.js";
import { dispose, Tensor } from "../src/tensor.js";
import { hostAddon, hostDevice, hostDeviceBackwards, referenceDevice, relativeError, values } from "./harness.js";

type Options = Omit<Conv2dOptions, "bias" | "groups">;
const numbers = (count: number, seed: number): number[] =>
  values(count, seed).map((v) => fromBfloatBits(toBfloatBits(v)));

/** y and the gradients of x, w, the bias and the residual, which ReLU follows, where there is one. */
async function outcome(device: Backend, x: Shape, w: Shape, options: Options, added?: Shape): Promise<TensorData[]> {
  const dtype = device.name === "reference" ? "f32" : "bf16";
  const make = (shape: Shape, seed: number) => Tensor.from(device, numbers(sizeOf(shape), seed), shape, dtype);
  const [a, b, bias] = [make(x, 1), make(w, 2), make([w[0]!], 3)];
  const more = added ? [make(added, 5)] : [];
  const { values: result, gradients } = differentiate([a, b, bias, ...more], () => {
    const y = conv2d(a, b, { ...options, bias, ...(more[0] && { residual: more[0], relu: true }) });
    return { loss: sum(mul(cast(y, "f32"), Tensor.from(device, numbers(y.size, 4), y.shape))), y };
  });
  const all = await Promise.all([result.y, ...gradients].map((t) => t.data()));
  dispose(result, gradients, a, b, bias, more);
  return all;
}

const cases: [why: string, x: Shape, w: Shape, options: Options, residual?: Shape][] = [
  ["a single tile, most of it outside", [1, 5, 7, 8], [8, 3, 3, 8], { padding: 1 }],
  [
    "odd maps, uneven padding, channels that end within a block",
    [3, 9, 11, 24],
    [72, 3, 3, 24],
    { padding: [1, 0, 2, 1] },
    [3, 8, 12, 72],
  ],
  ["rate 18: most taps see nothing", [2, 20, 20, 16], [24, 3, 3, 16], { padding: 18, dilation: 18 }],
  ["rate 6, two blocks of terms", [1, 12, 12, 72], [64, 3, 3, 72], { padding: 6, dilation: 6 }],
  ["1 x 1: one row of pixels; two widths of tiles", [2, 9, 13, 72], [304, 1, 1, 72], {}, [2, 9, 13, 304]],
  ["1 x 1 backwards with two widths", [1, 9, 15, 304], [64, 1, 1, 304], {}],
  ["tiles of 256 columns", [3, 8, 16, 8], [256, 3, 1, 8], { padding: [1, 1, 0, 0] }],
  ["tiles of 256 columns backwards", [3, 8, 16, 256], [8, 1, 3, 256], { padding: [0, 0, 1, 1] }],
  ["tiles of 128 columns", [3, 8, 16, 128], [128, 1, 1, 128], {}],
  ["tiles in groups, many for each block", [1, 46, 47, 8], [384, 1, 1, 8], {}],
  ["stride 2", [2, 15, 14, 16], [40, 3, 3, 16], { stride: 2, padding: 1 }],
  ["stride 2, 1 x 1: phases without a tap", [1, 9, 9, 64], [128, 1, 1, 64], { stride: 2 }],
  [
    "strides and rates that share factors",
    [1, 19, 17, 8],
    [16, 3, 3, 8],
    { stride: [2, 4], dilation: [2, 6], padding: 3 },
  ],
  ["stride 3, a map smaller than it", [2, 2, 13, 8], [8, 2, 5, 8], { stride: 3, padding: 2 }],
  ["more padding than the kernel reaches over", [1, 3, 4, 8], [8, 3, 3, 8], { padding: 20 }],
  ["a large kernel, even", [1, 10, 11, 8], [8, 8, 6, 8], { padding: 3 }],
];

test.runIf(hostDevice())("the twins of the instructions: mistakes show", () => {
  const { status, stdout } = spawnSync(join(dirname(hostAddon), "hopper_test"), { encoding: "utf8" });
  expect(status, stdout).toBe(0);
});

describe.runIf(hostDevice())("convolution on the H100's path", () => {
  test.each(cases)("%s: %j * %j, %j", async (_why, x, w, options, added) => {
    const expected = await outcome(referenceDevice(), x, w, options, added);
    const got = await outcome(hostDevice()!, x, w, options, added);
    for (const [i, part] of ["y", "dx", "dw", "db", ...(added ? ["dresidual"] : [])].entries()) {
      expect(relativeError(got[i]!, expected[i]!), part).toBeLessThan(1e-2);
    }
    expect(await outcome(hostDeviceBackwards()!, x, w, options, added), "the same bits in any order").toEqual(got);
  });
});
