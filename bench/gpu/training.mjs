// Part "training" of `npm run gpu`: the same 200 steps in f32, tf32 and bf16, on the procedural cities, with the losses side
// by side. They need not be equal, as rounding grows from step to step, but must end in the same place.
import { proceduralDataset } from "../../dist/data/index.js";
import { train } from "../../dist/train/index.js";
import { card, firstLine, part } from "./part.mjs";
import { table } from "./table.mjs";

const PRECISIONS = /** @type {const} */ (["f32", "tf32", "bf16"]);
/** The mean loss of the last steps may lie this far from that of f32, as a share of how far f32 came down. */
const LIMIT = 0.1;

/** @param {boolean} small */
const recipe = (small) => ({
  cities: { size: small ? 32 : 160, train: small ? 4 : 64, val: 1, seed: 0 },
  config: {
    mode: /** @type {const} */ ("source-only"),
    steps: small ? 3 : 200,
    crop: small ? 32 : 128,
    batch: { source: small ? 2 : 16, target: 1 },
    model: { backbone: /** @type {const} */ ("resnet18"), width: small ? 0.125 : 0.5 },
    optim: { kind: /** @type {const} */ ("adamw"), lr: 2e-3, weightDecay: 1e-2, clipNorm: 10 },
  },
});

const mean = (/** @type {number[]} */ list) => list.reduce((a, b) => a + b, 0) / list.length;

await part(async ({ small }) => {
  const { cities, config } = recipe(small);
  /** @type {Record<string, number[]>} */
  const curves = {};
  /** @type {Record<string, number>} */
  const milliseconds = {};
  const failures = [];
  for (const precision of PRECISIONS) {
    const device = await card();
    try {
      const losses = [];
      const times = [];
      const model = { ...config.model, precision };
      const onStep = (/** @type {import("../../dist/train/index.js").StepRecord} */ record) => {
        losses.push(record.total);
        times.push(1000 * record.secondsPerStep);
      };
      const trained = await train({ ...config, model }, { device, dataset: proceduralDataset(cities), onStep });
      trained[Symbol.dispose]();
      curves[precision] = losses;
      milliseconds[precision] = times.slice(2).sort((a, b) => a - b)[Math.floor((times.length - 2) / 2)];
    } catch (error) {
      failures.push(`${precision}: ${firstLine(error)}`);
    } finally {
      device.dispose();
    }
  }
  const { f32 } = curves;
  const last = (/** @type {number[]} */ losses) => mean(losses.slice(-Math.ceil(losses.length / 10)));
  for (const precision of PRECISIONS.slice(1)) {
    const losses = curves[precision];
    if (!f32 || !losses || small) continue; // three steps end nowhere
    const apart = Math.abs(last(losses) - last(f32)) / Math.abs(f32[0] - last(f32));
    if (!(apart <= LIMIT)) failures.push(`${precision}: ends ${last(losses)}, f32 ends ${last(f32)}`);
  }
  const steps = config.steps;
  const shown = [...new Set([0, 1, 4, 9, ...Array.from({ length: 10 }, (_, i) => 20 * (i + 1) - 1), steps - 1])];
  const rows = shown
    .filter((i) => i < steps)
    .map((i) => [`step ${i + 1}`, ...PRECISIONS.map((precision) => curves[precision]?.[i])]);
  rows.push(["mean of the last tenth", ...PRECISIONS.map((p) => curves[p] && last(curves[p]))]);
  rows.push(["minus that of f32", ...PRECISIONS.map((p) => curves[p] && f32 && last(curves[p]) - last(f32))]);
  rows.push(["median step, ms, batch and all", ...PRECISIONS.map((p) => milliseconds[p])]);
  return { table: table(["loss", ...PRECISIONS], rows), failures, figures: { config, curves, milliseconds } };
});
