import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Shape, type Spec, sizeOf } from "../shape.js";
import { batchParts, run, runInto, scope, Tensor } from "../tensor.js";
import { cast } from "./cast.js";
import { add, scale } from "./elementwise.js";

/** Terms that one thread adds in sequence: bounds the rounding error and gives long sums enough threads. */
const TERMS = 64;

// x is seen as [outer, length, inner]; threads read every splits-th term, so that neighbours read neighbours.
const sumKernel = defineKernel({
  name: "reduce.sum",
  inputs: ["x"],
  outputs: ["y"],
  params: { outer: "u32", length: "u32", inner: "u32", splits: "u32" },
  groups: (p) => linear(p.outer * p.splits * p.inner),
  batch: { count: "outer", buffers: ["x", "y"] },
});
const expandKernel = defineKernel({
  name: "reduce.expand",
  inputs: ["dy"],
  outputs: ["dx"],
  params: { outer: "u32", length: "u32", inner: "u32" },
  groups: (p) => linear(p.outer * p.length * p.inner),
  batch: { count: "outer", buffers: ["dy", "dx"] },
});
const maxKernel = defineKernel({
  name: "reduce.maximum",
  inputs: ["x"],
  outputs: ["y", "index"],
  params: { outer: "u32", length: "u32", inner: "u32" },
  groups: (p) => linear(p.outer * p.inner),
  batch: { count: "outer", buffers: ["x", "y", "index"] },
});
const routeKernel = defineKernel({
  name: "reduce.route",
  inputs: ["dy", "index"],
  outputs: ["dx"],
  params: { outer: "u32", length: "u32", inner: "u32" },
  groups: (p) => linear(p.outer * p.length * p.inner),
  batch: { count: "outer", buffers: ["dy", "index", "dx"] },
});

export interface ReduceOptions {
  /** Axes to reduce, negative ones counted from the end; all of them by default. */
  readonly axes?: readonly number[];
  /** Keep the reduced axes with size 1. */
  readonly keepDims?: boolean;
}

interface Run {
  readonly outer: number;
  readonly length: number;
  readonly inner: number;
}

/** The reduced axes as runs of neighbours, last run first, and the shape that is left. */
function plan(op: string, x: Tensor, options: ReduceOptions): { runs: Run[]; shape: Shape } {
  const axes = new Set((options.axes ?? [...x.shape.keys()]).map((axis) => (axis < 0 ? axis + x.rank : axis)));
  for (const axis of axes) {
    if (!Number.isInteger(axis) || axis < 0 || axis >= x.rank) {
      throw new ShapeError(op, `axis ${axis} does not exist`, { x: x.spec });
    }
  }
  const runs: Run[] = [];
  const sizes = [...x.shape];
  for (let end = x.rank; end > 0; end--) {
    if (!axes.has(end - 1)) continue;
    let start = end - 1;
    while (start > 0 && axes.has(start - 1)) start--;
    const [outer, length, inner] = [
      sizeOf(sizes.slice(0, start)),
      sizeOf(sizes.slice(start, end)),
      sizeOf(sizes.slice(end)),
    ];
    runs.push({ outer, length, inner });
    sizes.fill(1, start, end);
    end = start + 1;
  }
  return { runs, shape: options.keepDims ? sizes : sizes.filter((_, axis) => !axes.has(axis)) };
}

function sumRun(x: Tensor, part: Run): Tensor {
  // One run over everything is split where it exceeds what the device binds; several are, item by item, by the backend.
  if (part.outer > 1 || x.bytes <= x.device.maxBindingBytes) return sumWhole(x, part);
  return batchParts("sum", [x.alias([part.length, part.inner])])
    .map(([rows]) => sumWhole(rows, { ...part, length: rows.shape[0]! }))
    .reduce((a, b) => add(a, b));
}

function sumWhole(x: Tensor, { outer, length, inner }: Run): Tensor {
  let [y, left] = [x, length];
  do {
    const splits = x.device.lanes > 1 ? Math.ceil(left / TERMS) : 1;
    const spec: Spec = { shape: [outer, splits, inner], dtype: "f32" };
    [y] = run(sumKernel, [y], [spec], { outer, length: left, inner, splits });
    left = splits;
  } while (left > 1);
  return y;
}

