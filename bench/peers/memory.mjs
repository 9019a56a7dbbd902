// Prints how far a few training steps raise a fresh process's peak memory, as JSON. Started by main.mjs:
// node --expose-gc memory.mjs DEVICE THREADS CASE
import { readFileSync, writeFileSync } from "node:fs";
import { casesOf } from "../../dist/cli/bench/cases.js";
import { prepare } from "../../dist/cli/bench/prepare.js";
import { open, scope } from "../../dist/index.js";

const [, , backend, threads, name] = process.argv;
const one = casesOf("full").find((candidate) => candidate.name === name);
if (one?.op !== "step") throw new Error(`memory.mjs: there is no step called "${name}"`);

await steps({ ...one, x: [2, 32, 32, 3], width: 0.125 }, 1); // libraries loaded, code compiled
forgetPeak();
const before = status("VmRSS") ?? peak();
const deviceBytes = await steps(one, 3);
const highest = peak();
console.log(JSON.stringify({ bytes: highest - before, process: highest, deviceBytes }));

/** @param {import("../../dist/cli/bench/cases.js").Step} of @param {number} count */
async function steps(of, count) {
  const device = await open(/** @type {any} */ (backend), { threads: Number(threads) });
  try {
    const { run } = prepare(device, of);
    globalThis.gc?.(); // the host's copies of the first weights are not the step's
    for (let i = 0; i < count; i++) {
      scope(run.step);
      await device.sync();
    }
    return device.stats.peakBytes;
  } finally {
    device.dispose();
  }
}

/** From /proc, where there is one: getrusage's peak is the parent's too after fork and exec. @param {string} key */
function status(key) {
  try {
    const found = new RegExp(`^${key}:\\s*(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"));
    return found ? Number(found[1]) * 1024 : null;
  } catch {
    return null;
  }
}
function forgetPeak() {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // no Linux: the peak so far stays in
  }
}
function peak() {
  return status("VmHWM") ?? process.resourceUsage().maxRSS * 1024;
}
