import type { ReferenceOp } from "./kernel.js";
import { wordsOf } from "./random.js";

export const dropout: ReferenceOp = {
  apply(p, [x], [y]) {
    wordsOf(p).forEach((word, i) => {
      y![i] = word >= p.threshold! ? x![i]! * p.factor! : 0;
    });
  },
};
