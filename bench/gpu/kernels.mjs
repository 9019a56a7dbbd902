// Part "kernels" of `npm run gpu`: each layer's kernels beside PyTorch on the same card, in turns. Ratios are PyTorch's time
// over ours; issue 4's bars stand beside them. Standard normal data (nearly: sums of four uniform numbers).
import * as lacuna from "../../dist/index.js";
import { PyTorch } from "../peers/engine.mjs";
import { denseLayers, depthwiseLayers, lossLayers, mapLayers, optimisers, shrink, stem, strided } from "./cases.mjs";
import { both, prepare } from "./operands.mjs";
import { card, firstLine, part } from "./part.mjs";
import { table } from "./table.mjs";
import { muted, setsFor, timed } from "./timing.mjs";

const { Tensor, cast, scope, withoutScope } = lacuna;

/** @typedef {import("./cases.mjs").Case} Case */
/** @typedef {import("../../dist/index.js").Device} Device */
/** @typedef {import("../../dist/index.js").Tensor} T */
/** @typedef {"f32" | "tf32" | "bf16"} Precision */
/** @typedef {"forward" | "gradInput" | "gradWeight" | "both"} Direction */

const count = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);
const BATCH = 16;
const CLASSES_SEED = 77;

/** @param {Device} device @param {boolean} half @returns {import("./operands.mjs").Source} */
function sourceOn(device, half) {
  const chance = new lacuna.Generator(1);
  const normal = (/** @type {readonly number[]} */ shape, scale = 1) => {
    const uniform = () => lacuna.uniform(device, shape, chance);
    const sum = lacuna.add(lacuna.add(uniform(), uniform()), lacuna.add(uniform(), uniform()));
    return lacuna.scale(lacuna.addScalar(sum, -2), scale * Math.sqrt(3));
  };
  return {
    map: (shape, _, scale) => scope(() => (half ? cast(normal(shape, scale), "bf16") : normal(shape, scale))),
    vector: (shape, _, scale) => scope(() => normal(shape, scale)),
    labels: (shape, classes) => {
      const draws = new lacuna.Generator(CLASSES_SEED).uniform(count(shape));
      return Tensor.from(
        device,
        Uint32Array.from(draws, (v) => Math.floor(v * classes)),
        shape,
        "u32",
      );
    },
  };
}

/** What is timed of a case, and what it reads and writes at the very least, in elements of its type. */
function directionsOf(/** @type {Case} */ one) {
  if (one.op === "conv2d" && one.groups === 1) {
    return one.image ? ["forward", "gradWeight"] : ["forward", "gradInput", "gradWeight"];
  }
  return one.op === "sgd" || one.op === "adamw" ? ["both"] : one.op === "conv2d" ? ["forward", "both"] : ["both"];
}

/** Bytes that must move, forward and backward, of the cases whose bar is a share of bandwidth. */
function bytesOf(/** @type {Case} */ one, /** @type {Precision} */ precision) {
  const map = count(one.x) * (precision === "bf16" ? 2 : 4);
  // Statistics; normalise; sums of the gradient; its application: 1 + 2 + 2 + 3 maps.
  if (one.op === "batchNorm") return 8 * map;
  // Logits are read twice, their gradient is written once; labels are read twice.
  if (one.op === "tversky") return 3 * map + 2 * count(one.x.slice(0, 3)) * 4;
  if (one.op === "sgd") return 5 * map;
  return one.op === "adamw" ? 7 * map : null;
}

/**
 * Our milliseconds, by direction.
 * @param {Device} device @param {Case} one @param {Precision} precision @param {{ small: boolean, repetitions: number }} how
 */
