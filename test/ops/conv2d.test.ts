import { afterEach, describe, expect, test } from "vitest";
import { differentiate } from "../../src/autograd.js";
import type { Backend } from "../../src/backends/backend.js";
import { WebGPUBackend } from "../../src/backends/webgpu/index.js";
import { ArgumentError, DTypeError, ShapeError } from "../../src/errors.js";
import { cast } from "../../src/ops/cast.js";
import { type Conv2dOptions, conv2d } from "../../src/ops/conv2d.js";
import { add, mul, relu } from "../../src/ops/elementwise.js";
import { sum } from "../../src/ops/reduce.js";
import { type DType, type Shape, sizeOf } from "../../src/shape.js";
import { dispose, scope, Tensor } from "../../src/tensor.js";
import golden from "../golden/conv2d.json" with { type: "json" };
import {
  allDevices,
  checkOp,
  hostDevice,
  random,
  referenceDevice,
  relativeError,
  values,
  webgpuDevice,
} from "../harness.js";

type Options = Omit<Conv2dOptions, "bias">;

/** Options as the op takes them, from what JSON or a table says. */
const apply = (options: Options) => (x: Tensor, w: Tensor, bias?: Tensor) =>
  conv2d(x, w, bias ? { ...options, bias } : options);

/** Options of a golden, whose types JSON does not carry. */
const optionsOf = ({ stride, padding, dilation, groups }: (typeof golden)[0]["options"]): Options => ({
  stride: [stride[0]!, stride[1]!],
  padding: [padding[0]!, padding[1]!, padding[2]!, padding[3]!],
  dilation: [dilation[0]!, dilation[1]!],
  groups,
});
const operandsOf = (x: Shape, w: Shape, bias: boolean) => [
  random(x, 1),
  random(w, 2),
  ...(bias ? [random([w[0]!], 3)] : []),
];
const check = (x: Shape, w: Shape, options: Options, bias: boolean, half = false) =>
  checkOp((a, b, c) => apply(options)(a!, b!, c), operandsOf(x, w, bias), { half });

test.each(golden)("PyTorch: $x * $w, $options", async ({ x, w, bias, options, shape, output, gradients }) => {
  const y = scope(() => {
    const [a, b] = operandsOf(x, w, false).map((o) => Tensor.from(referenceDevice(), o.data, o.shape));
    return apply(optionsOf(options))(a!, b!);
  });
  expect(y.shape).toEqual(shape);
  y.dispose();
  await checkOp((a, b, c) => apply(optionsOf(options))(a!, b!, c), operandsOf(x, w, bias), {
    golden: { output, gradients },
    goldenTolerance: 1e-8, // nine digits in the file
    half: true,
  });
});

test("weights in f32 under a map of halves: their gradient is f32", async () => {
  const gpu = await webgpuDevice();
  const halves = [hostDevice()?.supports("bf16") ? hostDevice() : null, gpu?.supports("f16") ? gpu : null];
  for (const [device, half] of [
    [halves[0], "bf16"],
    [halves[1], "f16"],
  ] as const) {
    if (!device) continue;
    const outcome = async (on: Backend, dtype: DType) => {
      const x = Tensor.from(on, values(2 * 5 * 6 * 8, 1), [2, 5, 6, 8], dtype);
      const [w, bias] = [Tensor.from(on, values(12 * 9 * 8, 2), [12, 3, 3, 8]), Tensor.from(on, values(12, 3))];
      const { values: made, gradients } = differentiate([x, w, bias], () => {
        const y = conv2d(x, w, { bias, padding: 2, dilation: 2 });
        return { loss: sum(mul(cast(y, "f32"), cast(y, "f32"))), y };
      });
      const types = [made.y.dtype, ...gradients.map((g) => g.dtype)];
      const data = await Promise.all([made.y, ...gradients].map((t) => t.data()));
      dispose(made, gradients, x, w, bias);
      return { types, data };
    };
    const [got, wanted] = [await outcome(device, half), await outcome(referenceDevice(), "f32")];
    expect(got.types).toEqual([half, half, "f32", "f32"]);
    got.data.forEach((data, i) => {
      expect(relativeError(data, wanted.data[i]!)).toBeLessThan(2e-2);
    });
  }
});

