// Part "replay" of `npm run gpu`: a training step captured as a graph against the same steps taken one by one: the same bits
// in every loss and every parameter, and the time of a step either way.
import * as lacuna from "../../dist/index.js";
import { labels, values } from "../values.mjs";
import { card, part } from "./part.mjs";
import { table } from "./table.mjs";

const STEPS = 10;

/** @param {lacuna.Device} device @param {boolean} small @param {lacuna.Precision} precision */
function trainer(device, small, precision) {
  const [n, size] = small ? [2, 32] : [2, 256];
  const model = new lacuna.DeepLabV3Plus(device, {
    backbone: "resnet18",
    classes: 6,
    width: small ? 0.125 : 0.5,
    precision,
  });
  const optimiser = new lacuna.AdamW(lacuna.parameterGroups(model.parameters(), { lr: 1e-3, weightDecay: 1e-2 }));
  const x = lacuna.Tensor.from(device, values(n * size * size * 3, 1), [n, size, size, 3]);
  const y = lacuna.Tensor.from(device, labels(n * size * size, 6, 5), [n, size, size], "u32");
  const step = () => {
    const { values: made, gradients } = lacuna.differentiate(optimiser.parameters, () => {
      const logits = model.forward(x);
      return { loss: lacuna.add(lacuna.crossEntropy(logits, y), lacuna.tversky(logits, y)) };
    });
    optimiser.step(gradients, { clipNorm: 10 });
    return made.loss;
  };
  const state = async () => {
    const all = [];
    for (const t of [...model.parameters().values(), ...model.buffers().values()]) all.push(await t.data());
    return all;
  };
  const dispose = () => {
    optimiser.dispose();
    model.dispose();
    lacuna.dispose(x, y);
  };
  return { step, state, dispose };
}

/** Losses and state after STEPS steps, and milliseconds of one, synchronised once for all of another STEPS. */
async function run(
  /** @type {boolean} */ small,
  /** @type {lacuna.Precision} */ precision,
  /** @type {boolean} */ replayed,
) {
  const device = await card();
  const { step, state, dispose } = trainer(device, small, precision);
  const losses = [];
  const eager = () => lacuna.scope(step);
  const first = eager(); // loads kernels
  losses.push(await first.item());
  first.dispose();
  /** @type {lacuna.CapturedStep<lacuna.Tensor> | null} */
  let captured = null;
  const one = () => {
    if (!replayed) return eager();
    if (captured) captured.replay();
    else captured = lacuna.capture(device, step);
    return captured.values;
  };
  for (let i = 1; i < STEPS; i++) {
    const loss = one();
    losses.push(await loss.item());
    if (!replayed) loss.dispose();
  }
  const after = await state();
  const started = performance.now();
  for (let i = 0; i < STEPS; i++) {
    const loss = one();
    if (!replayed) loss.dispose();
  }
  await device.sync();
  const milliseconds = (performance.now() - started) / STEPS;
  const graph = captured?.graph ?? false;
  captured?.dispose();
  dispose();
  device.dispose();
  return { losses, after, milliseconds, graph };
}

/** Bytes, so that NaN equals itself and -0 is not 0. */
const same = (/** @type {lacuna.TensorData[]} */ a, /** @type {lacuna.TensorData[]} */ b) =>
  a.length === b.length &&
  a.every((data, i) => Buffer.compare(Buffer.from(data.buffer), Buffer.from(b[i].buffer)) === 0);

await part(async ({ small }) => {
  const [rows, failures, figures] = [[], [], []];
  for (const precision of /** @type {const} */ (["f32", "tf32", "bf16"])) {
    const eager = await run(small, precision, false);
    const again = await run(small, precision, false);
    const replayed = await run(small, precision, true);
    const bits = same(eager.after, replayed.after) && eager.losses.every((loss, i) => loss === replayed.losses[i]);
    const twice = same(eager.after, again.after);
    if (!replayed.graph) failures.push(`${precision}: the step became no graph`);
    if (!bits) failures.push(`${precision}: replayed steps are not eager steps: ${eager.losses} / ${replayed.losses}`);
    if (!twice) failures.push(`${precision}: the same steps twice gave other bits`);
    if (!eager.losses.every(Number.isFinite)) failures.push(`${precision}: the loss is ${eager.losses}`);
    const yes = (/** @type {boolean} */ v) => (v ? "same bits" : "DIFFERENT");
    const [a, b] = [eager.milliseconds, replayed.milliseconds];
    rows.push([precision, yes(twice), yes(bits), a, b, a / b]);
    figures.push({ precision, twice, bits, losses: eager.losses, eagerMs: a, replayedMs: b });
  }
  const head = ["10 steps", "eager twice", "replayed", "eager, ms", "replayed, ms", "times"];
  return { table: table(head, rows), failures, figures };
});
