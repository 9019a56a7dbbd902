// npm run bench:peers -- [options]: lacuna and other engines on the same work and adapter, in turns, so that whatever else the
// machine does meets all of them. Ratios are a peer's time over ours.
import { execFile, spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { casesOf, directionsOf } from "../../dist/cli/bench/cases.js";
import { machine } from "../../dist/cli/bench/machine.js";
import { toleranceOf } from "../../dist/cli/bench/measure.js";
import { withBackward } from "../../dist/cli/bench/timing.js";
import { disagreement } from "../../dist/cli/bench/values.js";
import { barsOf } from "./bars.mjs";
import { step as dilatedStep, fused, plain, cases as webgpuCases } from "./cases.mjs";
import { NodeEngine, PyTorch } from "./engine.mjs";
import { rowOf } from "./rows.mjs";
import { barLines, memoryLines, refusals, Table } from "./table.mjs";

const USAGE = `npm run bench:peers -- [options]
  --device NAME    of lacuna: webgpu, beside other WebGPU engines, or cpu, beside PyTorch; default webgpu
  --filter RE      cases whose name matches
  --engines A,B    of the peers jax-js, tfjs, tfjs by hand, ort, pytorch; default all
  --rounds N       turns; default 3
  --seconds S      each turn's, at least (and 3 repetitions, on the CPU 7); default 0.5
  --python PATH    a Python that has PyTorch; default $LACUNA_PYTHON, else python3
  --threads N      of lacuna's CPU device and of PyTorch; default 2
  --channels-last  PyTorch's maps as NHWC
  --no-memory      leaves out the peak memory of the steps (cpu)
  --json FILE      writes head and rows`;

/** Without the drivers' caches of compiled shaders. */
const COLD = { MESA_SHADER_CACHE_DISABLE: "true", __GL_SHADER_DISK_CACHE: "0" };
/** Between turns: threads of the side before spin for a while before they sleep. */
const PAUSE_MS = 30;

/** @typedef {import("../../dist/cli/bench/cases.js").Case} Case */
/** @typedef {import("./engine.mjs").Engine} Engine */
/** @typedef {import("./rows.mjs").Row} Row */
/** @typedef {import("./rows.mjs").Turn} Turn */
/**
 * @typedef {object} Side An engine that takes part.
 * @property {string} name
 * @property {string} backend
 * @property {(environment?: Record<string, string>) => Engine} start
 * @property {(one: Case) => boolean} takes
 * @property {Engine} [kept] One process for all cases; the others get a fresh one for each, so that none leaves anything behind.
 */

const isLacunas = (/** @type {Case} */ one) => one.name === fused.name || one.name === plain.name;
const isDilated = (/** @type {Case} */ one) => one.op === "dilatedStep";
/** @type {readonly Side[]} */
const WEBGPU_PEERS = [
  {
    name: "jax-js",
    backend: "webgpu",
    start: (env) => new NodeEngine("jax.mjs", [], env),
    takes: (one) => !isLacunas(one),
  },
  {
    name: "tfjs",
    backend: "webgpu",
    start: (env) => new NodeEngine("tfjs.mjs", [], env),
    takes: (one) => !isLacunas(one),
  },
  // With a gradient of dilated convolutions that tfjs does not have: what a user of tfjs could do.
  {
    name: "tfjs by hand",
    backend: "webgpu",
    start: (env) => new NodeEngine("tfjs.mjs", ["--by-hand"], env),
    takes: isDilated,
  },
  {
    name: "ort",
    backend: "webgpu",
    start: (env) => new NodeEngine("ort.mjs", [], env),
    takes: (one) => !isLacunas(one) && !isDilated(one),
  },
];
const PEERS = [...WEBGPU_PEERS.map(({ name }) => name), "pytorch"];

function optionsOf() {
  const { values } = parseArgs({
    options: {
      device: { type: "string", default: "webgpu" },
      filter: { type: "string", default: "" },
      engines: { type: "string" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "0.5" },
      python: { type: "string", default: process.env.LACUNA_PYTHON || "python3" },
      threads: { type: "string", default: "2" },
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
  const { device, python, json } = values;
  if (device !== "webgpu" && device !== "cpu") throw new Error(`--device must be webgpu or cpu, not "${device}"`);
  const [threads, rounds, seconds] = [values.threads, values.rounds, values.seconds].map(Number);
  if (!(threads >= 1 && rounds >= 1 && seconds >= 0)) throw new Error("--threads, --rounds, --seconds take numbers");
  const engines = values.engines?.split(",").filter((name) => name !== "lacuna") ?? PEERS;
  const unknown = engines.find((name) => !PEERS.includes(name));
  if (unknown) throw new Error(`--engines: there is no ${unknown}, but ${PEERS.join(", ")}`);
  const [channelsLast, memory] = [values["channels-last"], !values["no-memory"] && device === "cpu"];
  const filter = new RegExp(values.filter);
  const repetitions = device === "cpu" ? 7 : 3;
  return { device, filter, engines, rounds, seconds, repetitions, python, threads, channelsLast, memory, json };
}
/** @typedef {ReturnType<typeof optionsOf>} Options */

/** The peers' packages are no dependencies of lacuna's: installed when first asked for, without their install scripts. */
function install() {
  const folder = fileURLToPath(new URL(".", import.meta.url));
  if (existsSync(new URL("node_modules/.package-lock.json", import.meta.url))) return;
  console.log("npm ci in bench/peers (600 MB, once)");
  // The npm that runs this script, where one does.
  const [command, first] = process.env.npm_execpath ? [process.execPath, [process.env.npm_execpath]] : ["npm", []];
  const args = [...first, "ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { status } = spawnSync(command, args, { cwd: folder, stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0) throw new Error("npm ci failed in bench/peers; --engines pytorch does without");
}

/** Those of the engines that start. @param {Options} options @param {readonly Case[]} chosen */
async function startSides({ device, threads, engines, python, channelsLast }, chosen) {
  const args = [device, `${threads}`];
  /** @type {Side} */
  const lacuna = {
    name: "lacuna",
    backend: device,
    start: (env) => new NodeEngine("lacuna.mjs", args, env),
    takes: () => true,
  };
  const asked =
    device === "webgpu" ? WEBGPU_PEERS.filter(({ name, takes }) => engines.includes(name) && chosen.some(takes)) : [];
  if (asked.length > 0) install();
  const sides = [lacuna, ...asked];
  if (engines.includes("pytorch")) {
    const start = () => new PyTorch(python, threads, channelsLast);
    sides.push({
      name: "pytorch",
      backend: "cpu",
      start,
      takes: (one) => !(device === "webgpu" && isLacunas(one)),
      kept: start(),
    });
  }
  /** @type {{ side: Side, about: any }[]} */
  const started = [];
  for (const side of sides) {
    const engine = side.kept ?? side.start();
    try {
      started.push({ side, about: await engine.ask({ do: "hello" }) });
    } catch (error) {
      if (side === lacuna) throw error;
      console.log(
        `without ${side.name}: ${messageOf(error)}${side.kept ? ` (${python}; --python PATH names another)` : ""}`,
      );
    } finally {
      if (!side.kept) await engine.close();
    }
  }
  return started;
}

/**
 * One case on every side, in turns.
 * @param {Case} one @param {readonly Side[]} sides lacuna first @param {Options} options @returns {Promise<Row[]>}
 * @throws Error where lacuna's result is wrong.
 */
async function measure(one, sides, options) {
  const runs = sides
    .filter((side) => side.takes(one))
    .map((side) => ({
      side,
      engine: side.kept ?? side.start(),
      /** @type {Turn[]} */ turns: [],
      /** @type {number | null} */ bytes: null,
      /** @type {Record<string, string>} */ notes: {},
    }));
  const [ours, ...theirs] = runs;
  try {
    const { as, wrong } = await ours.engine.ask({ do: "verify", case: one });
    if (wrong) throw new Error(`${as}: not the reference's: ${wrong}`);
    const { samples, refused } = await ours.engine.ask({ do: "prepare", case: one });
    const [failed] = Object.values(refused);
    if (failed) throw new Error(`${one.name}: ${failed}`);
    for (const run of theirs) run.notes = await prepared(run.engine, one, samples);
    for (let round = 0; round < options.rounds; round++) {
      for (const run of runs) {
        if (run.notes.all) continue;
        const { seconds, repetitions } = options;
        try {
          const took = await run.engine.ask({ do: "time", seconds, repetitions, warmups: round === 0 ? 2 : 1 });
          run.turns.push({ ms: withBackward(took.ms), cpuMs: withBackward(took.cpuMs) });
          run.bytes = took.bytes;
        } catch (error) {
          run.notes.all = `failed: ${messageOf(error)}`;
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  } finally {
    for (const run of runs) if (!run.side.kept) await run.engine.close();
  }
  return directionsOf(one).flatMap((direction) =>
    runs.map(({ side, turns, bytes, notes }) => {
      const note = notes.all ?? notes[direction] ?? (direction === "backward" ? notes.both : undefined);
      const name = { case: one.name, direction, engine: side.name, backend: side.backend };
      return rowOf(name, note ? [] : turns, bytes, note);
    }),
  );
}

/**
 * Makes a peer ready. A ratio is one only where both do the same: results that differ are not timed.
 * @param {Engine} engine @param {Case} one @param {Record<string, number[][]>} ours samples by direction
 * @returns {Promise<Record<string, string>>} by direction, or for "all": why it cannot be timed
 */
async function prepared(engine, one, ours) {
  try {
    const { samples, refused } = await engine.ask({ do: "prepare", case: one });
    /** @type {Record<string, string>} */
    const notes = {};
    for (const direction of Object.keys(ours)) {
      const theirs = samples[direction];
      const wrong = theirs && disagreement(ours[direction], theirs, toleranceOf(one));
      if (refused[direction]) notes[direction] = `refuses: ${refused[direction]}`;
      else if (!theirs) notes[direction] = "cannot: it has no gradients";
      else if (wrong) notes[direction] = `differs: ${wrong}`;
    }
    return notes;
  } catch (error) {
    return { all: `refuses: ${messageOf(error)}` };
  }
}

/** The first step in a fresh process, with nothing compiled. @param {readonly Side[]} sides @returns {Promise<Row[]>} */
async function measureFirst(sides) {
  /** @type {Row[]} */
  const rows = [];
  for (const side of sides) {
    if (side.backend !== "webgpu" || !side.takes(dilatedStep)) continue;
    const name = { case: dilatedStep.name, direction: "first", engine: side.name, backend: side.backend };
    const engine = side.start(COLD);
    try {
      await engine.ask({ do: "hello" });
      const { ms, cpuMs, bytes } = await engine.ask({ do: "first", case: dilatedStep });
      rows.push(rowOf(name, [{ ms: { first: [ms] }, cpuMs: { first: [cpuMs] } }], bytes));
    } catch (error) {
      rows.push(rowOf(name, [], null, `refuses: ${messageOf(error)}`));
    } finally {
      await engine.close();
    }
  }
  return rows;
}

/**
 * Peak memory of training steps, each engine in a process of its own: how far the steps raise it above a process that
 * has done a small step, and all of the process, run time and libraries with it.
 * @param {Case} one @param {Options} options @param {readonly Side[]} sides @returns {Promise<Row[]>}
 */
async function measureMemory(one, { device, threads }, sides) {
  /** @type {Row[]} */
  const rows = [];
  for (const side of sides) {
    const ask = side.kept
      ? async () => {
          const engine = side.start();
          try {
            return await engine.ask({ do: "memory", case: one });
          } finally {
            await engine.close();
          }
        }
      : async () => {
          const script = fileURLToPath(new URL("memory.mjs", import.meta.url));
          const args = ["--expose-gc", script, device, `${threads}`, one.name];
          return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout);
        };
    const name = { case: one.name, engine: side.name, backend: side.backend };
    try {
      const { bytes, process: all } = await ask();
      rows.push(
        rowOf({ ...name, direction: "peak growth" }, [], bytes),
        rowOf({ ...name, direction: "peak process" }, [], all),
      );
    } catch (error) {
      rows.push(rowOf({ ...name, direction: "peak growth" }, [], null, `failed: ${messageOf(error)}`));
    }
  }
  return rows;
}

const messageOf = (/** @type {unknown} */ error) =>
  (error instanceof Error ? error.message : `${error}`).split("\n")[0];

async function main() {
  const options = optionsOf();
  const { device, rounds } = options;
  const all = device === "webgpu" ? webgpuCases : casesOf("full").filter((one) => barsOf(one) !== null);
  const chosen = all.filter(({ name }) => options.filter.test(name));
  if (chosen.length === 0) {
    throw new Error(`no case matches ${options.filter}: there are\n  ${all.map((c) => c.name).join("\n  ")}`);
  }
  const started = await startSides(options, chosen);
  const sides = started.map(({ side }) => side);
  const engines = started.map(({ side: { name, backend }, about }) => ({ name, backend, ...about }));
  const head = { ...machine(), threads: options.threads, device, engines };
  console.log(`${head.date}  ${head.cpu}, ${head.cores} cores, load ${head.load.toFixed(1)}, commit ${head.commit}`);
  for (const { name, description } of engines) console.log(`  ${name}: ${description}`);
  const peers = sides
    .map(({ name }) => name)
    .filter((name) => name !== "lacuna" && (device === "cpu" || name !== "pytorch"));
  const whose = device === "cpu" ? "PyTorch's" : "the fastest WebGPU peer's";
  console.log(`\nmedians of ${rounds} rounds in turns, ms; ratio: ${whose} time over lacuna's`);
  if (head.load > 0.7) console.log("The machine is busy: trust the ratios of CPU time more than those by the clock.");
  const table = new Table(
    sides.map(({ name }) => name),
    peers,
    device === "cpu",
  );
  console.log(`\n${table.head()}`);
  /** @type {Row[]} */
  const rows = [];
  /** @param {Case} one @param {readonly string[]} directions @param {() => Promise<Row[]>} take */
  const add = async (one, directions, take) => {
    try {
      rows.push(...(await take()));
      for (const direction of directions) console.log(table.line(one, direction, rows));
    } catch (error) {
      console.log(`  ${messageOf(error)}`);
      process.exitCode = 1;
    }
  };
  try {
    for (const one of chosen) await add(one, directionsOf(one), () => measure(one, sides, options));
    if (chosen.includes(dilatedStep)) await add(dilatedStep, ["first"], () => measureFirst(sides));
    if (options.memory) {
      for (const one of chosen) if (one.op === "step") await add(one, [], () => measureMemory(one, options, sides));
    }
  } finally {
    for (const { kept } of sides) await kept?.close();
  }
  const said = refusals(rows);
  if (said.length > 0) console.log(["", "what is not timed:", ...said].join("\n"));
  for (const line of memoryLines(rows)) console.log(line);
  if (device === "webgpu") for (const line of barLines(rows, peers, engines[0].software)) console.log(line);
  if (options.json) writeFileSync(options.json, `${JSON.stringify({ head, rows }, null, 1)}\n`);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
