import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { WebGPUBackend, type WebGPUOptions } from "../src/backends/webgpu/index.js";
import { fingerprint, storeIn } from "../src/backends/webgpu/tune_store.js";
import { candidatesFor, variants } from "../src/backends/webgpu/variants.js";
import { ArgumentError } from "../src/errors.js";
import { conv2d } from "../src/ops/index.js";
import { dispose, Tensor } from "../src/tensor.js";
import { isAsked, relativeError, webgpuDevice } from "./harness.js";

// The tuner measures each problem once per adapter and keeps what it found.

const present = isAsked("webgpu") && (await webgpuDevice()) !== null;
let folder: string;
const file = () => join(folder, "webgpu_tune.json");
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lacuna-tune-"));
  process.env.LACUNA_CACHE = folder;
});
afterEach(() => {
  delete process.env.LACUNA_CACHE;
  delete process.env.LACUNA_TUNE;
  rmSync(folder, { recursive: true });
});

const weights = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1));
/** A convolution for whose kernel there is a choice, and a read, at which the tuner measures. */
async function convolve(options: WebGPUOptions) {
  using device = await WebGPUBackend.open(options);
  const [x, w] = [
    Tensor.from(device, weights(9 * 9 * 32), [1, 9, 9, 32]),
    Tensor.from(device, weights(32 * 9 * 32), [32, 3, 3, 32]),
  ];
  const options_ = { padding: 2, dilation: 2 };
  const first = conv2d(x, w, options_);
  const before = await first.data();
  const second = conv2d(x, w, options_);
  const after = await second.data();
  dispose(x, w, first, second);
  return { before, after };
}
interface Kept {
  version: number;
  marker?: string;
  choices: Record<string, Record<string, [fingerprint: string, variant: string]>>;
}
const kept = (): Kept => JSON.parse(readFileSync(file(), "utf8"));

describe.skipIf(!present)("the tuner", () => {
  test("off, it always takes the first guess and keeps nothing", async () => {
    const { before, after } = await convolve({ tune: "off" });
    expect(after).toEqual(before);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("measures each problem once, and takes the choice from the file afterwards", async () => {
    const { before, after } = await convolve({ tune: "on" });
    expect(relativeError(after, before)).toBeLessThan(1e-5);
    const found = kept();
    const problems = Object.values(found.choices).flatMap((of) => Object.entries(of));
    expect(problems.length).toBeGreaterThan(0);
    for (const [problem, [, name]] of problems) {
      const kernel = problem.split(" ")[0]!;
      expect(["plain", ...variants[kernel]!.map((variant) => variant.name)], problem).toContain(name);
    }
    expect(readdirSync(folder), "nothing else is left there").toEqual(["webgpu_tune.json"]);

    writeFileSync(file(), JSON.stringify({ ...found, marker: "as it was" }));
    const again = await convolve({ tune: "on" });
    expect(kept().marker, "nothing was measured again").toBe("as it was");
    expect(again.after, "the same choice, the same bits, from the start").toEqual(again.before);
    expect(again.after).toEqual(after);

    await convolve({ tune: "force" });
    expect(kept().marker, "measured again when that is asked for").toBeUndefined();
  });

  test("measures anew what was chosen among other shaders, and survives a broken file", async () => {
    await convolve({ tune: "on" });
    const found = kept();
    for (const of of Object.values(found.choices)) for (const problem in of) of[problem] = ["of old", "plain"];
    writeFileSync(file(), JSON.stringify(found));
    await convolve({ tune: "on" });
    const prints = Object.values(kept().choices).flatMap((of) => Object.values(of).map(([print]) => print));
    expect(prints).not.toContain("of old");
    for (const broken of ["", '{"version":1,"choi', '{"version":1,"choices":{"a":{"b":3}}}']) {
      writeFileSync(file(), broken);
      await convolve({ tune: "on" });
      expect(Object.keys(kept().choices)).toHaveLength(1);
    }
  });

  test("LACUNA_TUNE", async () => {
    process.env.LACUNA_TUNE = "on";
    await convolve({});
    expect(readdirSync(folder)).toEqual(["webgpu_tune.json"]);
    process.env.LACUNA_TUNE = "sometimes";
    await expect(WebGPUBackend.open()).rejects.toThrow(ArgumentError);
  });
});

test("candidates: what suits the adapter, the plain shader, the rest", () => {
  for (const [kernel, list] of Object.entries(variants)) {
    expect(new Set(list.map(({ name }) => name)).size, `${kernel}: names`).toBe(list.length);
    for (const software of [true, false]) {
      const none = new Proxy({}, { get: () => 1 }); // every size 1
      const candidates = candidatesFor(kernel, none, { software, subgroupLanes: 8 });
      const plain = candidates.indexOf(null);
      expect(plain).toBeGreaterThanOrEqual(0);
      const wrong = software ? "gpu" : "software";
      expect(candidates.slice(0, plain).filter((variant) => variant?.prefers === wrong)).toEqual([]);
    }
  }
});

test("choices in a browser's storage: two pages add to each other's, a full one loses nothing else", () => {
  const items = new Map<string, string>();
  const storage = {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, text: string) => void items.set(key, text),
  };
  const [one, two] = [storeIn(storage), storeIn(storage)];
  one.set("adapter", "problem", "print", "tile64");
  one.save();
  two.set("adapter", "other problem", "print", "plain");
  two.save();
  const later = storeIn(storage);
  expect(later.get("adapter", "problem", "print")).toBe("tile64");
  expect(later.get("adapter", "other problem", "print")).toBe("plain");
  expect(later.get("adapter", "problem", "another print")).toBeUndefined();
  expect(later.get("another adapter", "problem", "print")).toBeUndefined();
  const full = storeIn({
    ...storage,
    setItem: () => {
      throw new Error("QuotaExceededError");
    },
  });
  full.set("adapter", "problem", "print", "tile32");
  full.save();
  expect(full.get("adapter", "problem", "print")).toBe("tile32");
});

test("a fingerprint tells texts and their order apart", () => {
  const prints = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], []].map(fingerprint);
  expect(new Set(prints).size).toBe(prints.length);
  expect(fingerprint(["a", "b"])).toBe(prints[0]);
});
