import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readConfigFile } from "../../src/cli/config_file.js";
import { ConfigError } from "../../src/errors.js";
import { DEFAULT_CONFIG, resolveConfig } from "../../src/train/config.js";

const root = mkdtempSync(join(tmpdir(), "lacuna-config-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(root, name), text);
  return join(root, name);
};

test("a file may hold every entry there is", async () => {
  const { config: whole } = await readConfigFile(file("all.json", JSON.stringify(DEFAULT_CONFIG)));
  expect(resolveConfig(whole)).toEqual(DEFAULT_CONFIG);
});

test("entries that do not exist are refused by name", async () => {
  const wrong = readConfigFile(file("wrong.yaml", "discriminator:\n  kernal: 3\n"));
  await expect(wrong).rejects.toThrow(ConfigError);
  await expect(wrong).rejects.toMatchObject({ path: expect.stringContaining("kernal") });
});