async function timeOurs(device, one, precision, { small, repetitions }) {
  if (one.op === "sgd" || one.op === "adamw")
    return { sets: 1, ms: { both: await timeOptimiser(device, one, repetitions) } };
  const half = precision === "bf16";
  const source = sourceOn(device, half);
  const probe = prepare(one, source);
  const result = scope(() => probe.forward());
  const [shape, resultSize] = [result.shape, result.size];
  const bytes = (half ? 2 : 4) * (count(one.x) + resultSize + (one.w ? count(one.w) : 0));
  lacuna.dispose(result, probe.owned);
  const sets = setsFor(bytes, small);
  const prepared = Array.from({ length: sets }, () => prepare(one, source));
  const dys = prepared.map(() => (shape.length > 0 ? source.map(shape, 9) : null));
  // Training keeps weights in f32: their gradient is f32, too.
  const weights = one.w && half ? prepared.map(() => source.vector(one.w ?? [], 2)) : [];
  const { stride, padding, dilation, groups } = one;
  const asTrained = (/** @type {number} */ i) => {
    const [x, w] = [prepared[i].owned[0], weights[i] ?? prepared[i].owned[1]];
    return { x, w, forward: () => lacuna.conv2d(x, w, { stride, padding, dilation, groups }) };
  };
  /** Of what the forward pass would have made only the shape matters to these. */
  const pulled = (/** @type {number} */ i, /** @type {() => T} */ forward, /** @type {T[]} */ leaves) => {
    const [y, ...gradients] = both({ forward, leaves, owned: [] }, leaves, dys[i], (f) => muted(device, f));
    y.dispose();
    return gradients;
  };
  /** @type {Record<Direction, (set: number) => readonly T[]>} */
  const launch = {
    forward: (i) => [scope(prepared[i].forward)],
    gradInput: (i) => pulled(i, prepared[i].forward, [prepared[i].owned[0]]),
    gradWeight: (i) => pulled(i, asTrained(i).forward, [asTrained(i).w]),
    both: (i) => scope(() => both(prepared[i], prepared[i].leaves, dys[i])),
  };
  /** @type {Record<string, number>} */
  const ms = {};
  for (const direction of directionsOf(one)) {
    ms[direction] = await timed(device, sets, launch[/** @type {Direction} */ (direction)], repetitions);
  }
  lacuna.dispose(
    prepared.map(({ owned }) => owned),
    dys,
    weights,
  );
  return { sets, ms };
}

/** @param {Device} device @param {Case} one @param {number} repetitions */
async function timeOptimiser(device, one, repetitions) {
  const size = one.x[3];
  const source = sourceOn(device, false);
  const w = source.vector([size], 1, 0.1);
  const gradient = source.vector([size], 2, 0.1);
  const groups = [{ name: "all", parameters: [w], lr: 1e-3, weightDecay: 1e-2 }];
  const optimiser = one.op === "sgd" ? new lacuna.SGD(groups, { momentum: 0.9 }) : new lacuna.AdamW(groups);
  const launch = () => {
    optimiser.step([gradient]);
    return [];
  };
  const ms = await timed(device, 1, launch, repetitions);
  optimiser.dispose();
  lacuna.dispose(w, gradient);
  return ms;
}

/** Bytes a second of a copy on the card, read and written. */
async function copyBandwidth(
  /** @type {Device} */ device,
  /** @type {boolean} */ small,
  /** @type {number} */ repetitions,
) {
  const size = small ? 1 << 16 : 1 << 28;
  const [from, to] = withoutScope(() => [Tensor.ones(device, [size]), Tensor.zeros(device, [size])]);
  const launch = () => {
    device.copy(from.view, to.view);
    return [];
  };
  const ms = await timed(device, 1, launch, repetitions);
  lacuna.dispose(from, to);
  return (8 * size) / (ms / 1000);
}

/** @param {Case} one @param {string} direction @param {any} figures */
function verdicts(one, direction, { ratio, compiled, share }) {
  const { bars } = one;
  const dense = one.op === "conv2d" && one.groups === 1;
  /** @type {[string, number | undefined, number | null][]} */
  const asked = [
    ["PyTorch", bars.ratio, ratio],
    ["torch.compile", bars.compiled, compiled],
    ["copy", bars.bandwidth, share],
  ];
  if (!dense && direction === "forward" && one.op !== "conv2d") return [];
  return asked.flatMap(([against, bar, value]) =>
    bar === undefined || value === null ? [] : [{ against, bar, ok: value >= bar }],
  );
}

