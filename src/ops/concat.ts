import { differentiable, isTracked } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Spec, sizeOf } from "../shape.js";
import { runInto, Tensor } from "../tensor.js";
import { cut } from "./window.js";

// y[o, offset + i] = x[o, i] for i < run, where a row of y holds `stride` elements: one operand's place in the output.
const params = { outer: "u32", run: "u32", stride: "u32", offset: "u32" } as const;
const batch = { count: "outer", buffers: ["x", "y"] } as const;
const copyPart = defineKernel({
  name: "concat.copy_part",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(p.outer * p.run),
  batch,
});
/** The same in vectors of four: run, stride and offset count vectors. */
const copyPartVec4 = defineKernel({
  name: "concat.copy_part_vec4",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(p.outer * p.run),
  batch,
});
const copyPartInteger = defineKernel({
  name: "concat.copy_part_integer",
  inputs: ["x"],
  outputs: ["y"],
  params,
  groups: (p) => linear(p.outer * p.run),
  batch,
});

/**
 * Joins tensors along one axis (the last by default; negative axes count from the end). All other sizes and the element
 * type must agree. Any element type; gradients flow to f32 and f16 operands.
 * @throws ArgumentError for no operands or an axis that does not exist; DTypeError or ShapeError where operands differ.
 */
export function concat(xs: readonly Tensor[], axis = -1): Tensor {
  const first = xs[0];
  if (!first) throw new ArgumentError("concat", "there is nothing to join");
  const at = axis < 0 ? axis + first.rank : axis;
  const operands = (): Record<string, Spec> => Object.fromEntries(xs.map((x, i) => [`${i}`, x.spec]));
  if (!Number.isInteger(at) || at < 0 || at >= first.rank) {
    throw new ArgumentError("concat", `there is no axis ${axis}`, operands());
  }
  if (xs.some((x) => x.dtype !== first.dtype)) throw new DTypeError("concat", "element types differ", operands());
  if (xs.some((x) => x.rank !== first.rank || x.shape.some((n, i) => i !== at && n !== first.shape[i]))) {
    throw new ShapeError("concat", `sizes differ on another axis than ${at}`, operands());
  }
  const total = xs.reduce((sum, x) => sum + x.shape[at]!, 0);
  const shape = first.shape.map((n, i) => (i === at ? total : n));
  const y = xs.length === 1 ? first.alias() : joined(xs, at, { shape, dtype: first.dtype });
  if (!isFloat(first.dtype)) return y;
  // Where each operand begins; those that nobody differentiates are not cut out of dy.
  const pieces = xs.map((x, i) => ({
    start: xs.slice(0, i).reduce((total, before) => total + before.shape[at]!, 0),
    shape: x.shape,
    wanted: isTracked(x),
  }));
  return differentiable(xs, [], y, (dy) =>
    pieces.map((piece) =>
      piece.wanted
        ? cut(
            dy,
            dy.shape.map((_, i) => (i === at ? piece.start : 0)),
            piece.shape,
          )
        : null,
    ),
  );
}

function joined(xs: readonly Tensor[], axis: number, spec: Spec): Tensor {
  const y = Tensor.uninitialised(xs[0]!.device, spec);
  const outer = sizeOf(spec.shape.slice(0, axis));
  const inner = sizeOf(spec.shape.slice(axis + 1));
  const stride = spec.shape[axis]! * inner;
  const runs = xs.map((x) => x.shape[axis]! * inner);
  const vec4 = isFloat(spec.dtype) && runs.every((run) => run % 4 === 0);
  const kernel = !isFloat(spec.dtype) ? copyPartInteger : vec4 ? copyPartVec4 : copyPart;
  const width = vec4 ? 4 : 1;
  let offset = 0;
  xs.forEach((x, i) => {
    const run = runs[i]!;
    if (x.size > 0) {
      runInto(kernel, [x], [y], { outer, run: run / width, stride: stride / width, offset: offset / width });
    }
    offset += run;
  });
  return y;
}
