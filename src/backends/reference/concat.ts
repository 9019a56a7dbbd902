import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

const copyPart: ReferenceKernel = ({ outer, run, stride, offset }, [x], [y]) => {
  for (let o = 0; o < outer!; o++) {
    for (let i = 0; i < run!; i++) y![o * stride! + offset! + i] = x![o * run! + i]!;
  }
};

export const concat: ReferenceOp = {
  copy_part: copyPart,
  copy_part_vec4({ outer, run, stride, offset }, inputs, outputs) {
    copyPart({ outer: outer!, run: run! * 4, stride: stride! * 4, offset: offset! * 4 }, inputs, outputs);
  },
  copy_part_integer: copyPart,
};
