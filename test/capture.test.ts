import { describe, expect, test } from "vitest";
import { differentiate } from "../src/autograd.js";
import type { Backend } from "../src/backends/backend.js";
import { NativeBackend } from "../src/backends/native/index.js";
import { WebGPUBackend, type WebGPUOptions } from "../src/backends/webgpu/index.js";
import { capture } from "../src/capture.js";
import { DeviceError, ScopeError } from "../src/errors.js";
import { add, dropout, mean, mul, relu, reverseGradient, scale, sub, sum } from "../src/ops/index.js";
import { AdamW, EMA } from "../src/optim/index.js";
import { Generator } from "../src/random.js";
import { eachStep } from "../src/recording.js";
import { dispose, scope, Tensor } from "../src/tensor.js";
import { allDevices, failureOf, hostAddon, hostDevice, onCard, values } from "./harness.js";

const devices = await allDevices();

/** A model of two vectors with everything that changes from step to step: a schedule, a reversal, dropout, an average. */
function trainer(device: Backend) {
  const w = [Tensor.from(device, values(96, 1)), Tensor.from(device, values(96, 2))];
  const x = Tensor.zeros(device, [96]);
  const optimiser = new AdamW([{ name: "all", parameters: w, lr: 0.05, weightDecay: 0.1 }]);
  const ema = new EMA(optimiser, 0.9);
  const generator = new Generator(7);
  const state = { step: 0, lambda: 0, lrScale: 1 };
  const step = () => {
    const { values, gradients } = differentiate(w, () => {
      const h = dropout(relu(mul(x, w[0]!)), 0.25, generator);
      const task = mul(sub(h, w[1]!), sub(h, w[1]!));
      const loss = add(mean(task), mean(reverseGradient(h, () => state.lambda)));
      return { loss, twice: scale(loss, 2) };
    });
    optimiser.step(gradients, { lrScale: () => state.lrScale, clipNorm: 0.5 });
    ema.update(() => state.step);
    return values;
  };
  const prepare = () => {
    x.assign(values(96, 100 + state.step));
    state.lambda = 0.1 * state.step;
    state.lrScale = 1 / (1 + state.step);
  };
  return {
    prepare,
    step,
    done: () => state.step++,
    parameters: async () => Promise.all([...w, ...ema.averages].map(async (t) => [...(await t.data())])),
    dispose() {
      optimiser.dispose();
      ema.dispose();
      for (const t of [...w, x]) t.dispose();
    },
  };
}

test.each(devices.map((d) => [d.description, d] as const))(
  "replayed steps are eager steps, to the bit: %s",
  async (_, device) => {
    const [eager, captured] = [trainer(device), trainer(device)];
    const losses: number[][] = [[], []];
    for (let i = 0; i < 6; i++) {
      eager.prepare();
      const { loss, twice } = scope(eager.step);
      losses[0]!.push(await loss.item(), await twice.item());
      eager.done();
      loss.dispose();
      twice.dispose();
    }
    captured.prepare();
    const first = scope(captured.step);
    losses[1]!.push(await first.loss.item(), await first.twice.item());
    first.loss.dispose();
    first.twice.dispose();
    captured.done();
    captured.prepare();
    const step = capture(device, captured.step);
    expect(step.graph).toBe(device.graphs !== null);
    for (let i = 1; i < 6; i++) {
      if (i > 1) {
        captured.prepare();
        step.replay();
      }
      losses[1]!.push(await step.values.loss.item(), await step.values.twice.item());
      captured.done();
      // memory that comes and goes between replays is none of the graph's
      const other = Tensor.full(device, [4096], Number.NaN);
      other.dispose();
    }
    expect(losses[1]).toEqual(losses[0]);
    expect(await captured.parameters()).toEqual(await eager.parameters());
    step.dispose();
    expect(() => step.replay()).toThrow(ScopeError);
    eager.dispose();
    captured.dispose();
  },
);