describe("every combination", () => {
  // Channels of the kernel families: scalar, vec4, depthwise in vectors and with a multiplier; and groups of each.
  const channels: [name: string, cin: number, cout: number, groups: number][] = [
    ["dense, odd channels", 3, 5, 1],
    ["dense, multiples of 4", 4, 8, 1],
    ["two groups, odd channels", 6, 10, 2],
    ["two groups, multiples of 4", 8, 8, 2],
    ["depthwise", 5, 5, 5],
    ["depthwise, multiples of 4", 8, 8, 8],
    ["depthwise, two outputs for each input", 3, 6, 3],
  ];
  const strides = [1, 2, [3, 1]] as const;
  const dilations = [1, 2, [1, 3]] as const;
  const paddings = [0, 2, [1, 0, 2, 3]] as const;
  const all = strides.flatMap((stride) =>
    dilations.flatMap((dilation) => paddings.map((padding) => ({ stride, dilation, padding }))),
  );
  test.each(channels)("%s: stride x dilation x padding", async (_name, cin, cout, groups) => {
    // Gradients against finite differences are in the tests around this one: here WebGPU meets the reference.
    const gpu = await webgpuDevice();
    if (!gpu) return;
    for (const options of all) {
      const [x, w] = [random([2, 6, 9, cin], 5), random([cout, 3, 3, cin / groups], 6)];
      const outcomes = [];
      for (const device of [referenceDevice(), gpu]) {
        const tensors = [x, w].map((o) => Tensor.from(device, o.data, o.shape));
        const bias = Tensor.from(device, values(cout, 7));
        const { values: result, gradients } = differentiate([...tensors, bias], () => {
          const y = conv2d(tensors[0]!, tensors[1]!, { ...options, groups, bias });
          return { loss: sum(conv2d(y, Tensor.from(device, values(cout, 8), [1, 1, 1, cout]))), y };
        });
        outcomes.push(await Promise.all([result.y, ...gradients].map((t) => t.data())));
        dispose(result, gradients, tensors, bias);
      }
      const [expected, got] = outcomes as [(typeof outcomes)[0], (typeof outcomes)[0]];
      expected.forEach((data, i) => {
        const what = `${["y", "dx", "dw", "db"][i]} for ${JSON.stringify(options)}`;
        expect(relativeError(got[i]!, data), what).toBeLessThan(1e-5);
      });
    }
  });
});

const shapes: [x: Shape, w: Shape, options: Options, bias: boolean][] = [
  [[1, 1, 1, 1], [1, 1, 1, 1], {}, true],
  [[1, 1, 1, 4], [4, 1, 1, 4], {}, true],
  [[3, 1, 1, 8], [4, 3, 3, 8], { padding: 1 }, false],
  [[1, 1, 9, 1], [1, 1, 3, 1], { padding: [0, 1] }, false],
  [[2, 3, 5, 4], [4, 5, 7, 4], { padding: [2, 3] }, false], // the kernel is larger than the map
  [[1, 6, 6, 4], [8, 3, 3, 4], { padding: 6, dilation: 6 }, true], // only the centre tap meets the map
  [[1, 13, 14, 4], [4, 3, 3, 4], { padding: 12, dilation: 12 }, false],
  [[1, 19, 18, 3], [4, 3, 3, 3], { padding: 18, dilation: 18 }, false],
  [[1, 10, 10, 4], [4, 1, 1, 4], { stride: 4 }, false], // most inputs are never read: their gradient is zero
  [[1, 4, 4, 4], [4, 2, 2, 4], { stride: 5 }, false], // the stride is larger than the map
  [[1, 7, 11, 12], [9, 3, 3, 4], { padding: 1, groups: 3 }, true],
  [[1, 5, 6, 6], [12, 3, 3, 1], { padding: 1, stride: 2, groups: 6 }, true],
  [[2, 6, 6, 8], [8, 3, 3, 1], { padding: 2, dilation: 2, groups: 8 }, true],
  [[1, 5, 5, 21], [2, 1, 1, 21], {}, true],
  [[1, 24, 24, 3], [16, 7, 7, 3], { padding: 3, stride: 2 }, false],
];
test.each(shapes)("%j * %j, %j", async (x, w, options, bias) => {
  await check(x, w, options, bias, sizeOf(x) < 500);
});

