import { writeFile } from "node:fs/promises";
import type { BackendName } from "../backends/backend.js";
import { backendNames, type Device, devices, open, type WebGPUBackend } from "../device.js";
import { DeviceError } from "../errors.js";
import { type BenchSize, casesOf, sizes } from "./bench/cases.js";
import { type Comparison, compareRows, readRows } from "./bench/compare.js";
import { machine } from "./bench/machine.js";
import { measure, ReferenceResults, type Row } from "./bench/measure.js";
import { measurePeaks } from "./bench/peaks.js";
import { readPeers, renderBench, type Setting } from "./bench/report.js";
import { type Command, parseOptions, UsageError, wholeNumber } from "./command.js";
import { EXIT } from "./exit_code.js";

export const benchCommand: Command = {
  name: "bench",
  summary: "how fast kernels and whole steps run here, on every backend",
  help: `Usage: lacuna bench [options]

Times the kernels at DeepLabV3+'s shapes, forward and backward, and whole steps: inference, training, adaptation. Every
case is compared with the float64 reference first, at a smaller size where that would take long.

  --backend NAME   cuda, webgpu, cpu or reference; may be repeated (default: all but the reference that open)
  --size SIZE      small or full (default: full; small on software adapters and the reference)
  --filter REGEX   cases whose name matches
  --rounds N       of which the spread is the noise (default 3)
  --seconds N      of each round, and three runs at least (default 1; 0: one run)
  --kernels        GPU time of each kernel, on WebGPU adapters with timestamps
  --json FILE      writes machine, peaks and rows
  --html FILE      writes a page of them: roofline, shares of the roof, all rows
  --peers FILE     with --html: bars beside other engines, from a file of the repository's "npm run bench:peers -- --json"
  --compare FILE   ratios to an earlier --json of the same machine; exits with ${EXIT.slower} where a case became slower beyond the noise

GFLOP/s counts convolutions and matrix products (two for a multiply-add, none on padding). GB/s counts each operand and
result once, in whole steps those of each kernel. Shares are of this adapter's own peaks, measured in the same run.`,
  async run(args, terminal) {
    const options = parseOptions("bench", args, {
      backend: { type: "string", multiple: true },
      size: { type: "string" },
      filter: { type: "string", default: "" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "1" },
      kernels: { type: "boolean", default: false },
      json: { type: "string" },
      html: { type: "string" },
      peers: { type: "string" },
      compare: { type: "string" },
    });
    const size = sizeOption(options.size);
    const filter = regularExpression(options.filter);
    const rounds = wholeNumber("rounds", options.rounds, 1, 1000);
    const seconds = wholeNumber("seconds", options.seconds, 0, 3600);
    const names = options.backend?.map(backendOption);
    const choose = (at: BenchSize) => casesOf(at).filter(({ name }) => filter.test(name));
    if (sizes.every((at) => (size ?? at) !== at || choose(at).length === 0)) {
      throw new UsageError(`--filter: no case matches ${filter}`, "lacuna bench without --filter lists them");
    }
    if (options.peers !== undefined && options.html === undefined) {
      throw new UsageError("--peers has no page to go into", "give --html FILE, too");
    }
    const peers = options.peers === undefined ? null : await readPeers(options.peers);
    const before = options.compare === undefined ? null : await readRows(options.compare);

    const say = (line: string) => terminal.stdout.write(`${line}\n`);
    const where = machine();
    say(`${where.date}  ${where.cpu}, ${where.cores} cores, load ${where.load.toFixed(1)}, Node ${where.node}`);
    const reference = new ReferenceResults();
    const backends: Setting[] = [];
    const rows: Row[] = [];
    let code: number = EXIT.ok;
    for (const backend of names ?? (await available())) {
      const setting = await settingOf(backend, size);
      backends.push(setting);
      for (const line of headLines(setting)) say(line);
      for (const one of choose(setting.size)) {
        const { peaks } = setting;
        const repetitions = seconds === 0 ? 1 : 3;
        const all = { backend, rounds, seconds, repetitions, peaks, kernels: options.kernels };
        const { rows: measured, outcome } = await measure(one, all, reference);
        rows.push(...measured);
        for (const row of measured) for (const line of rowLines(row)) say(line);
        if (outcome === "wrong") code = EXIT.bug;
        else if (outcome === "refused" && code === EXIT.ok) code = EXIT.device;
      }
    }
    for (const line of checkedLines(rows)) say(line);
    if (options.kernels && !rows.some((row) => row.kernels)) say("no adapter here has timestamps for --kernels");
    if (options.json)
      await writeFile(options.json, `${JSON.stringify({ head: { ...where, backends }, rows }, null, 1)}\n`);
    if (options.html) await writeFile(options.html, renderBench(where, backends, rows, peers));
    if (!before) return code;
    const compared = compareRows(
      before,
      rows.map((row) => ({ ...row, roundMs: [...row.roundMs] })),
    );
    for (const line of comparisonLines(compared)) say(line);
    return code === EXIT.ok && compared.some(({ verdict }) => verdict === "slower") ? EXIT.slower : code;
  },
};

