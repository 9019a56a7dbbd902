// Part "sizes" of `npm run gpu`: layers at their real sizes, forward and backward, on the card against the CPU device, whose
// f32 is checked against float64 at small sizes everywhere. `sizes.mjs alone` only runs them: for compute-sanitizer.
import { fileURLToPath } from "node:url";
import { fromBfloatBits, toBfloatBits } from "../../dist/half.js";
import { dispose, open, scope, Tensor } from "../../dist/index.js";
import { labels, relativeError, values } from "../values.mjs";
import { denseLayers, depthwiseLayers, lossLayers, mapLayers, shrink, stem, strided } from "./cases.mjs";
import { both, prepare } from "./operands.mjs";
import { card, firstLine, part } from "./part.mjs";
import { table } from "./table.mjs";

/**
 * Largest relative L2 error of output and of each gradient. tf32 keeps 10 bits of each factor, bf16 7 of each number that
 * is stored; products of random numbers err by about half of that.
 * @type {Record<Precision, number>}
 */
const LIMITS = { f32: 1e-5, tf32: 1e-3, bf16: 1e-2 };

/** @typedef {"f32" | "tf32" | "bf16"} Precision */
/** @typedef {import("./cases.mjs").Case} Case */
/** @typedef {import("../../dist/index.js").Device} Device */

const count = (/** @type {readonly number[]} */ shape) => shape.reduce((a, b) => a * b, 1);

/** The same numbers for every device; `rounded`: those that bf16 holds. */
function sourceOn(/** @type {Device} */ device, /** @type {boolean} */ rounded) {
  const numbers = (/** @type {readonly number[]} */ shape, /** @type {number} */ seed, scale = 1) =>
    values(count(shape), seed, scale * Math.sqrt(3)); // of variance scale²
  const round = (/** @type {Float32Array} */ data) => data.map((v) => fromBfloatBits(toBfloatBits(v)));
  return {
    /** @type {import("./operands.mjs").Source["map"]} */
    map: (shape, seed, scale) => {
      const data = numbers(shape, seed, scale);
      if (!rounded) return Tensor.from(device, data, shape);
      return Tensor.from(device, round(data), shape, device.supports("bf16") ? "bf16" : "f32");
    },
    /** @type {import("./operands.mjs").Source["vector"]} */
    vector: (shape, seed, scale) => Tensor.from(device, numbers(shape, seed, scale), shape),
    /** @type {import("./operands.mjs").Source["labels"]} */
    labels: (shape, classes) => Tensor.from(device, labels(count(shape), classes, 5), shape, "u32"),
  };
}

/** Output and gradients. @param {Device} device @param {Case} one @param {boolean} rounded */
async function evaluate(device, one, rounded) {
  const source = sourceOn(device, rounded);
  const prepared = prepare(one, source);
  const shape = scope(() => prepared.forward().shape);
  const dy = shape.length > 0 ? source.map(shape, 9) : null;
  const made = scope(() => both(prepared, prepared.leaves, dy));
  const data = [];
  for (const t of made) data.push(await t.data());
  dispose(made, prepared.owned, dy);
  return data;
}

/** @param {boolean} small @returns {{ one: Case, precisions: Precision[] }[]} */
function work(small) {
  const n = 2;
  /** @type {Precision[]} */
  const [every, half, plain] = [["f32", "tf32", "bf16"], ["f32", "bf16"], ["f32"]];
  const list = [
    ...[...denseLayers(1), stem(n), strided(n)].map((one) => ({ one, precisions: every })),
    ...[...depthwiseLayers(n), ...mapLayers(n)].map((one) => ({ one, precisions: half })),
    ...lossLayers(n).map((one) => ({ one, precisions: plain })),
  ];
  return small ? list.map(({ one, precisions }) => ({ one: shrink(one), precisions })) : list;
}

await part(async ({ small, rest }) => {
  const alone = rest.includes("alone");
  const addon = fileURLToPath(new URL("../../build/Release/lacuna.node", import.meta.url));
  const cpu = alone ? null : await open("cpu", { addon });
  const [failures, rows, figures] = [[], [], []];
  const devices = { plain: await card(), tf32: await card() };
  devices.tf32.allowTf32?.(true);
  for (const { one, precisions } of work(small)) {
    /** @type {Partial<Record<Precision, string>>} */
    const cells = {};
    /** @type {Record<string, any>} */
    const expected = {};
    for (const precision of precisions) {
      const rounded = precision === "bf16";
      try {
        const got = await evaluate(precision === "tf32" ? devices.tf32 : devices.plain, one, rounded);
        if (!cpu) continue;
        expected[`${rounded}`] ??= await evaluate(cpu, one, rounded);
        const errors = got.map((data, i) => relativeError(data, expected[`${rounded}`][i]));
        const worst = errors.reduce((a, b) => (b > a || Number.isNaN(b) ? b : a), 0);
        cells[precision] = worst.toExponential(1);
        figures.push({ case: one.name, precision, errors });
        if (!(worst <= LIMITS[precision]))
          failures.push(`${one.name}, ${precision}: relative errors ${errors.join(", ")}`);
      } catch (error) {
        cells[precision] = "failed";
        failures.push(`${one.name}, ${precision}: ${firstLine(error)}`);
      }
    }
    rows.push([one.name, cells.f32, cells.tf32, cells.bf16]);
  }
  for (const device of [devices.plain, devices.tf32, cpu]) device?.dispose();
  const head = ["layer, largest relative L2 error", "f32", "tf32", "bf16"];
  return { table: alone ? ["ran"] : table(head, rows), failures, figures };
});
