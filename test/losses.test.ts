import { describe, expect, test } from "vitest";
import { diceLoss, focalTversky, jaccardLoss, tversky, tverskyPresets } from "../src/losses.js";
import { dispose, Tensor } from "../src/tensor.js";
import { allDevices, checkOp, labels, random } from "./harness.js";

const z = random([2, 3, 4, 3], 21, -2, 2);
const y = labels([2, 3, 4], 3, 22);

describe("losses made of tversky", () => {
  test.each([
    ["focalTversky", focalTversky],
    ["diceLoss", diceLoss],
    ["jaccardLoss", jaccardLoss],
  ] as const)("%s", async (_, loss) => {
    await checkOp((logits, truth) => loss(logits, truth), [z, y]);
  });

  /** TP, FP, FN per class over the batch in float64, from the same logits. */
  const counts = [0, 1, 2].map((k) => {
    const [c, sums] = [3, { tp: 0, fp: 0, fn: 0 }];
    y.data.forEach((label, row) => {
      const e = z.data.slice(row * c, row * c + c).map(Math.exp);
      const p = e[k]! / e.reduce((a, b) => a + b, 0);
      if (label === k) {
        sums.tp += p;
        sums.fn += 1 - p;
      } else {
        sums.fp += p;
      }
    });
    return sums;
  });
  type Sums = (typeof counts)[number];
  const mean = (of: (s: Sums) => number) => counts.reduce((sum, s) => sum + of(s), 0) / counts.length;

  test.each([
    ["diceLoss", diceLoss, mean(({ tp, fp, fn }) => 1 - (2 * tp) / (2 * tp + fp + fn))],
    ["jaccardLoss", jaccardLoss, mean(({ tp, fp, fn }) => 1 - tp / (tp + fp + fn))],
    ["tversky", tversky, mean(({ tp, fp, fn }) => 1 - tp / (tp + 0.7 * fp + 0.3 * fn))],
    ["focalTversky", focalTversky, mean(({ tp, fp, fn }) => (1 - tp / (tp + 0.7 * fp + 0.3 * fn)) ** 0.75)],
  ] as const)("%s is its formula", async (_, loss, expected) => {
    for (const device of await allDevices()) {
      const made = [Tensor.from(device, z.data, z.shape), Tensor.from(device, y.data, y.shape, "u32")] as const;
      const value = loss(...made);
      expect(await value.item()).toBeCloseTo(expected, 5);
      dispose([...made], value);
    }
  });

  test("α weighs false positives: a prediction that claims too much costs more with a larger α", async () => {
    for (const device of await allDevices()) {
      // One true pixel of four; the logits claim all four.
      const logits = Tensor.from(device, [4, 4, 4, 4], [1, 4, 1, 1]);
      const truth = Tensor.from(device, [1, 0, 0, 0], [1, 4, 1], "u32");
      const at = async (alpha: number, beta: number) => {
        const loss = tversky(logits, truth, { mode: "binary", alpha, beta });
        const value = await loss.item();
        loss.dispose();
        return value;
      };
      expect(await at(0.7, 0.3)).toBeGreaterThan((await at(0.3, 0.7)) + 0.1);
      dispose(logits, truth);
    }
  });

  test("a preset's α and β do not reach diceLoss, and options of a preset can be overruled", async () => {
    for (const device of await allDevices()) {
      const made = [Tensor.from(device, z.data, z.shape), Tensor.from(device, y.data, y.shape, "u32")] as const;
      const a = diceLoss(...made, tverskyPresets.mmseg);
      const b = tversky(...made, { ...tverskyPresets.mmseg, alpha: 0.5, beta: 0.5 });
      const c = focalTversky(...made, tverskyPresets.abraham);
      const d = tversky(...made, tverskyPresets.abraham);
      expect(await a.item()).toBe(await b.item());
      expect(await c.item()).toBe(await d.item());
      dispose([...made], a, b, c, d);
    }
  });
});