async function settingOf(name: BackendName, asked: BenchSize | undefined): Promise<Setting> {
  using device = await open(name);
  const slow = isSlow(device);
  const size = asked ?? (slow ? "small" : "full");
  return { name, description: device.description, size, peaks: await measurePeaks(device, slow) };
}

const isSlow = (device: Device): boolean =>
  // The cast: the only backend of this name.
  device.name === "reference" || (device.name === "webgpu" && (device as WebGPUBackend).software);

/** @throws DeviceError where there is only the reference. */
async function available(): Promise<BackendName[]> {
  const names = (await devices()).filter((d) => d.available && d.name !== "reference").map(({ name }) => name);
  if (names.length > 0) return names;
  throw new DeviceError("bench", "unavailable", "there is only the reference, which --backend reference times");
}

function backendOption(text: string): BackendName {
  const name = backendNames.find((known) => known === text);
  if (!name) throw new UsageError(`--backend must be one of ${backendNames.join(", ")}, not "${text}"`);
  return name;
}
function sizeOption(text: string | undefined): BenchSize | undefined {
  const size = sizes.find((known) => known === text);
  if (!size && text !== undefined) throw new UsageError(`--size must be ${sizes.join(" or ")}, not "${text}"`);
  return size;
}
function regularExpression(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new UsageError(`--filter must be a regular expression, not "${text}"`);
  }
}

const COLUMNS = [
  "case",
  "direction",
  "median ms",
  "p95 ms",
  "GFLOP/s",
  "share",
  "GB/s",
  "share",
  "peak MiB",
  "runs",
  "submits",
];
const WIDTHS = [44, 9, 10, 10, 8, 6, 7, 6, 8, 5, 7];
const tableLine = (cells: readonly string[]): string =>
  cells
    .map((cell, i) => (i < 2 ? cell.padEnd(WIDTHS[i]!) : cell.padStart(WIDTHS[i]!)))
    .join("  ")
    .trimEnd();

const headLines = ({ name, description, size, peaks }: Setting): string[] => [
  "",
  `${name}: ${description}; size ${size}`,
  `peaks: copy ${peaks.copyGBs.toFixed(1)} GB/s, ${peaks.gflops.toFixed(1)} GFLOP/s (${peaks.gflopsOf})`,
  "",
  tableLine(COLUMNS),
];

function rowLines(row: Row): string[] {
  if (row.note !== undefined) return [tableLine([row.case, row.direction, row.note])];
  const number = (value: number | null) => (value === null ? "" : value.toFixed(value < 10 ? 3 : 1));
  const share = (value: number | null) => (value === null ? "" : `${(100 * value).toFixed(0)} %`);
  const { medianMs, p95Ms, gflops, flopShare, gbs, copyShare, bytes, dispatches, submits } = row;
  const cells = [number(medianMs), number(p95Ms), number(gflops), share(flopShare), number(gbs), share(copyShare)];
  const counts = [((bytes ?? 0) / 2 ** 20).toFixed(1), `${dispatches}`, `${submits}`];
  const kernels = row.kernels?.map(
    ({ kernel, runs, ms }) => `    ${ms.toFixed(3).padStart(9)} ms  ${runs} x ${kernel}`,
  );
  const { javaScript } = row;
  const cost = javaScript
    ? `    ${javaScript.eagerUs.toFixed(1)} us of JavaScript a dispatch, replayed ${javaScript.replayedUs.toFixed(1)} (${javaScript.dispatches} dispatches)`
    : null;
  return [tableLine([row.case, row.direction, ...cells, ...counts]), ...(cost ? [cost] : []), ...(kernels ?? [])];
}

/** Which cases the reference could not check at their own size. */
function checkedLines(rows: readonly Row[]): string[] {
  const smaller = new Map<string, string>();
  for (const { case: name, checkedAs } of rows) if (checkedAs && checkedAs !== name) smaller.set(name, checkedAs);
  if (smaller.size === 0) return [];
  const lines = [...smaller].map(([name, as]) => `  ${name.padEnd(44)}  as ${as}`);
  return ["", "checked at a smaller size:", ...lines];
}

function comparisonLines(compared: readonly Comparison[]): string[] {
  const lines = compared.map(({ row, ratio, band, verdict }) => {
    const range = band.map((bound) => bound.toFixed(2)).join("-");
    const cells = [row.backend.padEnd(9), row.case.padEnd(44), row.direction.padEnd(9), ratio.toFixed(2).padStart(5)];
    return [...cells, range.padStart(11), verdict === "same" ? "" : verdict].join("  ").trimEnd();
  });
  const count = (verdict: Comparison["verdict"]) => compared.filter((one) => one.verdict === verdict).length;
  return [
    "",
    "new time over old, and its noise band",
    ...lines,
    `${count("slower")} slower, ${count("faster")} faster, ${count("same")} within the noise`,
  ];
}
