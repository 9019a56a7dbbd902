import type { ReferenceOp } from "./kernel.js";

export const optimizer: ReferenceOp = {
  sgd({ count, lr, momentum, decay, nesterov }, [dw, clip], [w, m]) {
    for (let i = 0; i < count!; i++) {
      const g = clip![1]! * dw![i]! + decay! * w![i]!;
      m![i] = momentum! * m![i]! + g;
      w![i] = w![i]! - lr! * (nesterov ? g + momentum! * m![i]! : m![i]!);
    }
  },
  adam({ count, lr, keep, decay, rate1, beta2, rate2, root, eps }, [dw, clip], [w, m, v]) {
    for (let i = 0; i < count!; i++) {
      const g = clip![1]! * dw![i]! + decay! * w![i]!;
      m![i] = m![i]! + rate1! * (g - m![i]!);
      v![i] = beta2! * v![i]! + rate2! * g * g;
      w![i] = keep! * w![i]! - (lr! * m![i]!) / (Math.sqrt(v![i]!) * root! + eps!);
    }
  },
  ema({ count, rate }, [w], [y]) {
    for (let i = 0; i < count!; i++) y![i] = y![i]! + rate! * (w![i]! - y![i]!);
  },
  square_sum({ count, lanes }, [x], [y]) {
    for (let lane = 0; lane < lanes!; lane++) {
      let sum = 0;
      for (let four = lane; four < count! / 4; four += lanes!) {
        for (let i = 4 * four; i < 4 * four + 4; i++) sum += x![i]! ** 2;
      }
      y![lane] = sum;
    }
  },
  clip_factor({ count, limit }, [partials], [clip]) {
    let sum = 0;
    for (let i = 0; i < count!; i++) sum += partials![i]!;
    const norm = Math.sqrt(sum);
    clip![0] = norm;
    clip![1] = limit! > 0 ? Math.min(1, limit! / (norm + 1e-6)) : 1;
  },
};
