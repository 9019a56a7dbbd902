import type { NumberArray, ReferenceKernel, ReferenceOp } from "./kernel.js";
import { tverskyUpsampled } from "./tversky_upsampled.js";

/** The limits below which TI's denominator, −log's argument and the base of the focal power are kept; as in index.wgsl. */
const [DENOMINATOR, LOGARITHM, FOCAL] = [1e-7, 1e-7, 1e-6];

const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));

/** Adds one probability to (TP, FP, number of true pixels) at `at`. */
function count(partials: NumberArray, at: number, p: number, hit: boolean): void {
  if (hit) {
    partials[at]! += p;
    partials[at + 2]! += 1;
  } else {
    partials[at + 1]! += p;
  }
}

const sums =
  (softmax: boolean): ReferenceKernel =>
  ({ units, rows, classes, chunks, ignore }, [logits, labels, norm], [partials]) => {
    partials!.fill(0);
    for (let row = 0; row < units! * rows!; row++) {
      const chunk = Math.floor(row / rows!) * chunks! + ((row % rows!) % chunks!);
      for (let k = 0; k < classes!; k++) {
        const i = row * classes! + k;
        const at = (chunk * classes! + k) * 3;
        const label = labels![softmax ? row : i]!;
        if (label === ignore || label >= (softmax ? classes! : 2)) continue;
        if (softmax) count(partials!, at, Math.exp(logits![i]! - norm![2 * row]!) * norm![2 * row + 1]!, label === k);
        else count(partials!, at, sigmoid(logits![i]!), label === 1);
      }
    }
  };

export const tversky: ReferenceOp = {
  ...tverskyUpsampled,
  row_norm({ rows, classes }, [logits], [norm]) {
    for (let row = 0; row < rows!; row++) {
      const at = row * classes!;
      let largest = Number.NEGATIVE_INFINITY;
      for (let k = 0; k < classes!; k++) largest = Math.max(largest, logits![at + k]!);
      let sum = 0;
      for (let k = 0; k < classes!; k++) sum += Math.exp(logits![at + k]! - largest);
      norm![2 * row] = largest;
      norm![2 * row + 1] = 1 / sum;
    }
  },
  sums_softmax: sums(true),
  sums_sigmoid: sums(false),
  combine_sums({ units, chunks, classes }, [partials], [sums]) {
    sums!.fill(0);
    for (let chunk = 0; chunk < units! * chunks!; chunk++) {
      for (let k = 0; k < classes! * 3; k++) {
        sums![Math.floor(chunk / chunks!) * classes! * 3 + k]! += partials![chunk * classes! * 3 + k]!;
      }
    }
  },
  index(p, [sums, weights], [loss, slopes]) {
    const { units, classes, micro, alpha, beta, smooth_num, smooth_den, exponent, mean_first, log_loss, empty } = p;
    /** Value and derivative of x^exponent; a plain loss (exponent 1) is not clamped. */
    const focal = (x: number): [number, number] => {
      if (exponent === 1) return [x, 1];
      const base = Math.max(x, FOCAL);
      return [base ** exponent!, x > FOCAL ? exponent! * base ** (exponent! - 1) : 0];
    };
    interface Cell {
      weight: number;
      loss: number;
      /** Derivatives of the loss by the probability of a true and of a false pixel. */
      hit: number;
      miss: number;
    }
    const cellOf = (tp: number, fp: number, truth: number, weight: number): Cell => {
      if (weight === 0 || (truth === 0 && empty === 2)) return { weight: 0, loss: 0, hit: 0, miss: 0 };
      if (truth === 0 && empty === 1) return { weight, loss: 0, hit: 0, miss: 0 };
      const fn = truth - tp;
      const full = tp + alpha! * fp + beta! * fn + smooth_den!;
      const free = full >= DENOMINATOR; // a clamped denominator is a constant
      const den = Math.max(full, DENOMINATOR);
      const ti = (tp + smooth_num!) / den;
      const tiHit = free ? (1 - ti * (1 - beta!)) / den : 1 / den;
      const tiMiss = free ? (-ti * alpha!) / den : 0;
      let value = 1 - ti;
      let slope = -1;
      if (log_loss) {
        value = -Math.log(Math.max(ti, LOGARITHM));
        slope = ti > LOGARITHM ? -1 / ti : 0;
      }
      const [powered, derivative] = mean_first ? [value, 1] : focal(value);
      return { weight, loss: powered, hit: slope * derivative * tiHit, miss: slope * derivative * tiMiss };
    };
    const cells: Cell[] = [];
    for (let unit = 0; unit < units!; unit++) {
      const pooled = [0, 0, 0];
      for (let k = 0; k < classes!; k++) {
        const at = (unit * classes! + k) * 3;
        const of = [sums![at]!, sums![at + 1]!, sums![at + 2]!] as const;
        if (!micro) cells.push(cellOf(...of, weights![k]!));
        else if (weights![k]! > 0) for (let j = 0; j < 3; j++) pooled[j]! += of[j]!;
      }
      if (micro) cells.push(cellOf(pooled[0]!, pooled[1]!, pooled[2]!, 1));
    }
    const total = cells.reduce((sum, cell) => sum + cell.weight, 0);
    const mean = total > 0 ? cells.reduce((sum, cell) => sum + cell.weight * cell.loss, 0) / total : 0;
    const [powered, derivative] = mean_first && total > 0 ? focal(mean) : [mean, 1];
    loss![0] = powered;
    for (let i = 0; i < units! * classes!; i++) {
      const cell = cells[micro ? Math.floor(i / classes!) : i]!;
      const counts = micro && weights![i % classes!]! === 0 ? 0 : cell.weight;
      const scale = total > 0 ? (counts / total) * derivative : 0;
      slopes![2 * i] = scale * cell.hit;
      slopes![2 * i + 1] = scale * cell.miss;
    }
  },
  grad_softmax({ units, rows, classes, first_unit, ignore }, [logits, labels, norm, slopes, dy], [dlogits]) {
    dlogits!.fill(0);
    for (let row = 0; row < units! * rows!; row++) {
      const label = labels![row]!;
      if (label === ignore || label >= classes!) continue;
      const at = row * classes!;
      const unit = first_unit! + Math.floor(row / rows!);
      const p = (k: number) => Math.exp(logits![at + k]! - norm![2 * row]!) * norm![2 * row + 1]!;
      const g = (k: number) => slopes![(unit * classes! + k) * 2 + (k === label ? 0 : 1)]!;
      let mean = 0;
      for (let k = 0; k < classes!; k++) mean += p(k) * g(k);
      for (let k = 0; k < classes!; k++) dlogits![at + k] = dy![0]! * p(k) * (g(k) - mean);
    }
  },
  grad_sigmoid({ units, rows, classes, first_unit, ignore }, [logits, labels, slopes, dy], [dlogits]) {
    dlogits!.fill(0);
    for (let i = 0; i < units! * rows! * classes!; i++) {
      const label = labels![i]!;
      if (label === ignore || label > 1) continue;
      const unit = first_unit! + Math.floor(i / (rows! * classes!));
      const g = slopes![(unit * classes! + (i % classes!)) * 2 + (label === 1 ? 0 : 1)]!;
      const p = sigmoid(logits![i]!);
      dlogits![i] = dy![0]! * p * (1 - p) * g;
    }
  },
};
