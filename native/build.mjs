// Builds build/Release/lacuna.node where a compiler and CMake are there. Part of `npm ci`, so it never fails that:
// without the addon lacuna runs on WebGPU or the reference. LACUNA_NATIVE=off skips it, =on makes a failure an error.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const wanted = process.env.LACUNA_NATIVE ?? "auto";

function build() {
  if (wanted === "off") return "LACUNA_NATIVE=off";
  if (spawnSync("cmake", ["--version"]).status !== 0) return "no CMake was found";
  let cmakeJs;
  try {
    const require = createRequire(import.meta.url);
    require.resolve("node-addon-api/package.json");
    cmakeJs = require.resolve("cmake-js/bin/cmake-js");
  } catch {
    return "the packages cmake-js and node-addon-api are not installed";
  }
  const args = [
    cmakeJs,
    "compile",
    "--directory",
    root,
    "--out",
    `${root}build`,
    "--parallel",
    `${availableParallelism()}`,
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  if (status === 0) return null;
  const output = `${stdout}\n${stderr}`.split("\n");
  const reason = output.find((line) => /error/i.test(line) && !/^\s*at /.test(line)) ?? `cmake-js ended with ${status}`;
  if (process.env.LACUNA_NATIVE === "on") console.error(output.join("\n"));
  return reason.replace(/^(ERR!|ERROR)\s+(OMG\s+)?/, "").trim();
}

const reason = build();
if (reason === null) console.log("native addon: built (device cpu)");
else console.log(`native addon: skipped, ${reason}; lacuna runs on WebGPU or the reference`);
if (reason !== null && wanted === "on") process.exitCode = 1;
