import type { ReferenceOp } from "./kernel.js";

export const accumulate: ReferenceOp = {
  add({ count }, [a, b], [y]) {
    for (let i = 0; i < count!; i++) y![i] = a![i]! + b![i]!;
  },
};
