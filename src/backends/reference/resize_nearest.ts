import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

/** Calls `visit` with the index of every output element and of the input element it copies. */
function walk(p: Readonly<Record<string, number>>, visit: (to: number, from: number) => void): void {
  const { images, h, w, channels, outH, outW } = p as Record<string, number>;
  for (let n = 0; n < images!; n++) {
    for (let oy = 0; oy < outH!; oy++) {
      for (let ox = 0; ox < outW!; ox++) {
        const iy = Math.floor((oy * h!) / outH!);
        const ix = Math.floor((ox * w!) / outW!);
        for (let c = 0; c < channels!; c++) {
          visit(((n * outH! + oy) * outW! + ox) * channels! + c, ((n * h! + iy) * w! + ix) * channels! + c);
        }
      }
    }
  }
}

const forward: ReferenceKernel = (p, [x], [y]) => {
  walk(p, (to, from) => {
    y![to] = x![from]!;
  });
};

const gradInput: ReferenceKernel = (p, [dy], [dx]) => {
  dx!.fill(0);
  walk(p, (to, from) => {
    dx![from]! += dy![to]!;
  });
};

export const resizeNearest: ReferenceOp = {
  forward,
  forward_vec4: forward,
  grad_input: gradInput,
  grad_input_vec4: gradInput,
};
