import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

const multiply: ReferenceKernel = ({ m, n, k, a_row, a_column, b_row, b_column }, [a, b], [y]) => {
  for (let i = 0; i < m!; i++) {
    for (let j = 0; j < n!; j++) {
      let sum = 0;
      for (let l = 0; l < k!; l++) sum += a![i * a_row! + l * a_column!]! * b![l * b_row! + j * b_column!]!;
      y![i * n! + j] = sum;
    }
  }
};

export const matmul: ReferenceOp = {
  multiply,
  multiply_vec4: ({ m, n, k }, inputs, outputs) =>
    multiply({ m: m!, n: n!, k: k!, a_row: k!, a_column: 1, b_row: n!, b_column: 1 }, inputs, outputs),
};
