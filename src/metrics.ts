import { ArgumentError } from "./errors.js";

/** Scores of one class. Null means undefined: there was nothing to judge by. */
export interface ClassScores {
  /** Labelled pixels of this class. */
  readonly pixels: number;
  /** TP / (TP + FP + FN); null where the class is neither in the labels nor predicted. */
  readonly iou: number | null;
  /** 2TP / (2TP + FP + FN); null where the class is neither in the labels nor predicted. */
  readonly f1: number | null;
  /** TP / (TP + FP); 0 where the class is in the labels and never predicted, null where it is in neither. */
  readonly precision: number | null;
  /** TP / (TP + FN); null where the class is not in the labels. */
  readonly recall: number | null;
}

/**
 * What a confusion matrix says. Never NaN: means are over the classes that have the score and are not excluded, and 0
 * where none is left.
 */
export interface Scores {
  /** Labelled pixels, those ignored not counted. */
  readonly pixels: number;
  /** Share of pixels predicted right, excluded classes included. */
  readonly overallAccuracy: number;
  /** Mean recall over the classes in the labels. */
  readonly meanAccuracy: number;
  /** Mean over the classes that are labelled or predicted: absent ones are excluded. */
  readonly meanIoU: number;
  readonly meanF1: number;
  readonly meanPrecision: number;
  readonly meanRecall: number;
  /** IoU weighted by the share of each class in the labels of those that are not excluded. */
  readonly frequencyWeightedIoU: number;
  /**
   * Cohen's (o − e) / (1 − e): agreement beyond what the class shares alone give. 1 where labels and predictions are all
   * of one and the same class (0 / 0), 0 where nothing was counted. Excluded classes included.
   */
  readonly kappa: number;
  readonly perClass: readonly ClassScores[];
  /** Classes neither labelled nor predicted, which no mean includes. */
  readonly absent: readonly number[];
}

export interface ScoresOptions {
  /**
   * Classes that no mean includes, such as clutter. Their pixels still count: as errors of the other classes where they
   * are confused with those, and in overall accuracy and kappa. `ignoring` leaves the pixels out.
   */
  readonly exclude?: readonly number[];
}

export interface ConfusionMatrixOptions {
  /** Pixels of this label are not counted. Default 255. */
  readonly ignoreIndex?: number;
}

/** The form in which a confusion matrix stands in reports. */
export interface ConfusionMatrixJSON {
  readonly classes: number;
  readonly ignoreIndex: number;
  /** Row by row; rows are labels, columns predictions. */
  readonly counts: readonly number[];
}

/** Counts of labelled against predicted classes over any number of images; exact up to 2^53 pixels. */
export class ConfusionMatrix {
  readonly ignoreIndex: number;
  readonly #counts: Float64Array; // [classes, classes]: label, prediction

  /** @throws ArgumentError where `classes` is not a whole number above 0. */
  constructor(
    readonly classes: number,
    { ignoreIndex = 255 }: ConfusionMatrixOptions = {},
  ) {
    if (!Number.isSafeInteger(classes) || classes < 1) {
      throw new ArgumentError("ConfusionMatrix", `classes must be a whole number above zero, not ${classes}`);
    }
    this.ignoreIndex = ignoreIndex;
    this.#counts = new Float64Array(classes * classes);
  }