// The paths of the CUDA kernels, on a device of three multiprocessors: each size of tile with tails of every axis, several
// steps, skipped taps, split sums; phases of a stride without taps; windows that slide in several walks, and the others.
const large: [what: string, x: Shape, w: Shape, options: Options, bias: boolean][] = [
  ["large tiles, split sums", [1, 12, 12, 36], [68, 3, 3, 36], { padding: 1 }, true],
  ["large tiles backwards", [1, 15, 15, 68], [36, 3, 3, 68], { padding: 1 }, false],
  ["medium tiles", [3, 12, 13, 12], [36, 3, 3, 12], { padding: 1 }, true],
  ["medium tiles, scalar", [3, 12, 13, 5], [35, 3, 3, 5], { padding: 1 }, true],
  ["many small tiles", [4, 13, 13, 8], [20, 3, 3, 8], { padding: 1 }, false],
  ["groups and a stride", [2, 9, 11, 16], [24, 3, 3, 8], { padding: 1, stride: 2, groups: 2 }, true],
  ["skipped rows and columns", [2, 20, 20, 8], [40, 3, 3, 8], { padding: 12, dilation: 12 }, false],
  ["skipped taps, in tiles of many rows", [2, 5, 40, 8], [8, 3, 3, 8], { padding: 18, dilation: 18 }, true],
  ["every tap outside for some pixels", [1, 9, 9, 4], [4, 2, 2, 4], { padding: 15, dilation: 20 }, true],
  ["phases without taps", [1, 9, 10, 8], [8, 3, 3, 8], { padding: 2, stride: 2, dilation: 2 }, false],
  ["phases with one tap of three", [1, 14, 10, 8], [8, 3, 3, 8], { padding: 2, stride: 3, dilation: 2 }, false],
  ["a long sum for few outputs", [1, 1, 1, 800], [4, 1, 1, 800], {}, true],
  ["depthwise, one walk a column", [1, 40, 9, 36], [36, 3, 3, 1], { padding: 1, groups: 36 }, true],
  ["depthwise, several blocks of columns", [2, 19, 37, 8], [8, 3, 3, 1], { padding: [2, 1], groups: 8 }, true],
  ["depthwise, dilated", [2, 21, 18, 72], [72, 3, 3, 1], { padding: 6, dilation: 6, groups: 72 }, false],
  ["depthwise, dilated beyond the map", [1, 7, 5, 8], [8, 3, 3, 1], { padding: 12, dilation: 12, groups: 8 }, true],
  ["depthwise, uneven", [1, 9, 11, 4], [4, 3, 3, 1], { padding: [0, 3, 1, 2], dilation: [3, 2], groups: 4 }, false],
  ["depthwise, a stride", [2, 17, 19, 40], [40, 3, 3, 1], { padding: 1, stride: 2, groups: 40 }, true],
  ["depthwise, other kernels", [2, 17, 10, 8], [8, 5, 2, 1], { padding: 2, groups: 8 }, true],
  ["depthwise, three outputs for each input", [2, 10, 17, 8], [24, 3, 3, 1], { padding: 1, groups: 8 }, true],
];
test.each(large)("%s: %j * %j, %j", async (_what, x, w, options, bias) => {
  await check(x, w, options, bias, true);
});

