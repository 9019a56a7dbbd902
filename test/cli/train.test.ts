import { type ChildProcess, spawn } from "node:child_process";
import {
  copyFileSync,
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
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { readSafetensors } from "../../src/checkpoint/index.js";
import { likelyEntry } from "../../src/cli/likely_entry.js";
import { runCommandLine } from "../../src/cli/run.js";
import { encodePNG } from "../../src/data/index.js";
import { devices } from "../../src/device.js";
import { readRunState } from "../../src/train/index.js";
import { tiny, tinyCities } from "../train/tiny.js";

let root: string;
let data: string;
/** The CPU device where the addon is built: many times as fast as the reference. */
let device: string;
beforeAll(async () => {
  device = (await devices()).some(({ name, available }) => name === "cpu" && available) ? "cpu" : "reference";
  root = mkdtempSync(join(tmpdir(), "lacuna-train-cli-"));
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
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function lacuna(...args: string[]) {
  const out = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof out) => ({
    write: (text: string) => {
      out[name] += text;
      return true;
    },
  });
  // A terminal is more than what commands use of it.
  const terminal = { stdout: stream("stdout"), stderr: stream("stderr"), env: {} } as unknown as Parameters<
    typeof runCommandLine
  >[1];
  return { code: await runCommandLine(args, terminal), ...out };
}

/** A configuration of a tiny run, as a file. */
function configFile(name: string, entries: object): string {
  const file = join(root, name);
  const around = { data, classes: tinyCities().classes, device };
  writeFileSync(file, JSON.stringify({ ...around, ...tiny, ...entries }));
  return file;
}

describe("lacuna train CONFIG", () => {
  it("takes all of a run from a file, writes what it resolved, and takes that as a file again", async () => {
    const out = join(root, "run");
    const file = configFile("run.json", { out, mode: "source-only", steps: 2, evaluateEvery: 1, seed: 3 });
    const run = await lacuna("train", file, "--set", "optim.lr=0.005", "--seed", "4");
    expect([run.code, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toMatch(
      /step 1: mean IoU source [\d.]+, target [\d.]+; entropy [\d.]+, im [\d.]+, snd [\d.]+ \(/,
    );
    expect(run.stdout).toMatch(/best\.safetensors: the model after step [12], best by source/);
    const written = readFileSync(join(out, "config.yaml"), "utf8");
    expect(written).toContain(`#   lacuna train ${file} --set optim.lr=0.005 --seed 4\n`);
    const { data: from, out: to, classes, device: on, ...config } = parse(written) as Record<string, unknown>;
    expect([from, to, classes, on]).toEqual([data, out, tinyCities().classes, device]);
    const state = await readRunState(join(out, "checkpoint.safetensors"));
    expect(config).toEqual(JSON.parse(JSON.stringify(state.config)));
    expect(config).toMatchObject({ seed: 4, optim: { lr: 0.005, kind: "adamw" } });
    expect(await readRunState(join(out, "best.safetensors"))).toMatchObject({ step: state.history.best!.step });

    const again = await lacuna("train", join(out, "config.yaml"));
    expect([again.code, again.stderr]).toEqual([0, ""]);
    expect(readFileSync(join(out, "config.yaml"), "utf8")).toBe(written);
    expect(readdirSync(out).filter((name) => name.startsWith("events."))).toHaveLength(1); // nothing was left to do
    const moved = join(root, "copy");
    expect((await lacuna("train", join(out, "config.yaml"), "--out", moved)).code).toBe(0);
    const [a, b] = [
      await readSafetensors(join(out, "checkpoint.safetensors")),
      await readSafetensors(join(moved, "checkpoint.safetensors")),
    ];
    for (const [name, { data: values }] of a.tensors) expect(b.tensors.get(name)!.data, name).toEqual(values);
  });

  it.each<[RegExp, object]>([
    [/optimizer\.lr: there is no such entry; did you mean optim\.lr\?/, { optimizer: { lr: 1 } }],
    [/optim\.learning_rate: there is no such entry; did you mean optim\.lr\?/, { optim: { learning_rate: 1 } }],
    [/discriminator\.kernal: .*did you mean discriminator\.kernel\?/, { discriminator: { kernal: 3 } }],
    [/dta: .*did you mean data\?/, { dta: "x" }],
    [/zebra: there is no such entry\n/, { zebra: { stripes: 1 } }],
    [/classes: must be Array, not "a,b"/, { classes: "a,b" }],
    [/seeds\.1: must be number/, { seeds: [1, "x"] }],
    [/seed: must be a whole number/, { seeds: [-1] }],
    [/device must be one of/, { device: "tpu" }],
    [/select: must be one of/, { select: "best" }],
    [/selfTraining\.threshold: must be a number from 0 to 1/, { selfTraining: { threshold: 2 } }],
    [/losses\.learned: must list some of/, { losses: { learned: ["selfTraining"] } }],
  ])("says %s", async (message, entries) => {
    const out = join(root, "never");
    const { code, stderr } = await lacuna("train", configFile("wrong.json", { out, ...entries }));
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(existsSync(out)).toBe(false);
  });

  it("starts from pretrained weights, once, and the teacher with it", async () => {
    const [first, second] = [join(root, "first"), join(root, "second")];
    const entries = { mode: "self-training", steps: 1, optim: { lr: 0 }, ema: 0.5 };
    expect((await lacuna("train", configFile("first.json", { out: first, ...entries, seed: 5 }))).code).toBe(0);
    const weights = join(first, "best-of-first.safetensors");
    copyFileSync(join(first, "checkpoint.safetensors"), weights);
    const file = configFile("second.json", { out: second, ...entries, model: { ...tiny.model, pretrained: weights } });
    const run = await lacuna("train", file);
    expect([run.code, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toContain(`${weights} (names of lacuna): encoder taken, decoder taken, segmentation_head taken`);
    const [a, b] = [await readSafetensors(weights), await readSafetensors(join(second, "checkpoint.safetensors"))];
    for (const part of ["model", "teacher.model", "ema.model"]) {
      const name = (prefix: string) => `${prefix}.encoder.conv1.weight`;
      expect(b.tensors.get(name(part))!.data, part).toEqual(a.tensors.get(name("model"))!.data); // seed 5's: nothing moved
    }
    rmSync(weights);
    expect((await lacuna("train", file)).code).toBe(0); // it goes on without them
    const other = await lacuna("train", file, "--out", join(root, "third"));
    expect([other.code, other.stderr]).toEqual([4, expect.stringContaining(weights)]);
  });

  it("trains several seeds one after the other, skips what is done, and sums up", async () => {
    const out = join(root, "seeds");
    const file = configFile("seeds.json", { out, steps: 1, mode: "source-only", adaBN: true, seeds: [0, 1] });
    expect((await lacuna("train", file, "--seeds", "1")).code).toBe(0);
    const before = statSync(join(out, "seed-1/checkpoint.safetensors")).mtimeMs;
    const run = await lacuna("train", file);
    expect([run.code, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toContain("seed 1: finished before");
    expect(statSync(join(out, "seed-1/checkpoint.safetensors")).mtimeMs).toBe(before);
    expect(parse(readFileSync(join(out, "seed-0/config.yaml"), "utf8"))).toMatchObject({
      seed: 0,
      out: join(out, "seed-0"),
    });
    const report = JSON.parse(readFileSync(join(out, "seeds.json"), "utf8"));
    expect(report).toMatchObject({ seeds: [0, 1], classes: tinyCities().classes });
    expect(report.rows.map((row: { name: string }) => row.name)).toEqual(["source-only", "source-only + AdaBN"]);
    const seedReports = [0, 1].map((n) => JSON.parse(readFileSync(join(out, `seed-${n}/report.json`), "utf8")));
    const [a, b] = seedReports.map((r) => r.target.meanIoU as number) as [number, number];
    const { mean, sd, values } = report.rows[1].target.meanIoU; // what a run reports is the adapted model
    expect(values).toEqual([a, b]);
    expect(mean).toBeCloseTo((a + b) / 2, 12);
    expect(sd).toBeCloseTo(Math.abs(a - b) / Math.SQRT2, 12);
    const table = readFileSync(join(out, "seeds.md"), "utf8");
    expect(table).toContain(`| source-only + AdaBN | ${(100 * mean).toFixed(1)} ± ${(100 * sd).toFixed(1)} |`);
    expect(run.stdout).toContain(table.trimEnd());
  });
});

describe("the likely entry", () => {
  const entries = ["steps", "seed", "seeds", "batch", "batch.source", "optim.lr", "optim.kind", "schedule.kind", "ema"];
  it.each([
    ["optimizer.lr", "optim.lr"],
    ["Optim.LR", "optim.lr"],
    ["lr", "optim.lr"],
    ["step", "steps"],
    ["batch_size", "batch"],
    ["kind", null],
    ["zebra", null],
    ["", null],
  ])("for %s is %s", (path, expected) => {
    expect(likelyEntry(path, entries)).toBe(expected);
  });
});

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
if (!existsSync(main)) console.warn("SKIPPED: kills of the built command line; npm run build makes it");

describe.skipIf(!existsSync(main))("a run that is killed", () => {
  it("continues from its last checkpoint to the same bits, and keeps one line a step", async () => {
    const [straight, killed] = [join(root, "straight"), join(root, "killed")];
    const entries = { mode: "adversarial+self-training", steps: 7, ema: 0.5, evaluateEvery: 3, checkpointEvery: 1 };
    const file = configFile("killed.json", { ...entries, adaBN: true });
    const start = (out: string) => spawn(process.execPath, [main, "train", file, "--out", out], { stdio: "ignore" });
    const ended = (child: ChildProcess) => new Promise<number | null>((done) => child.once("exit", done));
    const metrics = join(killed, "metrics.jsonl");
    const lines = () => (existsSync(metrics) ? readFileSync(metrics, "utf8").split("\n").length - 1 : 0);
    for (const [reach, pause] of [
      [1, 0],
      [3, 5],
      [5, 30],
    ] as const) {
      const child = start(killed);
      const exit = ended(child);
      while (lines() < reach && child.exitCode === null) await setTimeout(2);
      await setTimeout(pause);
      child.kill("SIGKILL");
      await exit;
    }
    expect(await ended(start(killed))).toBe(0);
    expect((await lacuna("train", file, "--out", straight)).code).toBe(0);
    for (const name of ["checkpoint.safetensors", "best.safetensors"]) {
      const [a, b] = [await readSafetensors(join(straight, name)), await readSafetensors(join(killed, name))];
      expect([...b.tensors.keys()]).toEqual([...a.tensors.keys()]);
      for (const [key, { data: values }] of a.tensors) {
        expect(Buffer.from(b.tensors.get(key)!.data.buffer).equals(Buffer.from(values.buffer)), `${name} ${key}`).toBe(
          true,
        );
      }
    }
    const record = (out: string) =>
      readFileSync(join(out, "metrics.jsonl"), "utf8").replace(/"secondsPerStep":[\d.e-]+/g, "");
    expect(record(killed)).toBe(record(straight));
    expect(readdirSync(killed).filter((name) => /\.lock|\.tmp/.test(name))).toEqual([]);
  });
});
