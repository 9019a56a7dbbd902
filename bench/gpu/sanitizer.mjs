// Part "sanitizer" of `npm run gpu`: compute-sanitizer's memcheck and racecheck over every layer of sizes.mjs at small sizes
// and over a captured training step, then memcheck over the tests of ops, for as long as there is time.
// The pool cuts blocks from segments, so memcheck sees what leaves a segment; guard zones (tests.mjs) see the rest.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./about.mjs";
import { part } from "./part.mjs";
import { table } from "./table.mjs";

const script = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const WORK = [
  { name: "layers", tools: ["memcheck", "racecheck"], args: [script("sizes.mjs"), "alone", "--small"] },
  { name: "training steps", tools: ["memcheck", "racecheck"], args: [script("replay.mjs"), "--small"] },
  { name: "tests of ops", tools: ["memcheck"], args: [script("tests.mjs"), "test/ops"] },
];
const FOUND = 99;
/** Share of what time is left that one run may take. */
const SHARE = 0.5;

await part(async ({ seconds }) => {
  const tool = process.env.LACUNA_SANITIZER ?? "compute-sanitizer";
  if (spawnSync(tool, ["--version"]).status !== 0) {
    return { table: [`left out: there is no ${tool} here`], failures: [] };
  }
  const end = performance.now() + 1000 * (seconds - 10);
  const scratch = mkdtempSync(join(tmpdir(), "lacuna-sanitizer-"));
  const [rows, failures] = [[], []];
  for (const { name, tools, args } of WORK) {
    for (const check of tools) {
      const started = performance.now();
      const left = end - started;
      const options = [`--tool=${check}`, "--target-processes=all", `--error-exitcode=${FOUND}`, "--print-limit=20"];
      const { status, error, stdout, stderr } = spawnSync(tool, [...options, process.execPath, ...args], {
        cwd: root,
        encoding: "utf8",
        maxBuffer: 1 << 28,
        timeout: Math.max(1, left * (name === "tests of ops" ? 1 : SHARE)),
        killSignal: "SIGKILL",
        env: { ...process.env, TMPDIR: scratch },
      });
      const output = `${stdout}\n${stderr}`;
      const summary = output.match(/ERROR SUMMARY: .*|RACECHECK SUMMARY: .*/g) ?? [];
      const clean = summary.length > 0 && summary.every((line) => /SUMMARY: 0 /.test(line));
      const late = error && "code" in error && error.code === "ETIMEDOUT";
      const state = late
        ? "stopped"
        : status === 0 && clean
          ? "clean"
          : status === FOUND || !clean
            ? "FOUND"
            : "FAILED";
      rows.push([name, check, state, (performance.now() - started) / 1000]);
      // A run that only lacked time says nothing either way.
      if (state === "FOUND" || state === "FAILED") failures.push(`${name}, ${check}: ${endOf(output)}`);
    }
  }
  rmSync(scratch, { recursive: true, force: true });
  return { table: table(["compute-sanitizer", "tool", "state", "seconds"], rows), failures, figures: rows };
});

/** What the tool says, else the end of everything. */
function endOf(/** @type {string} */ output) {
  const own = output.split("\n").filter((line) => line.startsWith("========="));
  return (own.length > 0 ? own.slice(0, 60).join("\n") : output.slice(-2000)).slice(0, 6000);
}
