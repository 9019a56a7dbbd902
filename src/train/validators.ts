/** What unlabelled predictions say of a model. All in nats. */
export interface ValidatorScores {
  /** Mean entropy of the pixels' class probabilities; lower is better, but for a model that predicts one class. */
  readonly entropy: number;
  /**
   * Information maximisation: entropy of the mean probabilities less the mean entropy (Shi & Sha 2012); higher is better:
   * sure of every pixel, and of different classes.
   */
  readonly im: number;
  /**
   * Soft neighbourhood density (Saito et al., ICCV 2021): mean entropy of each pixel's similarities to others; higher is
   * better: neighbours are many and alike.
   */
  readonly snd: number;
}

/** Of the similarities' softmax, as published. */
export const SND_TEMPERATURE = 0.05;

const entropyOf = (p: ArrayLike<number>, from = 0, count = p.length): number => {
  let sum = 0;
  for (let i = from; i < from + count; i++) if (p[i]! > 0) sum -= p[i]! * Math.log(p[i]!);
  return sum;
};

/** Collects class probabilities of pixels, batch by batch; of the rows that are named, all are kept for `snd`. */
export class Validator {
  #pixels = 0;
  #entropy = 0;
  readonly #mean: Float64Array; // [classes], summed
  readonly #sample: number[] = [];

  constructor(readonly classes: number) {
    this.#mean = new Float64Array(classes);
  }

  /**
   * @param probabilities `[rows, classes]`
   * @param row of the pixel.
   * @param sampled does it stand for others in `snd`?
   */
  add(probabilities: ArrayLike<number>, row: number, sampled: boolean): void {
    const { classes } = this;
    this.#pixels++;
    this.#entropy += entropyOf(probabilities, row * classes, classes);
    for (let c = 0; c < classes; c++) this.#mean[c]! += probabilities[row * classes + c]!;
    if (sampled) for (let c = 0; c < classes; c++) this.#sample.push(probabilities[row * classes + c]!);
  }

  /** Null where no pixel was added, or fewer than two were sampled. */
  scores(): ValidatorScores | null {
    if (this.#pixels === 0 || this.#sample.length < 2 * this.classes) return null;
    const entropy = this.#entropy / this.#pixels;
    const mean = this.#mean.map((sum) => sum / this.#pixels);
    return { entropy, im: entropyOf(mean) - entropy, snd: softNeighbourhoodDensity(this.#sample, this.classes) };
  }
}

/**
 * Mean over i of the entropy of softmax over j ≠ i of cos(pᵢ, pⱼ) / 0.05, for probabilities `[n, classes]`, n ≥ 2: from 0
 * (one neighbour each) to ln(n − 1) (all alike). Takes n² · classes multiplications.
 */
export function softNeighbourhoodDensity(probabilities: ArrayLike<number>, classes: number): number {
  const n = probabilities.length / classes;
  const unit = Float64Array.from(probabilities);
  for (let i = 0; i < n; i++) {
    const row = unit.subarray(i * classes, (i + 1) * classes);
    const norm = Math.sqrt(row.reduce((sum, p) => sum + p * p, 0));
    for (let c = 0; c < classes; c++) row[c]! /= norm;
  }
  let total = 0;
  for (let i = 0; i < n; i++) {
    // Entropy of a softmax without its probabilities: ln Σ eᶻ − Σ z eᶻ / Σ eᶻ, with z no larger than 0.
    let [sum, weighted] = [0, 0];
    for (let j = 0; j < n; j++) {
      if (j === i) continue;
      let cosine = 0;
      for (let c = 0; c < classes; c++) cosine += unit[i * classes + c]! * unit[j * classes + c]!;
      const z = (cosine - 1) / SND_TEMPERATURE;
      const e = Math.exp(z);
      sum += e;
      weighted += z * e;
    }
    total += Math.log(sum) - weighted / sum;
  }
  return total / n;
}
