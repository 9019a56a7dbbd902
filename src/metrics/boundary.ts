import { ArgumentError } from "../errors.js";
import { squaredDistances } from "./distance.js";

/** Share of an image's diagonal within which boundaries match where no tolerance is given. */
const DIAGONAL_SHARE = 0.0075;

export interface BoundaryOptions {
  /**
   * Pixels, zero or more, by which boundaries may lie apart. Default null: 0.75 % of each image's diagonal (Csurka et
   * al. 2013); 2.7 pixels at 256 x 256. A number of pixels compares tiles of different sizes of one scene.
   */
  readonly tolerance?: number | null;
  /** Pixels of this label are not looked at. Default 255. */
  readonly ignoreIndex?: number;
}

/** Boundary scores of one class; null where there was nothing to judge by. */
export interface ClassBoundaryScores {
  /** Boundary pixels in the labels. */
  readonly pixels: number;
  /** 2PR / (P + R); null where neither labels nor predictions have a boundary of the class, 0 where one of them has none. */
  readonly f1: number | null;
  /** Share of predicted boundary pixels near a labelled one; 0 where only labels have any, null where neither has. */
  readonly precision: number | null;
  /** Share of labelled boundary pixels near a predicted one; null where the labels have none. */
  readonly recall: number | null;
}

export interface BoundaryScores {
  /** Mean over the classes that have a boundary and are not excluded; null where none is left. */
  readonly meanF1: number | null;
  readonly perClass: readonly ClassBoundaryScores[];
}

/** The form in which the counts stand in reports: four a class (predicted, of these near; labelled, of these near). */
export interface BoundaryCountsJSON {
  readonly classes: number;
  readonly ignoreIndex: number;
  readonly tolerance: number | null;
  readonly counts: readonly number[];
}

const [PREDICTED, PREDICTED_NEAR, LABELLED, LABELLED_NEAR] = [0, 1, 2, 3];
const COUNTS = 4;

/**
 * Boundary F1 over any number of images: how well the outlines of classes agree, which IoU hardly sees on large areas.
 *
 * A boundary pixel of a class has the class and a 4-neighbour of another. Image borders and ignored pixels make no
 * boundary, in labels or predictions, so labels whose borders are eroded to "ignore" leave few of them. A boundary pixel
 * matches where one of the other side's boundary of the same class lies within the tolerance, by Euclidean distance.
 * Csurka et al. 2013 ("What is a good evaluation measure for semantic segmentation?") average per-image scores; here
 * pixels are counted over the whole data set before scores are taken, so that counts merge and an image with a few
 * boundary pixels weighs as much as it holds.
 */
export class BoundaryCounts {
  readonly tolerance: number | null;
  readonly ignoreIndex: number;
  readonly #counts: Float64Array; // [classes, 4]

  /** @throws ArgumentError for a number of classes or a tolerance that is none. */
  constructor(
    readonly classes: number,
    { tolerance = null, ignoreIndex = 255 }: BoundaryOptions = {},
  ) {
    if (!Number.isSafeInteger(classes) || classes < 1) {
      throw new ArgumentError("BoundaryCounts", `classes must be a whole number above zero, not ${classes}`);
    }
    if (tolerance !== null && !(tolerance >= 0 && Number.isFinite(tolerance))) {
      throw new ArgumentError("BoundaryCounts", `the tolerance must be zero pixels or more, not ${tolerance}`);
    }
    this.tolerance = tolerance;
    this.ignoreIndex = ignoreIndex;
    this.#counts = new Float64Array(classes * COUNTS);
  }

