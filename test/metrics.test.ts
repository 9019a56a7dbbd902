import { describe, expect, test } from "vitest";
import { ArgumentError } from "../src/errors.js";
import { ConfusionMatrix } from "../src/metrics.js";

/** A matrix with the given counts: rows are labels. */
const matrixOf = (rows: number[][]) =>
  ConfusionMatrix.from({ classes: rows.length, ignoreIndex: 255, counts: rows.flat() });

test("counts labels in rows and predictions in columns, and skips what is ignored", () => {
  const matrix = new ConfusionMatrix(3);
  matrix.add(Uint32Array.of(0, 1, 1, 2, 9), Uint8Array.of(0, 0, 1, 2, 255));
  matrix.add([2], [0]);
  expect(matrix.toJSON()).toEqual({ classes: 3, ignoreIndex: 255, counts: [1, 1, 1, 0, 1, 0, 0, 0, 1] });
  expect([matrix.count(0, 1), matrix.count(1, 0)]).toEqual([1, 0]);
  const other = new ConfusionMatrix(3, { ignoreIndex: 0 });
  other.add([1, 1], [0, 1]);
  expect(other.toJSON().counts).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0]);
});

test("scores by the formulas of NumPy: one class never predicted, one absent", () => {
  // M = np.array([[50,3,0,0],[10,20,0,0],[4,5,0,0],[0,0,0,0]]); n = M.sum(); r = M.sum(1); c = M.sum(0); d = np.diag(M)
  const scores = matrixOf([
    [50, 3, 0, 0],
    [10, 20, 0, 0],
    [4, 5, 0, 0],
    [0, 0, 0, 0],
  ]).scores();
  expect(scores.pixels).toBe(92);
  expect(scores.overallAccuracy).toBeCloseTo(70 / 92, 14); // d.sum() / n
  expect(scores.meanAccuracy).toBeCloseTo(0.5366876310272537, 14); // (d / r)[:3].mean()
  expect(scores.meanIoU).toBeCloseTo(0.42419481539670073, 14); // (d / (r + c - d))[:3].mean()
  expect(scores.meanF1).toBeCloseTo(0.5147853423715493, 14); // (2 * d / (r + c))[:3].mean()
  expect(scores.meanPrecision).toBeCloseTo((50 / 64 + 20 / 28 + 0) / 3, 14);
  expect(scores.meanRecall).toBe(scores.meanAccuracy);
  expect(scores.frequencyWeightedIoU).toBeCloseTo(0.6015403531541378, 14); // (r[:3] / n * iou).sum()
  expect(scores.kappa).toBeCloseTo(0.5217391304347827, 14); // pe = (r * c).sum() / n**2
  expect(scores.perClass.map(({ iou }) => iou)).toEqual([50 / 67, 20 / 38, 0, null]);
  expect(scores.perClass.map(({ f1 }) => f1)).toEqual([100 / 117, 40 / 58, 0, null]);
  expect(scores.perClass.map(({ precision }) => precision)).toEqual([50 / 64, 20 / 28, 0, null]);
  expect(scores.perClass.map(({ recall }) => recall)).toEqual([50 / 53, 20 / 30, 0, null]);
  expect(scores.perClass.map(({ pixels }) => pixels)).toEqual([53, 30, 9, 0]);
  expect(scores.absent).toEqual([3]);
});

test("a class that is predicted but never labelled counts in IoU, F1 and precision, not in recall", () => {
  const scores = matrixOf([
    [6, 2],
    [0, 0],
  ]).scores();
  expect(scores.perClass[1]).toEqual({ pixels: 0, iou: 0, f1: 0, precision: 0, recall: null });
  expect(scores.meanIoU).toBe(0.375);
  expect(scores.meanAccuracy).toBe(0.75);
  expect(scores.absent).toEqual([]);
});

