import { differentiable } from "../autograd.js";
import { ArgumentError, ShapeError } from "../errors.js";
import { defineKernel, linear, type ParamsOf } from "../kernel.js";
import { isFloat, type Shape, sizeOf, stridesOf } from "../shape.js";
import { run, type Tensor } from "../tensor.js";

const MAX_RANK = 6;

// y[o, i0 … i5] = x[o, i0 · stride0 + … + i5 · stride5]: sizes are those of y, strides those of x in the order of y.
const params = {
  outer: "u32",
  size0: "u32",
  size1: "u32",
  size2: "u32",
  size3: "u32",
  size4: "u32",
  size5: "u32",
  stride0: "u32",
  stride1: "u32",
  stride2: "u32",
  stride3: "u32",
  stride4: "u32",
  stride5: "u32",
} as const;
type Params = ParamsOf<typeof params>;
const count = (p: Params): number => p.outer * p.size0 * p.size1 * p.size2 * p.size3 * p.size4 * p.size5;
const batch = { count: "outer", buffers: ["x", "y"] } as const;
const permute = defineKernel({
  name: "transpose.permute",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(count(p)),
  batch,
});
const permuteInteger = defineKernel({
  name: "transpose.permute_integer",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(count(p)),
  batch,
});

/**
 * `x` with its axes in another order: axis i of the result is axis `permutation[i]` of x. Any element type, up to six
 * axes. The gradient is dy under the inverse permutation.
 * @throws ArgumentError where `permutation` does not name every axis once; ShapeError for more than six axes.
 */
export function transpose(x: Tensor, permutation: readonly number[]): Tensor {
  if (x.rank > MAX_RANK) throw new ShapeError("transpose", `takes at most ${MAX_RANK} axes`, { x: x.spec });
  const inverse = x.shape.map((_, axis) => permutation.indexOf(axis));
  if (permutation.length !== x.rank || inverse.includes(-1)) {
    throw new ArgumentError("transpose", `[${permutation}] does not name every axis once`, { x: x.spec });
  }
  const y = permuted(x, permutation);
  if (!isFloat(x.dtype)) return y;
  return differentiable([x], [], y, (dy) => [permuted(dy, inverse)]);
}

function permuted(x: Tensor, permutation: readonly number[]): Tensor {
  const shape = permutation.map((axis) => x.shape[axis]!);
  const { outer, sizes, strides } = merge(x.shape, permutation);
  if (sizes.length === 0) return x.alias(shape);
  while (sizes.length < MAX_RANK) {
    sizes.unshift(1);
    strides.unshift(0);
  }
  const [size0, size1, size2, size3, size4, size5] = sizes as Six;
  const [stride0, stride1, stride2, stride3, stride4, stride5] = strides as Six;
  const kernel = isFloat(x.dtype) ? permute : permuteInteger;
  return run(kernel, [x], [{ shape, dtype: x.dtype }], {
    ...{ outer, size0, size1, size2, size3, size4, size5 },
    ...{ stride0, stride1, stride2, stride3, stride4, stride5 },
  })[0];
}
type Six = [number, number, number, number, number, number];

/**
 * Leaves out axes of size 1, merges axes that stay neighbours, and splits off the leading ones that stay where they are
 * (`outer`). No sizes are left where nothing moves.
 */
function merge(shape: Shape, permutation: readonly number[]): { outer: number; sizes: number[]; strides: number[] } {
  const strides = stridesOf(shape);
  const axes: { size: number; stride: number }[] = [];
  for (const axis of permutation) {
    const [size, stride] = [shape[axis]!, strides[axis]!];
    const last = axes.at(-1);
    if (size === 1) continue;
    if (last && last.stride === stride * size) {
      last.size *= size;
      last.stride = stride;
    } else axes.push({ size, stride });
  }
  const first = axes[0];
  const fixed = first !== undefined && first.size * first.stride === sizeOf(shape);
  if (fixed) axes.shift();
  return {
    outer: fixed && axes.length > 0 ? first.size : 1,
    sizes: axes.map((axis) => axis.size),
    strides: axes.map((axis) => axis.stride),
  };
}
