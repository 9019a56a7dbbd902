// Tests run on the shaders as they are now, not as they were at the last build.
import "./shaders/embed.mjs";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/browser/**"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    execArgv: ["--import", new URL("./test/typescript_threads.mjs", import.meta.url).href],
    fileParallelism: true,
    maxWorkers: 2,
  },
});
