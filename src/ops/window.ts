import { defineKernel, linear } from "../kernel.js";
import { isFloat, type Shape, sizeOf } from "../shape.js";
import { run, type Tensor } from "../tensor.js";

// A window is a box inside a larger tensor: `cut` copies it out, `embed` puts it into a constant. Each is the other's
// gradient, so slice, pad and concat share them. The kernels see [outer, three axes], as neighbouring axes that are not
// restricted merge: x[:, 3:9, :, 2:5] of [n, h, w, c] is outer = n and the axes (h · w) and c.
const box = {
  outer: "u32",
  part0: "u32",
  part1: "u32",
  part2: "u32",
  whole0: "u32",
  whole1: "u32",
  whole2: "u32",
  start0: "u32",
  start1: "u32",
  start2: "u32",
} as const;
type Box = { readonly [K in keyof typeof box]: number };

const partSize = (p: Box): number => p.outer * p.part0 * p.part1 * p.part2;
const wholeSize = (p: Box): number => p.outer * p.whole0 * p.whole1 * p.whole2;
const batch = { count: "outer", buffers: ["x", "y"] } as const;

const cutFloat = defineKernel({
  name: "window.cut",
  inputs: ["x"],
  outputs: ["y"],
  params: box,
  groups: (p) => linear(partSize(p)),
  batch,
});
/** The same in vectors of four: part2, whole2 and start2 count vectors. */
const cutVec4 = defineKernel({
  name: "window.cut_vec4",
  inputs: ["x"],
  outputs: ["y"],
  params: box,
  groups: (p) => linear(partSize(p)),
  batch,
});
const cutInteger = defineKernel({
  name: "window.cut_integer",
  inputs: ["x"],
  outputs: ["y"],
  params: box,
  groups: (p) => linear(partSize(p)),
  batch,
});
const embedFloat = defineKernel({
  name: "window.embed",
  inputs: ["x"],
  outputs: ["y"],
  params: { ...box, value: "f32" },
  groups: (p) => linear(wholeSize(p)),
  batch,
});
/** The same in vectors of four: part2, whole2 and start2 count vectors. */
const embedVec4 = defineKernel({
  name: "window.embed_vec4",
  inputs: ["x"],
  outputs: ["y"],
  params: { ...box, value: "f32" },
  groups: (p) => linear(wholeSize(p)),
  batch,
});
const embedInteger = defineKernel({
  name: "window.embed_integer",
  inputs: ["x"],
  outputs: ["y"],
  params: { ...box, value: "i32" },
  groups: (p) => linear(wholeSize(p)),
  batch,
});

/** y[i, …] = x[i + starts[0], …], `sizes` elements along each axis. The window must lie inside x; no gradient. */
export function cut(x: Tensor, starts: readonly number[], sizes: Shape): Tensor {
  const axes = restricted(x.shape, sizes);
  if (axes.length === 0) return x.alias();
  if (axes.length > 3) {
    const first = axes[0]!;
    using once = cut(
      x,
      only(starts, first),
      x.shape.map((whole, i) => (i === first ? sizes[i]! : whole)),
    );
    return cut(once, without(starts, first), sizes);
  }
  const window = merge(x.shape, starts, sizes, axes);
  const vec4 = isFloat(x.dtype) && inVectors(window);
  const kernel = !isFloat(x.dtype) ? cutInteger : vec4 ? cutVec4 : cutFloat;
  return run(kernel, [x], [{ shape: sizes, dtype: x.dtype }], vec4 ? vectors(window) : window)[0];
}

/** y of `shape`: x from `starts` on, `value` elsewhere. x must fit; no gradient. */
export function embed(x: Tensor, starts: readonly number[], shape: Shape, value: number): Tensor {
  const axes = restricted(shape, x.shape);
  if (axes.length === 0) return x.alias();
  if (axes.length > 3) {
    const first = axes[0]!;
    using once = embed(
      x,
      without(starts, first),
      shape.map((whole, i) => (i === first ? x.shape[i]! : whole)),
      value,
    );
    return embed(once, only(starts, first), shape, value);
  }
  const window = merge(shape, starts, x.shape, axes);
  const spec = { shape, dtype: x.dtype };
  if (!isFloat(x.dtype)) return run(embedInteger, [x], [spec], { ...window, value })[0];
  if (inVectors(window)) return run(embedVec4, [x], [spec], { ...vectors(window), value })[0];
  return run(embedFloat, [x], [spec], { ...window, value })[0];
}

/** The axes along which the part is smaller than the whole. */
const restricted = (whole: Shape, part: Shape): number[] => [...whole.keys()].filter((i) => whole[i] !== part[i]);

const only = (starts: readonly number[], axis: number): number[] => starts.map((s, i) => (i === axis ? s : 0));
const without = (starts: readonly number[], axis: number): number[] => starts.map((s, i) => (i === axis ? 0 : s));

/** Each restricted axis (three at most) takes the unrestricted ones behind it along; those before the first are `outer`. */
function merge(whole: Shape, starts: readonly number[], part: Shape, axes: readonly number[]): Box {
  const merged = axes.map((axis, i) => {
    const inner = sizeOf(whole.slice(axis + 1, axes[i + 1]));
    return { part: part[axis]! * inner, whole: whole[axis]! * inner, start: starts[axis]! * inner };
  });
  while (merged.length < 3) merged.unshift({ part: 1, whole: 1, start: 0 });
  const [a, b, c] = merged as [(typeof merged)[0], (typeof merged)[0], (typeof merged)[0]];
  return {
    outer: sizeOf(whole.slice(0, axes[0])),
    part0: a.part,
    part1: b.part,
    part2: c.part,
    whole0: a.whole,
    whole1: b.whole,
    whole2: c.whole,
    start0: a.start,
    start1: b.start,
    start2: c.start,
  };
}

const inVectors = (p: Box): boolean => p.part2 % 4 === 0 && p.whole2 % 4 === 0 && p.start2 % 4 === 0;
const vectors = (p: Box): Box => ({ ...p, part2: p.part2 / 4, whole2: p.whole2 / 4, start2: p.start2 / 4 });
