import type { Backend } from "../backends/backend.js";
import { defineKernel, linear } from "../kernel.js";
import { counterWords } from "../philox.js";
import type { Generator } from "../random.js";
import { eachStep } from "../recording.js";
import type { Shape } from "../shape.js";
import { runInto, Tensor } from "../tensor.js";

// Word 4 i + j is word j of Philox block counter + i. Key and counter are 64 bits, low word first.
const params = { count: "u32", key0: "u32", key1: "u32", counter0: "u32", counter1: "u32" } as const;
const randomBits = defineKernel({
  name: "random.draw_bits",
  inputs: [],
  outputs: ["y"],
  params,
  groups: (p) => linear(Math.ceil(p.count / 4)),
});
const randomUniform = defineKernel({
  name: "random.draw_uniform",
  inputs: [],
  outputs: ["y"],
  params,
  groups: (p) => linear(Math.ceil(p.count / 4)),
});

/** A u32 tensor of random words, made on the device: the bits of `generator.u32`. Draws ⌈size / 4⌉ blocks. */
export function bits(device: Backend, shape: Shape, generator: Generator): Tensor {
  const y = Tensor.uninitialised(device, { shape, dtype: "u32" });
  draw(randomBits, y, generator);
  return y;
}

/**
 * An f32 tensor of multiples of 2^-24 in [0, 1), made on the device: the values of `generator.uniform`. Draws
 * ⌈size / 4⌉ blocks.
 */
export function uniform(device: Backend, shape: Shape, generator: Generator): Tensor {
  const y = Tensor.uninitialised(device, { shape, dtype: "f32" });
  draw(randomUniform, y, generator);
  return y;
}

function draw(kernel: typeof randomBits | typeof randomUniform, y: Tensor, generator: Generator): void {
  const [key0, key1] = generator.key;
  const blocks = Math.ceil(y.size / 4);
  let counter = 0;
  eachStep(() => {
    counter = generator.reserve(blocks);
  });
  runInto(kernel, [], [y], { count: y.size, key0, key1, ...liveCounter(() => counter) });
}

/** @internal The words of a counter that each replay of a captured step moves on. */
export const liveCounter = (counter: () => number, offset = 0) => ({
  counter0: () => counterWords(counter() + offset)[0],
  counter1: () => counterWords(counter() + offset)[1],
});
