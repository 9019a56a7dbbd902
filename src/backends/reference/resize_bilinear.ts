import type { ReferenceKernel, ReferenceOp } from "./kernel.js";

/** The two inputs that output i lies between, and its weight on the second. */
export function between(
  i: number,
  size: number,
  step: number,
  offset: number,
  scale: number,
): [number, number, number] {
  const at = Math.min(Math.max((step * i + offset) / scale, 0), size - 1);
  const low = Math.floor(at);
  return [low, Math.min(low + 1, size - 1), at - low];
}

const forward: ReferenceKernel = (p, [x], [y]) => {
  const { images, h, w, channels, outH, outW } = p as Record<string, number>;
  for (let n = 0; n < images!; n++) {
    for (let oy = 0; oy < outH!; oy++) {
      const [top, bottom, v] = between(oy, h!, p.stepH!, p.offsetH!, p.scaleH!);
      for (let ox = 0; ox < outW!; ox++) {
        const [left, right, u] = between(ox, w!, p.stepW!, p.offsetW!, p.scaleW!);
        for (let c = 0; c < channels!; c++) {
          const at = (iy: number, ix: number) => x![((n * h! + iy) * w! + ix) * channels! + c]!;
          y![((n * outH! + oy) * outW! + ox) * channels! + c] =
            (1 - v) * ((1 - u) * at(top, left) + u * at(top, right)) +
            v * ((1 - u) * at(bottom, left) + u * at(bottom, right));
        }
      }
    }
  }
};

/** The scatter that the forward pass implies; the GPU gathers. */
const gradAxis: ReferenceKernel = ({ outer, size, channels, outSize, step, offset, scale }, [dy], [dx]) => {
  dx!.fill(0);
  for (let n = 0; n < outer!; n++) {
    for (let i = 0; i < outSize!; i++) {
      const [low, high, t] = between(i, size!, step!, offset!, scale!);
      for (let c = 0; c < channels!; c++) {
        const g = dy![(n * outSize! + i) * channels! + c]!;
        dx![(n * size! + low) * channels! + c]! += (1 - t) * g;
        dx![(n * size! + high) * channels! + c]! += t * g;
      }
    }
  }
};

export const resizeBilinear: ReferenceOp = {
  forward,
  forward_vec4: forward,
  grad_axis: gradAxis,
  grad_axis_vec4: gradAxis,
};