await part(async ({ small, python, seconds, rest }) => {
  const end = performance.now() + 1000 * (seconds - 20);
  const repetitions = small ? 3 : 100;
  const filter = new RegExp(rest[0] ?? "");
  const peer = new PyTorch(python, small ? 2 : 8, true, "../gpu/pytorch_gpu.py", small ? ["--small"] : []);
  const [failures, rows, figures] = [[], [], []];
  const about = await peer.ask({ do: "hello" }).catch((error) => {
    failures.push(`PyTorch is not there, only lacuna is timed: ${firstLine(error)}`);
    return null;
  });
  const devices = { f32: await card(), tf32: await card() };
  devices.tf32.allowTf32?.(true);
  const bandwidth = await copyBandwidth(devices.f32, small, repetitions);
  const theirBandwidth = about ? (await peer.ask({ do: "bandwidth", repetitions })).bytesPerSecond : null;

  const heavy = [...denseLayers(BATCH), stem(BATCH), strided(BATCH)];
  /** @type {[Case, Precision][]} */
  const work = [
    ...[...denseLayers(BATCH), ...lossLayers(BATCH).filter(({ bars }) => bars.compiled)].map((one) => [
      one,
      one.op === "conv2d" ? "bf16" : "f32",
    ]),
    ...[...depthwiseLayers(BATCH), ...mapLayers(BATCH), ...heavy.slice(-2)].map((one) => [one, "bf16"]),
    ...[...lossLayers(BATCH).filter(({ bars }) => !bars.compiled), ...optimisers()].map((one) => [one, "f32"]),
    ...heavy.map((one) => [one, "tf32"]),
  ];
  for (const [full, precision] of work.filter(([one]) => filter.test(one.name))) {
    const one = small ? shrink(full) : full;
    if (performance.now() > end) {
      failures.push(`${one.name}, ${precision}: there was no time left for it`);
      continue;
    }
    try {
      const device = precision === "tf32" ? devices.tf32 : devices.f32;
      const ours = await timeOurs(device, one, precision, { small, repetitions });
      const directions = directionsOf(one);
      const request = { do: "kernel", case: one, precision, directions, sets: ours.sets, repetitions };
      const theirs = about
        ? await peer.ask(request).catch((error) => ({ error: firstLine(error), ms: {} }))
        : { ms: {} };
      if (theirs.error) failures.push(`${one.name}, ${precision}, PyTorch: ${theirs.error}`);
      for (const direction of directions) {
        const ms = ours.ms[direction];
        const { eager = null, compiled = null, how } = theirs.ms[direction] ?? {};
        const bytes = bytesOf(one, precision);
        const row = {
          case: one.name,
          direction,
          precision,
          ms,
          eagerMs: eager,
          compiledMs: compiled,
          how,
          ratio: eager && eager / ms,
          compiled: compiled && compiled / ms,
          share: bytes && direction === "both" ? bytes / (ms / 1000) / bandwidth : null,
        };
        // Bars are for bf16, and for f32 where that is what the layer takes.
        const judged = precision === "tf32" ? [] : verdicts(one, direction, row);
        figures.push({ ...row, bars: judged });
        for (const { against, bar, ok } of small ? [] : judged) {
          if (!ok) failures.push(`bar: ${one.name}, ${direction}, ${precision}: below ${bar} of ${against}`);
        }
        const bar = judged.map(({ bar, ok }) => `${bar} ${ok ? "ok" : "NO"}`).join(", ");
        rows.push([
          one.name,
          direction,
          precision,
          ms * 1000,
          eager && eager * 1000,
          row.ratio,
          row.compiled,
          row.share,
          bar,
        ]);
      }
    } catch (error) {
      failures.push(`${one.name}, ${precision}: ${firstLine(error)}`);
    }
  }
  await peer.close();
  const head = ["layer, batch 16", "", "", "µs", "PyTorch", "ratio", "compile", "of copy", "bars"];
  const gb = (/** @type {number | null} */ v) => (v === null ? "?" : `${(v / 1e9).toFixed(0)} GB/s`);
  const note = `copy on the card: ${gb(bandwidth)}, PyTorch's ${gb(theirBandwidth)}; ${about?.version ?? "no PyTorch"}`;
  return {
    table: [...table(head, rows), note],
    failures,
    figures: { about, bandwidth, theirBandwidth, rows: figures },
  };
});
