// Part "step" of `npm run gpu`: a training step of DeepLabV3+ ResNet-50 at output stride 16, 512x512, batch 16, beside
// PyTorch's (the same network, autocast, channels_last, torch.compile) on the same card. First both are given the same
// weights at a small size, and must give the same loss and gradients: it is the same network.
import * as lacuna from "../../dist/index.js";
import { PyTorch } from "../peers/engine.mjs";
import { labels, relativeError, sample, values } from "../values.mjs";
import { card, firstLine, part } from "./part.mjs";
import { table } from "./table.mjs";
import { median } from "./timing.mjs";

const { Tensor } = lacuna;
/**
 * Relative, of loss and of the norms of gradients. The loss differs by 1e-6; gradients by as much as rounding is amplified on
 * their way through fifty layers and norms over few values: PyTorch's own in f32 are 1.2e-2 away from its own in f64.
 */
const SAME = [1e-4, 5e-2];
const BAR = 1;

/** @typedef {{ name: string, x: readonly [number, number, number, number], classes: number, width: number,
 *   variant: "vainf" | "paper", losses: readonly string[] }} Case */
/** @typedef {"f32" | "tf32" | "bf16"} Precision */

const count = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);

/** @param {lacuna.Device} device @param {Case} one @param {Precision} precision */
function trainer(device, { x: shape, classes, width, variant, losses }, precision) {
  const model = new lacuna.DeepLabV3Plus(device, { backbone: "resnet50", classes, width, variant, precision });
  const x = Tensor.from(device, values(count(shape), 1), shape);
  const y = Tensor.from(device, labels(count(shape.slice(0, 3)), classes, 5), shape.slice(0, 3), "u32");
  /** @type {Record<string, typeof lacuna.crossEntropy>} */
  const functions = { crossEntropy: lacuna.crossEntropy, tversky: lacuna.tversky };
  const gradientsOf = (/** @type {readonly lacuna.Tensor[]} */ parameters) =>
    lacuna.differentiate(parameters, () => {
      const logits = model.forward(x);
      return { loss: losses.map((name) => functions[name](logits, y)).reduce((a, b) => lacuna.add(a, b)) };
    });
  return { model, gradientsOf, inputs: [x, y] };
}

/** Loss and norms of gradients at weights that both sides know: bench/lacuna.mjs has the same rule. @param {Case} one */
async function check(/** @type {lacuna.Device} */ device, one) {
  const { model, gradientsOf, inputs } = trainer(device, one, "f32");
  for (const m of model.modules().values()) if (m instanceof lacuna.nn.Dropout) Object.assign(m, { rate: 0 });
  const parameters = model.parameters();
  const names = [...parameters.keys()].sort();
  const ordered = names.map((name, i) => {
    const t = /** @type {lacuna.Tensor} */ (parameters.get(name));
    const matrix = t.shape.length > 1;
    const v = values(t.size, 100 + i, matrix ? Math.sqrt(6 / count(t.shape.slice(1))) : 0.1);
    t.assign(!matrix && name.endsWith("weight") ? v.map((value) => 1 + value) : v);
    return t;
  });
  const { values: made, gradients } = lacuna.scope(() => gradientsOf(ordered));
  const norms = [];
  for (const gradient of gradients) norms.push(Math.hypot(...sample(await gradient.data())));
  const result = [[await made.loss.item()], norms];
  lacuna.dispose(made, gradients, inputs);
  model.dispose();
  return result;
}

/** Milliseconds of a replayed step: ten at a time between two waits for the card. @param {Case} one @param {Precision} precision */
async function timeOurs(one, precision, repetitions = 10) {
  const device = await card();
  try {
    const { model, gradientsOf, inputs } = trainer(device, one, precision);
    const groups = lacuna.parameterGroups(model.parameters(), { lr: 0.01, weightDecay: 1e-4 });
    const optimiser = new lacuna.SGD(groups, { momentum: 0.9 });
    const step = () => {
      const { values: made, gradients } = gradientsOf(optimiser.parameters);
      optimiser.step(gradients);
      return made.loss;
    };
    lacuna.scope(step).dispose(); // loads kernels
    const captured = lacuna.capture(device, step);
    const times = [];
    for (let i = -1; i < repetitions; i++) {
      await device.sync();
      const before = performance.now();
      for (let k = 0; k < 10; k++) captured.replay();
      await device.sync();
      if (i >= 0) times.push((performance.now() - before) / 10);
    }
    const loss = await captured.values.item();
    const { peakBytes, dispatches } = device.stats;
    const parameters = optimiser.parameters.reduce((sum, t) => sum + t.size, 0);
    captured.dispose();
    optimiser.dispose();
    model.dispose();
    lacuna.dispose(inputs);
    return { ms: median(times), loss, peakBytes, dispatches, parameters };
  } finally {
    device.dispose();
  }
}

