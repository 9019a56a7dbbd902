import { differentiable } from "../autograd.js";
import { ArgumentError, DTypeError } from "../errors.js";
import { defineKernel, linear } from "../kernel.js";
import type { Generator } from "../random.js";
import { eachStep } from "../recording.js";
import { isFloat } from "../shape.js";
import { batchParts, runInto, scope, Tensor } from "../tensor.js";
import { liveCounter } from "./random.js";

// y[i] = word i of the stream >= threshold ? x[i] · factor : 0; word 4 b + j is word j of Philox block counter + b.
const apply = defineKernel({
  name: "dropout.apply",
  inputs: ["x"],
  outputs: ["y"],
  params: {
    count: "u32",
    key0: "u32",
    key1: "u32",
    counter0: "u32",
    counter1: "u32",
    threshold: "u32",
    factor: "f32",
  },
  groups: (p) => linear(Math.ceil(p.count / 4)),
});

/**
 * Sets each element to zero with probability `rate` and scales the others by 1 / (1 - rate). The mask is a function of
 * the generator's key and counter: the backward pass makes it again instead of keeping it. Draws ⌈size / 4⌉ blocks;
 * none for rate 0, which is the identity. f32 or f16.
 * Srivastava et al., "Dropout", 2014.
 * @throws ArgumentError for a rate outside [0, 1); DTypeError for integers.
 */
export function dropout(x: Tensor, rate: number, generator: Generator): Tensor {
  if (!(rate >= 0 && rate < 1))
    throw new ArgumentError("dropout", `the rate must lie in [0, 1), not ${rate}`, { x: x.spec });
  if (!isFloat(x.dtype)) throw new DTypeError("dropout", "takes f32 or f16", { x: x.spec });
  if (rate === 0) return differentiable([x], [], x.alias(), (dy) => [dy]);
  const { key } = generator;
  const blocks = Math.ceil(x.size / 4);
  let counter = 0;
  eachStep(() => {
    counter = generator.reserve(blocks);
  });
  const mask = (t: Tensor): Tensor => masked(t, rate, key, () => counter);
  return differentiable([x], [], mask(x), (dy) => [mask(dy)]);
}

function masked(x: Tensor, rate: number, [key0, key1]: Generator["key"], counter: () => number): Tensor {
  const threshold = Math.min(Math.round(rate * 2 ** 32), 2 ** 32 - 1);
  const factor = 1 / (1 - rate);
  return scope(() => {
    const y = Tensor.uninitialised(x.device, x.spec);
    let block = 0; // after the first
    for (const [from, to] of batchParts("dropout", [x, y])) {
      const words = liveCounter(counter, block);
      runInto(apply, [from], [to], { count: to.size, key0, key1, ...words, threshold, factor });
      block += Math.ceil(to.size / 4); // all parts but the last are multiples of 256 bytes
    }
    return y;
  });
}
