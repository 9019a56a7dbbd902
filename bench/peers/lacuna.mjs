// lacuna's process: node lacuna.mjs BACKEND THREADS
import { checkable } from "../../dist/cli/bench/cases.js";
import { toleranceOf } from "../../dist/cli/bench/measure.js";
import { prepare } from "../../dist/cli/bench/prepare.js";
import { disagreement } from "../../dist/cli/bench/values.js";
import { open, scope } from "../../dist/index.js";
import { serve } from "./serve.mjs";

const [, , backend, threads] = process.argv;
const buffers = backend === "webgpu" ? await import("./buffers.mjs") : null;
/** @param {any} name */
const openNamed = (name) => open(name, { threads: Number(threads) });
let device = await openNamed(backend);

/** @param {any} name @param {import("../../dist/cli/bench/cases.js").Case} one */
async function samplesOn(name, one) {
  const other = await openNamed(name);
  try {
    return await prepare(other, one).check();
  } finally {
    other.dispose();
  }
}

await serve({
  hello: async () => ({ description: device.description, software: "software" in device && device.software }),
  async prepare(one) {
    device.dispose(); // a device of its own, so that peak bytes are the case's
    buffers?.forgetPeak();
    device = await openNamed(backend);
    const { run, check } = prepare(device, one);
    return Object.fromEntries(
      Object.entries(run).map(([direction, f]) => {
        const timed = async () => {
          scope(() => void f());
          await device.sync();
        };
        // One check has all: the result comes first, the gradients follow.
        const samples = async () => (direction === "forward" ? (await check()).slice(0, 1) : check());
        return [direction, { run: timed, samples }];
      }),
    );
  },
  forgetPeak: () => buffers?.forgetPeak(),
  bytes: () => (buffers ? buffers.peakBytes() : device.stats.peakBytes),
  async verify(one) {
    const as = checkable(one);
    const wrong = disagreement(await samplesOn(backend, as), await samplesOn("reference", as), toleranceOf(as));
    return { as: as.name, wrong };
  },
});
