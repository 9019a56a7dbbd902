import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { expect, test } from "vitest";

// Data flows one way: a file imports from its own layer or from lower ones. Lower numbers are lower layers.
const layers: readonly (readonly string[])[] = [
  ["shape", "errors", "half", "philox"],
  ["kernel", "backends/backend"],
  ["tensor"],
  ["autograd"],
  ["random"],
  ["ops"],
  ["losses", "multi_loss", "optim", "checkpoint", "metrics"],
  ["nn"],
  ["models", "data"],
  ["train"],
  ["cli"],
];
const src = new URL("../src/", import.meta.url);
const files = (readdirSync(src, { recursive: true }) as string[])
  .map((file) => file.replaceAll("\\", "/"))
  .filter((file) => file.endsWith(".ts"));

const layerOf = (file: string): number =>
  layers.findIndex((names) => names.some((name) => file === `${name}.ts` || file.startsWith(`${name}/`)));
const textOf = (file: string): string => readFileSync(new URL(file, src), "utf8");
function importsOf(file: string, pattern = /(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)"/g): string[] {
  return [...textOf(file).matchAll(pattern)].map(([, path]) =>
    posix.normalize(posix.join(posix.dirname(file), path!)).replace(/\.js$/, ".ts"),
  );
}

test("imports point downward only", () => {
  const wrong: string[] = [];
  for (const file of files) {
    if (file === "index.ts" || file === "device.ts" || file.startsWith("backends/")) continue;
    const own = layerOf(file);
    expect(own, `${file} belongs to no layer`).toBeGreaterThanOrEqual(0);
    for (const target of importsOf(file)) {
      if (target === "device.ts" || target === "index.ts") {
        if (own < layers.length - 3) wrong.push(`${file} -> ${target}`); // data, train and cli open devices
      } else if (layerOf(target) > own || layerOf(target) < 0) wrong.push(`${file} -> ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("backends know only the contract, and only device.ts knows backends", () => {
  const allowed = new Set(["shape.ts", "errors.ts", "kernel.ts", "half.ts", "philox.ts", "backends/backend.ts"]);
  const wrong: string[] = [];
  for (const file of files) {
    const home = /^backends\/(\w+)\//.exec(file)?.[0];
    for (const target of importsOf(file)) {
      if (home && !target.startsWith(home) && !allowed.has(target)) wrong.push(`${file} -> ${target}`);
      const concrete = target.startsWith("backends/") && target !== "backends/backend.ts";
      const types = new RegExp(`import type [^;]*"[^"]*${posix.basename(target, ".ts")}\\.js"`).test(textOf(file));
      if (!home && concrete && file !== "device.ts" && !(file === "index.ts" && types))
        wrong.push(`${file} -> ${target}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(
    importsOf("device.ts", /^import (?!type)[^;]*?from "(\.[^"]+)"/gm).filter((f) => /backends\/\w+\//.test(f)),
  ).toEqual([]);
});

test("what index.ts reaches runs in a browser: no Node modules, no packages", () => {
  const seen = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    importsOf(file).forEach(visit);
  };
  visit("index.ts");
  expect(seen.size).toBeGreaterThan(20);
  const outside = [...seen].flatMap((file) =>
    [...textOf(file).matchAll(/(?:from|import)\s*\(?\s*"([^."][^"]*)"/g)].map(([, name]) => `${file} -> ${name}`),
  );
  expect(outside).toEqual([]);
});
