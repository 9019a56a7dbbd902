import type { NumberArray, ReferenceOp } from "./kernel.js";

/** The largest logit of a row, and the sum of exp(logit - largest). */
function normaliser(logits: NumberArray, at: number, classes: number): { largest: number; sum: number } {
  let largest = Number.NEGATIVE_INFINITY;
  for (let k = 0; k < classes; k++) largest = Math.max(largest, logits[at + k]!);
  let sum = 0;
  for (let k = 0; k < classes; k++) sum += Math.exp(logits[at + k]! - largest);
  return { largest, sum };
}

export const crossEntropy: ReferenceOp = {
  forward({ rows, classes, threads, ignore, smoothing }, [logits, labels, weights], [partials]) {
    partials!.fill(0);
    for (let row = 0; row < rows!; row++) {
      const label = labels![row]!;
      if (label === ignore || label >= classes!) continue;
      const { largest, sum } = normaliser(logits!, row * classes!, classes!);
      const negativeLog = (k: number) => Math.log(sum) + largest - logits![row * classes! + k]!;
      let spread = 0;
      for (let k = 0; k < classes!; k++) spread += weights![k]! * negativeLog(k);
      const t = row % threads!;
      partials![2 * t]! += (1 - smoothing!) * weights![label]! * negativeLog(label) + (smoothing! / classes!) * spread;
      partials![2 * t + 1]! += weights![label]!;
    }
  },
  combine({ count }, [partials], [loss, total]) {
    let [lossSum, weightSum] = [0, 0];
    for (let i = 0; i < count!; i++) {
      lossSum += partials![2 * i]!;
      weightSum += partials![2 * i + 1]!;
    }
    loss![0] = weightSum > 0 ? lossSum / weightSum : 0;
    total![0] = weightSum;
  },
  grad_logits({ rows, classes, ignore, smoothing, weight_sum }, [logits, labels, weights, total, dy], [dlogits]) {
    dlogits!.fill(0);
    const scale = total![0]! > 0 ? dy![0]! / total![0]! : 0;
    for (let row = 0; row < rows!; row++) {
      const label = labels![row]!;
      if (label === ignore || label >= classes!) continue;
      const at = row * classes!;
      const { largest, sum } = normaliser(logits!, at, classes!);
      for (let k = 0; k < classes!; k++) {
        const p = Math.exp(logits![at + k]! - largest) / sum;
        const hard = weights![label]! * (p - (k === label ? 1 : 0));
        const soft = p * weight_sum! - weights![k]!;
        dlogits![at + k] = scale * ((1 - smoothing!) * hard + (smoothing! / classes!) * soft);
      }
    }
  },
};