const withGraphs = devices.filter((d) => d.graphs !== null).map((d) => [d.description, d] as const);
describe.each(withGraphs)("graphs: %s", (_, device) => {
  test("a constant that a step writes is kept with it", async () => {
    using sum = Tensor.zeros(device, [3]);
    const step = capture(device, () => {
      using one = Tensor.from(device, [1, 2, 3]);
      const next = add(sum, one);
      device.copy(next.view, sum.view);
      return next;
    });
    for (let i = 0; i < 3; i++) step.replay();
    expect([...(await sum.data())]).toEqual([4, 8, 12]);
    step.dispose();
  });

  test("what eachStep counts is counted at every replay, before its commands", async () => {
    let count = 0;
    using x = Tensor.ones(device, [4]);
    const step = capture(device, () => {
      eachStep(() => {
        count++;
      });
      return scale(x, () => count);
    });
    expect([...(await step.values.data())]).toEqual([1, 1, 1, 1]);
    step.replay();
    step.replay();
    expect([...(await step.values.data())]).toEqual([3, 3, 3, 3]);
    step.dispose();
  });

  test("reading while a step is captured is refused, and leaves the device as it was", async () => {
    using x = Tensor.ones(device, [4]);
    const reads: Promise<unknown>[] = [];
    const step = capture(device, () => {
      reads.push(x.data().catch((error: unknown) => error));
      return scale(x, 2);
    });
    expect(await reads[0]).toBeInstanceOf(DeviceError);
    expect([...(await step.values.data())]).toEqual([2, 2, 2, 2]);
    step.dispose();
    expect(() =>
      capture(device, () => {
        throw new Error("mine");
      }),
    ).toThrow("mine");
    expect([...(await x.data())]).toEqual([1, 1, 1, 1]);
  });

  test("a second capture inside one is refused", () => {
    expect(() => capture(device, () => capture(device, () => null))).toThrow(DeviceError);
  });

  test("two graphs side by side, and what is between them", async () => {
    using x = Tensor.from(device, values(600, 1));
    using y = Tensor.from(device, values(600, 2));
    const first = capture(device, () => scale(add(x, y), 2));
    const second = capture(device, () => mul(sub(x, y), first.values));
    const expected = async () => {
      const [a, b] = await Promise.all([x.data(), y.data()]);
      return [...a].map((v, i) => (v - b[i]!) * 2 * (v + b[i]!));
    };
    for (let i = 3; i < 6; i++) {
      x.assign(values(600, i));
      first.replay();
      using other = Tensor.full(device, [600], i); // neither's memory
      second.replay();
      const wanted = await expected();
      expect([...(await second.values.data())].every((v, j) => Math.abs(v - wanted[j]!) < 1e-5)).toBe(true);
      expect(await other.data()).toEqual(new Float32Array(600).fill(i));
    }
    second.dispose();
    first.replay();
    first.dispose();
  });
});

describe.skipIf(!hostDevice())("graphs of the native addon", () => {
  test("what a step made and freed stays its graph's, even where all of it was freed", async () => {
    const backend = NativeBackend.open("cuda", { addon: hostAddon });
    const [x, y] = [Tensor.ones(backend, [1 << 12]), Tensor.zeros(backend, [1 << 12])];
    const reserved = backend.reservedBytes;
    const step = capture(backend, () => {
      using doubled = scale(x, 2);
      using sum = add(doubled, y);
      backend.copy(sum.view, y.view);
      return null;
    });
    await backend.sync(); // where memory that nobody uses goes back to the system
    expect(backend.reservedBytes).toBeGreaterThan(reserved);
    for (let i = 0; i < 3; i++) step.replay();
    expect((await y.data()).every((v) => v === 8)).toBe(true);
    step.dispose();
    for (const t of [x, y]) t.dispose();
    backend.dispose();
  });

  test("a graph gives its memory back", async () => {
    const backend = NativeBackend.open("cuda", { addon: hostAddon });
    const before = () => backend.reservedBytes;
    const x = Tensor.ones(backend, [1 << 16]);
    const reserved = before();
    for (let i = 0; i < 20; i++) {
      const step = capture(backend, () => scale(x, 2));
      step.replay();
      step.dispose();
      await backend.sync();
    }
    expect(before()).toBeLessThanOrEqual(reserved + (4 << 20));
    x.dispose();
    backend.dispose();
  });

  const room = "memory runs out with what was asked for, what is in use and what there is; then there is room again";
  test.skipIf(onCard)(room, async () => {
    const small = NativeBackend.open("cuda", { addon: hostAddon, memory: 8 << 20 });
    const x = Tensor.zeros(small, [1 << 20]);
    const failure = await failureOf(() => Tensor.zeros(small, [3, 1 << 20]));
    expect(failure.failure).toBe("out-of-memory");
    expect(failure.message).toMatch(/f32\[3, 1048576\]/);
    expect(failure.message).toMatch(/12,?582,?912 bytes/);
    expect(failure.message).toMatch(/4,?194,?304 in use by 1 tensor/);
    x.dispose();
    const y = Tensor.zeros(small, [3 << 18]);
    y.dispose();
    small.dispose();
  });
});

