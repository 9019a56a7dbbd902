import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError, ShapeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import type { Live } from "../recording.js";
import { broadcastShape, isFloat, type Shape, sameShape } from "../shape.js";
import { run, scope, type Tensor } from "../tensor.js";
import { sum } from "./reduce.js";

/** Broadcasting kernels know this many axes; runs of axes that broadcast alike count as one. */
const MAX_AXES = 6;

const binary = <const N extends string>(name: `elementwise.${N}`) =>
  defineKernel({
    name,
    inputs: ["a", "b"],
    outputs: ["y"],
    params: { count: "u32" },
    groups: (p) => linear(p.count),
    batch: { count: "count", buffers: ["a", "b", "y"] },
  });
const addKernel = binary("elementwise.add");
const subKernel = binary("elementwise.sub");
const mulKernel = binary("elementwise.mul");
const divKernel = binary("elementwise.div");

const broadcast = <const N extends string>(name: `elementwise.${N}`) =>
  defineKernel({
    name,
    inputs: ["a", "b"],
    outputs: ["y"],
    // Sizes of the output's last five axes; strides of both operands along all six, 0 where they broadcast.
    params: {
      count: "u32",
      n1: "u32",
      n2: "u32",
      n3: "u32",
      n4: "u32",
      n5: "u32",
      a0: "u32",
      a1: "u32",
      a2: "u32",
      a3: "u32",
      a4: "u32",
      a5: "u32",
      b0: "u32",
      b1: "u32",
      b2: "u32",
      b3: "u32",
      b4: "u32",
      b5: "u32",
    },
    groups: (p) => linear(p.count),
  });
const addBroadcast = broadcast("elementwise.add_broadcast");
const subBroadcast = broadcast("elementwise.sub_broadcast");
const mulBroadcast = broadcast("elementwise.mul_broadcast");
const divBroadcast = broadcast("elementwise.div_broadcast");

const unary = <const N extends string>(name: `elementwise.${N}`) =>
  defineKernel({
    name,
    inputs: ["x"],
    outputs: ["y"],
    params: { count: "u32", a: "f32", b: "f32" },
    groups: (p) => linear(p.count),
    batch: { count: "count", buffers: ["x", "y"] },
  });
const scaleKernel = unary("elementwise.scale");
const addScalarKernel = unary("elementwise.add_scalar");
const powKernel = unary("elementwise.pow_scalar");
const expKernel = unary("elementwise.exponential");
const logKernel = unary("elementwise.logarithm");
const sqrtKernel = unary("elementwise.square_root");
const clampKernel = unary("elementwise.clamp_between");
const reluKernel = unary("elementwise.relu");
const leakyReluKernel = unary("elementwise.leaky_relu");
const sigmoidKernel = unary("elementwise.sigmoid");
const softplusKernel = unary("elementwise.softplus");
const tanhKernel = unary("elementwise.hyperbolic_tangent");

/** `s` is what the op saved: its input or its output. */
const backward = <const N extends string>(name: `elementwise.${N}`) =>
  defineKernel({
    name,
    inputs: ["dy", "s"],
    outputs: ["dx"],
    params: { count: "u32", a: "f32", b: "f32" },
    groups: (p) => linear(p.count),
    batch: { count: "count", buffers: ["dy", "s", "dx"] },
  });
const sqrtBackward = backward("elementwise.square_root_backward");
const clampBackward = backward("elementwise.clamp_between_backward");
const reluBackward = backward("elementwise.relu_backward");
const leakyReluBackward = backward("elementwise.leaky_relu_backward");
const sigmoidBackward = backward("elementwise.sigmoid_backward");
const softplusBackward = backward("elementwise.softplus_backward");
const tanhBackward = backward("elementwise.hyperbolic_tangent_backward");

function requireFloat(op: string, operands: Readonly<Record<string, Tensor>>): void {
  const [first, ...rest] = Object.values(operands);
  const specs = Object.fromEntries(Object.entries(operands).map(([name, t]) => [name, t.spec]));
  if (!isFloat(first!.dtype)) throw new DTypeError(op, "takes f32 or f16", specs);
  if (rest.some((t) => t.dtype !== first!.dtype)) throw new DTypeError(op, "operands differ in type", specs);
}

