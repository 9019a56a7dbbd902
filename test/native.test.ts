import { Worker } from "node:worker_threads";
import { afterAll, describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import { loadAddon, type NativeDevice } from "../src/backends/native/addon.js";
import { NativeBackend } from "../src/backends/native/index.js";
import { ArgumentError, MissingKernelError } from "../src/errors.js";
import { defineKernel, kernels, linear } from "../src/kernel.js";
import {
  add,
  batchNorm,
  conv2d,
  crossEntropy,
  globalAvgPool,
  groupNorm,
  matmul,
  mean,
  resizeBilinear,
  softmax,
  sum,
  tversky,
} from "../src/ops/index.js";
import { dispose, run, scope, Tensor } from "../src/tensor.js";
import { cpuDevice, failureOf, hostAddon, hostDevice, isAsked, relativeError, values } from "./harness.js";

const present = isAsked("cpu") && cpuDevice() !== null;

describe.skipIf(!present)("the CPU device", () => {
  /** A little network with every kind of reduction, forward and backward, as one list of numbers. */
  async function outcome({ lanes, ...options }: { threads?: number; isa?: string; lanes?: number }): Promise<number[]> {
    using device = NativeBackend.open("cpu", { guard: true, ...options });
    if (lanes !== undefined) Object.defineProperty(device, "lanes", { value: lanes });
    const tensor = (shape: number[], seed: number) =>
      Tensor.from(
        device,
        values(
          shape.reduce((a, b) => a * b),
          seed,
        ),
        shape,
      );
    const [x, w, v] = [tensor([2, 37, 29, 12], 1), tensor([20, 3, 3, 12], 2), tensor([20, 5, 5, 1], 3)];
    const bias = tensor([20], 5);
    const [gamma, beta] = [Tensor.ones(device, [20]), Tensor.zeros(device, [20])];
    const [runningMean, runningVar] = [Tensor.zeros(device, [20]), Tensor.ones(device, [20])];
    const labels = Tensor.from(
      device,
      values(2 * 53 * 47, 4, 0, 1).map((u) => Math.floor(u * 20)),
      [2, 53, 47],
      "u32",
    );
    const { values: made, gradients } = differentiate([x, w, v, bias], () => {
      const y = conv2d(x, w, { bias, padding: 6, dilation: 6 });
      const n = batchNorm(y, { gamma, beta, runningMean, runningVar }, { mode: "train" });
      const d = conv2d(n, v, { padding: 4, dilation: 2, groups: 20 });
      const z = resizeBilinear(d, [53, 47], { alignCorners: true });
      const loss = add(
        add(crossEntropy(z, labels), tversky(z, labels)),
        add(
          mean(softmax(matmul(x.alias([2146, 12]), w.alias([12, 180])))),
          add(mean(globalAvgPool(x)), mean(groupNorm(y, gamma, beta, { groups: 4 }))),
        ),
      );
      return { loss, y, z, total: sum(z) };
    });
    const all = [made.loss, made.y, made.z, made.total, ...gradients, runningMean, runningVar];
    const numbers = (await Promise.all(all.map((t) => t.data()))).flatMap((data) => [...data]);
    await device.sync();
    dispose(made, gradients, x, w, v, bias, gamma, beta, runningMean, runningVar, labels);
    expect(device.stats.live).toBe(0);
    return numbers;
  }

  test("gives the same bits with any number of threads", async () => {
    const one = await outcome({ threads: 1 });
    expect(one.every(Number.isFinite)).toBe(true);
    for (const threads of [2, 3, 8]) expect(await outcome({ threads }), `${threads} threads`).toEqual(one);
  });

  test("gives the same where the ops cut their sums, as for a GPU, and where its kernels do", async () => {
    const whole = await outcome({});
    for (const lanes of [64, 65536]) expect(relativeError(await outcome({ lanes }), whole)).toBeLessThan(3e-6);
  });

  test("a repeated step takes nothing more from the system", async () => {
    using device = NativeBackend.open("cpu", {});
    const [x, w] = [Tensor.ones(device, [2, 65, 65, 24]), Tensor.full(device, [40, 3, 3, 24], 0.1)];
    const step = async () => {
      const { values, gradients } = differentiate([w], () => ({ loss: sum(conv2d(x, w, { padding: 1 })) }));
      await values.loss.item();
      dispose(values, gradients);
    };
    await step();
    const before = device.reservedBytes;
    expect(before).toBeGreaterThanOrEqual(device.stats.peakBytes);
    for (let i = 0; i < 5; i++) await step();
    expect(device.reservedBytes).toBe(before);
    dispose(x, w);
  });

  test("threads and instruction sets that do not exist are refused", async () => {
    for (const threads of [0, 1.5, Number.NaN, 5000]) {
      expect(() => NativeBackend.open("cpu", { threads })).toThrow(ArgumentError);
    }
    expect(await failureOf(() => NativeBackend.open("cpu", { isa: "mmx" }))).toMatchObject({ failure: "unavailable" });
  });

  test("agrees on every instruction set", async () => {
    const best = await outcome({});
    for (const isa of ["portable", "avx2"]) {
      using device = NativeBackend.open("cpu", { isa });
      expect(device.description).toContain(process.arch === "x64" ? isa : "portable");
      expect(relativeError(await outcome({ isa }), best), isa).toBeLessThan(3e-6);
    }
  });

  test("out of memory is an error, and the device goes on", async () => {
    using device = NativeBackend.open("cpu", {});
    const x = Tensor.ones(device, [64]);
    const error = await failureOf(() => Tensor.uninitialised(device, { shape: [2 ** 50], dtype: "f32" }));
    expect(error).toMatchObject({ backend: "cpu", failure: "out-of-memory", details: { bytes: 2 ** 52 } });
    expect(await x.item().catch(() => "data")).toBe("data");
    expect([...(await x.data())]).toEqual(Array(64).fill(1));
    x.dispose();
  });

  test("a kernel that is not there, a device that is gone", async () => {
    const device = NativeBackend.open("cpu", {});
    const missing = defineKernel({
      name: "nowhere.to_be_found",
      inputs: ["x"],
      outputs: ["y"],
      params: { count: "u32" },
      groups: (p) => linear(p.count),
    });
    const x = Tensor.ones(device, [4]);
    try {
      expect(() => scope(() => run(missing, [x], [x.spec], { count: 4 }))).toThrow(MissingKernelError);
    } finally {
      kernels.delete(missing.name);
    }
    device.dispose();
    device.dispose();
    expect(await failureOf(() => x.data())).toMatchObject({ failure: "disposed" });
    expect(await failureOf(() => device.alloc(4, "f32"))).toMatchObject({ failure: "disposed" });
    expect(await failureOf(() => device.sync())).toMatchObject({ failure: "disposed" });
    x.dispose();
  });

  test("guard zones see a kernel that writes too far, and fresh memory is NaN", async () => {
    using device = NativeBackend.open("cpu", { guard: true });
    const slot = device.alloc(64, "f32");
    const view = { slot, offset: 0, size: 64 };
    expect((await device.read(view)).every(Number.isNaN)).toBe(true);
    device.run(kernels.get("fill.constant")!, [], [view], { count: 70, value: 1 });
    expect((await failureOf(() => device.sync())).message).toContain("fill.constant");
    device.free(slot);
  });

  test("what was asked for before the device went is still given", async () => {
    const device = NativeBackend.open("cpu", {});
    const x = Tensor.full(device, [1 << 16], 7);
    const reading = x.data();
    device.dispose();
    expect((await reading).every((v) => v === 7)).toBe(true);
    x.dispose();
  });
});

const surfaces: [name: string, present: boolean, device: string, addon: string | undefined][] = [
  ["the CPU device", present, "cpu", undefined],
  ["the CUDA device on the host", hostDevice() !== null, "cuda", hostAddon],
];
describe.each(surfaces)("the addon's surface, %s", (_, present, deviceName, addon) => {
  if (!present) return test.skip("is not there", () => {});
  const { NativeDevice } = loadAddon(deviceName, addon);
  const open: NativeDevice[] = [];
  const native = (): NativeDevice => {
    const device = new NativeDevice(deviceName, { threads: 1, guard: true });
    open.push(device);
    return device;
  };
  afterAll(() => {
    for (const device of open) device.dispose();
  });

  test("10,000 malformed calls end in errors with a code, and leave the device intact", async () => {
    const [device, other] = [native(), native()];
    const [live, freed, foreign] = [device.alloc(1024), device.alloc(64), other.alloc(1024)];
    device.free(freed);
    const fill = device.kernel("fill.constant");
    const detached = new Float32Array(16);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const odd: unknown[] = [
      undefined,
      null,
      true,
      "1",
      "",
      {},
      [],
      -1,
      0.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      1e300,
      -0,
      2 ** 50,
      2 ** 53,
      3,
      Symbol("x"),
      7n,
      () => 1,
      new Date(),
      freed,
      foreign,
      live + 1,
      2 ** 40,
      new Float32Array(0),
      new Float32Array(3),
      new Float64Array(30).fill(Number.NaN),
      new Float64Array([live, 0, 4, live, 1020, 64]),
      new Uint8Array(8),
      detached,
      new ArrayBuffer(8),
      new DataView(new ArrayBuffer(8)),
      new Proxy({}, {}),
    ];
    const methods = [
      "alloc",
      "free",
      "write",
      "copy",
      "read",
      "kernel",
      "run",
      "sync",
      "stats",
      "description",
      "allowTf32",
      "beginCapture",
      "endCapture",
      "replay",
      "freeGraph",
    ] as const;
    let state = 12345;
    const next = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const codes = new Set<string>();
    const record = (error: unknown) => {
      const { code, name } = error as { code?: string; name: string };
      codes.add(code ?? name);
    };
    for (let i = 0; i < 10_000; i++) {
      const method = methods[next(methods.length)]!;
      const args = [...Array(next(6))].map(() => (next(3) === 0 ? live : odd[next(odd.length)]));
      // Lawful calls are not what this is about: memory that is live stays live, and small.
      if (method === "free" && args[0] === live) continue;
      if (method === "alloc" && typeof args[0] === "number" && args[0] < 2 ** 45) continue;
      // Half of the runs are nearly right: a kernel, views and parameters of which one thing is wrong.
      if (method === "run" && next(2) === 0) {
        const part = () => [live, live, freed, foreign, 0, 4, 1024, 2 ** 52, -4, 0.5, Number.NaN][next(11)]!;
        const views = Float64Array.from({ length: 3 * next(4) }, part);
        args.splice(0, 5, [fill, 9999][next(2)], views, next(4), new Uint8Array(4 * next(4)), [0, 4, 12, 300][next(4)]);
      }
      const self = next(20) === 0 ? (odd[next(odd.length)] as NativeDevice) : device;
      try {
        const result = (Reflect.get(device, method) as (...a: unknown[]) => unknown).apply(self, args);
        if (result instanceof Promise) await result.catch(record);
      } catch (error) {
        record(error);
      }
    }
    try {
      device.endCapture(false); // where the last capture was left open
    } catch (error) {
      record(error);
    }
    for (const name of ["nothing", "", 3, null, undefined]) {
      try {
        new NativeDevice(name as string, {});
      } catch (error) {
        record(error);
      }
    }
    for (const code of ["argument", "handle", "range", "kernel", "memory", "unavailable"])
      expect(codes).toContain(code);
    for (const code of codes)
      expect(["argument", "handle", "range", "kernel", "memory", "unavailable", "TypeError", "Error"]).toContain(code);
    device.write(live, 0, new Float32Array(256).fill(2));
    expect(new Float32Array(await device.read(live, 0, 1024)).every((v) => v === 2)).toBe(true);
    await device.sync();
    expect(device.stats()).toMatchObject({ live: 1, bytes: 1024 });
  });

  test("handles: freed, of another device, forged, twice", () => {
    const [device, other] = [native(), native()];
    const [mine, theirs] = [device.alloc(64), other.alloc(64)];
    const codeOf = (f: () => unknown) => {
      try {
        f();
      } catch (error) {
        return (error as { code: string }).code;
      }
      return "no error";
    };
    expect(codeOf(() => device.write(theirs, 0, new Float32Array(4)))).toBe("handle");
    expect(codeOf(() => device.copy(mine, 0, theirs, 0, 16))).toBe("handle");
    expect(codeOf(() => device.write(mine, 61, new Float32Array(1)))).toBe("range");
    expect(codeOf(() => device.read(mine, 0, 65))).toBe("range");
    expect(codeOf(() => device.read(mine, 2 ** 53 - 1, 2 ** 53 - 1))).toBe("range");
    device.free(mine);
    expect(codeOf(() => device.free(mine))).toBe("handle");
    device.dispose();
    expect(codeOf(() => device.alloc(4))).toBe("disposed");
  });

  test("works in several worker threads at once, also when they are stopped in the middle", async () => {
    const path = addon ?? process.env.LACUNA_ADDON ?? new URL("../build/Release/lacuna.node", import.meta.url).pathname;
    const code = `
      const { parentPort, workerData } = require("node:worker_threads");
      const { NativeDevice } = require(workerData.path);
      (async () => {
        for (let round = 0; ; round++) {
          const device = new NativeDevice(workerData.deviceName, { threads: 2 });
          const slot = device.alloc(4096);
          const params = new Uint8Array(8);
          new DataView(params.buffer).setUint32(0, 1024, true);
          new DataView(params.buffer).setFloat32(4, workerData.value, true);
          for (let i = 0; i < 50; i++) device.run(device.kernel("fill.constant"), new Float64Array([slot, 0, 4096]), 1, params, 8);
          const data = new Float32Array(await device.read(slot, 0, 4096));
          if (!data.every((v) => v === workerData.value)) throw new Error("wrong values");
          device.dispose();
          if (round === 20) parentPort.postMessage("done");
        }
      })();`;
    const workers = [1, 2, 3].map((value) => new Worker(code, { eval: true, workerData: { path, deviceName, value } }));
    await Promise.all(
      workers.map(
        (worker) =>
          new Promise<void>((resolve, reject) => {
            worker.once("message", () => resolve());
            worker.once("error", reject);
          }),
      ),
    );
    await Promise.all(workers.map((worker) => worker.terminate()));
  });

  test("1,000 devices opened and closed leave nothing behind", async () => {
    const cycle = async () => {
      const device = new NativeDevice(deviceName, { threads: 2 });
      const slot = device.alloc(1 << 16);
      device.write(slot, 0, new Float32Array(1 << 14).fill(1));
      await device.read(slot, 0, 1 << 16);
      device.dispose();
    };
    for (let i = 0; i < 200; i++) await cycle();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 1000; i++) await cycle();
    // 64 MiB would stay if each left its 64 KiB; the collector's slack is less.
    expect(process.memoryUsage.rss() - before).toBeLessThan(40 << 20);
  });
});
