import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { referenceOps } from "../src/backends/reference/index.js";
import { WebGPUBackend } from "../src/backends/webgpu/index.js";
import { shaderFiles, shaderOf } from "../src/backends/webgpu/shaders.gen.js";
import { variants } from "../src/backends/webgpu/variants.js";
import { kernels } from "../src/kernel.js";
import "../src/index.js";
import { cpuDevice, hostDevice } from "./harness.js";

// What a kernel says of itself in defineKernel must be true of every backend: names, bindings, parameters.

const all = [...kernels.values()].sort((a, b) => (a.name < b.name ? -1 : 1));

/** `@binding(n) var<access> name` of a file, by binding number. Files hold one signature. */
function bindingsOf(code: string): { name: string; space: string }[] {
  const found: { name: string; space: string }[] = [];
  for (const [, n, space, name] of code.matchAll(/@group\(0\)\s*@binding\((\d+)\)\s*var<([^>]+)>\s*(\w+)/g)) {
    found[Number(n)] = { name: name!, space: space!.replace(/\s/g, "") };
  }
  return found;
}
function paramsOf(code: string): Record<string, string> {
  const body = /struct Params\s*\{([^}]*)\}/.exec(code)?.[1] ?? "";
  return Object.fromEntries([...body.matchAll(/(\w+)\s*:\s*(\w+)/g)].map(([, name, type]) => [name!, type!]));
}

test("there are kernels", () => {
  expect(all.length).toBeGreaterThan(60);
});

describe.each(all.map((k) => [k.name, k] as const))("%s", (name, kernel) => {
  const [op, entry] = name.split(".") as [string, string];
  test("is defined by the reference", () => {
    expect(referenceOps[op]?.[entry], `src/backends/reference/${op}.ts, ${entry}`).toBeTypeOf("function");
  });
  const shaders = [name, ...(variants[name] ?? []).map((variant) => `${name}.${variant.name}`)];
  test.each(shaders)("has a shader %s with its bindings and parameters", (shader) => {
    const index = shaderOf[shader];
    expect(index, `an entry point ${entry} in shaders/${op}/`).toBeDefined();
    const { code, file } = shaderFiles[index!]!;
    expect(bindingsOf(code), `${file}, bindings`).toEqual([
      ...kernel.inputs.map((input: string) => ({ name: input, space: "storage,read" })),
      ...kernel.outputs.map((output: string) => ({ name: output, space: "storage,read_write" })),
      { name: "params", space: "uniform" },
    ]);
    const params = paramsOf(code);
    expect(params, `${file}, Params`).toEqual(kernel.params);
    expect(Object.keys(params), `${file}, order of Params`).toEqual(Object.keys(kernel.params));
    expect(kernel.inputs.length + kernel.outputs.length, "storage buffers").toBeLessThanOrEqual(8);
    expect(code.startsWith("//"), `${file} says at its head what it computes`).toBe(true);
  });
  test("names what it splits by", () => {
    if (!kernel.batch) return;
    expect(Object.keys(kernel.params)).toContain(kernel.batch.count);
    for (const buffer of kernel.batch.buffers) expect([...kernel.inputs, ...kernel.outputs]).toContain(buffer);
  });
});

/** What a native device must have compiled in. Halves are no type of the CPU device. */
const compiled = (halves: boolean) =>
  all
    .filter(({ name }) => halves || !/^cast\.(f32_to_half|half_to_f32)$/.test(name))
    .map(({ name, inputs, outputs, params }) => ({
      name,
      inputs: inputs.length,
      outputs: outputs.length,
      paramsBytes: 4 * Object.keys(params).length,
    }));

test.skipIf(!cpuDevice())("the CPU device has every kernel, with its buffers and the bytes of its parameters", () => {
  expect(cpuDevice()!.kernels).toEqual(compiled(false));
});
test.skipIf(!hostDevice())("the CUDA device has every kernel, with its buffers and the bytes of its parameters", () => {
  expect(hostDevice()!.kernels).toEqual(compiled(true));
});

/** op.verb_noun.variant, of every variant. */
const variantNames = Object.entries(variants).flatMap(([kernel, list]) => list.map(({ name }) => `${kernel}.${name}`));

test("no shader and no reference function without a kernel", () => {
  const defined = new Set(kernels.keys());
  const known = new Set<string>([...defined, ...variantNames]);
  expect(Object.keys(shaderOf).filter((name) => !known.has(name))).toEqual([]);
  expect(Object.keys(variants).filter((name) => !defined.has(name as never))).toEqual([]);
  const functions = Object.entries(referenceOps).flatMap(([op, entries]) =>
    Object.keys(entries).map((e) => `${op}.${e}`),
  );
  expect(functions.filter((name) => !defined.has(name as never))).toEqual([]);
});

test("one op, one name: every public op has its test", () => {
  const tests = new Set(readdirSync(new URL("./ops/", import.meta.url)));
  const index = readFileSync(new URL("../src/ops/index.ts", import.meta.url), "utf8");
  const ops = [...index.matchAll(/from "\.\/(\w+)\.js"/g)].map(([, op]) => `${op}.test.ts`);
  expect(ops.length).toBeGreaterThan(20);
  expect(ops.filter((file) => !tests.has(file))).toEqual([]);
});

// Dawn's null backend needs no driver: it compiles the WGSL and checks the layout, and runs nothing.
describe("Dawn accepts", () => {
  let device: WebGPUBackend;
  beforeAll(async () => {
    device = await WebGPUBackend.open({ dawn: ["backend=null"] });
  });
  afterAll(() => device.dispose());
  test.each(all.map((k) => [k.name, k] as const))("%s", async (name, kernel) => {
    await device.compile(kernel);
    const { code } = shaderFiles[shaderOf[name]!]!;
    if (/^alias T = f32;$/m.test(code)) await device.compile(kernel, true);
    for (const variant of variants[name] ?? []) {
      await device.compile(kernel, false, variant);
      if (/^alias T = f32;$/m.test(code)) await device.compile(kernel, true, variant);
    }
  });
});
