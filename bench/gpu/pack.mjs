// npm run gpu:pack: everything that `npm run gpu` needs in one archive, build/gpu.tar.xz, for a machine with a card and no
// package registry: node itself, the addon compiled for LACUNA_CUDA_ARCH (default 90a: H100, H200), the project with its
// tests, and the packages that the tests run on. There: tar xJf gpu.tar.xz && gpu/gpu.sh
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { about, root } from "./about.mjs";

const MOST_BYTES = 60e6;
const architectures = process.env.LACUNA_CUDA_ARCH ?? "90a-real";
const staging = join(root, "build/pack/gpu");
const archive = join(root, "build/gpu.tar.xz");

/** What runs the tests, and what the training code and an addon that is compiled there need. */
const PACKAGES = ["vitest", "valibot", "yaml", "node-addon-api", "node-api-headers"];
/** Of vite, for style sheets. */
const LEFT_OUT = new Set(["lightningcss"]);

/** @param {string} command @param {string[]} args */
function step(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (status !== 0)
    throw new Error(`gpu:pack: ${command} ${args.join(" ")} failed${error ? `: ${error.message}` : ""}`);
}

/** The addon with both devices, apart from build/Release, which is this machine's own. */
function addon() {
  const folder = join(root, "build/gpu");
  const ninja = spawnSync("ninja", ["--version"]).status === 0 ? ["-G", "Ninja"] : [];
  const options = ["-DLACUNA_CUDA=ON", `-DCMAKE_CUDA_ARCHITECTURES=${architectures}`, "-DCMAKE_BUILD_TYPE=Release"];
  step("cmake", ["-S", ".", "-B", folder, ...ninja, ...options, "-Wno-dev"]);
  step("cmake", ["--build", folder, "--target", "addon", "--parallel", `${availableParallelism()}`]);
  step("strip", ["--strip-unneeded", join(folder, "lacuna.node")]);
  return join(folder, "lacuna.node");
}

/** Packages with all that they depend on and that is installed here. @returns {string[]} folders below the root */
function closure() {
  const found = new Set();
  const visit = (/** @type {string} */ name, /** @type {string} */ from) => {
    if (LEFT_OUT.has(name)) return;
    for (let at = from; ; at = dirname(at)) {
      const folder = join(at, "node_modules", name);
      if (existsSync(join(root, folder, "package.json"))) {
        if (found.has(folder)) return;
        found.add(folder);
        const { dependencies, optionalDependencies } = JSON.parse(
          readFileSync(join(root, folder, "package.json"), "utf8"),
        );
        for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) visit(next, folder);
        return;
      }
      if (at === ".") return;
    }
  };
  for (const name of PACKAGES) visit(name, ".");
  return [...found];
}

function pack() {
  step(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.json"]);
  const built = addon();
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(join(staging, "bin"), { recursive: true });
  const copy = (/** @type {string} */ from, to = from) =>
    cpSync(join(root, from), join(staging, to), { recursive: true });
  const list = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root });
  for (const file of `${list}`.split("\0")) if (file && existsSync(join(root, file))) copy(file);
  for (const folder of ["dist", ...closure()]) copy(folder);
  const generated = execFileSync("git", ["ls-files", "-z", "--others", "--ignored", "--exclude-standard", "src"], {
    cwd: root,
  });
  for (const file of `${generated}`.split("\0")) if (file.endsWith(".gen.ts")) copy(file);
  cpSync(built, join(staging, "build/Release/lacuna.node"));
  cpSync(process.execPath, join(staging, "bin/node"), { dereference: true });
  spawnSync("strip", [join(staging, "bin/node")]);
  cpSync(join(root, "bench/gpu/gpu.sh"), join(staging, "gpu.sh"));
  chmodSync(join(staging, "gpu.sh"), 0o755);
  writeFileSync(join(staging, "commit"), about().commit);
  // Compute capabilities, one a line: "90a-real;80-real" is for 90 and 80.
  const capabilities = architectures.split(";").map((name) => name.replace(/\D.*/, ""));
  writeFileSync(join(staging, "architectures"), `${capabilities.join("\n")}\n`);
  const environment = { ...process.env, XZ_OPT: "-9e -T1" };
  execFileSync("tar", ["-cJf", archive, "-C", dirname(staging), "gpu"], { env: environment, stdio: "inherit" });
  rmSync(dirname(staging), { recursive: true });
  return statSync(archive).size;
}

const size = pack();
console.log(`${archive}: ${(size / 1e6).toFixed(1)} MB, for ${architectures}`);
if (size > MOST_BYTES) {
  console.error(`gpu:pack: that is more than ${MOST_BYTES / 1e6} MB`);
  process.exitCode = 1;
}
