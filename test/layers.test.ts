import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { expect, test } from "vitest";

// Data flows one way: a file imports from its own layer or from lower ones. Lower numbers are lower layers.
const layers: readonly (readonly string[])[] = [
  ["shape", "errors", "half", "philox"],
  ["kernel", "backends/backend"],
  ["recording"],
  ["tensor"],
  ["autograd", "capture"],
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
/** What a file imports or re-exports, static and dynamic, as written; types only, where asked. */
function specifiersOf(file: string, kind: "all" | "values" = "all"): string[] {
  const text = textOf(file);
  const statements = [...text.matchAll(/^(import|export)\s([^;"'`]*?)from\s+"([^"]+)";/gm)]
    .filter(([, , what]) => kind === "all" || !/^type\s/.test(what!))
    .map(([, , , path]) => path!);
  const effects = [...text.matchAll(/^import\s+"([^"]+)";/gm)].map(([, path]) => path!);
  const dynamic = [...text.matchAll(/\bimport\("([^"]+)"\)/g)].map(([, path]) => path!);
  return [...statements, ...effects, ...dynamic];
}
const importsOf = (file: string, kind: "all" | "values" = "all"): string[] =>
  specifiersOf(file, kind)
    .filter((path) => path.startsWith("."))
    .map((path) => posix.normalize(posix.join(posix.dirname(file), path)).replace(/\.js$/, ".ts"));

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
    if (home) {
      for (const target of importsOf(file)) {
        if (!target.startsWith(home) && !allowed.has(target)) wrong.push(`${file} -> ${target}`);
      }
    } else if (file !== "device.ts") {
      const concrete = importsOf(file, "values").filter((target) => /^backends\/\w+\//.test(target));
      wrong.push(...concrete.map((target) => `${file} -> ${target}`));
    }
  }
  expect(wrong).toEqual([]);
  const statically = textOf("device.ts").match(/^import (?!type)[^;]*backends\/\w+\/[^;]*;/gm);
  expect(statically, "device.ts opens backends by dynamic import").toBeNull();
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
    specifiersOf(file)
      .filter((path) => !path.startsWith("."))
      .map((path) => `${file} -> ${path}`),
  );
  expect(outside).toEqual([]);
});
