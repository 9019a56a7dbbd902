import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Backend } from "../src/backends/backend.js";
import { WebGPUBackend } from "../src/backends/webgpu/index.js";
import { ArgumentError, CheckpointError, DTypeError, type LacunaError, ShapeError } from "../src/errors.js";
import {
  Adam,
  AdamW,
  constant,
  cosine,
  EMA,
  ganin,
  type Optimizer,
  type ParameterGroup,
  parameterGroups,
  poly,
  SGD,
  warmUp,
} from "../src/optim/index.js";
import { sizeOf, type TensorData } from "../src/shape.js";
import { dispose, scope, Tensor } from "../src/tensor.js";
import { allDevices, referenceDevice, relativeError, values, webgpuDevice } from "./harness.js";

interface Golden {
  shapes: number[][];
  initial: number[][];
  gradients: number[][][];
  lr: [number, number];
  weightDecay: [number, number];
  cases: Record<string, { first: number[][]; last: number[][]; norms: number[] }>;
}
const golden: Golden = JSON.parse(readFileSync(new URL("./golden/optimizer.json", import.meta.url), "utf8"));

const makers: Record<string, { make: (groups: ParameterGroup[]) => Optimizer; clipNorm?: number }> = {
  sgd: { make: (groups) => new SGD(groups) },
  momentum: { make: (groups) => new SGD(groups, { momentum: 0.9 }) },
  nesterov: { make: (groups) => new SGD(groups, { momentum: 0.8, nesterov: true }) },
  clipped: { make: (groups) => new SGD(groups, { momentum: 0.9 }), clipNorm: 1.5 },
  adam: { make: (groups) => new Adam(groups) },
  adamw: { make: (groups) => new AdamW(groups, { betas: [0.8, 0.99], eps: 1e-6 }) },
  adamwClipped: { make: (groups) => new AdamW(groups), clipNorm: 0.3 },
};

const start = (device: Backend): Tensor[] =>
  golden.initial.map((data, k) => Tensor.from(device, data, golden.shapes[k]!));

/** The golden's two groups: rank 2 and more, and the rest. */
const groupsOf = (parameters: readonly Tensor[]): ParameterGroup[] =>
  [(t: Tensor) => t.rank > 1, (t: Tensor) => t.rank <= 1].map((belongs, g) => ({
    name: `group${g}`,
    parameters: new Map(parameters.filter(belongs).map((t) => [`p${parameters.indexOf(t)}`, t])),
    lr: golden.lr[g]!,
    weightDecay: golden.weightDecay[g]!,
  }));

/** Steps `from` to `to` with the golden's gradients. */
function advance(
  optimizer: Optimizer,
  parameters: readonly Tensor[],
  from: number,
  to: number,
  clipNorm?: number,
): void {
  for (let t = from; t < to; t++) {
    scope(() => {
      const gradients = optimizer.parameters.map((p) => {
        const k = parameters.indexOf(p);
        return Tensor.from(p.device, golden.gradients[t]![k]!, golden.shapes[k]!);
      });
      optimizer.step(gradients, clipNorm === undefined ? {} : { clipNorm });
    });
  }
}
const valuesOf = (tensors: readonly Tensor[]): Promise<TensorData[]> => Promise.all(tensors.map((t) => t.data()));

