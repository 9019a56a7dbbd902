import type { ReferenceOp } from "./kernel.js";

export const oneHot: ReferenceOp = {
  forward({ items, classes }, [indices], [y]) {
    for (let i = 0; i < items!; i++) {
      for (let c = 0; c < classes!; c++) y![i * classes! + c] = indices![i] === c ? 1 : 0;
    }
  },
};
