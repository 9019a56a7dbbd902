import { differentiable } from "../autograd.js";
import { ArgumentError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import { type DType, isFloat } from "../shape.js";
import { run, scope, type Tensor } from "../tensor.js";

const conversion = <const N extends string>(name: `cast.${N}`) =>
  defineKernel({
    name,
    inputs: ["x"],
    outputs: ["y"],
    params: { count: "u32" },
    groups: (p) => linear(p.count),
    batch: { count: "count", buffers: ["x", "y"] },
  });
// Half precision is the only type that a shader file cannot name (see `alias T`), hence the odd pair.
const kernels = {
  "f32 f16": conversion("cast.f32_to_half"),
  "f16 f32": conversion("cast.half_to_f32"),
  // the same kernels: a device has f16 or bf16, and knows the types of its buffers
  get "f32 bf16"() {
    return this["f32 f16"];
  },
  get "bf16 f32"() {
    return this["f16 f32"];
  },
  "f32 i32": conversion("cast.f32_to_i32"),
  "f32 u32": conversion("cast.f32_to_u32"),
  "i32 f32": conversion("cast.i32_to_f32"),
  "u32 f32": conversion("cast.u32_to_f32"),
  "i32 u32": conversion("cast.i32_to_u32"),
  "u32 i32": conversion("cast.u32_to_i32"),
};
const isDirect = (key: string): key is keyof typeof kernels => key in kernels;

/**
 * The same values in another type. Float to integer drops the fraction and saturates; i32 and u32 keep their bits.
 * The gradient passes between float types. @throws DTypeError where the device does not have the type
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  const from = x.dtype;
  const y = converted(x, dtype);
  if (from !== dtype && !(isFloat(from) && isFloat(dtype))) return y;
  return differentiable([x], [], y, (dy) => [converted(dy, from)]);
}

/** @internal The values in another type, for an op whose own gradient rule knows of it. */
export function converted(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x.alias();
  const key = `${x.dtype} ${dtype}`;
  if (isDirect(key)) return run(kernels[key], [x], [{ shape: x.shape, dtype }], { count: x.size })[0];
  if (x.dtype === "f32" || dtype === "f32")
    throw new ArgumentError("cast", `no way from ${x.dtype} to ${dtype}`, { x: x.spec });
  return scope(() => converted(converted(x, "f32"), dtype)); // halves to and from the integers
}
