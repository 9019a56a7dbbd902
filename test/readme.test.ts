import { readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { expect, test, vi } from "vitest";

// The script in the README is what people copy: it must run as it stands. Fewer steps and smaller tiles, else unchanged.
test("the README's training script runs", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const script = /```ts\n([\s\S]*?)```/.exec(readme)![1]!;
  const small = script
    .replace("[200, 8, 64]", "[2, 2, 32]")
    .replace("size: 96, train: 200, val: 32", "size: 32, train: 4, val: 1")
    .replace("width: 0.25", "width: 0.05")
    .replaceAll('"lacuna"', '"../src/index.js"')
    .replaceAll('"lacuna/data"', '"../src/data/index.js"');
  expect(small).not.toContain("[200");
  const file = new URL("./readme_script.gen.ts", import.meta.url);
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  await writeFile(file, small);
  try {
    await import(/* @vite-ignore */ file.href);
    expect(log).toHaveBeenCalledWith(0, expect.any(Number));
    expect(Number.isFinite(log.mock.calls[0]![1])).toBe(true);
  } finally {
    log.mockRestore();
    await rm(file);
  }
});
