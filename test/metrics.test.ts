import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../src/errors.js";
import { BoundaryCounts } from "../src/metrics/boundary.js";
import { squaredDistances } from "../src/metrics/distance.js";
import { ConfusionMatrix, type Scores } from "../src/metrics.js";
import { values } from "./harness.js";

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

type Means = Pick<Scores, "overallAccuracy" | "kappa" | "meanIoU" | "meanF1" | "meanRecall" | "frequencyWeightedIoU">;
interface GoldenBoundary {
  readonly f1: readonly (number | null)[];
  readonly meanF1: number | null;
}
/** test/golden/metrics.py: label maps as text, a digit a pixel, `.` where ignored. */
interface Golden {
  readonly height: number;
  readonly width: number;
  readonly classes: number;
  readonly tolerance: number | null;
  readonly exclude: readonly number[];
  readonly predictions: readonly string[];
  readonly labels: readonly string[];
  readonly confusion: readonly number[];
  readonly scores: Means;
  readonly scoresExcluding: Means;
  readonly scoresIgnoring: Means;
  readonly boundary: readonly number[];
  readonly boundaryScores: GoldenBoundary;
  readonly boundaryScoresExcluding: GoldenBoundary;
}
const goldens = JSON.parse(readFileSync(new URL("golden/metrics.json", import.meta.url), "utf8")) as Golden[];
const mapOf = (text: string) => Uint8Array.from(text, (digit) => (digit === "." ? 255 : Number(digit)));

describe.each(goldens)("NumPy on $height x $width pixels of $classes classes", (golden) => {
  const { classes, tolerance, exclude, height, width } = golden;
  const pairs = golden.labels.map((labels, i) => [mapOf(golden.predictions[i]!), mapOf(labels)] as const);

  test("confusion, with and without a class", () => {
    const matrix = new ConfusionMatrix(classes);
    for (const [predictions, labels] of pairs) matrix.add(predictions, labels);
    expect(matrix.toJSON().counts).toEqual(golden.confusion);
    const agree = (scores: Scores, expected: Means) => {
      for (const name of Object.keys(expected) as (keyof Means)[])
        expect(scores[name], name).toBeCloseTo(expected[name], 12);
    };
    agree(matrix.scores(), golden.scores);
    agree(matrix.scores({ exclude }), golden.scoresExcluding);
    agree(matrix.ignoring(exclude).scores({ exclude }), golden.scoresIgnoring);
    expect(golden.scoresExcluding.meanIoU).not.toBeCloseTo(golden.scoresIgnoring.meanIoU, 6); // the cases tell them apart
  });

  test("boundaries, in one go and merged", () => {
    const each = pairs.map(([predictions, labels]) => {
      const counts = new BoundaryCounts(classes, { tolerance });
      counts.add(predictions, labels, height, width);
      return counts;
    });
    each[0]!.merge(each[1]!);
    const counts = each[0]!;
    expect(counts.toJSON()).toEqual({ classes, ignoreIndex: 255, tolerance, counts: golden.boundary });
    for (const [options, expected] of [
      [{}, golden.boundaryScores],
      [{ exclude }, golden.boundaryScoresExcluding],
    ] as const) {
      const { meanF1, perClass } = counts.scores(options);
      expect(meanF1).toBeCloseTo(expected.meanF1!, 12);
      perClass.forEach(({ f1 }, c) => {
        expect(f1).toBeCloseTo(expected.f1[c]!, 12);
      });
    }
  });
});

describe("distances", () => {
  test.each([
    [1, 1, 0.9],
    [1, 40, 0.1],
    [40, 1, 0.1],
    [23, 31, 0.02],
    [31, 23, 0.3],
    [16, 16, 0.003],
  ])("%i x %i equals the smallest over all marked pixels", (height, width, share) => {
    const marked = Uint8Array.from(values(height * width, height + width, 0, 1), (v) => (v < share ? 1 : 0));
    marked[Math.floor((height * width) / 3)] = 1;
    const places = [...marked.keys()].filter((i) => marked[i]);
    const expected = Array.from(marked, (_, i) => {
      const [y, x] = [Math.floor(i / width), i % width];
      return Math.min(...places.map((p) => (Math.floor(p / width) - y) ** 2 + ((p % width) - x) ** 2));
    });
    expect([...squaredDistances(marked, height, width)]).toEqual(expected);
  });
  test("nothing marked is infinitely far", () => {
    expect(new Set(squaredDistances(new Uint8Array(12), 3, 4))).toEqual(new Set([Number.POSITIVE_INFINITY]));
  });
});

describe("boundaries", () => {
  /** One row of text a row of pixels. */
  const rows = (...lines: string[]) => ({ map: mapOf(lines.join("")), height: lines.length, width: lines[0]!.length });
  const count = (labels: ReturnType<typeof rows>, predictions: ReturnType<typeof rows>, tolerance: number) => {
    const counts = new BoundaryCounts(3, { tolerance });
    counts.add(predictions.map, labels.map, labels.height, labels.width);
    return counts.scores();
  };

  test("a boundary moved by two pixels matches within two and not within one", () => {
    const [labels, moved] = [rows("000111111", "000111111"), rows("000001111", "000001111")];
    expect(count(labels, labels, 0).meanF1).toBe(1);
    expect(count(labels, moved, 1).meanF1).toBe(0);
    expect(count(labels, moved, 2).meanF1).toBe(1);
  });
  test("the image's border and ignored pixels make none; a class on one side only scores 0, on neither null", () => {
    const perClass = count(rows("00.11", "00.11"), rows("00.11", "00211"), 1).perClass;
    expect(perClass).toEqual([0, 1, 2].map(() => ({ pixels: 0, f1: null, precision: null, recall: null })));
    const missed = count(rows("0011", "0011"), rows("0000", "0000"), 1).perClass;
    expect(missed[1]).toEqual({ pixels: 2, f1: 0, precision: 0, recall: 0 });
    const invented = count(rows("0000", "0000"), rows("0022", "0022"), 1).perClass;
    expect(invented[2]).toEqual({ pixels: 0, f1: 0, precision: 0, recall: null });
    expect(count(rows("0"), rows("0"), 1).meanF1).toBeNull();
  });
  test("refuses other sizes, labels and tolerances, counting nothing", () => {
    const counts = new BoundaryCounts(2);
    expect(() => counts.add([0, 1], [0, 1, 1], 1, 3)).toThrow(ArgumentError);
    expect(() => counts.add([0, 1], [0, 2], 1, 2)).toThrow(ArgumentError);
    expect(counts.toJSON().counts).toEqual(Array(8).fill(0));
    for (const tolerance of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => new BoundaryCounts(2, { tolerance })).toThrow(ArgumentError);
    expect(() => counts.merge(new BoundaryCounts(2, { tolerance: 1 }))).toThrow(ArgumentError);
    expect(() => counts.merge(new BoundaryCounts(3))).toThrow(ArgumentError);
    for (const classes of [[2], [-1], [0.5]]) {
      expect(() => new ConfusionMatrix(2).scores({ exclude: classes })).toThrow(ArgumentError);
      expect(() => new ConfusionMatrix(2).ignoring(classes)).toThrow(ArgumentError);
    }
  });
});
