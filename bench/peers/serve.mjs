// The side of an engine's process: answers on stdout what engine.mjs asks on stdin.
//   {"do": "hello"}                                   → what the engine is
//   {"do": "prepare", "case": …}                      → samples of results by direction, and what is refused
//   {"do": "time", "seconds", "repetitions", "warmups"} → wall and process CPU milliseconds by direction, and peak bytes
//   {"do": "first", "case": …}                        → milliseconds of the first step, with all that it compiles
//   {"do": "verify", "case": …}                       → lacuna only: is a result the reference's?
import { createInterface } from "node:readline";

/**
 * @typedef {object} Direction
 * @property {() => unknown} run Resolves when the device is done.
 * @property {() => Promise<number[][]>} samples Of the results: by src/cli/bench/values.ts `sample`, in lacuna's layout.
 */
/** @typedef {Partial<Record<"forward" | "both" | "step", Direction>>} Work */
/**
 * @typedef {object} Served
 * @property {() => Promise<Record<string, unknown>>} hello
 * @property {(one: import("../../dist/cli/bench/cases.js").Case) => Promise<Work>} prepare
 * @property {() => number | null} bytes Most that was held at once since `forgetPeak`.
 * @property {() => void} [forgetPeak] Called between the checks, whose copies to the host are not the work's, and the times.
 * @property {(one: import("../../dist/cli/bench/cases.js").Case) => Promise<Record<string, unknown>>} [verify]
 */

const messageOf = (/** @type {unknown} */ error) =>
  `${error instanceof Error ? error.message : error}`.trim().split("\n")[0];

/** One run's milliseconds: by the clock, and of all threads of this process. @param {() => unknown} run */
async function once(run) {
  const [clock, cpu] = [performance.now(), process.cpuUsage()];
  await run();
  const { user, system } = process.cpuUsage(cpu);
  return { ms: performance.now() - clock, cpuMs: (user + system) / 1e3 };
}

/** @param {Work} work @param {{ seconds: number, repetitions: number, warmups: number }} options */
async function time(work, { seconds, repetitions, warmups }) {
  const entries = Object.entries(work);
  for (let i = 0; i < warmups; i++) for (const [, { run }] of entries) await run();
  /** @type {Record<string, number[]>} */
  const [ms, cpuMs] = [{}, {}];
  const start = performance.now();
  for (let i = 0; i < repetitions || performance.now() - start < seconds * 1e3; i++) {
    for (const [direction, { run }] of entries) {
      const took = await once(run);
      (ms[direction] ??= []).push(took.ms);
      (cpuMs[direction] ??= []).push(took.cpuMs);
    }
  }
  return { ms, cpuMs };
}

/** @param {Served} engine */
export async function serve(engine) {
  console.log = console.info = console.error; // stdout is for answers
  /** @type {Work} */
  let work = {};
  const answers = {
    hello: () => engine.hello(),
    prepare: async (/** @type {any} */ { case: one }) => {
      work = await engine.prepare(one);
      const [samples, refused] = [{}, {}];
      for (const [direction, { samples: take }] of Object.entries(work)) {
        try {
          samples[direction] = await take();
        } catch (error) {
          refused[direction] = messageOf(error);
          delete work[direction];
        }
      }
      engine.forgetPeak?.();
      return { samples, refused };
    },
    time: async (/** @type {any} */ options) => ({ ...(await time(work, options)), bytes: engine.bytes() }),
    first: async (/** @type {any} */ { case: one }) => {
      const took = await once(async () => {
        work = await engine.prepare(one);
        await work.step.run();
      });
      return { ...took, bytes: engine.bytes() };
    },
    verify: async (/** @type {any} */ { case: one }) => engine.verify(one),
  };
  for await (const line of createInterface({ input: process.stdin })) {
    let reply;
    try {
      const request = JSON.parse(line);
      reply = await answers[request.do](request);
    } catch (error) {
      reply = { error: messageOf(error) || `${error}` };
    }
    process.stdout.write(`${JSON.stringify(reply)}\n`);
  }
  process.exit(0); // devices would keep it alive
}