function combine(op: string, same: typeof addKernel, spread: typeof addBroadcast, a: Tensor, b: Tensor): Tensor {
  requireFloat(op, { a, b });
  if (sameShape(a.shape, b.shape)) return run(same, [a, b], [a.spec], { count: a.size })[0];
  const shape = broadcastShape(a.shape, b.shape);
  if (!shape) throw new ShapeError(op, "shapes do not broadcast", { a: a.spec, b: b.spec });
  const axes = collapse(op, shape, a, b);
  const params: Record<string, number> = { count: shape.reduce((p, q) => p * q, 1) };
  axes.forEach(({ size, strideA, strideB }, i) => {
    if (i > 0) params[`n${i}`] = size;
    params[`a${i}`] = strideA;
    params[`b${i}`] = strideB;
  });
  return run(spread, [a, b], [{ shape, dtype: a.dtype }], params as Parameters<typeof spread.groups>[0])[0];
}

interface Axis {
  size: number;
  strideA: number;
  strideB: number;
}

/** The output's axes, outermost first, neighbours that both operands walk alike merged, padded in front to six. */
function collapse(op: string, shape: Shape, a: Tensor, b: Tensor): Axis[] {
  const merged: Axis[] = [];
  const [walkA, walkB] = [a.shape, b.shape].map((own) => {
    let stride = 1;
    return [...shape.keys()].reverse().map((axis) => {
      const size = own[axis - shape.length + own.length] ?? 1;
      const step = size === 1 ? 0 : stride;
      stride *= size;
      return step;
    });
  });
  for (const [i, axis] of [...shape.keys()].reverse().entries()) {
    const size = shape[axis]!;
    if (size === 1) continue;
    const [strideA, strideB] = [walkA![i]!, walkB![i]!];
    const inner = merged.at(-1);
    const continues = (outer: number, within: number) => outer === within * (inner?.size ?? 0);
    if (inner && continues(strideA, inner.strideA) && continues(strideB, inner.strideB)) inner.size *= size;
    else merged.push({ size, strideA, strideB });
  }
  if (merged.length > MAX_AXES) {
    throw new ShapeError(op, `broadcasts along more than ${MAX_AXES} separate axes`, { a: a.spec, b: b.spec });
  }
  while (merged.length < MAX_AXES) merged.push({ size: 1, strideA: 0, strideB: 0 });
  return merged.reverse();
}

/** Sums a gradient over the axes along which its operand was repeated. */
function unbroadcast(dy: Tensor, shape: Shape): Tensor {
  if (sameShape(dy.shape, shape)) return dy;
  const lead = dy.rank - shape.length;
  const axes = [...dy.shape.keys()].filter((axis) => axis < lead || (shape[axis - lead] === 1 && dy.shape[axis] !== 1));
  return sum(dy, { axes, keepDims: true }).alias(shape);
}

/** a + b. Shapes broadcast by NumPy's rule; f32 or f16, both alike. @throws ShapeError, DTypeError */
export function add(a: Tensor, b: Tensor): Tensor {
  const y = combine("add", addKernel, addBroadcast, a, b);
  const [shapeA, shapeB] = [a.shape, b.shape];
  return differentiable([a, b], [], y, (dy) => [unbroadcast(dy, shapeA), unbroadcast(dy, shapeB)]);
}

/** a − b. Shapes broadcast. @throws ShapeError, DTypeError */
export function sub(a: Tensor, b: Tensor): Tensor {
  const y = combine("sub", subKernel, subBroadcast, a, b);
  const [shapeA, shapeB] = [a.shape, b.shape];
  return differentiable([a, b], [], y, (dy) => [unbroadcast(dy, shapeA), unbroadcast(neg(dy), shapeB)]);
}

/** a · b, element by element. Shapes broadcast. @throws ShapeError, DTypeError */
export function mul(a: Tensor, b: Tensor): Tensor {
  const y = combine("mul", mulKernel, mulBroadcast, a, b);
  return differentiable([a, b], [a, b], y, (dy, [a, b]) => [
    unbroadcast(mul(dy, b), a.shape),
    unbroadcast(mul(dy, a), b.shape),
  ]);
}

/** a / b, element by element. Shapes broadcast. @throws ShapeError, DTypeError */
export function div(a: Tensor, b: Tensor): Tensor {
  const y = combine("div", divKernel, divBroadcast, a, b);
  return differentiable([a, b], [b, y], y, (dy, [b, y]) => {
    const da = div(dy, b);
    return [unbroadcast(da, a.shape), unbroadcast(neg(mul(da, y)), b.shape)];
  });
}

