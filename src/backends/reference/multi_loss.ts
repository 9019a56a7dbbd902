import type { ReferenceOp } from "./kernel.js";

/** c² and e^s are taken as this or more; as in the shaders. */
const SMALLEST = 1e-4;

export const multiLoss: ReferenceOp = {
  add_term({ index, kendall, first }, [total, loss, c], [y, weight]) {
    const parameter = c![index!]!;
    const variance = Math.max(SMALLEST, kendall ? Math.exp(parameter) : parameter ** 2);
    const penalty = kendall ? Math.log(variance) / 2 : Math.log1p(variance);
    weight![0] = 0.5 / variance;
    y![0] = (first ? 0 : total![0]!) + (0.5 * loss![0]!) / variance + penalty;
  },
  grad_term({ index, kendall }, [loss, c, dy], [dloss, dc]) {
    const parameter = c![index!]!;
    const variance = Math.max(SMALLEST, kendall ? Math.exp(parameter) : parameter ** 2);
    const root = (parameter < 0 ? -1 : 1) * Math.sqrt(variance);
    const slope = kendall
      ? 0.5 - (0.5 * loss![0]!) / variance
      : root * (2 / (1 + variance) - loss![0]! / variance ** 2);
    dloss![0] = (0.5 / variance) * dy![0]!;
    dc!.fill(0);
    dc![index!] = slope * dy![0]!;
  },
};