describe.each(Object.entries(makers))("%s", (name, { make, clipNorm }) => {
  const expected = golden.cases[name]!;

  test("ten steps agree with PyTorch", async () => {
    for (const device of await allDevices()) {
      const limit = device.name === "reference" ? 1e-12 : 2e-6;
      const parameters = start(device);
      using optimizer = make(groupsOf(parameters));
      advance(optimizer, parameters, 0, 1, clipNorm);
      if (clipNorm) expect((await optimizer.gradientNorm()) / expected.norms[0]! - 1).toBeCloseTo(0, 6);
      const first = await valuesOf(parameters);
      advance(optimizer, parameters, 1, 10, clipNorm);
      const last = await valuesOf(parameters);
      first.forEach((data, k) => {
        expect(relativeError(data, expected.first[k]!), `${device.name}, step 1, parameter ${k}`).toBeLessThan(limit);
      });
      last.forEach((data, k) => {
        expect(relativeError(data, expected.last[k]!), `${device.name}, step 10, parameter ${k}`).toBeLessThan(limit);
      });
      dispose(parameters);
    }
  });

  test("continues with the same bits from its state", async () => {
    for (const device of await allDevices()) {
      const parameters = start(device);
      using whole = make(groupsOf(parameters));
      advance(whole, parameters, 0, 4, clipNorm);
      const { tensors, step } = whole.state();
      expect(step).toBe(4);
      const saved = await Promise.all([...tensors].map(async ([key, t]) => [key, await t.data(), t.shape] as const));
      const copies = (await valuesOf(parameters)).map((data, k) => Tensor.from(device, data, golden.shapes[k]!));
      advance(whole, parameters, 4, 10, clipNorm);

      using resumed = make(groupsOf(copies));
      const moments = new Map(saved.map(([key, data, shape]) => [key, Tensor.from(device, data, shape)]));
      resumed.load({ tensors: moments, step });
      advance(resumed, copies, 4, 10, clipNorm);
      expect(await valuesOf(copies)).toEqual(await valuesOf(parameters));
      expect(resumed.state().step).toBe(10);
      dispose(parameters, copies, moments);
    }
  });

  test("works in parts where an arena exceeds the binding limit", async () => {
    if (!(await webgpuDevice())) return;
    const gpu = await WebGPUBackend.open({ maxBindingBytes: 768 });
    try {
      const parameters = start(gpu);
      using optimizer = make(groupsOf(parameters));
      advance(optimizer, parameters, 0, 10, clipNorm);
      (await valuesOf(parameters)).forEach((data, k) => {
        expect(relativeError(data, expected.last[k]!)).toBeLessThan(2e-6);
      });
    } finally {
      gpu.dispose();
    }
  });
});

test("one dispatch per group, whatever the number of parameters", async () => {
  for (const device of await allDevices()) {
    const parameters = start(device);
    using optimizer = new AdamW(groupsOf(parameters));
    const gradients = optimizer.parameters.map((p) => Tensor.ones(device, p.shape));
    const before = device.stats.dispatches;
    optimizer.step(gradients);
    expect(device.stats.dispatches - before).toBe(2);
    optimizer.step(gradients, { clipNorm: 1 });
    expect(device.stats.dispatches - before).toBe(6);
    dispose(parameters, gradients);
  }
});

test("parameters keep their handles and values, aligned, and outlive the optimiser", async () => {
  for (const device of await allDevices()) {
    const live = device.stats.live;
    const parameters = start(device);
    const before = await valuesOf(parameters);
    const optimizer = new SGD([{ name: "all", parameters, lr: 1 }]);
    expect(optimizer.parameters).toEqual(parameters);
    expect(await valuesOf(parameters)).toEqual(before);
    for (const t of parameters) expect((t.view.offset * 4) % device.offsetAlignment).toBe(0);
    optimizer.dispose();
    expect(await valuesOf(parameters)).toEqual(before);
    using again = new Adam([{ name: "all", parameters, lr: 1 }]);
    expect(await valuesOf(again.parameters)).toEqual(before);
    dispose(parameters);
    again.dispose();
    expect(device.stats.live).toBe(live);
  }
});

test("is not undone by a scope that encloses its making", async () => {
  const device = referenceDevice();
  const parameters = start(device);
  let optimizer: SGD | undefined;
  scope(() => {
    optimizer = new SGD([{ name: "all", parameters, lr: 0.1 }]);
  });
  using made = optimizer!;
  advance(made, parameters, 0, 1);
  expect(parameters[3]!.disposed).toBe(false);
  expect(await made.gradientNorm()).toBeGreaterThan(0);
  dispose(parameters);
});

test("holes between parameters stay zero", async () => {
  for (const device of await allDevices()) {
    for (const make of [makers.momentum!.make, makers.adamw!.make]) {
      const parameters = start(device);
      using optimizer = make(groupsOf(parameters));
      advance(optimizer, parameters, 0, 3);
      const flat = await optimizer.values.data();
      const used = new Set(
        optimizer.arena.tensors.flatMap((t, i) => [...Array(t.size).keys()].map((j) => optimizer.arena.starts[i]! + j)),
      );
      expect(used.size).toBe(golden.shapes.reduce((sum, shape) => sum + sizeOf(shape), 0));
      expect(flat.length % 64).toBe(0);
      expect(flat.length).toBeGreaterThan(used.size);
      flat.forEach((value, i) => {
        if (!used.has(i)) expect(value).toBe(0);
      });
      dispose(parameters);
    }
  }
});

