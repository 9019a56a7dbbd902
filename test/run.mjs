// `npm test`: says which backends the tests will run on and why any is left out, runs them all, ends with the totals.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

async function webgpu() {
  try {
    const { create } = await import("webgpu");
    const adapter = await create([]).requestAdapter();
    if (!adapter) return "skipped: no Vulkan driver that Dawn accepts (`npx lacuna setup` installs a software one)";
    const { info, features } = adapter;
    const half = features.has("shader-f16") ? "with f16" : "f16 skipped: no shader-f16";
    return `runs on ${info.description || info.device}, ${half}`;
  } catch (error) {
    return `skipped: the npm package webgpu did not load (${String(error).split("\n")[0]})`;
  }
}

/** Loads the addon with Node alone, as the tests will. */
function cpu() {
  try {
    const addon = createRequire(import.meta.url)(process.env.LACUNA_ADDON ?? join(root, "build/Release/lacuna.node"));
    const device = new addon.NativeDevice("cpu", {});
    const text = device.description();
    device.dispose();
    return `runs on ${text}, with guard zones`;
  } catch (error) {
    return `skipped: the native addon is not there (\`npm run native\` builds it): ${String(error).split("\n")[0]}`;
  }
}

/** Builds the addon in which the CUDA kernels run on the CPU (native/host), and loads it. */
function host() {
  const folder = join(root, "build/host");
  const cmake = (...args) => spawnSync("cmake", args, { cwd: root, encoding: "utf8" });
  if (process.platform !== "linux") return "skipped: it is built on Linux";
  if (cmake("--version").status !== 0) return "skipped: no CMake was found";
  const configured = cmake("-S", ".", "-B", folder, "-DLACUNA_HOST=ON", "-DCMAKE_BUILD_TYPE=Release", "-Wno-dev");
  if (configured.status !== 0) {
    const reason = configured.stderr.split("\n").find((line) => line.trim() !== "") ?? "no reason given";
    return `skipped: CMake finds no compiler that does (${reason})`;
  }
  const { status, stdout, stderr } = cmake(
    "--build",
    folder,
    "--target",
    "addon",
    "--parallel",
    `${availableParallelism()}`,
  );
  if (status !== 0) {
    console.error(`${stdout}\n${stderr}`);
    process.exit(1);
  }
  const device = new (createRequire(import.meta.url)(join(folder, "lacuna.node")).NativeDevice)("cuda", {});
  device.dispose();
  return "runs: the CUDA kernels compiled for the CPU, threads forwards and backwards, with guard zones";
}

console.log("backends under test");
console.log("  reference  runs: float64 loops, checked against PyTorch's figures and finite differences");
console.log("  null       runs: Dawn compiles every shader and checks its layout, with no driver");
console.log(`  cpu        ${cpu()}`);
console.log(`  host       ${host()}`);
console.log(`  webgpu     ${await webgpu()}`);

const scratch = mkdtempSync(join(tmpdir(), "lacuna-test-"));
const report = join(scratch, "report.json");
const vitest = join(root, "node_modules/vitest/vitest.mjs");
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const { status } = spawnSync(process.execPath, [vitest, "run", ...reporters, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
try {
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(report, "utf8"));
  console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`);
} catch {
  console.log("the test runner ended without a report");
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(status ?? 1);
