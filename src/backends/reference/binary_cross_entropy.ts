import type { ReferenceOp } from "./kernel.js";

export const binaryCrossEntropy: ReferenceOp = {
  forward({ count, threads, given, constant, weighted }, [logits, targets, weights], [partials]) {
    partials!.fill(0);
    for (let i = 0; i < count!; i++) {
      const z = logits![i]!;
      const t = given ? targets![i]! : constant!;
      const loss = Math.max(z, 0) - t * z + Math.log1p(Math.exp(-Math.abs(z)));
      partials![i % threads!]! += weighted ? weights![i]! * loss : loss;
    }
  },
  combine({ count, scale }, [partials], [loss]) {
    let sum = 0;
    for (let i = 0; i < count!; i++) sum += partials![i]!;
    loss![0] = scale! * sum;
  },
  grad_logits({ count, given, constant, weighted, scale }, [logits, targets, weights, dy], [dlogits]) {
    for (let i = 0; i < count!; i++) {
      const t = given ? targets![i]! : constant!;
      const slope = 1 / (1 + Math.exp(-logits![i]!)) - t;
      dlogits![i] = scale! * dy![0]! * (weighted ? weights![i]! * slope : slope);
    }
  },
};