function map(op: string, kernel: typeof scaleKernel, x: Tensor, a: Live = 0, b = 0): Tensor {
  requireFloat(op, { x });
  return run(kernel, [x], [x.spec], { count: x.size, a, b })[0];
}
function pull(kernel: typeof reluBackward, dy: Tensor, s: Tensor, a = 0, b = 0): Tensor {
  return run(kernel, [dy, s], [dy.spec], { count: dy.size, a, b })[0];
}

/** factor · x. A function is asked for its factor anew at each replay of a captured step. */
export function scale(x: Tensor, factor: Live): Tensor {
  return differentiable([x], [], map("scale", scaleKernel, x, factor), (dy) => [scale(dy, factor)]);
}

/** −x. */
export const neg = (x: Tensor): Tensor => scale(x, -1);

/** x + value. */
export function addScalar(x: Tensor, value: number): Tensor {
  return differentiable([x], [], map("addScalar", addScalarKernel, x, value), (dy) => [dy]);
}

/** x^exponent. Where the exponent is not a whole number, x must not be negative; x⁰ is 1 with zero gradient. */
export function pow(x: Tensor, exponent: number): Tensor {
  if (!Number.isFinite(exponent)) throw new ArgumentError("pow", `exponent ${exponent} is not finite`, { x: x.spec });
  if (exponent === 0) return scope(() => addScalar(scale(x, 0), 1));
  return differentiable([x], [x], map("pow", powKernel, x, exponent), (dy, [x]) => [
    mul(dy, exponent === 1 ? addScalar(scale(x, 0), 1) : scale(pow(x, exponent - 1), exponent)),
  ]);
}

/** eˣ. */
export function exp(x: Tensor): Tensor {
  const y = map("exp", expKernel, x);
  return differentiable([x], [y], y, (dy, [y]) => [mul(dy, y)]);
}

/** Natural logarithm; x must be positive. */
export function log(x: Tensor): Tensor {
  return differentiable([x], [x], map("log", logKernel, x), (dy, [x]) => [div(dy, x)]);
}

/** Square root; x must not be negative. The gradient at 0 is 0, not infinite. */
export function sqrt(x: Tensor): Tensor {
  const y = map("sqrt", sqrtKernel, x);
  return differentiable([x], [y], y, (dy, [y]) => [pull(sqrtBackward, dy, y)]);
}

/** x limited to [low, high]; the gradient passes where low ≤ x ≤ high, as in PyTorch. @throws ArgumentError where low > high */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new ArgumentError("clamp", `low ${low} exceeds high ${high}`, { x: x.spec });
  return differentiable([x], [x], map("clamp", clampKernel, x, low, high), (dy, [x]) => [
    pull(clampBackward, dy, x, low, high),
  ]);
}

/** max(x, 0); gradient 0 at 0. */
export function relu(x: Tensor): Tensor {
  const y = map("relu", reluKernel, x);
  return differentiable([x], [y], y, (dy, [y]) => [reluGradient(dy, y)]);
}
/** dy where relu's output y is positive, 0 elsewhere. */
export const reluGradient = (dy: Tensor, y: Tensor): Tensor => pull(reluBackward, dy, y);

/** x where positive, slope · x elsewhere. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  return differentiable([x], [x], map("leakyRelu", leakyReluKernel, x, slope), (dy, [x]) => [
    pull(leakyReluBackward, dy, x, slope),
  ]);
}

/** 1 / (1 + e⁻ˣ), finite for any x. */
export function sigmoid(x: Tensor): Tensor {
  const y = map("sigmoid", sigmoidKernel, x);
  return differentiable([x], [y], y, (dy, [y]) => [pull(sigmoidBackward, dy, y)]);
}

/** ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), finite for any x. */
export function softplus(x: Tensor): Tensor {
  return differentiable([x], [x], map("softplus", softplusKernel, x), (dy, [x]) => [pull(softplusBackward, dy, x)]);
}

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  const y = map("tanh", tanhKernel, x);
  return differentiable([x], [y], y, (dy, [y]) => [pull(tanhBackward, dy, y)]);
}