describe("bias, residual and ReLU in one kernel", () => {
  test.each<[what: string, x: Shape, w: Shape, options: Options, y: Shape]>([
    ["odd channels", [2, 5, 6, 3], [5, 3, 3, 3], { padding: 1 }, [2, 5, 6, 5]],
    [
      "multiples of 4, taps that see nothing",
      [2, 9, 9, 8],
      [40, 3, 3, 8],
      { padding: 12, dilation: 12 },
      [2, 9, 9, 40],
    ],
    ["two groups, a stride", [1, 9, 7, 8], [24, 3, 3, 4], { padding: 1, stride: 2, groups: 2 }, [1, 5, 4, 24]],
    ["split sums", [1, 1, 1, 800], [4, 1, 1, 800], {}, [1, 1, 1, 4]],
    ["split sums, odd channels", [1, 1, 1, 801], [3, 1, 1, 801], {}, [1, 1, 1, 3]],
    ["depthwise", [1, 9, 6, 36], [36, 3, 3, 1], { padding: 1, groups: 36 }, [1, 9, 6, 36]],
    ["depthwise, a stride, odd channels", [1, 9, 7, 5], [5, 3, 3, 1], { stride: 2, groups: 5 }, [1, 4, 3, 5]],
    ["depthwise, two outputs for each input", [1, 6, 5, 4], [8, 3, 3, 1], { padding: 1, groups: 4 }, [1, 6, 5, 8]],
  ])("%s: to the bit what conv2d, add and relu give", async (_what, xShape, wShape, options, shape) => {
    for (const device of await allDevices()) {
      const operands = [random(xShape, 1), random(wShape, 2), random([wShape[0]!], 3), random(shape, 4)];
      const [x, w, bias, residual] = operands.map((o) => Tensor.from(device, o.data, o.shape)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const [fused, plain] = scope(() => [
        conv2d(x, w, { ...options, bias, residual, relu: true }),
        relu(add(conv2d(x, w, { ...options, bias }), residual)),
      ]) as [Tensor, Tensor];
      const [got, expected] = [await fused.data(), await plain.data()];
      expect(expected.some((v) => v > 0) && expected.some((v) => v === 0)).toBe(true);
      expect(relativeError(got, expected), device.name).toBe(0);
      dispose(fused, plain, x, w, bias, residual);
    }
  });

  test.each<[what: string, options: Options & { relu: boolean }, w: Shape]>([
    ["residual and ReLU", { padding: 1, relu: true }, [8, 3, 3, 4]],
    ["residual alone, odd channels", { padding: 1, relu: false }, [3, 3, 3, 4]],
    ["depthwise", { padding: 1, relu: true, groups: 4 }, [4, 3, 3, 1]],
  ])("gradients: %s", async (_what, options, w) => {
    const operands = [random([2, 4, 3, 4], 1), random(w, 2), random([w[0]!], 3), random([2, 4, 3, w[0]!], 4)];
    await checkOp((a, b, bias, residual) => conv2d(a!, b!, { ...options, bias: bias!, residual: residual! }), operands);
  });
});

test("one number, two and four mean the same padding", () => {
  scope(() => {
    const x = Tensor.zeros(referenceDevice(), [1, 5, 6, 1]);
    const w = Tensor.zeros(referenceDevice(), [1, 3, 3, 1]);
    expect(conv2d(x, w, { padding: 2 }).shape).toEqual([1, 7, 8, 1]);
    expect(conv2d(x, w, { padding: [2, 1] }).shape).toEqual([1, 7, 6, 1]);
    expect(conv2d(x, w, { padding: [1, 0, 2, 2] }).shape).toEqual([1, 4, 8, 1]);
  });
});

test("sums over many pixels are split and stay accurate in f32", async () => {
  const [x, w] = [
    [2, 96, 128, 4],
    [4, 1, 1, 4],
  ] as const;
  await checkOp((a, b, c) => apply({})(a!, b!, c), operandsOf(x, w, true), { wrt: [1, 2], tolerance: 2e-6 });
});

test("more than 65,535 workgroups", async () => {
  // The input gradient runs over every residue of the stride: 4200 * 4200 threads.
  await check([1, 2, 1, 1], [1, 1, 1, 1], { stride: 4200 }, false);
});

describe("beyond the binding limit", () => {
  const opened: WebGPUBackend[] = [];
  afterEach(() => {
    for (const device of opened.splice(0)) device.dispose();
  });
  test("the batch is split, forward and backward", async () => {
    if (!(await webgpuDevice())) return;
    // One image of x and of y is 4 * 4 * 64 * 4 = 4096 bytes: three images in one part, two in the next.
    const small = await WebGPUBackend.open({ maxBindingBytes: 12288 });
    opened.push(small);
    const outcomes = [];
    for (const device of [referenceDevice(), small]) {
      const operands = operandsOf([5, 4, 4, 64], [64, 3, 3, 4], true);
      const [x, w, bias] = operands.map((o) => Tensor.from(device, o.data, o.shape));
      const result = differentiate([x!, w!, bias!], () => {
        const y = conv2d(x!, w!, { padding: 1, groups: 16, bias: bias! });
        const weighted = mul(y, Tensor.from(device, values(y.size, 9), y.shape));
        return { loss: sum(sum(weighted, { axes: [1, 2] })), y };
      });
      outcomes.push(await Promise.all([result.values.y, ...result.gradients].map((t) => t.data())));
      dispose(result, x, w, bias);
    }
    const [expected, got] = outcomes as [(typeof outcomes)[0], (typeof outcomes)[0]];
    expected.forEach((data, i) => {
      expect(relativeError(got[i]!, data)).toBeLessThan(1e-5);
    });
  });
});

describe("what nobody asked for is not computed", () => {
  test("a frozen layer and an image cost no gradient kernels", async () => {
    for (const device of await allDevices()) {
      const [x, w, bias] = operandsOf([1, 4, 4, 4], [4, 3, 3, 4], true).map((o) =>
        Tensor.from(device, o.data, o.shape),
      );
      const dispatches = (parameters: Tensor[]) => {
        const before = device.stats.dispatches;
        const { values: v, gradients } = differentiate(parameters, () => ({
          loss: sum(conv2d(x!, w!, { padding: 1, bias: bias! })),
        }));
        dispose(v, gradients);
        return device.stats.dispatches - before;
      };
      const everything = dispatches([x!, w!, bias!]);
      expect(dispatches([w!, bias!])).toBeLessThan(everything);
      expect(dispatches([x!, bias!])).toBeLessThan(everything);
      expect(dispatches([x!])).toBeLessThan(dispatches([x!, w!]));
      dispose(x, w, bias);
    }
  });
});

describe("errors", () => {
  const call = (x: Shape, w: Shape, options: Conv2dOptions = {}) =>
    scope(() => void conv2d(Tensor.zeros(referenceDevice(), x), Tensor.zeros(referenceDevice(), w), options));
  const caught = (fn: () => void): unknown => {
    try {
      fn();
    } catch (error) {
      return error;
    }
    return null;
  };

  test("a kernel larger than the padded map", () => {
    const error = caught(() => call([1, 4, 4, 2], [3, 3, 3, 2], { dilation: 3, padding: [1, 1, 0, 0] }));
    expect(error).toBeInstanceOf(ShapeError);
    expect(error).toMatchObject({
      op: "conv2d",
      operands: { x: { shape: [1, 4, 4, 2], dtype: "f32" }, w: { shape: [3, 3, 3, 2], dtype: "f32" } },
    });
  });
  test.each<[Shape, Shape, Conv2dOptions]>([
    [[4, 4, 2], [3, 3, 3, 2], {}],
    [[1, 4, 4, 2], [3, 3, 2], {}],
    [[1, 4, 4, 2], [3, 3, 3, 3], {}],
    [[1, 4, 4, 2], [4, 3, 3, 2], { groups: 2 }],
    [[1, 4, 4, 3], [4, 3, 3, 1], { groups: 2 }],
    [[1, 4, 4, 4], [3, 3, 3, 2], { groups: 2 }],
    [[0, 4, 4, 4], [4, 3, 3, 4], {}],
  ])("shapes that do not fit: %j * %j %j", (x, w, options) => {
    expect(caught(() => call(x, w, options))).toBeInstanceOf(ShapeError);
  });
  test.each<Conv2dOptions>([
    { stride: 0 },
    { stride: [1, 0] },
    { stride: 1.5 },
    { dilation: 0 },
    { padding: -1 },
    { padding: [1, 1, 1, -1] },
    { groups: 0 },
    { groups: Number.NaN },
  ])("options out of range: %j", (options) => {
    const error = caught(() => call([1, 4, 4, 2], [2, 3, 3, 2], options));
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({ op: "conv2d" });
  });
  test("a residual of another shape or type", () => {
    scope(() => {
      const device = referenceDevice();
      const [x, w] = [Tensor.zeros(device, [1, 4, 4, 2]), Tensor.zeros(device, [3, 3, 3, 2])];
      const residual = Tensor.zeros(device, [1, 4, 4, 3]); // of y with padding 1
      expect(caught(() => conv2d(x, w, { residual }))).toBeInstanceOf(ShapeError);
      expect(caught(() => conv2d(x, w, { padding: 1, residual: cast(residual, "f16") }))).toBeInstanceOf(DTypeError);
      expect(caught(() => conv2d(x, w, { padding: 1, residual }))).toBeNull();
    });
  });
  test("a bias of another size, types that differ", () => {
    scope(() => {
      const device = referenceDevice();
      const [x, w] = [Tensor.zeros(device, [1, 4, 4, 2]), Tensor.zeros(device, [3, 3, 3, 2])];
      expect(caught(() => conv2d(x, w, { bias: Tensor.zeros(device, [2]) }))).toBeInstanceOf(ShapeError);
      expect(caught(() => conv2d(x, w, { bias: Tensor.zeros(device, [3], "f16") }))).toBeInstanceOf(DTypeError);
      expect(caught(() => conv2d(x, Tensor.zeros(device, [3, 3, 3, 2], "f16")))).toBeInstanceOf(DTypeError);
      expect(caught(() => conv2d(Tensor.zeros(device, [1, 4, 4, 2], "i32"), w))).toBeInstanceOf(DTypeError);
    });
  });
});
