import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

/** Calls `visit(to, from, divisor)` for every output element and every element of the map in its window. */
function walk(p: Readonly<Record<string, number>>, visit: (to: number, from: number, divisor: number) => void): void {
  const { images, h, w, channels, outH, outW } = p as Record<string, number>;
  for (let n = 0; n < images!; n++) {
    for (let oy = 0; oy < outH!; oy++) {
      for (let ox = 0; ox < outW!; ox++) {
        const pixels: number[] = [];
        for (let ky = 0; ky < p.kernelH!; ky++) {
          for (let kx = 0; kx < p.kernelW!; kx++) {
            const iy = oy * p.strideH! - p.padH! + ky;
            const ix = ox * p.strideW! - p.padW! + kx;
            if (iy >= 0 && iy < h! && ix >= 0 && ix < w!) pixels.push((n * h! + iy) * w! + ix);
          }
        }
        const divisor = p.countPad ? p.kernelH! * p.kernelW! : pixels.length;
        const to = (n * outH! + oy) * outW! + ox;
        for (const pixel of pixels) {
          for (let c = 0; c < channels!; c++) visit(to * channels! + c, pixel * channels! + c, divisor);
        }
      }
    }
  }
}

const forward: ReferenceKernel = (p, [x], [y]) => {
  y!.fill(0);
  walk(p, (to, from, divisor) => {
    y![to]! += x![from]! / divisor;
  });
};

const gradInput: ReferenceKernel = (p, [dy], [dx]) => {
  dx!.fill(0);
  walk(p, (to, from, divisor) => {
    dx![from]! += dy![to]! / divisor;
  });
};

const sumChunks: ReferenceKernel = ({ images, rows, channels, chunks, chunkRows }, [x], [sums]) => {
  sums!.fill(0);
  for (let n = 0; n < images!; n++) {
    for (let row = 0; row < rows!; row++) {
      const to = n * chunks! + Math.floor(row / chunkRows!);
      for (let c = 0; c < channels!; c++) sums![to * channels! + c]! += x![(n * rows! + row) * channels! + c]!;
    }
  }
};

const spreadMean: ReferenceKernel = ({ images, rows, channels }, [dy], [dx]) => {
  for (let row = 0; row < images! * rows!; row++) {
    for (let c = 0; c < channels!; c++) {
      dx![row * channels! + c] = dy![Math.floor(row / rows!) * channels! + c]! / rows!;
    }
  }
};

export const avgPool2d: ReferenceOp = {
  forward,
  forward_vec4: forward,
  grad_input: gradInput,
  grad_input_vec4: gradInput,
  sum_chunks: sumChunks,
  sum_chunks_vec4: sumChunks,
  finish_mean({ images, rows, channels, chunks }, [sums], [y]) {
    for (let n = 0; n < images!; n++) {
      for (let c = 0; c < channels!; c++) {
        let sum = 0;
        for (let chunk = 0; chunk < chunks!; chunk++) sum += sums![(n * chunks! + chunk) * channels! + c]!;
        y![n * channels! + c] = sum / rows!;
      }
    }
  },
  spread_mean: spreadMean,
  spread_mean_vec4: spreadMean,
};
