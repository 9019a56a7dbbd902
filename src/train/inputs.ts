import type { Device } from "../device.js";
import { slice } from "../ops/index.js";
import { Tensor, withoutScope } from "../tensor.js";
import type { TrainConfig } from "./config.js";

/** A batch on the device. */
export interface Inputs {
  /** `[n source, crop, crop, bands]` */
  readonly x: Tensor;
  /** `[n source, crop, crop]`, u32 */
  readonly y: Tensor;
  /** `[n target, crop, crop, bands]`; null where training sees the source only. */
  readonly t: Tensor | null;
  /** As `t`, for the teacher; null where it is `t` or there is none. */
  readonly plain: Tensor | null;
}

export function makeInputs(
  device: Device,
  { batch, crop }: TrainConfig,
  bands: number,
  has: { readonly target: boolean; readonly plain: boolean },
): Inputs {
  const shape = [batch.target, crop, crop, bands];
  return withoutScope(() => ({
    x: Tensor.zeros(device, [batch.source, crop, crop, bands]),
    y: Tensor.zeros(device, [batch.source, crop, crop], "u32"),
    t: has.target ? Tensor.zeros(device, shape) : null,
    plain: has.plain ? Tensor.zeros(device, shape) : null,
  }));
}

/** `count` images of a batch, from `start` on. */
export const images = (x: Tensor, start: number, count: number): Tensor =>
  slice(x, [start, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);
