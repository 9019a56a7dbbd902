import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../../src/errors.js";
import { METRICS, type StepRecord } from "../../src/train/index.js";
import { RunFolder } from "../../src/train/run_folder.js";
import { RunLock } from "../../src/train/run_lock.js";

const folders: string[] = [];
const folder = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), "lacuna-folder-")));
  return folders.at(-1)!;
};
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

const record = (step: number): StepRecord => ({
  step,
  total: step === 2 ? Number.NaN : 1,
  losses: { crossEntropy: 0.5 },
  weights: { crossEntropy: 1 },
  lambda: 0,
  lr: 0.1,
  discriminatorAccuracy: null,
  gradientNorm: null,
  gradientNorms: null,
  images: 4,
  secondsPerStep: 0.5,
});
const kept = (path: string): [string, number][] =>
  readFileSync(join(path, METRICS), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind: string; step: number })
    .map(({ kind, step }) => [kind, step]);

describe("metrics.jsonl", () => {
  it("is cut back to the step that is continued, whatever ended the process", async () => {
    const path = folder();
    const evaluation = { sourceMeanIoU: 0.5, targetMeanIoU: null, validators: null };
    const first = await RunFolder.open(path);
    await first.begin(0);
    for (const step of [1, 2, 3]) first.step(record(step));
    first.evaluation({ step: 3, ...evaluation });
    first.step(record(4));
    first.warning({ step: 4, warning: "loss-weight", began: true, message: "…" });
    first.sync();
    await first.close();
    expect(kept(path).map(([kind]) => kind)).toEqual(["step", "step", "step", "evaluation", "step", "warning"]);
    appendFileSync(join(path, METRICS), '{"kind":"step","step":5,"tot'); // killed in the middle of a line
    writeFileSync(join(path, ".lacuna-1-0.tmp"), "half a checkpoint");
    const second = await RunFolder.open(path);
    await second.begin(3);
    second.step(record(4));
    await second.close();
    expect(kept(path)).toEqual([
      ["step", 1],
      ["step", 2],
      ["step", 3],
      ["evaluation", 3],
      ["step", 4],
    ]);
    const files = readdirSync(path).sort();
    expect(files.filter((name) => name.startsWith("events."))).toHaveLength(2);
    expect(files.filter((name) => !name.startsWith("events."))).toEqual([METRICS]);
    const third = await RunFolder.open(path);
    await third.begin(0);
    await third.close();
    expect(readFileSync(join(path, METRICS), "utf8")).toBe("");
  });

  it("holds whole lines however long the file is", async () => {
    const path = folder();
    const line = (step: number) => `${JSON.stringify({ kind: "step", step, note: "λ".repeat(400) })}\n`;
    writeFileSync(join(path, METRICS), Array.from({ length: 3000 }, (_, i) => line(i + 1)).join(""));
    const run = await RunFolder.open(path);
    await run.begin(2500);
    await run.close();
    expect(kept(path).at(-1)).toEqual(["step", 2500]);
    expect(kept(path)).toHaveLength(2500);
  });
});

describe("the lock of a run folder", () => {
  const holder = (pid: number, host = hostname(), began: string | null = null) =>
    JSON.stringify({ pid, host, began, nonce: "1" });
  const dead = () => spawnSync(process.execPath, ["-e", "0"]).pid;

  it("lets one in, and the next when that one has left", async () => {
    const path = folder();
    const lock = await RunLock.take(path);
    await expect(RunLock.take(path)).rejects.toThrow(CheckpointError);
    await expect(RunLock.take(path)).rejects.toThrow(new RegExp(`process ${process.pid} trains in this folder`));
    await lock.release();
    expect(readdirSync(path)).toEqual([]);
    await (await RunLock.take(path)).release();
  });

  it("is taken over from the dead, also where another process has their number now", async () => {
    const path = folder();
    for (const stale of [holder(dead()), holder(process.pid, hostname(), "12"), "", "{"]) {
      writeFileSync(join(path, "run.lock"), stale);
      const lock = await RunLock.take(path);
      expect(readFileSync(join(path, "run.lock"), "utf8")).toContain(`"pid":${process.pid}`);
      await lock.release();
    }
    expect(readdirSync(path)).toEqual([]);
  });

  it("is left to the living, and to other machines", async () => {
    const path = folder();
    const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    try {
      writeFileSync(join(path, "run.lock"), holder(other.pid!));
      await expect(RunLock.take(path)).rejects.toThrow(/wait for it or stop it/);
      writeFileSync(join(path, "run.lock"), holder(1, "elsewhere"));
      await expect(RunLock.take(path)).rejects.toThrow(/on elsewhere.*remove run\.lock/);
      expect(existsSync(join(path, "run.lock"))).toBe(true);
    } finally {
      other.kill("SIGKILL");
    }
  });

  it("goes to one of many that find a dead one", async () => {
    const path = folder();
    writeFileSync(join(path, "run.lock"), holder(dead()));
    const tried = await Promise.allSettled(Array.from({ length: 8 }, () => RunLock.take(path)));
    const taken = tried.filter((t) => t.status === "fulfilled");
    expect(taken).toHaveLength(1);
    await taken[0]!.value.release();
  });
});
