import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

const forward: ReferenceKernel = (p, [x], [y, index]) => {
  const { images, h, w, channels, outH, outW } = p as Record<string, number>;
  for (let n = 0; n < images!; n++) {
    for (let oy = 0; oy < outH!; oy++) {
      for (let ox = 0; ox < outW!; ox++) {
        for (let c = 0; c < channels!; c++) {
          let best = Number.NEGATIVE_INFINITY;
          let where = -1;
          for (let ky = 0; ky < p.kernelH!; ky++) {
            for (let kx = 0; kx < p.kernelW!; kx++) {
              const iy = oy * p.strideH! - p.padH! + ky * p.dilationH!;
              const ix = ox * p.strideW! - p.padW! + kx * p.dilationW!;
              if (iy < 0 || iy >= h! || ix < 0 || ix >= w!) continue;
              const value = x![((n * h! + iy) * w! + ix) * channels! + c]!;
              if (where < 0 || value > best) [best, where] = [value, iy * w! + ix];
            }
          }
          const to = ((n * outH! + oy) * outW! + ox) * channels! + c;
          y![to] = best;
          index![to] = where;
        }
      }
    }
  }
};

const gradInput: ReferenceKernel = (p, [dy, index], [dx]) => {
  const { images, h, w, channels, outH, outW } = p as Record<string, number>;
  dx!.fill(0);
  for (let n = 0; n < images!; n++) {
    for (let o = 0; o < outH! * outW!; o++) {
      for (let c = 0; c < channels!; c++) {
        const from = (n * outH! * outW! + o) * channels! + c;
        dx![(n * h! * w! + index![from]!) * channels! + c]! += dy![from]!;
      }
    }
  }
};

export const maxPool2d: ReferenceOp = {
  forward,
  forward_vec4: forward,
  grad_input: gradInput,
  grad_input_vec4: gradInput,
};
