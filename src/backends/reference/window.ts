import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

type Params = Parameters<ReferenceKernel>[0];

/** Calls `visit` with the flat index of every element of the part in the part, and in the whole. */
function forEachInside(p: Params, visit: (part: number, whole: number) => void): void {
  let at = 0;
  for (let o = 0; o < p.outer!; o++) {
    for (let i = 0; i < p.part0!; i++) {
      for (let j = 0; j < p.part1!; j++) {
        const row = (o * p.whole0! + i + p.start0!) * p.whole1! + j + p.start1!;
        for (let k = 0; k < p.part2!; k++) visit(at++, row * p.whole2! + k + p.start2!);
      }
    }
  }
}
const elements = (p: Params): Params => ({ ...p, part2: p.part2! * 4, whole2: p.whole2! * 4, start2: p.start2! * 4 });

const cut: ReferenceKernel = (p, [x], [y]) => {
  forEachInside(p, (part, whole) => {
    y![part] = x![whole]!;
  });
};
const embed: ReferenceKernel = (p, [x], [y]) => {
  y!.fill(p.value!);
  forEachInside(p, (part, whole) => {
    y![whole] = x![part]!;
  });
};

export const window: ReferenceOp = {
  cut,
  cut_vec4: (p, inputs, outputs) => cut(elements(p), inputs, outputs),
  cut_integer: cut,
  embed,
  embed_vec4: (p, inputs, outputs) => embed(elements(p), inputs, outputs),
  embed_integer: embed,
};