test("lrScale multiplies every group's rate", async () => {
  for (const device of await allDevices()) {
    const parameters = [Tensor.from(device, [1]), Tensor.from(device, [1])];
    using optimizer = new SGD([
      { name: "a", parameters: [parameters[0]!], lr: 1 },
      { name: "b", parameters: [parameters[1]!], lr: 10 },
    ]);
    const gradients = parameters.map(() => Tensor.from(device, [1]));
    optimizer.step(gradients, { lrScale: 0.25 });
    optimizer.step(gradients, { lrScale: 0 });
    expect((await valuesOf(parameters)).map((v) => v[0])).toEqual([0.75, -1.5]);
    dispose(parameters, gradients);
  }
});

test("the gradient norm is that of the last step, clipped or not, and a gradient below the limit is left alone", async () => {
  for (const device of await allDevices()) {
    const parameters = [Tensor.zeros(device, [2])];
    using optimizer = new SGD([{ name: "all", parameters, lr: 1 }]);
    expect(await optimizer.gradientNorm()).toBe(0);
    const step = (data: number[], clipNorm?: number) => {
      using gradient = Tensor.from(device, data);
      optimizer.step([gradient], clipNorm === undefined ? {} : { clipNorm });
    };
    step([3, 4]);
    expect(await optimizer.gradientNorm()).toBe(5);
    expect([...(await parameters[0]!.data())]).toEqual([-3, -4]);
    step([6, 8], 5);
    expect(await optimizer.gradientNorm()).toBe(10);
    expect(relativeError(await parameters[0]!.data(), [-6, -8])).toBeLessThan(1e-6);
    step([6, 8], 11);
    expect(relativeError(await parameters[0]!.data(), [-12, -16])).toBeLessThan(1e-6);
    step([6, 8]); // the factor of a clipped step does not linger
    expect(relativeError(await parameters[0]!.data(), [-18, -24])).toBeLessThan(1e-6);
    dispose(parameters);
  }
});

describe("refuses", () => {
  const device = referenceDevice();
  const refused = (fn: () => unknown, kind: new (...args: never[]) => LacunaError) => {
    const parameters = start(device);
    const before = device.stats.live;
    expect(fn).toThrow(kind);
    expect(device.stats.live).toBe(before);
    dispose(parameters);
  };

  test.each<[string, (t: Tensor) => ParameterGroup[]]>([
    ["no parameters", () => [{ name: "all", parameters: [], lr: 1 }]],
    ["a parameter twice", (t) => [{ name: "all", parameters: [t, t], lr: 1 }]],
    [
      "a group's name twice",
      (t) => [
        { name: "all", parameters: [t], lr: 1 },
        { name: "all", parameters: [], lr: 1 },
      ],
    ],
    ["a negative rate", (t) => [{ name: "all", parameters: [t], lr: -1 }]],
    ["a rate that is no number", (t) => [{ name: "all", parameters: [t], lr: Number.NaN }]],
    ["an infinite decay", (t) => [{ name: "all", parameters: [t], lr: 1, weightDecay: Number.POSITIVE_INFINITY }]],
  ])("%s", (_, groups) => {
    const t = Tensor.zeros(device, [2]);
    refused(() => new SGD(groups(t)), ArgumentError);
    t.dispose();
  });

  test("hyperparameters out of range, other types, other devices' parameters, and parameters in use", async () => {
    const t = Tensor.zeros(device, [2]);
    const groups = [{ name: "all", parameters: [t], lr: 1 }];
    refused(() => new SGD(groups, { momentum: 1 }), ArgumentError);
    refused(() => new SGD(groups, { nesterov: true }), ArgumentError);
    refused(() => new Adam(groups, { betas: [1, 0.9] }), ArgumentError);
    refused(() => new AdamW(groups, { betas: [0.9, -0.1] }), ArgumentError);
    refused(() => new Adam(groups, { eps: 0 }), ArgumentError);
    refused(() => new EMA([t], 1), ArgumentError);
    const whole = Tensor.zeros(device, [2], "i32");
    refused(() => new SGD([{ name: "all", parameters: [whole], lr: 1 }]), DTypeError);
    const optimizer = new SGD(groups);
    expect(() => new SGD(groups)).toThrow(ArgumentError);
    optimizer.dispose();
    dispose(t, whole);
  });

  test("gradients that do not match, and options out of range: nothing changes", async () => {
    const parameters = [Tensor.ones(device, [2]), Tensor.ones(device, [3])];
    using optimizer = new SGD([{ name: "all", parameters, lr: 1 }]);
    const [two, three, half] = [Tensor.ones(device, [2]), Tensor.ones(device, [3]), Tensor.ones(device, [3], "f16")];
    expect(() => optimizer.step([two])).toThrow(ArgumentError);
    expect(() => optimizer.step([three, two])).toThrow(ShapeError);
    expect(() => optimizer.step([two, half])).toThrow(DTypeError);
    expect(() => optimizer.step([two, three], { clipNorm: 0 })).toThrow(ArgumentError);
    expect(() => optimizer.step([two, three], { lrScale: -1 })).toThrow(ArgumentError);
    expect(optimizer.state().step).toBe(0);
    expect([...(await parameters[1]!.data())]).toEqual([1, 1, 1]);
    dispose(parameters, two, three, half);
  });

  test("a state of another optimiser or model: nothing changes", async () => {
    const [w, other] = [Tensor.ones(device, [2]), Tensor.ones(device, [3])];
    using optimizer = new SGD([{ name: "all", parameters: new Map([["w", w]]), lr: 1 }], { momentum: 0.9 });
    using adam = new Adam([{ name: "all", parameters: new Map([["w", other]]), lr: 1 }]);
    const own = optimizer.state().tensors;
    expect([...own.keys()]).toEqual(["momentum.all.w"]);
    const keysOf = (fn: () => void) => {
      try {
        fn();
      } catch (error) {
        if (error instanceof CheckpointError) return error.keys;
        throw error;
      }
      return null;
    };
    expect(keysOf(() => optimizer.load({ tensors: new Map(), step: 1 }))).toEqual(["momentum.all.w"]);
    expect(keysOf(() => optimizer.load({ tensors: new Map([...own, ["x", w]]), step: 1 }))).toEqual(["x"]);
    expect(keysOf(() => optimizer.load({ tensors: new Map([["momentum.all.w", other]]), step: 1 }))).toEqual([
      "momentum.all.w",
    ]);
    expect(keysOf(() => optimizer.load({ tensors: own, step: -1 }))).toEqual([]);
    expect(keysOf(() => optimizer.load(adam.state()))).toEqual(["momentum.all.w"]);
    expect(optimizer.state().step).toBe(0);
    optimizer.load({ tensors: own, step: 7 }); // filled in place
    expect(optimizer.state().step).toBe(7);
    dispose(w, other);
  });
});

