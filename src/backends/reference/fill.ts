import type { ReferenceOp } from "./kernel.js";

export const fill: ReferenceOp = {
  constant({ count, value }, _inputs, [y]) {
    y!.fill(value!, 0, count);
  },
  integer({ count, value }, _inputs, [y]) {
    y!.fill(value!, 0, count);
  },
};
