import type { NumberArray, ReferenceKernel, ReferenceOp } from "./kernel.js";

type Params = Readonly<Record<string, number>>;

const binary =
  (f: (a: number, b: number) => number): ReferenceKernel =>
  ({ count }, [a, b], [y]) => {
    for (let i = 0; i < count!; i++) y![i] = f(a![i]!, b![i]!);
  };

/** Operands repeat along axes where their stride is 0; axes are the contract's n1 … n5 below an outermost one. */
const broadcast =
  (f: (a: number, b: number) => number): ReferenceKernel =>
  (p, [a, b], [y]) => {
    const position = (index: number, operand: "a" | "b") => {
      let at = 0;
      for (let axis = 5; axis > 0; axis--) {
        const size = p[`n${axis}`]!;
        at += (index % size) * p[`${operand}${axis}`]!;
        index = Math.floor(index / size);
      }
      return at + index * p[`${operand}0`]!;
    };
    for (let i = 0; i < p.count!; i++) y![i] = f(a![position(i, "a")]!, b![position(i, "b")]!);
  };

const unary =
  (f: (x: number, p: Params) => number): ReferenceKernel =>
  (p, [x], [y]) => {
    for (let i = 0; i < p.count!; i++) y![i] = f(x![i]!, p);
  };

/** `slope` is the derivative at what the forward pass saved. */
const backward =
  (slope: (s: number, p: Params) => number): ReferenceKernel =>
  (p: Params, [dy, s]: readonly NumberArray[], [dx]: readonly NumberArray[]) => {
    for (let i = 0; i < p.count!; i++) dx![i] = dy![i]! * slope(s![i]!, p);
  };

const logistic = (x: number) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));

export const elementwise: ReferenceOp = {
  add: binary((a, b) => a + b),
  sub: binary((a, b) => a - b),
  mul: binary((a, b) => a * b),
  div: binary((a, b) => a / b),
  add_broadcast: broadcast((a, b) => a + b),
  sub_broadcast: broadcast((a, b) => a - b),
  mul_broadcast: broadcast((a, b) => a * b),
  div_broadcast: broadcast((a, b) => a / b),

  scale: unary((x, { a }) => a! * x),
  add_scalar: unary((x, { a }) => x + a!),
  pow_scalar: unary((x, { a }) => x ** a!),
  exponential: unary((x) => Math.exp(x)),
  logarithm: unary((x) => Math.log(x)),
  square_root: unary((x) => Math.sqrt(x)),
  clamp_between: unary((x, { a, b }) => Math.min(Math.max(x, a!), b!)),
  relu: unary((x) => Math.max(x, 0)),
  leaky_relu: unary((x, { a }) => (x > 0 ? x : a! * x)),
  sigmoid: unary(logistic),
  softplus: unary((x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
  hyperbolic_tangent: unary((x) => Math.tanh(x)),

  square_root_backward: backward((y) => (y > 0 ? 0.5 / y : 0)),
  clamp_between_backward: backward((x, { a, b }) => (x >= a! && x <= b! ? 1 : 0)),
  relu_backward: backward((y) => (y > 0 ? 1 : 0)),
  leaky_relu_backward: backward((x, { a }) => (x > 0 ? 1 : a!)),
  sigmoid_backward: backward((y) => y * (1 - y)),
  softplus_backward: backward(logistic),
  hyperbolic_tangent_backward: backward((y) => 1 - y * y),
};