test("parameterGroups: the head learns faster; norms, biases and loss weights do not decay", () => {
  const device = referenceDevice();
  const parameters = new Map([
    ["backbone.conv.weight", Tensor.zeros(device, [2, 3, 3, 4])],
    ["backbone.bn.weight", Tensor.zeros(device, [2])],
    ["classifier.weight", Tensor.zeros(device, [5, 1, 1, 2])],
    ["classifier.bias", Tensor.zeros(device, [5])],
    ["losses.c", Tensor.zeros(device, [])],
  ]);
  const groups = parameterGroups(parameters, {
    lr: 0.01,
    weightDecay: 1e-4,
    isHead: (name) => name.startsWith("classifier"),
  });
  expect(
    groups.map(({ parameters: named, ...rest }) => ({ ...rest, names: [...(named as Map<string, Tensor>).keys()] })),
  ).toEqual([
    { name: "body", lr: 0.01, weightDecay: 1e-4, names: ["backbone.conv.weight"] },
    { name: "bodyWithoutDecay", lr: 0.01, weightDecay: 0, names: ["backbone.bn.weight", "losses.c"] },
    { name: "head", lr: 0.1, weightDecay: 1e-4, names: ["classifier.weight"] },
    { name: "headWithoutDecay", lr: 0.1, weightDecay: 0, names: ["classifier.bias"] },
  ]);
  expect(parameterGroups(parameters, { lr: 1 }).map(({ name, lr }) => [name, lr])).toEqual([
    ["body", 1],
    ["bodyWithoutDecay", 1],
  ]);
  expect(() => parameterGroups(parameters, { lr: 1, headFactor: -1 })).toThrow(ArgumentError);
  dispose(parameters);
});

