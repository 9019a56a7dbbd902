import { fillWords } from "../../philox.js";
import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

/** The words that a kernel with these parameters draws. */
export function wordsOf({ count, key0, key1, counter0, counter1 }: Parameters<ReferenceKernel>[0]): Uint32Array {
  const words = new Uint32Array(count!);
  fillWords(words, [key0!, key1!], counter0! + counter1! * 2 ** 32);
  return words;
}

export const random: ReferenceOp = {
  draw_bits(p, _inputs, [y]) {
    y!.set(wordsOf(p));
  },
  draw_uniform(p, _inputs, [y]) {
    wordsOf(p).forEach((word, i) => {
      y![i] = (word >>> 8) * 2 ** -24;
    });
  },
};
