import { describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import { WebGPUBackend } from "../src/backends/webgpu/index.js";
import { DTypeError } from "../src/errors.js";
import { defineKernel, kernels, linear } from "../src/kernel.js";
import { add, conv2d, mul, relu, sum } from "../src/ops/index.js";
import { dispose, run, scope, Tensor } from "../src/tensor.js";
import { failureOf, isAsked, webgpuDevice } from "./harness.js";

// What is the backend's own: pooling, batching, splitting, and what it says when something fails.

const present = isAsked("webgpu") && (await webgpuDevice()) !== null;
const open = (maxBindingBytes?: number) => WebGPUBackend.open(maxBindingBytes === undefined ? {} : { maxBindingBytes });

describe.skipIf(!present)("the WebGPU backend", () => {
  test("a repeated step allocates nothing new and goes out in few submissions", async () => {
    using device = await open();
    const [x, w] = [Tensor.ones(device, [1, 9, 9, 4]), Tensor.full(device, [8, 3, 3, 4], 0.1)];
    const step = async () => {
      const { values, gradients } = differentiate([w], () => ({ loss: sum(relu(conv2d(x, w, { padding: 1 }))) }));
      await values.loss.item();
      dispose(values, gradients);
    };
    await step();
    const before = device.stats;
    for (let i = 0; i < 5; i++) await step();
    const after = device.stats;
    expect(after.peakBytes).toBe(before.peakBytes);
    expect(after.live).toBe(before.live);
    expect(after.submits - before.submits).toBe(5);
    dispose(x, w);
  });

  test("writes do not overtake commands that are still gathering", async () => {
    using device = await open();
    const x = Tensor.from(device, [1, 2, 3]);
    const y = mul(x, x);
    x.assign([10, 20, 30]);
    const z = mul(x, x);
    expect([...(await y.data())]).toEqual([1, 4, 9]);
    expect([...(await z.data())]).toEqual([100, 400, 900]);
    dispose(x, y, z);
  });

  test("more commands than one submission holds", async () => {
    using device = await open();
    const y = scope(() => {
      const one = Tensor.ones(device, [1]);
      let total = Tensor.zeros(device, [1]);
      for (let i = 0; i < 1200; i++) total = add(total, one);
      return total;
    });
    expect(await y.item()).toBe(1200);
    y.dispose();
  });

  test("splits maps that exceed the binding limit, with the same result", async () => {
    using device = await open(64 * 1024);
    const count = 3 * 16384 + 64;
    const y = scope(() => {
      const x = Tensor.from(
        device,
        Float32Array.from({ length: count }, (_, i) => i % 1000),
      );
      return add(x, x);
    });
    const data = await y.data();
    expect(data.length).toBe(count);
    expect(data.every((v, i) => v === 2 * (i % 1000))).toBe(true);
    y.dispose();
  });

  test("splits a sum over everything, and its gradient", async () => {
    using device = await open(64 * 1024);
    const count = 3 * 16384 + 64;
    const x = Tensor.from(
      device,
      Float32Array.from({ length: count }, (_, i) => i % 10),
    );
    const { values, gradients } = differentiate([x], () => ({ loss: sum(mul(x, x)) }));
    const exact = Array.from({ length: count }, (_, i) => (i % 10) ** 2).reduce((a, b) => a + b, 0);
    expect(await values.loss.item()).toBeCloseTo(exact, -1);
    expect((await gradients[0]!.data()).every((g, i) => g === 2 * (i % 10))).toBe(true);
    dispose(values, gradients, x);
  });

  test("names the kernel, the size and the limit where it cannot split", async () => {
    using device = await open(1024);
    const x = Tensor.zeros(device, [1024]);
    const row = Tensor.zeros(device, [1]);
    const error = await failureOf(() => scope(() => add(x, row)));
    expect(error).toMatchObject({ failure: "limit", details: { limit: 1024 } });
    expect(error.message).toContain("elementwise.add_broadcast");
    dispose(x, row);
  });

  test("a tensor larger than any buffer", async () => {
    using device = await open();
    const tooMany = Math.floor(device.device.limits.maxBufferSize / 4) + 1024;
    expect(await failureOf(() => Tensor.zeros(device, [tooMany]))).toMatchObject({ failure: "limit" });
    expect(device.stats.live).toBe(0);
  });

  test("a lost device says so at every use from then on", async () => {
    const device = await open();
    const x = Tensor.ones(device, [4]);
    device.device.destroy(); // what a driver reset looks like from here
    const error = await failureOf(async () => {
      await x.data();
    });
    expect(error.failure).toBe("lost");
    await device.device.lost;
    expect((await failureOf(() => relu(x))).failure).toBe("lost");
    device.dispose();
  });

  test("a disposed device, and tensors that outlive it", async () => {
    const device = await open();
    const x = Tensor.ones(device, [4]);
    device.dispose();
    device.dispose(); // harmless
    expect((await failureOf(() => relu(x))).failure).toBe("disposed");
    await expect(x.data()).rejects.toMatchObject({ failure: "disposed" });
    x.dispose();
  });

  test("a shader that does not compile is named, with Dawn's message", async () => {
    using device = await open();
    const wrong = { ...kernels.get("fill.constant")!, outputs: ["y", "z"] };
    const error = await failureOf(() => device.compile(wrong));
    expect(error).toMatchObject({
      failure: "shader",
      details: { kernel: "fill.constant", file: "fill/constant.wgsl" },
    });
  });

  test("a kernel without a shader", async () => {
    using device = await open();
    const missing = defineKernel({
      name: "nowhere.to_be_found",
      inputs: ["x"],
      outputs: ["y"],
      params: { count: "u32" },
      groups: (p) => linear(p.count),
    });
    const x = Tensor.ones(device, [4]);
    try {
      expect(() => run(missing, [x], [x.spec], { count: 4 })).toThrow(
        expect.objectContaining({ kernel: missing.name, backend: "webgpu" }),
      );
    } finally {
      kernels.delete(missing.name);
      x.dispose();
    }
  });

  test("GPU times by kernel, over more than one submission, only where they were asked for", async () => {
    using device = await WebGPUBackend.open({ timestamps: true });
    const x = Tensor.ones(device, [64]);
    for (let i = 0; i < 600; i++) relu(x).dispose(); // a submission holds 512
    const times = await device.kernelTimes();
    if (device.device.features.has("timestamp-query")) {
      expect(times!.map(({ kernel, runs }) => [kernel, runs]).sort()).toEqual([
        ["elementwise.relu", 600],
        ["fill.constant", 1],
      ]);
      expect(times!.every(({ ms }) => ms >= 0)).toBe(true);
      expect(await device.kernelTimes()).toEqual([]);
    } else expect(times).toBeNull();
    expect(Array.from(await relu(x).data())).toEqual(new Array(64).fill(1));
    using plain = await open();
    expect(await plain.kernelTimes()).toBeNull();
  });

  test("f16 only where the adapter has it", async () => {
    using device = await open();
    if (device.supports("f16")) Tensor.zeros(device, [3], "f16").dispose();
    else expect(() => Tensor.zeros(device, [3], "f16")).toThrow(DTypeError);
  });
});
