import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

const permute: ReferenceKernel = (p, [x], [y]) => {
  const sizes = [p.size0!, p.size1!, p.size2!, p.size3!, p.size4!, p.size5!];
  const strides = [p.stride0!, p.stride1!, p.stride2!, p.stride3!, p.stride4!, p.stride5!];
  const item = sizes.reduce((a, b) => a * b, 1);
  for (let o = 0; o < p.outer!; o++) {
    for (let i = 0; i < item; i++) {
      let rest = i;
      let from = o * item;
      for (let axis = 5; axis >= 0; axis--) {
        from += (rest % sizes[axis]!) * strides[axis]!;
        rest = Math.floor(rest / sizes[axis]!);
      }
      y![o * item + i] = x![from]!;
    }
  }
};

export const transpose: ReferenceOp = { permute, permute_integer: permute };
