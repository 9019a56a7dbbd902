// npm run bench:peers -- [--filter RE] [--device NAME] [--python PATH] [--json FILE] …: lacuna and PyTorch on the same
// work, in turns, so that whatever else the machine does meets both. Ratios are PyTorch's time over ours.
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { casesOf, directionsOf } from "../dist/cli/bench/cases.js";
import { machine } from "../dist/cli/bench/machine.js";
import { toleranceOf } from "../dist/cli/bench/measure.js";
import { prepare } from "../dist/cli/bench/prepare.js";
import { median, quantile, time, withBackward } from "../dist/cli/bench/timing.js";
import { disagreement } from "../dist/cli/bench/values.js";
import { MissingKernelError, open } from "../dist/index.js";
import { barsOf } from "./bars.mjs";
import { PyTorch } from "./pytorch.mjs";

const USAGE = `npm run bench:peers -- [options]
  --filter RE      cases whose name matches
  --device NAME    of lacuna; default cpu
  --python PATH    a Python that has PyTorch; default $LACUNA_PYTHON, else python3
  --threads N      of both; default 2
  --rounds N       turns; default 3
  --seconds S      each turn's, at least (and 7 repetitions); default 0.5
  --channels-last  PyTorch's maps as NHWC
  --no-memory      leaves out the peak memory of the steps
  --json FILE      writes head and rows`;

const REPETITIONS = 7;
/** Between turns: the other side's threads spin for a while before they sleep. */
const PAUSE_MS = 30;

/** @typedef {import("../dist/cli/bench/cases.js").Case} Case */
/** @typedef {import("../dist/index.js").Device} Device */
/** @typedef {{ filter: RegExp, device: any, python: string, threads: number, rounds: number, seconds: number,
 *   channelsLast: boolean, memory: boolean, json: string | undefined }} Options */
/** @typedef {{ case: string, direction: string, engine: string, backend: string, medianMs: number | null,
 *   p95Ms: number | null, minMs: number | null, bytes: number | null, note?: string }} Row */
/** @typedef {Record<string, number[]>} Turn Milliseconds, by direction. */
/** @typedef {{ lacuna: number[][], pytorch: number[][] }} Rounds Milliseconds, by round. */

