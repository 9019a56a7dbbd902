import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, test } from "vitest";
import { type Case, casesOf, checkable, isStep, smaller } from "../src/cli/bench/cases.js";
import { type ComparableRow, compareRows, readRows } from "../src/cli/bench/compare.js";
import { countsOf, flopsOf } from "../src/cli/bench/counts.js";
import type { Row } from "../src/cli/bench/measure.js";
import { type Peers, readPeers, renderBench, type Setting } from "../src/cli/bench/report.js";
import { quantile, withBackward } from "../src/cli/bench/timing.js";
import { disagreement } from "../src/cli/bench/values.js";
import { UsageError } from "../src/cli/command.js";
import { runCommandLine } from "../src/cli/run.js";
import { DataError } from "../src/errors.js";
import { conv2d } from "../src/ops/index.js";
import { Tensor } from "../src/tensor.js";
import { referenceDevice } from "./harness.js";

const root = mkdtempSync(join(tmpdir(), "lacuna-bench-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function lacuna(...args: string[]) {
  const out = { stdout: "", stderr: "" };
  const stream = (name: keyof typeof out) => ({ write: (text: string) => Boolean((out[name] += text)) });
  // A terminal is more than what commands use of it.
  const terminal = { stdout: stream("stdout"), stderr: stream("stderr"), env: {} } as unknown as Parameters<
    typeof runCommandLine
  >[1];
  return { code: await runCommandLine(args, terminal), ...out };
}

describe("the command line", () => {
  const other = join(root, "other.json");
  writeFileSync(other, '{"rows": [{"case": 1}]}');
  it.each([
    [2, /--backend must be one of .*"tpu"/, ["--backend", "tpu"]],
    [2, /--size must be small or full, not "huge"/, ["--size", "huge"]],
    [2, /--filter must be a regular expression/, ["--filter", "("]],
    [2, /--filter: no case matches/, ["--filter", "lstm"]],
    [2, /--rounds/, ["--rounds", "0"]],
    [2, /--seconds/, ["--seconds", "soon"]],
    [2, /--nonsense/, ["--nonsense"]],
    [2, /--peers has no page/, ["--peers", other]],
    [3, /other\.json: was not written by bench:peers/, ["--html", join(root, "no.html"), "--peers", other]],
    [3, /nowhere\.json: cannot be read/, ["--compare", join(root, "nowhere.json")]],
    [3, /other\.json: was not written by lacuna bench/, ["--compare", other]],
  ])("exits with %i and says %s", async (code, message, args) => {
    const result = await lacuna("bench", ...args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
    expect(result.stdout).toBe("");
  });

  it("measures a case, writes it down and compares another run with it", async () => {
    const [file, old] = [join(root, "now.json"), join(root, "old.json")];
    const args = ["bench", "--backend", "reference", "--filter", "^batchNorm .*x64$", "--seconds", "0"];
    const page = join(root, "now.html");
    const first = await lacuna(...args, "--json", file, "--html", page);
    expect(first.stderr).toBe("");
    expect(first.code).toBe(0);
    expect(first.stdout).toMatch(/^batchNorm 1x17x17x64 +both/m);
    const { head, rows } = JSON.parse(readFileSync(file, "utf8"));
    expect(head.backends).toMatchObject([{ name: "reference", size: "small", peaks: { gflops: expect.any(Number) } }]);
    expect(rows.map((row: { direction: string }) => row.direction)).toEqual(["forward", "backward", "both"]);
    expect(rows[2].roundMs).toHaveLength(3);
    expect(rows[2].dispatches).toBe(rows[0].dispatches + rows[1].dispatches);
    expect(rows[2].bytes).toBeGreaterThan(0);

    expect(readFileSync(page, "utf8")).toContain("batchNorm 1x17x17x64, backward");

    // A run that would have been a million times as fast, and one that would have been as slow: beyond any load of this machine.
    const scaled = (factor: number) =>
      rows.map((row: ComparableRow) => ({ ...row, roundMs: row.roundMs.map((ms) => ms * factor) }));
    writeFileSync(old, JSON.stringify({ rows: scaled(1e-6) }));
    const slower = await lacuna(...args, "--compare", old);
    expect(slower.stdout).toMatch(/2 slower, 0 faster, 0 within the noise/);
    expect(slower.code).toBe(9);
    writeFileSync(old, JSON.stringify({ rows: scaled(1e6) }));
    expect((await lacuna(...args, "--compare", old)).code).toBe(0);
  });
});

describe("comparison", () => {
  const row = (roundMs: number[], direction = "forward", name = "a"): ComparableRow => {
    return { case: name, direction, backend: "cpu", roundMs };
  };
  const of = (before: number[], now: number[]) => compareRows([row(before)], [row(now)])[0]!;

  it("takes the band from the spread of both runs", () => {
    const { ratio, band, verdict } = of([8, 10, 12], [12, 15, 18]);
    expect(ratio).toBe(1.5);
    expect(band).toEqual([1, 18 / 8]);
    expect(verdict).toBe("same"); // the slowest before is as slow as the fastest now
    expect(of([8, 10, 11], [12, 15, 18]).verdict).toBe("slower");
    expect(of([12, 15, 18], [8, 10, 11]).verdict).toBe("faster");
  });
  it("never takes a band narrower than 5 % to each side", () => {
    expect(of([10, 10, 10], [10.5, 10.5, 10.5])).toMatchObject({ verdict: "same" });
    expect(of([10], [10.6])).toMatchObject({ verdict: "slower" });
    expect(of([10], [9.4])).toMatchObject({ verdict: "faster" });
  });
  it("leaves out backward, and cases that one run does not have", () => {
    const before = [row([1]), row([1], "backward"), row([], "both"), row([1], "step", "b")];
    const now = [row([1]), row([9], "backward"), row([9], "both"), row([9], "step", "c")];
    expect(compareRows(before, now).map((c) => c.row)).toEqual([row([1])]);
    expect(() => compareRows([row([1])], [row([1], "both")])).toThrow(UsageError);
  });
  it("refuses a file that is no JSON", async () => {
    const file = join(root, "text.json");
    writeFileSync(file, "text");
    await expect(readRows(file)).rejects.toThrow(DataError);
  });
});

describe("cases", () => {
  const all = [...casesOf("full"), ...casesOf("small")];
  it("have names of their own", () => {
    for (const size of ["full", "small"] as const) {
      const names = casesOf(size).map((one) => one.name);
      expect(new Set(names).size).toBe(names.length);
    }
  });
  it.each(all.map((one) => [one.name, one] as const))("%s shrinks to what can be checked", (_, one) => {
    const shape = (c: Case) => (c.op === "conv2d" ? c.w[3] * c.groups : "x" in c ? c.x[3] : 1);
    const small = checkable(one);
    expect(small.op).toBe(one.op);
    if (!isStep(one)) expect(checkable(small)).toEqual(small);
    if (small.op === "conv2d" && one.op === "conv2d") {
      expect(shape(small)).toBe(small.x[3]);
      expect(small.x[3] % 4 === 0, "the same kernels run: channels are multiples of four").toBe(one.x[3] % 4 === 0);
      expect([small.dilation, small.padding, small.stride]).toEqual([one.dilation, one.padding, one.stride]);
    }
    expect(smaller(one).op).toBe(one.op);
  });
});

test("a convolution's operations are counted without the taps that meet padding", async () => {
  const device = referenceDevice();
  const x = Tensor.ones(device, [1, 3, 3, 2]);
  const w = Tensor.ones(device, [5, 3, 3, 2]);
  const counts = await countsOf(device, () => conv2d(x, w, { padding: 1 }));
  // Along each axis 2 + 3 + 2 of the 9 pairs of place and tap meet the map.
  expect(counts.flops).toBe(2 * 7 * 7 * 2 * 5);
  expect(counts.bytes).toBeGreaterThanOrEqual(4 * (x.size + w.size + 9 * 5));
  expect(counts.dispatches).toBeGreaterThan(0);
  expect(Object.hasOwn(device, "run"), "the device is left as it was").toBe(false);
  expect(flopsOf({ m: 2, n: 3, k: 4 })).toBe(48);
  expect(flopsOf({ count: 7 })).toBe(0);
});

test("results that differ, are missing or are no numbers do not pass", () => {
  expect(disagreement([[1, 2]], [[1, 2]], 1e-5)).toBeNull();
  expect(disagreement([[1, 2.1]], [[1, 2]], 1e-5)).toMatch(/result 0/);
  expect(disagreement([[1], [Number.NaN]], [[1], [1]], 1e-5)).toMatch(/result 1/);
  expect(disagreement([[1]], [[1], [1]], 1e-5)).toMatch(/1 results, not 2/);
  expect(disagreement([[1]], [[1, 1]], 1e-5)).toMatch(/Infinity/);
});

test("quantiles interpolate, and backward is the difference of neighbours", () => {
  expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
  expect(quantile([1, 2], 0.95)).toBeCloseTo(1.95);
  expect(withBackward({ forward: [1, 2], both: [5, 4, 9] }).backward).toEqual([3.5, 2.5, 7.5]);
  expect(withBackward({ step: [1] })).toEqual({ step: [1] });
});

test("the peers' packages are in a lock file of their own, which names no host", () => {
  const read = (file: string) => JSON.parse(readFileSync(new URL(`../${file}`, import.meta.url), "utf8"));
  const [ours, theirs] = [read("package-lock.json"), read("bench/peers/package-lock.json")];
  const { dependencies, private: unpublished } = read("bench/peers/package.json");
  expect(unpublished).toBe(true);
  for (const name of Object.keys(dependencies)) {
    expect(theirs.packages[`node_modules/${name}`].version).toBe(dependencies[name]);
    expect(Object.keys(ours.packages)).not.toContain(`node_modules/${name}`);
  }
  for (const held of Object.values(theirs.packages)) expect(held).not.toHaveProperty("resolved");
  expect(read("package.json").files).not.toContain("bench");
});

describe("the report page", () => {
  const evil = `<script>alert("x")</script>&'`;
  const where = { date: "2026-01-01", cpu: evil, cores: 2, load: 0, node: "v20", commit: evil };
  const backend: Setting = {
    name: "webgpu",
    description: evil,
    size: "small",
    peaks: { copyGBs: 10, gflops: 100, gflopsOf: evil },
  };
  const row = (name: string, more: Partial<Row>): Row => ({
    case: name,
    direction: "forward",
    engine: "lacuna",
    backend: "webgpu",
    medianMs: 2,
    p95Ms: 3,
    roundMs: [2],
    gflops: null,
    gbs: 5,
    flopShare: null,
    copyShare: 0.5,
    bytes: 2 ** 20,
    dispatches: 3,
    submits: 1,
    checkedAs: name,
    ...more,
  });
  const rows: readonly Row[] = [
    row("conv2d a", { gflops: 50, gbs: 2 }), // 25 FLOP/byte: under the flat part, at half of it
    row("conv2d a", { direction: "backward", gflops: 10, gbs: 10 }), // 1 FLOP/byte: on the slope
    row("conv2d a", { direction: "both", gflops: 30, gbs: 4 }),
    row(evil, {}),
    row("softmax refused", { medianMs: null, gbs: null, copyShare: null, note: evil }),
  ];
  const peer = (engine: string, medianMs: number | null, note?: string) => {
    const figures = { medianMs, cpuMs: medianMs, bytes: null, ...(note !== undefined && { note }) };
    return { case: `conv2d ${evil}`, direction: "both", engine, backend: "webgpu", ...figures };
  };
  const peers: Peers = {
    head: { date: "2026-01-02", cpu: evil, commit: "c0ffee", engines: [{ name: "other", description: evil }] },
    rows: [peer("lacuna", 10), peer("other", 25), peer("third", null, evil)],
  };
  const html = renderBench(where, [backend], rows, peers);

  it("names every case, escaped, and fetches nothing", () => {
    expect(html).not.toMatch(/<script|src=|href=|url\(|@import|https?:/);
    expect(html.match(/&#60;script&#62;/g)!.length).toBeGreaterThan(8);
    for (const name of ["conv2d a", "softmax refused", "conv2d &#60;script"]) expect(html).toContain(name);
  });
  it("closes every element that it opens", () => {
    const open: string[] = [];
    for (const [, close, name, empty] of html.matchAll(/<(\/?)([a-z]\w*)[^>]*?(\/?)>/g)) {
      if (empty || name === "meta") continue;
      if (close) expect(open.pop()).toBe(name);
      else open.push(name!);
    }
    expect(open).toEqual([]);
  });
  it("puts dots inside the frame and under the roof, and says their share of it", () => {
    const dots = [...html.matchAll(/<title>([^<]*)<\/title><circle cx="([\d.]+)" cy="([\d.]+)"/g)];
    expect(dots.map(([, title]) => title)).toEqual([
      "conv2d a, forward: 50.0 GFLOP/s at 25.0 FLOP/byte, 50 % of the roof",
      "conv2d a, backward: 10.0 GFLOP/s at 1.0 FLOP/byte, 100 % of the roof",
    ]);
    const roof = html
      .match(/<polyline [^>]*points="([^"]*)"/)![1]!
      .split(" ")
      .map((p) => p.split(",").map(Number));
    const [[x0, y0], [x1, y1]] = roof as [[number, number], [number, number]];
    const [x, y] = [Number(dots[1]![2]), Number(dots[1]![3])];
    expect(y, "on the slope").toBeCloseTo(y0 + ((x - x0) / (x1 - x0)) * (y1 - y0), 0);
    expect(Number(dots[0]![3])).toBeGreaterThan(y1);
    for (const [, , cx, cy] of dots) {
      expect(Number(cx)).toSatisfy((at: number) => at >= 0 && at <= 720);
      expect(Number(cy)).toSatisfy((at: number) => at >= 0 && at <= 400);
    }
  });
  it("sets peers beside lacuna, and says what one refuses", () => {
    expect(html).toContain("25.0 ms, 2.5 x");
    expect(html).toContain("third: &#60;script");
    expect(renderBench(where, [backend], rows, null)).not.toContain("Beside other engines");
  });
  it("reads what bench:peers writes", async () => {
    const file = join(root, "peers.json");
    writeFileSync(file, JSON.stringify(peers));
    expect(await readPeers(file)).toEqual(peers);
  });
});