/** `[outer, inner]` repeated along a run: the gradient of its sum. */
function expandRun(dy: Tensor, { outer, length, inner }: Run): Tensor {
  const dx = Tensor.uninitialised(dy.device, { shape: [outer, length, inner], dtype: dy.dtype });
  if (outer > 1 || dx.bytes <= dx.device.maxBindingBytes) {
    runInto(expandKernel, [dy], [dx], { outer, length, inner });
    return dx;
  }
  for (const [rows] of batchParts("sum", [dx.alias([length, inner])])) {
    runInto(expandKernel, [dy], [rows], { outer, length: rows.shape[0]!, inner });
  }
  return dx;
}

/** Sum over `axes`, in a fixed order: the same bits every time. f32 or f16 (added up in f32). @throws ShapeError, DTypeError */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("sum", "takes f32 or f16", { x: x.spec });
  const { runs, shape } = plan("sum", x, options);
  if (x.size === 0) throw new ShapeError("sum", "nothing to sum", { x: x.spec });
  const y = scope(() => {
    const total = runs.reduce(sumRun, cast(x, "f32"));
    return cast(total.alias(shape), x.dtype);
  });
  const xShape = x.shape;
  return differentiable([x], [], y, (dy) => {
    let dx = dy;
    for (const part of [...runs].reverse()) dx = expandRun(dx, part);
    return [dx.alias(xShape)];
  });
}

/** Mean over `axes`. @throws ShapeError, DTypeError */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  return scope(() => {
    const total = sum(x, options);
    return scale(total, total.size / x.size);
  });
}

/** Largest value and the position of its first occurrence along the run. */
function maxRun(x: Tensor, { outer, length, inner }: Run): [Tensor, Tensor] {
  const shape = [outer, inner];
  return run(
    maxKernel,
    [x],
    [
      { shape, dtype: x.dtype },
      { shape, dtype: "u32" },
    ],
    { outer, length, inner },
  );
}

/** A long run as two shorter ones, so that more than a few threads have work; the first occurrence stays the first. */
function shorten(runs: readonly Run[]): Run[] {
  return runs.flatMap(({ outer, length, inner }) => {
    if (length <= 16 * TERMS) return [{ outer, length, inner }];
    let part = Math.floor(Math.sqrt(length));
    while (length % part !== 0) part--;
    if (part === 1) return [{ outer, length, inner }];
    return [
      { outer: outer * part, length: length / part, inner },
      { outer, length: part, inner },
    ];
  });
}

/** Maximum over `axes`; the gradient goes to the first of equal maxima. @throws ShapeError, DTypeError */
export function max(x: Tensor, options: ReduceOptions = {}): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("max", "takes f32 or f16", { x: x.spec });
  const { runs, shape } = plan("max", x, options);
  if (x.size === 0) throw new ShapeError("max", "no maximum of nothing", { x: x.spec });
  const steps = shorten(runs);
  const xShape = x.shape;
  return scope(() => {
    const indices: Tensor[] = [];
    let y = x;
    for (const step of steps) {
      const [value, index] = maxRun(y, step);
      y = value;
      indices.push(index);
    }
    return differentiable([x], indices, y.alias(shape), (dy, saved) => {
      let dx = dy;
      for (let i = steps.length - 1; i >= 0; i--) {
        const { outer, length, inner } = steps[i]!;
        const spec = { shape: [outer, length, inner], dtype: dy.dtype };
        [dx] = run(routeKernel, [dx, saved[i]!], [spec], { outer, length, inner });
      }
      return [dx.alias(xShape)];
    });
  });
}

/** Position of the first maximum along one axis (the last by default), as u32. No gradient. @throws ShapeError, DTypeError */
export function argmax(x: Tensor, options: { readonly axis?: number; readonly keepDims?: boolean } = {}): Tensor {
  if (!isFloat(x.dtype)) throw new DTypeError("argmax", "takes f32 or f16", { x: x.spec });
  if (x.rank === 0 || x.size === 0) throw new ArgumentError("argmax", "no axis to search", { x: x.spec });
  const { runs, shape } = plan("argmax", x, { axes: [options.axis ?? -1], keepDims: options.keepDims ?? false });
  return scope(() => maxRun(x, runs[0]!)[1].alias(shape));
}
