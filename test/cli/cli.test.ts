import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { runCommandLine } from "../../src/cli/run.js";
import { encodePNG } from "../../src/data/index.js";
import { readRunState } from "../../src/train/index.js";
import { tinyCities } from "../train/tiny.js";

let root: string;
let data: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "lacuna-cli-"));
  data = join(root, "cities");
  const cities = tinyCities();
  for (const domain of ["source", "target"] as const) {
    for (const split of ["train", "val"] as const) {
      const tiles = cities.split(domain, split);
      for (const part of ["images", "labels"]) mkdirSync(join(data, domain, split, part), { recursive: true });
      for (let i = 0; i < tiles.length; i++) {
        const { image, label, height, width } = await tiles.read(i);
        writeFileSync(join(data, domain, split, "images", `${i}.png`), encodePNG(image as Uint8Array, height, width));
        if (label) writeFileSync(join(data, domain, split, "labels", `${i}.png`), encodePNG(label, height, width));
      }
    }
  }
  writeFileSync(join(data, "dataset.json"), JSON.stringify({ classes: cities.classes }));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Runs a command line in this process; its output as two texts. `onOutput` is called after every write. */
async function lacuna(args: readonly string[], onOutput: (text: string) => void = () => {}) {
  const out = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof out) => ({
    write: (text: string) => {
      out[name] += text;
      onOutput(text);
      return true;
    },
  });
  // A terminal is more than what commands use of it.
  const terminal = {
    stdout: stream("stdout"),
    stderr: stream("stderr"),
    env: { TERM: "dumb" },
  } as unknown as Parameters<typeof runCommandLine>[1];
  return { code: await runCommandLine(args, terminal), ...out };
}

const TINY = ["--device", "reference", "--crop", "16", "--batch", "2", "--width", "0.125"];
const SET = ["model.imagePooling=group", "normalise=source", "discriminator.width=4", "discriminator.strides=[1]"];
const trainArgs = (out: string, ...more: string[]) => [
  ...["train", "--data", data, "--out", out, ...TINY],
  ...SET.flatMap((entry) => ["--set", entry]),
  ...more,
];

