import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

const convert =
  (f: (value: number) => number): ReferenceKernel =>
  ({ count }, [x], [y]) => {
    for (let i = 0; i < count!; i++) y![i] = f(x![i]!);
  };
const saturate = (low: number, high: number) => (value: number) => Math.min(Math.max(Math.trunc(value), low), high);

export const cast: ReferenceOp = {
  f32_to_half: convert((value) => value), // the reference keeps f16 in float64, unrounded
  half_to_f32: convert((value) => value),
  f32_to_i32: convert(saturate(-(2 ** 31), 2 ** 31 - 1)),
  f32_to_u32: convert(saturate(0, 2 ** 32 - 1)),
  i32_to_f32: convert((value) => value),
  u32_to_f32: convert((value) => value),
  i32_to_u32: convert((value) => value >>> 0),
  u32_to_i32: convert((value) => value | 0),
};
