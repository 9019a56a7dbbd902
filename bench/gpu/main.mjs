// npm run gpu -- [options]: everything that only a card can show, in one go: are the kernels right, do models and training
// agree, how fast is it beside PyTorch on the same card. No part stops the next; a failure shows in the exit code.
import { spawn } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { about, root } from "./about.mjs";
import { table } from "./table.mjs";

/** Seconds are a limit; parts end long before it unless something hangs. */
const PARTS = [
  { name: "ops", file: "tests.mjs", args: ["ops"], seconds: 240, what: "tests of ops, optimisers, capture" },
  { name: "sizes", file: "sizes.mjs", args: [], seconds: 240, what: "real sizes against the CPU device" },
  { name: "sanitizer", file: "sanitizer.mjs", args: [], seconds: 300, what: "memcheck and racecheck" },
  { name: "models", file: "tests.mjs", args: ["models"], seconds: 180, what: "goldens of whole models" },
  { name: "training", file: "training.mjs", args: [], seconds: 240, what: "200 steps in each precision" },
  { name: "replay", file: "replay.mjs", args: [], seconds: 120, what: "captured steps against eager ones" },
  { name: "kernels", file: "kernels.mjs", args: [], seconds: 420, what: "kernels beside PyTorch" },
  { name: "step", file: "step.mjs", args: [], seconds: 420, what: "a training step beside PyTorch" },
];
const USAGE = `npm run gpu -- [options]
  --parts A,B      of ${PARTS.map((part) => part.name).join(", ")}; default all, in this order
  --out DIR        for gpu.json and gpu.log; default bench/results. Parts that gpu.json has already are kept unless run again
  --seconds N      for everything: what would begin later is left out, and counts as failed; default no limit
  --python PATH    a Python that has PyTorch; default $LACUNA_PYTHON, else python3
  --small          tiny sizes, to see that it works`;

const { values: options } = parseArgs({
  options: {
    parts: { type: "string", default: PARTS.map((part) => part.name).join(",") },
    out: { type: "string", default: join(root, "bench/results") },
    seconds: { type: "string", default: "Infinity" },
    python: { type: "string", default: process.env.LACUNA_PYTHON || "python3" },
    small: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (options.help) {
  console.log(USAGE);
  process.exit(0);
}
const wanted = options.parts.split(",");
const unknown = wanted.filter((name) => !PARTS.some((part) => part.name === name));
if (unknown.length > 0 || !(Number(options.seconds) > 0)) {
  console.error(unknown.length > 0 ? `there is no part ${unknown.join(", ")}\n${USAGE}` : USAGE);
  process.exit(2);
}
const out = resolve(options.out);
const file = join(out, "gpu.json");
const end = performance.now() + 1000 * Number(options.seconds);

const failure = await whyNoCard();
if (failure) {
  console.error(`npm run gpu: there is no CUDA device here: ${failure}`);
  process.exit(1);
}
mkdirSync(out, { recursive: true });
const log = createWriteStream(join(out, "gpu.log"), { flags: "a" });
const head = { ...about(), small: options.small };
print(`${head.gpu}, driver ${head.driver ?? "?"}, CUDA ${head.cuda ?? "?"}, commit ${head.commit}`);

/** @type {Record<string, any>} */
const results = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
/** @type {{ name: string, state: string, seconds: number, table: string[] }[]} */
const done = [];
for (const one of PARTS.filter(({ name }) => wanted.includes(name))) {
  print(`\n== ${one.name}: ${one.what}`);
  const started = performance.now();
  const outcome = await run(one, Math.min(one.seconds, (end - started) / 1000));
  const seconds = (performance.now() - started) / 1000;
  results[one.name] = { ...head, date: new Date().toISOString(), seconds, ...outcome };
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`); // what there is so far outlives whatever ends this process
  done.push({ name: one.name, state: outcome.failures.length > 0 ? "FAILED" : "ok", seconds, table: outcome.table });
}

print("\n== all figures");
for (const { name, table: lines } of done) print(`\n${name}\n${lines.join("\n")}`);
const rows = done.map(({ name, state, seconds }) => [name, state, seconds, results[name].failures.length]);
print(`\n${table(["part", "state", "seconds", "failures"], rows).join("\n")}\nwritten to ${file}`);
for (const { name } of done) {
  for (const text of results[name].failures.slice(0, 5))
    print(`  ${name}: ${String(text).split("\n")[0].slice(0, 200)}`);
}
process.exitCode = done.some(({ state }) => state !== "ok") ? 1 : 0;
log.end();

function print(/** @type {string} */ text) {
  console.log(text);
  log.write(`${text}\n`);
}

/** In a process of its own: a context held here would be in the parts' way. */
async function whyNoCard() {
  const code = `import("${new URL("../../dist/index.js", import.meta.url)}").then((l) => l.open("cuda")).then(
    (device) => device.dispose(), (error) => { console.log(error.message); process.exit(1); });`;
  const { status, output } = await child(process.execPath, ["-e", code], 60, () => {});
  return status === 0 ? null : output.trim() || `opening it ended with ${status}`;
}

/** @param {(typeof PARTS)[number]} one @param {number} seconds @returns {Promise<any>} */
async function run(one, seconds) {
  if (seconds < 10) return { table: ["not run"], failures: ["there was no time left for it"] };
  const scratch = mkdtempSync(join(tmpdir(), "lacuna-gpu-"));
  const report = join(scratch, "report.json");
  const script = fileURLToPath(new URL(one.file, import.meta.url));
  const args = [script, ...one.args, "--report", report, "--python", options.python, "--seconds", `${seconds}`];
  if (options.small) args.push("--small");
  const { status } = await child(process.execPath, args, seconds, (text) => {
    process.stdout.write(text);
    log.write(text);
  });
  try {
    return JSON.parse(readFileSync(report, "utf8"));
  } catch {
    const how = status === null ? `was stopped after ${seconds.toFixed(0)} s` : `ended with ${status}`;
    return { table: [`no figures: it ${how}`], failures: [`the process ${how}`] };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * A process and its children: after `seconds` they are stopped, and its status is null.
 * @param {string} command @param {string[]} args @param {number} seconds @param {(text: string) => void} each
 * @returns {Promise<{ status: number | string | null, output: string }>}
 */
function child(command, args, seconds, each) {
  return new Promise((done) => {
    const started = spawn(command, args, { cwd: root, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    let [output, late] = ["", false];
    const take = (/** @type {Buffer} */ data) => {
      output = (output + data).slice(-100_000);
      each(`${data}`);
    };
    started.stdout.on("data", take);
    started.stderr.on("data", take);
    const timer = setTimeout(() => {
      late = true;
      if (started.pid) process.kill(-started.pid, "SIGKILL");
    }, 1000 * seconds);
    started.on("error", (error) => done({ status: error.message, output }));
    started.on("close", (status, signal) => {
      clearTimeout(timer);
      done({ status: late ? null : (status ?? signal), output });
    });
  });
}