describe.skipIf(!devices.some((d) => d.name === "webgpu"))("graphs of WebGPU", () => {
  const open = (options: WebGPUOptions = {}) => WebGPUBackend.open(options);

  test("memory: planned, kept while the graph lives, and handed on afterwards", async () => {
    using device = await open();
    const x = Tensor.full(device, [1 << 14], 3);
    const step = () => {
      let y = x.alias();
      for (let i = 0; i < 8; i++) {
        const next = add(y, x);
        y.dispose();
        y = next;
      }
      return y;
    };
    scope(step).dispose();
    const before = device.reservedBytes; // x, and two buffers by turns
    expect(before).toBe(3 << 16);
    const captured = capture(device, step);
    expect(device.reservedBytes).toBe(before);
    const others = [1, 2].map((value) => Tensor.full(device, [1 << 14], value));
    expect(device.reservedBytes).toBe(5 << 16);
    captured.replay();
    for (const [i, other] of others.entries()) expect((await other.data())[0]).toBe(i + 1);
    expect((await captured.values.data()).every((v) => v === 27)).toBe(true);
    const { live } = device.stats;
    captured.dispose();
    expect(device.stats.live).toBe(live - 1);
    dispose(others);
    dispose(scope(() => [step(), step()]));
    expect(device.reservedBytes).toBe(5 << 16);
    x.dispose();
    expect(device.stats).toMatchObject({ live: 0, bytes: 0 });
  });

  test("a tensor that outlives its graph keeps its memory", async () => {
    using device = await open();
    using x = Tensor.full(device, [1 << 14], 3);
    const captured = capture(device, () => scale(x, 2));
    const kept = captured.values.alias();
    captured.dispose();
    using other = Tensor.full(device, [1 << 14], 1);
    expect((await other.data())[0]).toBe(1);
    expect((await kept.data()).every((v) => v === 6)).toBe(true);
    kept.dispose();
    const reserved = device.reservedBytes;
    Tensor.full(device, [1 << 14], 1).dispose();
    expect(device.reservedBytes).toBe(reserved);
  });

  test("kernels that are split at the binding limit, with parameters that change", async () => {
    using device = await open({ maxBindingBytes: 64 * 1024 });
    const count = 3 * 16384 + 64;
    const x = Tensor.from(
      device,
      Float32Array.from({ length: count }, (_, i) => i % 1000),
    );
    let factor = 1;
    const step = capture(device, () => ({ scaled: scale(x, () => factor), total: sum(x) }));
    for (factor = 2; factor < 4; factor++) {
      step.replay();
      const data = await step.values.scaled.data();
      expect(data.every((v, i) => v === factor * (i % 1000))).toBe(true);
    }
    const exact = Array.from({ length: count }, (_, i) => i % 1000).reduce((a, b) => a + b, 0);
    expect(await step.values.total.item()).toBeCloseTo(exact, -2);
    step.dispose();
    x.dispose();
  });

  test("a step that asks for too much is not captured, and the device goes on", async () => {
    using device = await open({ maxBindingBytes: 1024 });
    using x = Tensor.zeros(device, [1024]);
    using row = Tensor.ones(device, [1]);
    const tooMany = Math.floor(device.device.limits.maxBufferSize / 4) + 1024;
    const before = device.stats;
    for (const step of [() => add(scale(x, 2), row), () => Tensor.zeros(device, [tooMany])]) {
      expect(await failureOf(() => capture(device, step))).toMatchObject({ failure: "limit" });
      expect(device.stats).toMatchObject({ live: before.live, bytes: before.bytes });
    }
    expect(await row.item()).toBe(1);
  });

  test("a device without memory says so when what was captured is read", async () => {
    const device = await open();
    const x = Tensor.ones(device, [1024]);
    scope(() => void scale(add(x, x), 2)); // the pipelines are there: what fails from here on is memory
    const popErrorScope = device.device.popErrorScope.bind(device.device);
    const none = { message: "none left" } as GPUError; // a GPUError cannot be made
    device.device.popErrorScope = () => popErrorScope().then(() => none);
    const step = capture(device, () => [scale(add(x, x), 2), add(x, x), add(x, x)]);
    device.device.popErrorScope = popErrorScope;
    expect(await failureOf(() => step.values[0]!.data())).toMatchObject({ failure: "out-of-memory" });
    expect((await failureOf(() => step.replay())).failure).toBe("out-of-memory");
    device.dispose();
  });

  test("GPU times by kernel", async () => {
    using device = await open({ timestamps: true });
    if (!device.device.features.has("timestamp-query")) return;
    using x = Tensor.ones(device, [64]);
    const step = capture(device, () => {
      let y = relu(x);
      for (let i = 0; i < 600; i++) y = scale(y, 1); // more than one submission
      return y;
    });
    await device.kernelTimes();
    step.replay();
    const times = await device.kernelTimes();
    expect(times!.map(({ kernel, runs }) => [kernel, runs]).sort()).toEqual([
      ["elementwise.relu", 1],
      ["elementwise.scale", 600],
    ]);
    step.dispose();
  });

  test("replaying goes out in few submissions, and makes nothing new", async () => {
    using device = await open();
    using x = Tensor.ones(device, [64]);
    const step = capture(device, () => {
      let y = relu(x);
      for (let i = 0; i < 599; i++) y = scale(y, 1);
      return y;
    });
    const { dispatches, submits } = device.stats;
    const made: string[] = [];
    for (const name of ["createBuffer", "createBindGroup", "createComputePipeline"] as const) {
      const make = device.device[name].bind(device.device) as () => never;
      Object.assign(device.device, {
        [name]: (...args: Parameters<typeof make>) => {
          made.push(name);
          return make(...args);
        },
      });
    }
    step.replay();
    expect(made).toEqual([]);
    expect(device.stats.dispatches - dispatches).toBe(600);
    expect(device.stats.submits - submits).toBe(3);
    step.dispose();
  });
});
