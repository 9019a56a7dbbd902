import type { Backend } from "../backends/backend.js";
import { ArgumentError } from "../errors.js";

export const precisions = ["f32", "tf32", "bf16"] as const;
/** How a network computes on CUDA; elsewhere there is only "f32". */
export type Precision = (typeof precisions)[number];

/** Sets the device to it. @throws ArgumentError where it does not have that precision. */
export function usePrecision(op: string, device: Backend, precision: Precision): void {
  const missing = precision === "tf32" ? !device.allowTf32 : precision === "bf16" && !device.supports("bf16");
  if (missing) throw new ArgumentError(op, `${device.description} has no ${precision}; "f32" works everywhere`);
  device.allowTf32?.(precision === "tf32");
}
