import { fullScale, type TileSamples } from "../dataset.js";

/** A span of one axis: from where in the given samples, and how much of each counts for one output sample. */
interface Span {
  readonly first: number;
  readonly weights: readonly number[];
}

/**
 * How output samples `start … start + count - 1` of an axis are made from samples that `factor` output samples stand for
 * one of: the mean over what each covers where that is more than a sample, else between the two nearest centres.
 * @param offset First sample that is at hand; `size` samples are.
 */
function spans(start: number, count: number, factor: number, offset: number, size: number): Span[] {
  const clamp = (i: number) => Math.min(size - 1, Math.max(0, i - offset));
  return Array.from({ length: count }, (_, i): Span => {
    const [low, high] = [(start + i) / factor, (start + i + 1) / factor];
    if (factor >= 1) {
      const centre = (low + high) / 2 - 0.5;
      const weight = centre - Math.floor(centre);
      const [a, b] = [clamp(Math.floor(centre)), clamp(Math.floor(centre) + 1)];
      return a === b ? { first: a, weights: [1] } : { first: a, weights: [1 - weight, weight] };
    }
    const [from, to] = [Math.floor(low), Math.ceil(high)];
    const weights: number[] = [];
    for (let s = from; s < to; s++) {
      if (s - offset < 0 || s - offset >= size) continue;
      weights.push(Math.min(high, s + 1) - Math.max(low, s));
    }
    const total = weights.reduce((a, b) => a + b, 0);
    return { first: clamp(from), weights: weights.map((w) => w / total) };
  });
}

/** A window of a resampled image: where it stands in the output, and what of the input is at hand. */
export interface Resampling {
  /** Output samples for one input sample, by axis. */
  readonly factor: { readonly x: number; readonly y: number };
  readonly output: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  readonly input: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
}

/** What of an image of the given size a window of its resampled copy needs, a sample more on every side. */
export function inputWindow({ factor, output }: Omit<Resampling, "input">, size: { width: number; height: number }) {
  const along = (start: number, count: number, f: number, limit: number) => {
    const low = Math.max(0, Math.floor(start / f) - 1);
    return [low, Math.min(limit, Math.ceil((start + count) / f) + 1) - low] as const;
  };
  const [x, width] = along(output.x, output.width, factor.x, size.width);
  const [y, height] = along(output.y, output.height, factor.y, size.height);
  return { x, y, width, height };
}

/**
 * Measured values at another resolution: area means when reducing, bilinear when enlarging, over measured pixels only.
 * @returns image `[height, width, bands]`, and validity (null where all is valid): a pixel is valid where half of what it
 * stands for is.
 */
export function resampleImage(
  image: TileSamples,
  valid: Uint8Array | null,
  bands: number,
  { factor, output, input }: Resampling,
): { image: TileSamples; valid: Uint8Array | null } {
  const rows = spans(output.y, output.height, factor.y, input.y, input.height);
  const columns = spans(output.x, output.width, factor.x, input.x, input.width);
  const out = image.slice(0, 0).constructor as new (length: number) => TileSamples;
  const values = new out(output.width * output.height * bands);
  const isWhole = fullScale(image) !== 1;
  const kept = valid ? new Uint8Array(output.width * output.height) : null;
  const sums = new Float64Array(bands);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      sums.fill(0);
      let total = 0;
      row.weights.forEach((wy, r) => {
        column.weights.forEach((wx, c) => {
          const pixel = (row.first + r) * input.width + column.first + c;
          if (valid && valid[pixel] === 0) return;
          total += wy * wx;
          for (let b = 0; b < bands; b++) sums[b]! += wy * wx * image[pixel * bands + b]!;
        });
      });
      const to = y * output.width + x;
      const isValid = total >= 0.5;
      if (kept) kept[to] = isValid ? 1 : 0;
      for (let b = 0; isValid && b < bands; b++) {
        const value = sums[b]! / total;
        values[to * bands + b] = isWhole ? Math.round(value) : value;
      }
    });
  });
  return { image: values, valid: kept?.includes(0) ? kept : null };
}

/** Class indices at another resolution: that of the input pixel under each output pixel's centre. */
export function resampleLabel(label: Uint8Array, { factor, output, input }: Resampling): Uint8Array {
  const along = (start: number, count: number, f: number, offset: number, size: number) =>
    Array.from({ length: count }, (_, i) =>
      Math.min(size - 1, Math.max(0, Math.floor((start + i + 0.5) / f) - offset)),
    );
  const rows = along(output.y, output.height, factor.y, input.y, input.height);
  const columns = along(output.x, output.width, factor.x, input.x, input.width);
  const out = new Uint8Array(output.width * output.height);
  rows.forEach((row, y) => {
    columns.forEach((column, x) => {
      out[y * output.width + x] = label[row * input.width + column]!;
    });
  });
  return out;
}