describe("limits, without NaN", () => {
  const numbersIn = (value: unknown): number[] =>
    typeof value === "number"
      ? [value]
      : value && typeof value === "object"
        ? Object.values(value).flatMap(numbersIn)
        : [];

  test("nothing counted: every mean is 0 and every class absent", () => {
    const scores = new ConfusionMatrix(2).scores();
    expect(scores).toMatchObject({ pixels: 0, overallAccuracy: 0, meanIoU: 0, kappa: 0, frequencyWeightedIoU: 0 });
    expect(scores.absent).toEqual([0, 1]);
    expect(numbersIn(scores).every(Number.isFinite)).toBe(true);
  });
  test("one class alone, all right: kappa is 1 by rule", () => {
    const scores = matrixOf([
      [7, 0],
      [0, 0],
    ]).scores();
    expect(scores).toMatchObject({ overallAccuracy: 1, meanIoU: 1, kappa: 1, absent: [1] });
    expect(numbersIn(scores).every(Number.isFinite)).toBe(true);
  });
  test("chance, perfect agreement and its opposite", () => {
    const kappa = (rows: number[][]) => matrixOf(rows).scores().kappa;
    expect(
      kappa([
        [4, 4],
        [4, 4],
      ]),
    ).toBe(0);
    expect(
      kappa([
        [5, 0],
        [0, 3],
      ]),
    ).toBe(1);
    expect(
      kappa([
        [0, 5],
        [5, 0],
      ]),
    ).toBe(-1);
    expect(
      kappa([
        [0, 8],
        [0, 0],
      ]),
    ).toBe(0);
  });
  test("counts are exact beyond 2^32", () => {
    const matrix = matrixOf([
      [2 ** 40, 0],
      [0, 1],
    ]);
    matrix.add([1], [0]);
    matrix.merge(matrix);
    expect(matrix.toJSON().counts).toEqual([2 ** 41, 2, 0, 2]);
  });
});

test("merging equals adding, and JSON brings everything back", () => {
  const [a, b, both] = [new ConfusionMatrix(2), new ConfusionMatrix(2), new ConfusionMatrix(2)];
  a.add([0, 1], [0, 0]);
  b.add([1, 1], [1, 0]);
  both.add([0, 1, 1, 1], [0, 0, 1, 0]);
  a.merge(b);
  expect(a.toJSON()).toEqual(both.toJSON());
  const back = ConfusionMatrix.from(JSON.parse(JSON.stringify(both)));
  expect(back.scores()).toEqual(both.scores());
  expect(back.ignoreIndex).toBe(255);
});

describe("refuses", () => {
  test.each([0, -1, 1.5, Number.NaN])("%d classes", (classes) => {
    expect(() => new ConfusionMatrix(classes)).toThrow(ArgumentError);
  });
  test.each<[string, number[], number[]]>([
    ["other numbers of predictions and labels", [0, 0], [0]],
    ["a label that is no class", [0, 0], [0, 2]],
    ["a prediction that is no class", [0, 2], [0, 0]],
    ["a negative prediction", [0, -1], [0, 0]],
    ["a prediction with a fraction", [0, 0.5], [0, 0]],
    ["a prediction that is no number", [0, Number.NaN], [0, 0]],
  ])("%s, counting nothing", (_, predictions, labels) => {
    const matrix = new ConfusionMatrix(2);
    expect(() => matrix.add(predictions, labels)).toThrow(ArgumentError);
    expect(matrix.scores().pixels).toBe(0);
  });
  test("merging other classes, and counts that are none", () => {
    expect(() => new ConfusionMatrix(2).merge(new ConfusionMatrix(3))).toThrow(ArgumentError);
    for (const counts of [
      [1, 2, 3],
      [1, 2, 3, -1],
      [1, 2, 3, 0.5],
      [1, 2, 3, Number.NaN],
    ]) {
      expect(() => ConfusionMatrix.from({ classes: 2, ignoreIndex: 255, counts })).toThrow(ArgumentError);
    }
  });
});
