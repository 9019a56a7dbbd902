import { differentiable, isTracked } from "../autograd.js";
import { DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat } from "../shape.js";
import { run, type Tensor } from "../tensor.js";

const multiply = defineKernel({
  name: "matmul.multiply",
  inputs: ["a", "b"],
  outputs: ["y"],
  // Distances in elements between the rows and between the columns of a as [m, k] and b as [k, n].
  params: { m: "u32", n: "u32", k: "u32", a_row: "u32", a_column: "u32", b_row: "u32", b_column: "u32" },
  groups: (p) => linear(Math.ceil(p.m / 4) * Math.ceil(p.n / 4)),
});
/** Neither operand transposed, k and n multiples of four. */
const multiplyVec4 = defineKernel({
  name: "matmul.multiply_vec4",
  inputs: ["a", "b"],
  outputs: ["y"],
  params: { m: "u32", n: "u32", k: "u32" },
  groups: (p) => linear(Math.ceil(p.m / 4) * (p.n / 4)),
});

export interface MatmulOptions {
  /** a is given as [k, m]. */
  readonly transposeA?: boolean;
  /** b is given as [n, k]. */
  readonly transposeB?: boolean;
}

/**
 * Matrix product: y[i, j] = Σ a[i, l] · b[l, j], either operand optionally transposed; nothing is copied for that.
 * @param a `[m, k]` (or `[k, m]`), f32 or f16
 * @param b `[k, n]` (or `[n, k]`), of a's type
 * @returns `[m, n]`
 * @throws ShapeError where the operands are not matrices whose inner sizes agree, or are empty; DTypeError
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false } = options;
  const operands = { a: a.spec, b: b.spec };
  if (!isFloat(a.dtype) || a.dtype !== b.dtype) throw new DTypeError("matmul", "takes f32, or f16 twice", operands);
  if (a.rank !== 2 || b.rank !== 2) throw new ShapeError("matmul", "operands must be matrices", operands);
  if (a.size === 0 || b.size === 0) throw new ShapeError("matmul", "operands must not be empty", operands);
  const [k, other] = [a.shape[transposeA ? 0 : 1]!, b.shape[transposeB ? 1 : 0]!];
  if (k !== other) throw new ShapeError("matmul", `the inner sizes, ${k} and ${other}, differ`, operands);
  const [wantsA, wantsB] = [isTracked(a), isTracked(b)];
  const saved = [...(wantsA ? [b] : []), ...(wantsB ? [a] : [])];
  return differentiable([a, b], saved, product(a, transposeA, b, transposeB), (dy, kept) => {
    const [savedB, savedA] = [kept[0]!, kept[kept.length - 1]!];
    // With A and B as the product sees them: dA = dy · Bᵀ and dB = Aᵀ · dy, transposed back where an operand was.
    const da = () => (transposeA ? product(savedB, transposeB, dy, true) : product(dy, false, savedB, !transposeB));
    const db = () => (transposeB ? product(dy, true, savedA, transposeA) : product(savedA, !transposeA, dy, false));
    return [wantsA ? da() : null, wantsB ? db() : null];
  });
}

function product(a: Tensor, transposeA: boolean, b: Tensor, transposeB: boolean): Tensor {
  const [aRows, aColumns] = a.shape as [number, number];
  const [bRows, bColumns] = b.shape as [number, number];
  const [m, k] = transposeA ? [aColumns, aRows] : [aRows, aColumns];
  const n = transposeB ? bRows : bColumns;
  const spec = { shape: [m, n], dtype: a.dtype };
  if (!transposeA && !transposeB && k % 4 === 0 && n % 4 === 0)
    return run(multiplyVec4, [a, b], [spec], { m, n, k })[0];
  const [a_row, a_column] = transposeA ? [1, aColumns] : [aColumns, 1];
  const [b_row, b_column] = transposeB ? [1, bColumns] : [bColumns, 1];
  return run(multiply, [a, b], [spec], { m, n, k, a_row, a_column, b_row, b_column })[0];
}
