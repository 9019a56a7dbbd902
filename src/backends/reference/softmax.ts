import type { ReferenceOp } from "./kernel.js";

export const softmax: ReferenceOp = {
  forward({ rows, classes }, [x], [y]) {
    for (let r = 0; r < rows!; r++) {
      const row = x!.subarray(r * classes!, (r + 1) * classes!);
      const { top, total } = exponentials(row);
      row.forEach((v, c) => {
        y![r * classes! + c] = Math.exp(v - top) / total;
      });
    }
  },
  backward({ rows, classes }, [dy, y], [dx]) {
    for (let r = 0; r < rows!; r++) {
      let dot = 0;
      for (let i = r * classes!; i < (r + 1) * classes!; i++) dot += dy![i]! * y![i]!;
      for (let i = r * classes!; i < (r + 1) * classes!; i++) dx![i] = y![i]! * (dy![i]! - dot);
    }
  },
  log_forward({ rows, classes }, [x], [y]) {
    for (let r = 0; r < rows!; r++) {
      const row = x!.subarray(r * classes!, (r + 1) * classes!);
      const { top, total } = exponentials(row);
      row.forEach((v, c) => {
        y![r * classes! + c] = v - top - Math.log(total);
      });
    }
  },
  log_backward({ rows, classes }, [dy, y], [dx]) {
    for (let r = 0; r < rows!; r++) {
      let total = 0;
      for (let i = r * classes!; i < (r + 1) * classes!; i++) total += dy![i]!;
      for (let i = r * classes!; i < (r + 1) * classes!; i++) dx![i] = dy![i]! - Math.exp(y![i]!) * total;
    }
  },
};

/** The largest value of a row, and the sum of the exponentials of the distances to it: at least 1. */
function exponentials(row: ArrayLike<number>): { top: number; total: number } {
  let top = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < row.length; c++) top = Math.max(top, row[c]!);
  let total = 0;
  for (let c = 0; c < row.length; c++) total += Math.exp(row[c]! - top);
  return { top, total };
}