describe("EMA", () => {
  const rounds = 6;
  /** y += max(1 / (t + 1), 1 - decay) (w - y), by hand. */
  const expected = (decay: number): number[] => {
    let y = golden.initial.flat();
    for (let t = 0; t < rounds; t++) {
      const w = values(y.length, 50 + t);
      const d = Math.min(1 - 1 / (t + 1), decay);
      y = y.map((v, i) => d * v + (1 - d) * w[i]!);
    }
    return y;
  };
  const assignAll = (tensors: readonly Tensor[], t: number) => {
    const all = values(golden.initial.flat().length, 50 + t);
    let at = 0;
    for (const tensor of tensors) tensor.assign(all.slice(at, (at += tensor.size)));
  };
  const flatten = async (tensors: readonly Tensor[]) => (await valuesOf(tensors)).flatMap((data) => [...data]);

  test.each([true, false])("averages (over an optimiser: %s), starts as a plain mean", async (arena) => {
    for (const device of await allDevices()) {
      const parameters = start(device);
      using optimizer = arena ? new SGD([{ name: "all", parameters, lr: 1 }]) : null;
      using ema = new EMA(optimizer ?? parameters, 0.7);
      expect(await flatten(ema.averages)).toEqual(await flatten(parameters));
      const before = device.stats.dispatches;
      for (let t = 0; t < rounds; t++) {
        assignAll(parameters, t);
        ema.update(t);
        if (t === 0) expect(relativeError(await flatten(ema.averages), await flatten(parameters))).toBeLessThan(1e-6);
      }
      expect(device.stats.dispatches - before).toBe(arena ? rounds : rounds * parameters.length);
      expect(relativeError(await flatten(ema.averages), expected(0.7))).toBeLessThan(
        device.name === "reference" ? 1e-12 : 1e-6,
      );
      expect(() => ema.update(-1)).toThrow(ArgumentError);
      dispose(parameters);
    }
  });

  test("swap exchanges and is its own inverse; copyTo fills another model; state is saved by name", async () => {
    for (const device of await allDevices()) {
      const parameters = start(device);
      using optimizer = new AdamW([{ name: "all", parameters, lr: 0.1 }]);
      using ema = new EMA(optimizer, 0.9);
      advance(optimizer, parameters, 0, 2);
      const [w, y] = [await flatten(parameters), await flatten(ema.averages)];
      expect(w).not.toEqual(y);
      ema.swap();
      expect([await flatten(parameters), await flatten(ema.averages)]).toEqual([y, w]);
      ema.swap();
      expect([await flatten(parameters), await flatten(ema.averages)]).toEqual([w, y]);
      const teacher = golden.shapes.map((shape) => Tensor.zeros(device, shape));
      ema.copyTo(teacher);
      expect(await flatten(teacher)).toEqual(y);
      expect(() => ema.copyTo(teacher.slice(1))).toThrow(ShapeError);
      expect(() => ema.copyTo([...teacher].reverse())).toThrow(ShapeError);
      const names = golden.shapes.map((_, i) => `p${i}`);
      expect([...ema.state(names).values()]).toEqual(ema.averages);
      expect(() => ema.state(names.slice(1))).toThrow(CheckpointError);
      expect(() => ema.state(names.map(() => "p"))).toThrow(CheckpointError);
      dispose(parameters, teacher);
    }
  });
});

test("schedules", () => {
  expect([0, 1, 50].map(constant())).toEqual([1, 1, 1]);
  const near = (got: number[], wanted: number[]) => expect(relativeError(got, wanted)).toBeLessThan(1e-12);
  near([0, 25, 50, 100, 120].map(poly(100)), [1, 0.75 ** 0.9, 0.5 ** 0.9, 0, 0]);
  near([0, 25, 100].map(poly(100, 1)), [1, 0.75, 0]);
  near([0, 25, 50, 100, 101].map(cosine(100)), [1, (1 + Math.SQRT1_2) / 2, 0.5, 0, 0]);
  near([0, 50, 100, 200].map(ganin(100)), [1, 6 ** -0.75, 11 ** -0.75, 11 ** -0.75]);
  near([0, 1, 3, 4, 50].map(warmUp(poly(100, 1), 4)), [0.25, 0.5 * 0.99, 0.97, 0.96, 0.5]);
  near([0, 50].map(warmUp(constant(), 0)), [1, 1]);
  for (const iterations of [0, -1, 1.5, Number.NaN]) {
    expect(() => poly(iterations)).toThrow(ArgumentError);
    expect(() => cosine(iterations)).toThrow(ArgumentError);
    expect(() => ganin(iterations)).toThrow(ArgumentError);
  }
  expect(() => poly(10, -1)).toThrow(ArgumentError);
  expect(() => warmUp(constant(), -1)).toThrow(ArgumentError);
});
