import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { spreadOf } from "../../src/train/spread.js";
import { trainTiny, writeCities } from "./cities.js";
import { lacuna } from "./lacuna.js";

let root: string;
let data: string;
let runs: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "lacuna-eval-"));
  data = join(root, "cities");
  await writeCities(data, { protocol: "tiny-v1" });
  runs = join(root, "runs");
  // Adapted statistics, because after one step the running ones make every pixel the same class.
  const more = ["--seeds", "0,2", "--set", "evaluateEvery=1", "--set", "adaBN=true"];
  const { code, stderr } = await lacuna(trainTiny(data, runs, ...more));
  expect([code, stderr]).toEqual([0, ""]);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const evaluate = (...more: string[]) => lacuna(["eval", "--data", data, "--device", "reference", ...more]);
const run = (seed: number) => join(runs, `seed-${seed}`);
const json = async (...more: string[]) => {
  const { code, stdout, stderr } = await evaluate("--format", "json", ...more);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout);
};

describe("lacuna eval", () => {
  it("gives the scores of the run's own report, and the best checkpoint's", async () => {
    const { stdout } = await evaluate("--run", run(0), "--json");
    const report = JSON.parse(readFileSync(join(run(0), "report.json"), "utf8"));
    const scored = JSON.parse(stdout);
    for (const domain of ["source", "target"]) {
      expect(scored[domain].confusion).toEqual(report[domain].confusion);
      expect(scored[domain].meanIoU).toBe(report[domain].meanIoU);
    }
    const best = await json("--run", run(0), "--checkpoint", "best");
    expect(best).toMatchObject({ checkpoint: "best", protocol: "tiny-v1", views: 1, excluded: [] });
    expect(best.runs[0].step).toBe(1);
    expect(Object.keys(best.runs[0].splits.target)).toEqual(["all"]);
  });

  it("takes a folder of seeds as its runs, in mean and deviation", async () => {
    const both = await json("--run", runs);
    expect(both.runs.map((r: { seed: number }) => r.seed)).toEqual([0, 2]);
    const each = both.runs.map(
      (r: { splits: { target: { all: { meanIoU: number } } } }) => r.splits.target.all.meanIoU,
    );
    expect(both.summary.target.all.mIoU).toEqual(spreadOf(each));
    expect(both.summary.target.all.mIoU.sd).toBeGreaterThan(0);
    expect(await json("--run", run(0), "--run", run(2))).toEqual(both);
    const { stdout } = await evaluate("--run", runs);
    expect(stdout).toMatch(/cities, target\/val: means\n.*protocol tiny-v1\n.* over 2 runs, seeds 0, 2\n/);
    expect(stdout).toMatch(/all classes +[\d.]+ ± [\d.]+/);
  });

  it("leaves classes out in both ways, and augments", async () => {
    const plain = await json("--run", run(0), "--boundary", "1");
    const without = await json("--run", run(0), "--exclude", "ground", "--exclude", "tree", "--boundary", "1");
    expect(without.excluded).toEqual(["ground", "tree"]);
    const { all, excluded, ignored } = without.runs[0].splits.source;
    expect(all).toEqual(plain.runs[0].splits.source.all);
    expect(excluded.confusion).toEqual(all.confusion);
    expect(excluded.overallAccuracy).toBe(all.overallAccuracy);
    const pixels = all.perClass[0].pixels + all.perClass[3].pixels;
    expect(ignored.pixels).toBe(all.pixels - pixels);
    expect(ignored.confusion.map((row: number[]) => row.reduce((a, b) => a + b, 0))[0]).toBe(0);
    expect(Object.keys(without.summary.source.ignored.perClass)).toEqual(["building", "road", "water"]);

    const augmented = await json("--run", run(0), "--tta", "flip,rot90", "--scales", "1,1.5", "--boundary", "1");
    expect(augmented).toMatchObject({ views: 16, augmentation: ["flip", "rot90", "scales 1 1.5"] });
    expect(augmented.runs[0].splits.source.all.pixels).toBe(all.pixels);
    expect(augmented.runs[0].splits).not.toEqual(plain.runs[0].splits);
  });

  it("writes every format", async () => {
    const out = join(root, "tables/new");
    const args = ["--run", run(0), "--exclude", "ground", "--out", out];
    const { code, stdout } = await evaluate(...args, "--format", "md");
    expect(code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(["eval.csv", "eval.json", "eval.md", "eval.tex"]);
    const text = (name: string) => readFileSync(join(out, name), "utf8");
    expect(text("eval.md")).toBe(stdout);
    expect(text("eval.tex").match(/\\toprule/g)).toHaveLength(6); // two splits: means, classes, classes without one
    expect(text("eval.tex")).toContain("protocol tiny-v1");
    const lines = text("eval.csv").split("\r\n");
    expect(lines.at(-1)).toBe("");
    expect(new Set(lines.slice(0, -1).map((line) => line.split(",").length))).toEqual(new Set([14]));
    expect(JSON.parse(text("eval.json")).protocol).toBe("tiny-v1");
  });

  it.each<[number, RegExp, string[]]>([
    [2, /--run is missing/, []],
    [2, /--checkpoint must be one of last, best, not "first"/, ["--run", "x", "--checkpoint", "first"]],
    [2, /--tta lists flip, rot90 or both, not "spin"/, ["--run", "x", "--tta", "flip,spin"]],
    [2, /--scales must list/, ["--run", "x", "--scales", "1,,2"]],
    [2, /--scales must list/, ["--run", "x", "--scales", "0.1"]],
    [2, /--boundary must be/, ["--run", "x", "--boundary=-1"]],
    [2, /--format must be one of text, md, csv, latex, json/, ["--run", "x", "--format", "docx"]],
    [2, /exclude each other/, ["--run", "x", "--format", "md", "--json"]],
    [2, /names a run twice/, ["--run", "x", "--run", "x"]],
    [2, /--json is of one run/, ["--run", "x", "--run", "y", "--json"]],
    [4, /nowhere\/checkpoint\.safetensors: cannot be read/, ["--run", "/nowhere"]],
  ])("exits with %i and says %s", async (code, message, args) => {
    const result = await evaluate(...args);
    expect(result.stderr).toMatch(message);
    expect([result.code, result.stdout]).toEqual([code, ""]);
  });

  it("refuses classes that are not the run's, a best model that was never kept, and runs of other classes", async () => {
    expect((await evaluate("--run", run(0), "--exclude", "sea")).stderr).toMatch(
      /no class: there are ground, building, road, tree, water, not "sea"/,
    );
    const plain = join(root, "plain");
    mkdirSync(plain);
    cpSync(join(run(0), "checkpoint.safetensors"), join(plain, "checkpoint.safetensors"));
    const none = await evaluate("--run", plain, "--checkpoint", "best");
    expect([none.code, none.stdout]).toEqual([4, ""]);
    expect(none.stderr).toContain(join(plain, "best.safetensors"));
    expect(existsSync(join(plain, "best.safetensors"))).toBe(false);

    const others = join(root, "others");
    cpSync(data, others, { recursive: true });
    writeFileSync(join(others, "dataset.json"), JSON.stringify({ classes: ["a", "b", "c", "d", "e"] }));
    const elsewhere = join(root, "elsewhere");
    expect((await lacuna(trainTiny(others, elsewhere))).code).toBe(0);
    const mixed = await evaluate("--run", run(0), "--run", elsewhere);
    expect(mixed.stderr).toMatch(/elsewhere.*is a run on the classes a, b, c, d, e, not ground/);
    expect(mixed.code).toBe(4);
  });
});

describe("lacuna report", () => {
  it("writes what training wrote, without training, and keeps what only that knew", async () => {
    const folder = run(2);
    const read = () => JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
    const before = read();
    expect(before.command).toMatch(/^lacuna train --data .* --seeds 0,2/);
    expect(before.environment.node).toBe(process.version);
    expect(before.protocol).toBe("tiny-v1");
    const page = readFileSync(join(folder, "report.html"), "utf8");
    expect(page).toContain("--seeds 0,2");
    rmSync(join(folder, "report.html"));
    const args = ["report", "--data", data, "--device", "reference", "--run"];
    const { code, stdout } = await lacuna([...args, folder]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^source\/val: mean IoU(.|\n)*\ntarget\/val: mean IoU/);
    expect(read()).toEqual(before);
    expect(readFileSync(join(folder, "report.html"), "utf8")).toBe(page);

    writeFileSync(join(folder, "report.json"), "{ half a");
    expect((await lacuna([...args, folder])).code).toBe(0);
    expect(read()).toMatchObject({ command: null, environment: null, target: before.target });
    expect(readFileSync(join(folder, "report.html"), "utf8")).toContain("not recorded");
    expect((await lacuna([...args, "/nowhere"])).code).toBe(4);
  });
});
