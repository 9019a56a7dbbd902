// Preloaded into the processes that run tests (vitest.config.ts): lets the threads they start run the sources as they are
// now. Vitest compiles for its own process only; a thread loads files with Node, which here learns to read TypeScript.
import { register } from "node:module";
import { isMainThread } from "node:worker_threads";

if (!isMainThread) register("./typescript_hooks.mjs", import.meta.url);