await part(async ({ small, python }) => {
  const peer = new PyTorch(python, small ? 2 : 8, true, "../gpu/pytorch_gpu.py", small ? ["--small"] : []);
  const [rows, failures, figures] = [[], [], []];
  const about = await peer.ask({ do: "hello" }).catch((error) => {
    failures.push(`PyTorch is not there, only lacuna is timed: ${firstLine(error)}`);
    return null;
  });
  const both = ["crossEntropy", "tversky"];
  /** @param {"vainf" | "paper"} variant @param {readonly string[]} losses @returns {Case} */
  const stepOf = (variant, losses) => ({
    name: `${variant}, ${losses.join(" + ")}`,
    x: small ? [2, 32, 32, 3] : [16, 512, 512, 3],
    classes: small ? 5 : 21,
    width: small ? 0.125 : 1,
    variant,
    losses,
  });
  if (about) {
    const device = await card();
    for (const variant of /** @type {const} */ (["vainf", "paper"])) {
      try {
        const one = { ...stepOf(variant, both), x: /** @type {const} */ ([2, 64, 64, 3]), classes: 5, width: 0.125 };
        const [ours, theirs] = [await check(device, one), (await peer.ask({ do: "check", case: one })).samples];
        const apart = ours.map((list, i) => relativeError(list, theirs[i]));
        rows.push([`${variant}: loss apart by, gradients by`, "f32", ...apart]);
        if (!apart.every((v, i) => v <= SAME[i])) failures.push(`${variant}: not PyTorch's network: ${apart}`);
      } catch (error) {
        failures.push(`${variant}, check: ${firstLine(error)}`);
      }
    }
    device.dispose();
  }
  /** @type {[Case, Precision, boolean][]} `true`: the bar, and compiled too. */
  const work = [
    [stepOf("vainf", both), "bf16", true],
    [stepOf("vainf", ["crossEntropy"]), "bf16", false],
    [stepOf("paper", both), "bf16", false],
    [stepOf("vainf", both), "tf32", false],
  ];
  for (const [one, precision, barred] of work) {
    try {
      const ours = await timeOurs(one, precision, small ? 1 : 10);
      const request = { do: "step", case: one, precision, compile: barred, repetitions: small ? 2 : 50 };
      const theirs = about ? await peer.ask(request) : { ms: {} };
      const { eager = null, compiled = null } = theirs.ms;
      for (const key of ["eagerError", "compiledError"]) {
        if (theirs[key]) failures.push(`${one.name}, ${precision}, PyTorch: ${theirs[key]}`);
      }
      if (theirs.parameters && theirs.parameters !== ours.parameters) failures.push(`${one.name}: parameters differ`);
      if (!Number.isFinite(ours.loss)) failures.push(`${one.name}, ${precision}: the loss became ${ours.loss}`);
      const best = Math.min(...[eager, compiled].filter((ms) => ms !== null));
      const ratio = Number.isFinite(best) ? best / ours.ms : null;
      const perSecond = (1000 * one.x[0]) / ours.ms;
      const ok = barred && ratio !== null ? ratio >= BAR : null;
      if (ok === false && !small) failures.push(`bar: ${one.name}, ${precision}: ${ratio} of PyTorch, below ${BAR}`);
      rows.push([
        one.name,
        precision,
        ours.ms,
        eager,
        compiled,
        ratio,
        perSecond,
        ok === null ? "" : `${BAR} ${ok ? "ok" : "NO"}`,
      ]);
      figures.push({ case: one, precision, ours, theirs, ratio, imagesPerSecond: perSecond });
    } catch (error) {
      failures.push(`${one.name}, ${precision}: ${firstLine(error)}`);
    }
  }
  await peer.close();
  const head = ["step, DeepLabV3+ ResNet-50", "", "ms", "PyTorch", "compiled", "ratio", "images/s", "bar"];
  return {
    table: table(
      head,
      rows.map((row) => [...row, "", "", "", "", ""].slice(0, 8)),
    ),
    failures,
    figures: { about, steps: figures },
  };
});