  /**
   * Counts the boundary pixels of one image.
   * @param predictions,labels `[height, width]`, class indices; predictions are not looked at where the label is ignored.
   * @throws ArgumentError where the sizes differ or a label is neither a class nor ignored: nothing is counted then.
   */
  add(predictions: ArrayLike<number>, labels: ArrayLike<number>, height: number, width: number): void {
    const op = "BoundaryCounts.add";
    if (predictions.length !== height * width || labels.length !== height * width) {
      throw new ArgumentError(
        op,
        `${predictions.length} predictions and ${labels.length} labels, ${height} x ${width}`,
      );
    }
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i]!;
      if (label !== this.ignoreIndex && !(Number.isInteger(label) && label >= 0 && label < this.classes)) {
        throw new ArgumentError(op, `label ${label} of pixel ${i} is not one of ${this.classes} classes`);
      }
    }
    const limit = this.tolerance ?? DIAGONAL_SHARE * Math.hypot(height, width);
    for (let c = 0; c < this.classes; c++) {
      const predicted = this.#boundary(predictions, labels, c, height, width);
      const labelled = this.#boundary(labels, labels, c, height, width);
      const at = c * COUNTS;
      this.#counts[at + PREDICTED]! += predicted.count;
      this.#counts[at + LABELLED]! += labelled.count;
      if (predicted.count === 0 || labelled.count === 0) continue;
      this.#counts[at + PREDICTED_NEAR]! += countNear(predicted.marked, labelled.marked, height, width, limit);
      this.#counts[at + LABELLED_NEAR]! += countNear(labelled.marked, predicted.marked, height, width, limit);
    }
  }

  /**
   * Adds the counts of others.
   * @throws ArgumentError where they have another number of classes or another tolerance.
   */
  merge(other: BoundaryCounts): void {
    if (other.classes !== this.classes || other.tolerance !== this.tolerance) {
      const of = ({ classes, tolerance }: BoundaryCounts) => `${classes} classes within ${tolerance ?? "the default"}`;
      throw new ArgumentError("BoundaryCounts.merge", `${of(other)} do not fit ${of(this)}`);
    }
    for (let i = 0; i < this.#counts.length; i++) this.#counts[i] = this.#counts[i]! + other.#counts[i]!;
  }

  /** @param options `exclude`: classes that the mean leaves out; their pixels still make boundaries. */
  scores({ exclude = [] }: { readonly exclude?: readonly number[] } = {}): BoundaryScores {
    const perClass = Array.from({ length: this.classes }, (_, c): ClassBoundaryScores => {
      const [predicted, predictedNear, labelled, labelledNear] = this.#counts.subarray(c * COUNTS, (c + 1) * COUNTS);
      const isAbsent = predicted! + labelled! === 0;
      const precision = isAbsent ? null : predicted! > 0 ? predictedNear! / predicted! : 0;
      const recall = labelled! > 0 ? labelledNear! / labelled! : null;
      const sum = (precision ?? 0) + (recall ?? 0);
      const f1 = isAbsent ? null : sum > 0 ? (2 * (precision ?? 0) * (recall ?? 0)) / sum : 0;
      return { pixels: labelled!, f1, precision, recall };
    });
    const known = perClass.flatMap(({ f1 }, c) => (f1 === null || exclude.includes(c) ? [] : [f1]));
    return { meanF1: known.length > 0 ? known.reduce((a, b) => a + b, 0) / known.length : null, perClass };
  }

  toJSON(): BoundaryCountsJSON {
    const { classes, ignoreIndex, tolerance } = this;
    return { classes, ignoreIndex, tolerance, counts: [...this.#counts] };
  }

  /** Pixels of class `c` beside another class, where both are looked at. */
  #boundary(
    values: ArrayLike<number>,
    labels: ArrayLike<number>,
    c: number,
    height: number,
    width: number,
  ): { marked: Uint8Array; count: number } {
    const marked = new Uint8Array(height * width);
    let count = 0;
    const differs = (i: number) => labels[i]! !== this.ignoreIndex && values[i]! !== c;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const i = y * width + x;
        if (values[i]! !== c || labels[i]! === this.ignoreIndex) continue;
        const isBoundary =
          (x > 0 && differs(i - 1)) ||
          (x + 1 < width && differs(i + 1)) ||
          (y > 0 && differs(i - width)) ||
          (y + 1 < height && differs(i + width));
        if (!isBoundary) continue;
        marked[i] = 1;
        count++;
      }
    }
    return { marked, count };
  }
}

/** How many marked pixels have one of `others` within `limit` pixels. */
function countNear(marked: Uint8Array, others: Uint8Array, height: number, width: number, limit: number): number {
  const squared = squaredDistances(others, height, width);
  let near = 0;
  for (let i = 0; i < marked.length; i++) if (marked[i] && squared[i]! <= limit * limit) near++;
  return near;
}
