// Parts "ops" and "models" of `npm run gpu`: the project's own tests, with the card in the place of the host device.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./about.mjs";
import { part } from "./part.mjs";
import { table } from "./table.mjs";

/** @type {Record<string, string[]>} */
const SUITES = {
  ops: ["ops", "autograd", "losses", "multi_loss", "optim", "nn", "capture", "native", "cuda"],
  models: ["models", "train/train"],
};
/** Enough for --small: one op with goldens, gradients and halves, and capture. */
const FEW = ["ops/softmax", "capture"];

await part(async ({ small, rest, seconds }) => {
  const suite = rest[0] ?? "ops";
  const files = small && suite === "ops" ? FEW : (SUITES[suite] ?? [suite]);
  const scratch = mkdtempSync(join(tmpdir(), "lacuna-gpu-tests-"));
  const report = join(scratch, "report.json");
  const args = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    ...files.map((name) => `test/${name}`),
    "--passWithNoTests=false",
    `--maxWorkers=${Math.max(2, Math.min(8, availableParallelism() - 2))}`,
    "--reporter=json",
    `--outputFile.json=${report}`,
  ];
  const env = { ...process.env, LACUNA_TEST_CUDA: "1", LACUNA_TEST_BACKENDS: "reference,host", NO_COLOR: "1" };
  try {
    const limit = 1000 * Math.max(10, seconds - 5);
    const { error, stderr } = spawnSync(process.execPath, args, { cwd: root, env, timeout: limit, encoding: "utf8" });
    if (error) return { table: [`stopped: ${error.message}`], failures: [error.message] };
    return outcome(report, stderr);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

/** @param {string} report @param {string} complaint */
function outcome(report, complaint) {
  /** @type {{ testResults: { name: string, message: string, startTime: number, endTime: number,
   *   assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} */
  let parsed;
  try {
    parsed = JSON.parse(readFileSync(report, "utf8"));
  } catch {
    return { table: ["no report"], failures: [`vitest left no report: ${complaint.slice(-2000)}`] };
  }
  const failures = [];
  const rows = [];
  for (const { name, message, assertionResults, startTime, endTime } of parsed.testResults) {
    const count = (/** @type {string} */ status) => assertionResults.filter((test) => test.status === status).length;
    const file = name.slice(name.lastIndexOf("test/"));
    rows.push([file, count("passed"), count("failed"), count("pending"), (endTime - startTime) / 1000]);
    if (assertionResults.length === 0 && message) failures.push(`${file}: ${message}`);
    for (const test of assertionResults) {
      if (test.status === "failed")
        failures.push(`${file}: ${test.fullName}: ${test.failureMessages[0]}`.slice(0, 2000));
    }
  }
  const passed = rows.reduce((sum, row) => sum + Number(row[1]), 0);
  if (passed === 0) failures.push("no test ran");
  const shown = rows.filter((row) => row[2] !== 0 || row[1] === 0);
  rows.push(["all", ...[1, 2, 3, 4].map((i) => rows.reduce((sum, row) => sum + Number(row[i]), 0))]);
  return {
    table: table(["tests", "passed", "failed", "skipped", "seconds"], [...shown, rows[rows.length - 1]]),
    failures,
    figures: rows,
  };
}
