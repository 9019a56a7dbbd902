/**
 * Element types. `f16` (WebGPU) and `bf16` (CUDA) are storage only: kernels compute in f32. Integers are 32 bits wide.
 */
export type DType = "f32" | "f16" | "bf16" | "i32" | "u32";
export type Shape = readonly number[];

/** What a tensor is, without where it lives. */
export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** What reading a tensor gives. Halves arrive as Float32Array; f32 as Float64Array on the reference backend only. */
export type TensorData = Float32Array | Float64Array | Int32Array | Uint32Array;

export const isFloat = (dtype: DType): boolean => dtype === "f32" || dtype === "f16" || dtype === "bf16";

/** Number of elements; 1 for a scalar. */
export const sizeOf = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

export const bytesPerElement = (dtype: DType): number => (dtype === "f16" || dtype === "bf16" ? 2 : 4);

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, i) => size === b[i]);

/** `f32[8, 33, 33, 256]` */
export const formatSpec = ({ dtype, shape }: Spec): string => `${dtype}[${shape.join(", ")}]`;

/** Distance in elements between neighbours along each axis of a dense row-major tensor. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  return strides;
}

/** The shape two operands broadcast to (NumPy's rule), or null where they do not. */
export function broadcastShape(a: Shape, b: Shape): Shape | null {
  const rank = Math.max(a.length, b.length);
  const out: number[] = [];
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return null;
    out.push(x === 1 ? y : x);
  }
  return out;
}