describe("lacuna", () => {
  it("helps", async () => {
    for (const args of [[], ["--help"], ["help"]]) {
      const { code, stdout } = await lacuna(args);
      expect(code).toBe(0);
      for (const name of ["train", "eval", "predict", "devices", "demo"]) {
        expect(stdout).toContain(name);
        const help = await lacuna([name, "--help"]);
        expect([help.code, help.stderr]).toEqual([0, ""]);
        expect(help.stdout).toMatch(new RegExp(`^Usage: lacuna ${name}`));
      }
    }
  });

  it.each<[number, RegExp, string[]]>([
    [2, /no command "fly"/, ["fly"]],
    [2, /--data is missing/, ["train"]],
    [2, /--out is missing/, ["train", "--data", "x"]],
    [2, /--speed/, ["train", "--speed", "9"]],
    [2, /Unexpected argument/, ["train", "here"]],
    [2, /--steps must be a whole number/, ["train", "--data", "x", "--out", "y", "--steps", "1e400"]],
    [2, /--batch must be a whole number/, ["train", "--data", "x", "--out", "y", "--batch=-1"]],
    [2, /--width must be a number/, ["train", "--data", "x", "--out", "y", "--width", "wide"]],
    [2, /model\.width/, ["train", "--data", "x", "--out", "y", "--width", "0"]],
    [2, /mode: must be one of/, ["train", "--data", "x", "--out", "y", "--mode", "both"]],
    [2, /--device must be one of/, ["eval", "--run", "x", "--data", "y", "--device", "tpu"]],
    [2, /optimizer: there is no such entry/, ["train", "--data", "x", "--out", "y", "--set", "optimizer.lr=1"]],
    [2, /optim\.lr: must be number/, ["train", "--data", "x", "--out", "y", "--set", "optim.lr=fast"]],
    [2, /--set takes key=value/, ["train", "--data", "x", "--out", "y", "--set", "__proto__.x=1"]],
    [2, /there is no such entry/, ["train", "--data", "x", "--out", "y", "--set", "constructor.x=1"]],
    [2, /--set/, ["train", "--data", "x", "--out", "y", "--set", "augment.scale=[1"]],
    [2, /--config/, ["train", "--data", "x", "--out", "y", "--config", "/nowhere.yaml"]],
    [2, /--domain/, ["predict", "--run", "x", "--images", "y", "--out", "z", "--domain", "moon"]],
    [2, /--seeds/, ["demo", "--seeds", "0"]],
    [3, /nowhere: no such folder/, ["train", "--data", "/nowhere", "--out", "y"]],
    [4, /cannot be read/, ["eval", "--run", "/nowhere", "--data", "y", "--device", "reference"]],
  ])("exits with %i and says %s", async (code, message, args) => {
    const result = await lacuna(args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
    expect(result.stderr).toMatch(/^lacuna: /);
    expect(result.stderr).not.toMatch(/\n\s+at /); // no stack trace
    expect(result.stderr.trim().split("\n").length).toBeLessThanOrEqual(2);
    expect(existsSync("y")).toBe(false);
  });

  it("names the file that cannot be used", async () => {
    const bad = join(root, "bad");
    for (const part of ["images", "labels"]) mkdirSync(join(bad, "source/train", part), { recursive: true });
    writeFileSync(join(bad, "source/train/images/a.png"), "text");
    writeFileSync(join(bad, "source/train/labels/a.png"), "text");
    const { code, stderr } = await lacuna(
      trainArgs(join(root, "none"), "--data", bad, "--classes", "a,b", "--mode", "source-only"),
    );
    expect(code).toBe(3);
    expect(stderr).toContain(join(bad, "source/train/images/a.png"));
  });

  it("lists devices for people and for programs", async () => {
    const { code, stdout } = await lacuna(["devices", "--json"]);
    expect(code).toBe(0);
    const reports = JSON.parse(stdout) as { name: string; available: boolean; chosen?: string }[];
    expect(reports.map((r) => r.name)).toEqual(["cuda", "webgpu", "cpu", "reference"]);
    expect(reports.filter((r) => r.chosen)).toHaveLength(1);
    expect(reports[3]!.available).toBe(true);
    expect((await lacuna(["devices"])).stdout).toMatch(/^cuda .+(\n.+)*\nwebgpu .+(\n.+)*\ncpu .+(\n.+)*\nreference /);
  });

  it("reads YAML and JSON, flags over files and --set over both", async () => {
    const [yaml, out] = [join(root, "config.yaml"), join(root, "run-config")];
    writeFileSync(yaml, "steps: 9\nseed: 5\noptim:\n  lr: 0.25\n  weightDecay: 0.5\n");
    const more = ["--config", yaml, "--steps", "1", "--set", "optim.lr=0.125", "--mode", "source-only"];
    expect((await lacuna(trainArgs(out, ...more))).code).toBe(0);
    const { config } = await readRunState(join(out, "checkpoint.safetensors"));
    expect(config).toMatchObject({ steps: 1, seed: 5, batch: { source: 2, target: 2 } });
    expect(config.optim).toMatchObject({ lr: 0.125, weightDecay: 0.5 });
    writeFileSync(yaml, '{"steps": "many"}');
    expect((await lacuna(trainArgs(out, "--config", yaml))).stderr).toMatch(/steps: must be number/);
  });

  it("trains, reports, scores and predicts", async () => {
    const out = join(root, "run");
    const run = await lacuna(trainArgs(out, "--steps", "2"));
    expect(run.stderr).toBe("");
    expect(run.code).toBe(0);
    expect(run.stdout).toMatch(
      /2\/2 {2}ce [\d.]+×0\.50 tversky [\d.]+×[\d.]+ domain [\d.]+×[\d.]+ {2}λ [\d.]+ {2}D \d+\/\d+ %/,
    );
    expect(readdirSync(out).sort()).toEqual(["checkpoint.safetensors", "report.html", "report.json"]);
    const report = JSON.parse(readFileSync(join(out, "report.json"), "utf8"));
    expect(report).toMatchObject({ steps: 2, classes: tinyCities().classes, config: { mode: "adversarial" } });
    expect(report.target.pixels).toBe(800);
    expect(readFileSync(join(out, "report.html"), "utf8").match(/data:image\/png/g)).toHaveLength(12);

    const scored = await lacuna(["eval", "--run", out, "--data", data, "--device", "reference", "--json"]);
    expect(JSON.parse(scored.stdout).target.meanIoU).toBe(report.target.meanIoU);
    const text = await lacuna(["eval", "--run", out, "--data", data, "--device", "reference"]);
    expect(text.stdout).toMatch(/target\/val: mean IoU/);

    const maps = join(root, "maps");
    const images = join(data, "target/val/images");
    expect(
      (await lacuna(["predict", "--run", out, "--images", images, "--out", maps, "--device", "reference"])).code,
    ).toBe(0);
    expect(readdirSync(maps).sort()).toEqual(["0.png", "1.png"]);

    const spoilt = readFileSync(join(out, "checkpoint.safetensors"));
    writeFileSync(join(out, "checkpoint.safetensors"), spoilt.subarray(0, 5000));
    expect((await lacuna(["eval", "--run", out, "--data", data, "--device", "reference"])).code).toBe(4);
    expect((await lacuna(trainArgs(out, "--steps", "2"))).code).toBe(4);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("finishes the step, saves and exits on %s, and continues", async (signal, expected) => {
    const out = join(root, `run-${signal}`);
    const listeners = process.listenerCount(signal);
    const args = trainArgs(out, "--steps", "3", "--mode", "source-only");
    let sent = false;
    const exit = vi.spyOn(process, "exit").mockImplementation((code) => {
      throw new Error(`exit ${code}`); // what ends the process ends the test's step
    });
    const stopped = await lacuna(args, (text) => {
      if (sent || !/ 1\/3 /.test(text)) return;
      sent = true;
      process.emit(signal);
      expect(() => process.emit(signal)).toThrow(`exit ${expected}`); // the second one
    });
    exit.mockRestore();
    expect(stopped.code).toBe(expected);
    expect(process.listenerCount(signal)).toBe(listeners);
    expect(readdirSync(out)).toEqual(["checkpoint.safetensors"]);
    expect((await readRunState(join(out, "checkpoint.safetensors"))).step).toBe(1);
    expect((await lacuna(args)).code).toBe(0);
    expect((await readRunState(join(out, "checkpoint.safetensors"))).step).toBe(3);
  });
});

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
if (!existsSync(main)) console.warn("SKIPPED: the built command line; npm run build makes it");

describe.skipIf(!existsSync(main))("the built command line", () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [main, ...args], { encoding: "utf8", timeout: 60_000 });

  it("is executable, ends by itself and gives its exit code", () => {
    expect(readFileSync(main, "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
    expect(statSync(main).isFile()).toBe(true);
    const devices = run("devices", "--json");
    expect([devices.status, devices.signal]).toEqual([0, null]);
    expect(JSON.parse(devices.stdout)).toHaveLength(4);
    const wrong = run("train", "--nonsense");
    expect([wrong.status, wrong.stdout]).toEqual([2, ""]);
    expect(wrong.stderr).toMatch(/^lacuna: .*nonsense.*\nhint: .*\n$/);
  });
});
