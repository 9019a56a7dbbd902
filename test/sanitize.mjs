// `npm run sanitize`: the native code under sanitizers. The threads of the CPU device under ThreadSanitizer, by ctest; the
// addon under AddressSanitizer and UndefinedBehaviorSanitizer, loaded into Node, by the tests of ops and of the addon; and
// so the CUDA kernels on the host device, which has a ctest of its own. `npm run sanitize cpu` or `cuda` does one of them.
// Linux with GCC or Clang and CMake; elsewhere it says what is missing, in one line, and passes.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

function step(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (status !== 0) {
    console.error(`sanitize: ${command} ${args.join(" ")} failed${error ? `: ${error.message}` : ""}`);
    process.exit(1);
  }
}
const compiler = process.env.CXX ?? "g++";
const build = (folder, options, ...targets) => {
  step("cmake", [
    "-S",
    ".",
    "-B",
    folder,
    ...options.map((option) => `-D${option}=ON`),
    `-DCMAKE_CXX_COMPILER=${compiler}`,
    "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
    "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1",
    "-Wno-dev",
  ]);
  step("cmake", ["--build", folder, "--target", ...targets, "--parallel", `${availableParallelism()}`]);
};

const asan = spawnSync(compiler, ["-print-file-name=libasan.so"], { encoding: "utf8" }).stdout?.trim() ?? "";
if (process.platform !== "linux" || spawnSync("cmake", ["--version"]).status !== 0 || !existsSync(asan)) {
  console.log("sanitize: skipped, it needs Linux, CMake and a compiler with sanitizers");
  process.exit(0);
}

// Node itself is not instrumented: its own leaks at exit are none of our business, and its signal handlers stay. Threads of
// a launch that failed leave what they held.
const options = {
  ASAN_OPTIONS: "detect_leaks=0:allocator_may_return_null=1:handle_segv=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
};
const tests = (files, env) => {
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  step(process.execPath, [vitest, "run", ...files], { LD_PRELOAD: asan, ...options, ...env });
};

function cpu() {
  build("build/tsan", ["LACUNA_TSAN"], "threads_test");
  step("ctest", ["--test-dir", "build/tsan", "--output-on-failure"], { TSAN_OPTIONS: "halt_on_error=1 exitcode=66" });
  build("build/asan", ["LACUNA_ASAN"], "addon");
  tests(["test/ops", "test/optim.test.ts", "test/native.test.ts"], {
    LACUNA_ADDON: join(root, "build/asan/lacuna.node"),
    LACUNA_TEST_BACKENDS: "reference,cpu",
  });
}

function cuda() {
  build("build/host-asan", ["LACUNA_ASAN", "LACUNA_HOST"], "addon", "host_test");
  step("ctest", ["--test-dir", "build/host-asan", "--output-on-failure"], options);
  tests(["test/ops", "test/cuda_tensor.test.ts", "test/cuda_hopper.test.ts"], {
    LACUNA_HOST_ADDON: join(root, "build/host-asan/lacuna.node"),
    LACUNA_TEST_BACKENDS: "reference,host",
  });
}

const asked = process.argv.slice(2);
if (asked.length === 0 || asked.includes("cpu")) cpu();
if (asked.length === 0 || asked.includes("cuda")) cuda();
