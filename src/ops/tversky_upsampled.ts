import { differentiable } from "../autograd.js";
import { defineKernel, linear } from "../kernel.js";
import { batchParts, runInto, scope, Tensor } from "../tensor.js";
import { blockOf } from "./partials.js";
import { sampling, samplingOf } from "./resize_bilinear.js";
import { type IndexLayout, indexOf } from "./tversky_index.js";

// Logits of a small map, labels of a large one: every kernel interpolates the logits it needs (ops/resize_bilinear.ts
// says where) and no upsampled logit is stored. `pixels` are those of the large map. Besides labels and small maps four
// f32 per pixel are: norm, kept for the backward pass, and mean, within it (softmax only).
const grid = { images: "u32", h: "u32", w: "u32", classes: "u32", ...sampling } as const;

const normUpsampled = defineKernel({
  name: "tversky.norm_upsampled",
  inputs: ["logits"],
  outputs: ["norm"],
  params: grid,
  groups: (p) => linear(p.images * Math.ceil(p.outH / 4) * p.outW),
});
/** A chunk is a column of `span` rows of pixels; a unit's rows are those of all its images, one below the other. */
const sumsUpsampled = defineKernel({
  name: "tversky.sums_upsampled",
  inputs: ["logits", "labels", "norm"],
  outputs: ["partials"],
  params: { ...grid, units: "u32", chunks: "u32", span: "u32", block: "u32", ignore: "u32", softmax: "u32" },
  groups: (p) => linear(p.units * p.chunks * Math.ceil(p.classes / 4)),
});
const meanUpsampled = defineKernel({
  name: "tversky.mean_upsampled",
  inputs: ["logits", "labels", "norm", "slopes"],
  outputs: ["mean"],
  params: { ...grid, units: "u32", first_unit: "u32", ignore: "u32" },
  groups: (p) => linear(p.images * Math.ceil(p.outH / 4) * p.outW),
});
const gradUpsampled = defineKernel({
  name: "tversky.grad_upsampled",
  inputs: ["logits", "labels", "norm", "mean", "slopes", "dy"],
  outputs: ["dlogits"],
  params: { ...grid, units: "u32", first_unit: "u32", band: "u32", ignore: "u32", softmax: "u32" },
  groups: (p) => linear(p.images * Math.ceil(p.h / p.band) * p.w * Math.ceil(p.classes / 4)),
});

/** Fewest rows of pixels of a chunk: a thread reads its small-map rows once for several of them. */
const LEAST_SPAN = 8;

/** `tversky` with `upsample`; operands are checked. */
export function tverskyUpsampled(
  logits: Tensor, // [n, h, w, classes]
  labels: Tensor, // [n, H, W] or [n, H, W, classes]
  { alignCorners }: { readonly alignCorners: boolean },
  layout: IndexLayout & { readonly softmax: boolean; readonly ignore: number },
): Tensor {
  const { classes, units, softmax, ignore } = layout;
  const [n, h, w] = logits.shape as [number, number, number, number];
  const [, outH, outW] = labels.shape as [number, number, number];
  const at = samplingOf("tversky", [h, w], [outH, outW], alignCorners);
  const byImage = (t: Tensor) => t.alias([n, t.size / n]);
  const gridOf = (part: Tensor) => ({ images: part.shape[0]!, h, w, classes, ...at });
  const unitsIn = (part: Tensor) => (units > 1 ? part.shape[0]! : 1);
  // Two numbers per pixel. The sigmoid reads none: then there are just enough for images to start where devices bind.
  const perPixel = { shape: [n, softmax ? outH * outW * 2 : 64], dtype: "f32" } as const;
  const fours = Math.ceil(classes / 4);
  const { device } = logits;

  return scope(() => {
    const norm = Tensor.uninitialised(device, perPixel);
    // A device's binding limit is kept by working in parts of whole images.
    const parts = batchParts("tversky", [byImage(logits), byImage(labels), norm]);
    const mostBands = Math.floor(device.lanes / (fours * outW * (units > 1 ? units : parts.length)));
    const plans = parts.map(([z]) => {
      const rows = (z.shape[0]! / unitsIn(z)) * outH;
      const span = Math.max(LEAST_SPAN, Math.ceil(rows / Math.max(1, mostBands)));
      // in multiples of 64, as in partials.ts: chunks past the last band are empty
      return { chunks: Math.ceil((outW * Math.ceil(rows / span)) / 64) * 64, span, block: blockOf(span, 1) };
    });
    // Parts of one unit lie side by side as more chunks; parts of several units have as many chunks each.
    const chunks = units > 1 ? plans[0]!.chunks : plans.reduce((sum, plan) => sum + plan.chunks, 0);
    const partials = Tensor.uninitialised(device, { shape: [units, chunks, classes, 3], dtype: "f32" });
    let start = 0;
    parts.forEach(([z, y, pixels], i) => {
      const params = { ...gridOf(z), units: unitsIn(z), ...plans[i]!, ignore, softmax: Number(softmax) };
      const target = partials.part(start, [params.units, params.chunks, classes, 3]);
      start += target.size;
      if (softmax) runInto(normUpsampled, [z], [pixels], gridOf(z));
      runInto(sumsUpsampled, [z, y, pixels], [target], params);
    });
    const { loss, slopes } = indexOf(partials, layout);

    return differentiable([logits], [logits, labels, norm, slopes], loss, (dy, [z, y, pixels, ab]) => {
      const dlogits = Tensor.uninitialised(device, z.spec);
      const mean = Tensor.uninitialised(device, perPixel);
      // Long bands repeat less work at their ends; short ones give a device the threads it asks for.
      const band = Math.min(h, Math.max(1, Math.floor((4 * n * h * w * fours) / device.lanes)));
      let firstUnit = 0;
      for (const part of batchParts("tversky", [byImage(z), byImage(y), pixels, mean, byImage(dlogits)])) {
        const [zPart, yPart, pixelsPart, meanPart, target] = part;
        const params = { ...gridOf(zPart), units: unitsIn(zPart), first_unit: firstUnit, ignore };
        if (softmax) runInto(meanUpsampled, [zPart, yPart, pixelsPart, ab], [meanPart], params);
        runInto(gradUpsampled, [zPart, yPart, pixelsPart, meanPart, ab, dy], [target], {
          ...params,
          band,
          softmax: Number(softmax),
        });
        if (units > 1) firstUnit += params.units;
      }
      return [dlogits];
    });
  });
}