/** @returns {Options} */
function optionsOf() {
  const { values } = parseArgs({
    options: {
      filter: { type: "string", default: "" },
      device: { type: "string", default: "cpu" },
      python: { type: "string", default: process.env.LACUNA_PYTHON || "python3" },
      threads: { type: "string", default: "2" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "0.5" },
      "channels-last": { type: "boolean", default: false },
      "no-memory": { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const [threads, rounds, seconds] = [values.threads, values.rounds, values.seconds].map(Number);
  if (!(threads >= 1 && rounds >= 1 && seconds >= 0)) throw new Error("--threads, --rounds, --seconds take numbers");
  const { device, python, json } = values;
  const [channelsLast, memory] = [values["channels-last"], !values["no-memory"]];
  return { filter: new RegExp(values.filter), device, python, threads, rounds, seconds, channelsLast, memory, json };
}

/** The peer, or null with a word of why not. @param {Options} options */
async function startPeer({ python, threads, channelsLast }) {
  const peer = new PyTorch(python, threads, channelsLast);
  try {
    return { peer, about: await peer.ask({ do: "hello" }) };
  } catch (error) {
    console.log(`Only lacuna is timed: ${messageOf(error)} (${python}; --python PATH names another)\n`);
    return { peer: null, about: null };
  }
}

/** @param {Options} options @param {any} about */
function headOf({ threads, device }, about) {
  return { ...machine(), threads, device, torch: about };
}

/**
 * One case on a device of its own, so that peak bytes are the case's.
 * @param {Case} one @param {Options} options @param {PyTorch | null} peer
 * @returns {Promise<Row[]>}
 */
async function measure(one, options, peer) {
  const device = await open(options.device, { threads: options.threads });
  try {
    return await measureOn(device, one, options, peer);
  } finally {
    device.dispose();
  }
}

/** @param {Device} device @param {Case} one @param {Options} options @param {PyTorch | null} peer @returns {Promise<Row[]>} */
async function measureOn(device, one, options, peer) {
  const ours = await attempt(() => prepare(device, one));
  const samples = ours.result ? await attempt(() => ours.result.check()) : ours;
  // Nothing to compare with: the peer's time would be lost.
  const theirs =
    peer && samples.result
      ? await attempt(() => peer.ask({ do: "prepare", case: one }))
      : { note: peer ? "not run" : "absent" };
  if (samples.result && theirs.result) compare(one, samples.result, theirs.result.samples);

  /** @type {Row[]} */
  const rows = [];
  /** @type {Turn[][]} */
  const [a, b] = [[], []];
  for (let round = 0; round < options.rounds && samples.result; round++) {
    a.push(await time(device, ours.result.run, { ...options, repetitions: REPETITIONS }));
    await pause();
    if (theirs.result) b.push(await timeTheirs(/** @type {PyTorch} */ (peer), options));
    await pause();
  }
  const bytes = device.stats.peakBytes;
  for (const direction of directionsOf(one)) {
    const took = { lacuna: a.map((turn) => turn[direction]), pytorch: b.map((turn) => turn[direction]) };
    rows.push(rowOf(one, direction, "lacuna", options.device, took.lacuna, bytes, samples.note));
    if (peer) rows.push(rowOf(one, direction, "pytorch", "cpu", took.pytorch, null, theirs.note));
    print(one, direction, took, samples.note, theirs.note);
  }
  return rows;
}

/** @param {PyTorch} peer @param {Options} options @returns {Promise<Turn>} */
async function timeTheirs(peer, { seconds }) {
  return withBackward((await peer.ask({ do: "time", seconds, repetitions: REPETITIONS })).ms);
}

/** @param {Case} one @param {number[][]} ours @param {number[][]} theirs @throws Error where they are not the same work. */
function compare(one, ours, theirs) {
  const wrong = disagreement(ours, theirs, toleranceOf(one));
  if (wrong) throw new Error(`${one.name}: not as in PyTorch: ${wrong}`);
}

/**
 * Peak memory of a training step, each engine in a process of its own: how far the steps raise it above a process that
 * has done a small step, and all of the process, run time and libraries with it.
 * @param {Case} one @param {Options} options @param {boolean} withPeer @returns {Promise<Row[]>}
 */
async function measureMemory(one, options, withPeer) {
  const { device, threads, python, channelsLast } = options;
  const ours = await attempt(async () => {
    const script = fileURLToPath(new URL("memory.mjs", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--expose-gc",
      script,
      device,
      `${threads}`,
      one.name,
    ]);
    return JSON.parse(stdout);
  });
  const theirs = withPeer
    ? await attempt(async () => {
        const peer = new PyTorch(python, threads, channelsLast);
        try {
          return await peer.ask({ do: "memory", case: one });
        } finally {
          peer.close();
        }
      })
    : { note: "absent" };
  const inDevice = ours.result ? ` (device ${megabytes(ours.result.deviceBytes)})` : "";
  /** @param {string} direction @param {"bytes" | "process"} key @param {string} end @returns {Row[]} */
  const rows = (direction, key, end) => {
    const [a, b] = [ours.result?.[key], theirs.result?.[key]];
    const [ratio, bar] = a && b ? [(b / a).toFixed(2), verdict(b / a, 1)] : ["", ""];
    const [left, right] = [megabytes(a, ours.note), megabytes(b, theirs.note)];
    console.log(line(one.name, direction, left, right, ratio, "", "", bar) + end);
    const row = { case: one.name, direction, medianMs: null, p95Ms: null, minMs: null };
    return [
      { ...row, engine: "lacuna", backend: device, bytes: a ?? null, ...(ours.note && { note: ours.note }) },
      ...(withPeer
        ? [{ ...row, engine: "pytorch", backend: "cpu", bytes: b ?? null, ...(theirs.note && { note: theirs.note }) }]
        : []),
    ];
  };
  return [...rows("peak growth", "bytes", inDevice), ...rows("peak process", "process", "")];
}

/**
 * What `f` gives, or in one word why it gives nothing: the table has room for no more.
 * @template V @param {() => V | Promise<V>} f @returns {Promise<{ result?: any, note?: string }>}
 */
async function attempt(f) {
  try {
    return { result: await f() };
  } catch (error) {
    if (error instanceof MissingKernelError) return { note: "missing" };
    console.log(`  ${messageOf(error)}`);
    return { note: "failed" };
  }
}

/**
 * @param {Case} one @param {string} direction @param {string} engine @param {string} backend @param {number[][]} rounds
 * @param {number | null} bytes @param {string | undefined} note @returns {Row}
 */
function rowOf(one, direction, engine, backend, rounds, bytes, note) {
  const all = rounds.flat();
  const [medianMs, p95Ms] = all.length > 0 ? [median(all), quantile(all, 0.95)] : [null, null];
  const minMs = all.length > 0 && direction !== "backward" ? quantile(all, 0) : null;
  return { case: one.name, direction, engine, backend, medianMs, p95Ms, minMs, bytes, ...(note && { note }) };
}

/** @param {Case} one @param {string} direction @param {Rounds} took @param {string} [noteA] @param {string} [noteB] */
function print(one, direction, { lacuna, pytorch }, noteA, noteB) {
  const [a, b] = [lacuna, pytorch].map((rounds) => (rounds.length > 0 ? median(rounds.flat()) : null));
  const ratio = a && b ? b / a : null;
  const ratios = lacuna.map((took, i) => (pytorch[i] ? median(pytorch[i]) / median(took) : Number.NaN));
  const spread = ratio === null ? "" : `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
  // Of the fastest runs: what a machine with other work still tells.
  // The smallest of differences says nothing.
  const fastest =
    ratio === null || direction === "backward"
      ? ""
      : (quantile(pytorch.flat(), 0) / quantile(lacuna.flat(), 0)).toFixed(2);
  const bar = barsOf(one)?.[/** @type {keyof import("./bars.mjs").Bars} */ (direction)];
  const judged = ratio === null || bar === undefined ? "" : verdict(ratio, bar);
  console.log(
    line(
      one.name,
      direction,
      milliseconds(a, noteA),
      milliseconds(b, noteB),
      ratio?.toFixed(2) ?? "",
      spread,
      fastest,
      judged,
    ),
  );
}

const line = (/** @type {string[]} */ name, direction, ours, theirs, ratio, spread, fastest, bar) =>
  [
    name.padEnd(48),
    direction.padEnd(11),
    ours.padStart(10),
    theirs.padStart(10),
    ratio.padStart(6),
    spread.padStart(10),
    fastest.padStart(7),
    bar,
  ]
    .join("  ")
    .trimEnd();
const verdict = (/** @type {number} */ ratio, /** @type {number} */ bar) =>
  `${bar.toFixed(1)} ${ratio >= bar ? "yes" : "NO"}`;
const milliseconds = (/** @type {number | null} */ ms, note = "") => (ms === null ? note : ms.toFixed(ms < 10 ? 3 : 1));
const megabytes = (/** @type {number | undefined} */ bytes, note = "") =>
  bytes === undefined ? note : `${Math.round(bytes / 2 ** 20)} MiB`;
const messageOf = (/** @type {unknown} */ error) =>
  error instanceof Error ? error.message.split("\n")[0] : `${error}`;
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

async function main() {
  const options = optionsOf();
  const cases = casesOf("full").filter((one) => barsOf(one) !== null);
  const chosen = cases.filter(({ name }) => options.filter.test(name));
  if (chosen.length === 0)
    throw new Error(`no case matches ${options.filter}: there are\n  ${cases.map((c) => c.name).join("\n  ")}`);
  const { peer, about } = await startPeer(options);
  const head = headOf(options, about);
  const torch = about ? `PyTorch ${about.version}, ${about.threads} threads, ${about.format}` : "no PyTorch";
  console.log(
    `${head.date}  ${head.cpu}, ${head.cores} cores, ${head.threads} threads  ${torch}  commit ${head.commit}`,
  );
  console.log(
    `medians of ${options.rounds} rounds in turns, ms; ratio: PyTorch's time over lacuna's (${options.device})\n`,
  );
  if (head.load > 0.7) {
    console.log(`The machine is busy (load ${head.load.toFixed(1)}): PyTorch's threads spin while they wait for one
another and lose most by it, so ratios flatter lacuna.\n`);
  }
  console.log(line("case", "direction", "lacuna", "pytorch", "ratio", "rounds", "fastest", "bar"));
  /** @type {Row[]} */
  const rows = [];
  try {
    for (const one of chosen) {
      const measured = await attempt(() => measure(one, options, peer));
      if (measured.result) rows.push(...measured.result);
      else process.exitCode = 1;
    }
    if (options.memory) {
      for (const one of chosen) if (one.op === "step") rows.push(...(await measureMemory(one, options, peer !== null)));
    }
  } finally {
    peer?.close();
  }
  if (options.json) writeFileSync(options.json, `${JSON.stringify({ head, rows }, null, 1)}\n`);
}

try {
  await main();
} catch (error) {
  console.error(messageOf(error) === "" ? error : /** @type {Error} */ (error).message);
  process.exitCode = 1;
}
