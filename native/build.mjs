// Builds build/Release/lacuna.node where a compiler and CMake are there, with the CUDA device where nvcc and a driver are.
// Part of `npm ci`, so it never fails that: without the addon lacuna runs on WebGPU or the reference.
// LACUNA_NATIVE=off skips it, =on makes a failure an error. LACUNA_CUDA=off leaves CUDA out, =on wants it, with or without a
// driver, for the architectures that LACUNA_CUDA_ARCH names in CMake's way ("80-real;90a-real"), else for all.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { LACUNA_NATIVE: wanted = "auto", LACUNA_CUDA: cudaWanted = "auto", LACUNA_CUDA_ARCH: named } = process.env;

/** Compiles; null, or why not. */
function build(options) {
  let cmakeJs;
  try {
    const require = createRequire(import.meta.url);
    require.resolve("node-addon-api/package.json");
    cmakeJs = require.resolve("cmake-js/bin/cmake-js");
  } catch {
    return "the packages cmake-js and node-addon-api are not installed";
  }
  const defined = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`);
  const run = (command, ...more) =>
    spawnSync(process.execPath, [cmakeJs, command, "--directory", root, "--out", `${root}build`, ...defined, ...more], {
      cwd: root,
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
  const configured = run("configure"); // compile alone would keep the options of the last time
  const { status, stdout, stderr } =
    configured.status === 0 ? run("compile", "--parallel", `${availableParallelism()}`) : configured;
  if (status === 0) return null;
  const output = `${stdout}\n${stderr}`.split("\n");
  if (wanted === "on" || cudaWanted === "on") console.error(output.join("\n"));
  const reason = output.find((line) => /error/i.test(line) && !/^\s*at /.test(line)) ?? `cmake-js ended with ${status}`;
  return reason.replace(/^(ERR!|ERROR)\s+(OMG\s+)?/, "").trim();
}

/** What to compile CUDA for, or why not to. */
function cuda() {
  if (cudaWanted === "off") return { reason: "LACUNA_CUDA=off" };
  const nvcc = process.env.CUDACXX ?? "nvcc";
  if (spawnSync(nvcc, ["--version"]).status !== 0) return { reason: "no nvcc was found" };
  if (named) return { architectures: named };
  if (cudaWanted === "on") return { architectures: "75-real;80-real;86-real;89-real;90a-real;90-virtual" };
  const cards = spawnSync("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader"], { encoding: "utf8" });
  if (cards.status !== 0) return { reason: "no NVIDIA driver was found (LACUNA_CUDA=on builds it all the same)" };
  const own = [...new Set(cards.stdout.trim().split("\n"))].map((capability) => capability.trim().replace(".", ""));
  return { architectures: own.map((number) => (number === "90" ? "90a-real" : `${number}-real`)).join(";") };
}

function report() {
  if (wanted === "off") return { failed: "LACUNA_NATIVE=off" };
  if (spawnSync("cmake", ["--version"]).status !== 0) return { failed: "no CMake was found" };
  const { architectures, reason } = cuda();
  if (architectures) {
    const failed = build({ LACUNA_CUDA: "ON", CMAKE_CUDA_ARCHITECTURES: architectures });
    if (failed === null) return { built: `devices cpu and cuda, for ${architectures}` };
    if (cudaWanted === "on") return { failed };
    const without = build({ LACUNA_CUDA: "OFF" });
    return without === null ? { built: `device cpu; cuda failed: ${failed}` } : { failed: without };
  }
  if (cudaWanted === "on") return { failed: `cuda: ${reason}` };
  const failed = build({ LACUNA_CUDA: "OFF" });
  return failed === null ? { built: `device cpu; cuda skipped: ${reason}` } : { failed };
}

const { built, failed } = report();
if (built) console.log(`native addon: built (${built})`);
else console.log(`native addon: skipped, ${failed}; lacuna runs on WebGPU or the reference`);
if (failed && (wanted === "on" || cudaWanted === "on")) process.exitCode = 1;