  /**
   * Counts the pixels of one or more images.
   * @param predictions Class indices, as many as labels; not looked at where the label is ignored.
   * @throws ArgumentError where the numbers differ or an index is no class: nothing is counted then.
   */
  add(predictions: ArrayLike<number>, labels: ArrayLike<number>): void {
    const op = "ConfusionMatrix.add";
    if (predictions.length !== labels.length) {
      throw new ArgumentError(op, `${predictions.length} predictions for ${labels.length} labels`);
    }
    const counts = new Float64Array(this.#counts.length);
    const isClass = (value: number) => Number.isInteger(value) && value >= 0 && value < this.classes;
    for (let i = 0; i < labels.length; i++) {
      const label = labels[i]!;
      if (label === this.ignoreIndex) continue;
      const prediction = predictions[i]!;
      if (!isClass(label))
        throw new ArgumentError(op, `label ${label} of pixel ${i} is not one of ${this.classes} classes`);
      if (!isClass(prediction)) {
        throw new ArgumentError(op, `prediction ${prediction} of pixel ${i} is not one of ${this.classes} classes`);
      }
      counts[label * this.classes + prediction]!++;
    }
    this.#accumulate(counts);
  }

  /**
   * Adds the counts of another matrix.
   * @throws ArgumentError where it has another number of classes.
   */
  merge(other: ConfusionMatrix): void {
    if (other.classes !== this.classes) {
      throw new ArgumentError("ConfusionMatrix.merge", `${other.classes} classes do not fit ${this.classes}`);
    }
    this.#accumulate(other.#counts);
  }

  /** Pixels of class `label` that were predicted as `prediction`. */
  count(label: number, prediction: number): number {
    return this.#counts[label * this.classes + prediction]!;
  }

  /**
   * The same counts without the pixels labelled as one of `classes`, as if their label were the ignore index. Other
   * pixels predicted as one of them stay: they are missed by their own class.
   * @throws ArgumentError where one of them is no class.
   */
  ignoring(classes: readonly number[]): ConfusionMatrix {
    this.#checkClasses("ConfusionMatrix.ignoring", classes);
    const left = new ConfusionMatrix(this.classes, { ignoreIndex: this.ignoreIndex });
    left.#accumulate(this.#counts.map((n, i) => (classes.includes(Math.floor(i / this.classes)) ? 0 : n)));
    return left;
  }

  /** @throws ArgumentError where an excluded class is none. */
  scores({ exclude = [] }: ScoresOptions = {}): Scores {
    this.#checkClasses("ConfusionMatrix.scores", exclude);
    const range = [...Array(this.classes).keys()];
    const kept = range.filter((c) => !exclude.includes(c));
    const labelled = range.map((c) => total(range.map((k) => this.count(c, k))));
    const predicted = range.map((c) => total(range.map((k) => this.count(k, c))));
    const right = range.map((c) => this.count(c, c));
    const pixels = total(labelled);
    const perClass = range.map((c): ClassScores => {
      const [tp, tpFn, tpFp] = [right[c]!, labelled[c]!, predicted[c]!];
      const isAbsent = tpFn + tpFp === 0;
      return {
        pixels: tpFn,
        iou: isAbsent ? null : tp / (tpFp + tpFn - tp),
        f1: isAbsent ? null : (2 * tp) / (tpFp + tpFn),
        precision: isAbsent ? null : tpFp > 0 ? tp / tpFp : 0,
        recall: tpFn > 0 ? tp / tpFn : null,
      };
    });
    const share = (count: number) => (pixels > 0 ? count / pixels : 0);
    const observed = share(total(right));
    const expected = total(range.map((c) => share(labelled[c]!) * share(predicted[c]!)));
    const meanOf = (score: "iou" | "f1" | "precision" | "recall") => mean(kept.map((c) => perClass[c]![score]));
    const meanRecall = meanOf("recall");
    const keptPixels = total(kept.map((c) => labelled[c]!));
    return {
      pixels,
      overallAccuracy: observed,
      meanAccuracy: meanRecall,
      meanIoU: meanOf("iou"),
      meanF1: meanOf("f1"),
      meanPrecision: meanOf("precision"),
      meanRecall,
      frequencyWeightedIoU:
        keptPixels > 0 ? total(kept.map((c) => labelled[c]! * (perClass[c]!.iou ?? 0))) / keptPixels : 0,
      kappa: expected < 1 ? (observed - expected) / (1 - expected) : 1,
      perClass,
      absent: range.filter((c) => perClass[c]!.iou === null),
    };
  }

  toJSON(): ConfusionMatrixJSON {
    return { classes: this.classes, ignoreIndex: this.ignoreIndex, counts: [...this.#counts] };
  }

  /** @throws ArgumentError where the counts are not `classes`² whole numbers, zero or more. */
  static from({ classes, ignoreIndex, counts }: ConfusionMatrixJSON): ConfusionMatrix {
    const matrix = new ConfusionMatrix(classes, { ignoreIndex });
    if (counts.length !== classes * classes || !counts.every((n) => Number.isSafeInteger(n) && n >= 0)) {
      throw new ArgumentError(
        "ConfusionMatrix.from",
        `counts must be ${classes} x ${classes} whole numbers, zero or more`,
      );
    }
    matrix.#accumulate(counts);
    return matrix;
  }

  #checkClasses(op: string, classes: readonly number[]): void {
    const wrong = classes.find((c) => !Number.isInteger(c) || c < 0 || c >= this.classes);
    if (wrong !== undefined) throw new ArgumentError(op, `${wrong} is not one of ${this.classes} classes`);
  }

  #accumulate(counts: ArrayLike<number>): void {
    for (let i = 0; i < counts.length; i++) this.#counts[i] = this.#counts[i]! + counts[i]!;
  }
}

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Over the values that are defined; 0 where none is. */
function mean(values: readonly (number | null)[]): number {
  const defined = values.filter((value) => value !== null);
  return defined.length > 0 ? total(defined) / defined.length : 0;
}
