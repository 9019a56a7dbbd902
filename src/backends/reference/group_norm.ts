import type { NumberArray, ReferenceKernel, ReferenceOp } from "./kernel.js";

const reduceMoments: ReferenceKernel = (p, [x], [means, m2s]) => {
  const { images, rows, channels, chunks, chunkRows } = p as Record<string, number>;
  for (let n = 0; n < images!; n++) {
    for (let chunk = 0; chunk < chunks!; chunk++) {
      const [start, end] = [chunk * chunkRows!, Math.min((chunk + 1) * chunkRows!, rows!)];
      for (let c = 0; c < channels!; c++) {
        let sum = 0;
        for (let row = start; row < end; row++) sum += x![(n * rows! + row) * channels! + c]!;
        const mean = sum / (end - start);
        let m2 = 0;
        for (let row = start; row < end; row++) m2 += (x![(n * rows! + row) * channels! + c]! - mean) ** 2;
        means![(n * chunks! + chunk) * channels! + c] = mean;
        m2s![(n * chunks! + chunk) * channels! + c] = m2;
      }
    }
  }
};

/** Mean and sum of squared deviations of sets with these counts, means and sums, taken together. */
function merge(sets: readonly { count: number; mean: number; m2: number }[]): { mean: number; m2: number } {
  const count = sets.reduce((sum, set) => sum + set.count, 0);
  const mean = sets.reduce((sum, set) => sum + set.count * set.mean, 0) / count;
  return { mean, m2: sets.reduce((sum, set) => sum + set.m2 + set.count * (set.mean - mean) ** 2, 0) };
}

/** Calls `visit(i, n, c)` for every element i of a map [images, rows, channels]; n · channels + c indexes per image. */
function walk(p: Readonly<Record<string, number>>, visit: (i: number, perImage: number, c: number) => void): void {
  const { images, rows, channels } = p as Record<string, number>;
  for (let row = 0; row < images! * rows!; row++) {
    for (let c = 0; c < channels!; c++) visit(row * channels! + c, Math.floor(row / rows!) * channels! + c, c);
  }
}

const normalize: ReferenceKernel = (p, [x, gamma, beta, mean, rstd], [y]) => {
  walk(p, (i, k, c) => {
    y![i] = (x![i]! - mean![k]!) * rstd![k]! * gamma![c]! + beta![c]!;
  });
};

const reduceGradient: ReferenceKernel = (p, [x, dy, mean, rstd], [dgammas, dbetas]) => {
  const { rows, channels, chunks, chunkRows } = p as Record<string, number>;
  dgammas!.fill(0);
  dbetas!.fill(0);
  walk(p, (i, k, c) => {
    const row = Math.floor(i / channels!);
    const to = (Math.floor(row / rows!) * chunks! + Math.floor((row % rows!) / chunkRows!)) * channels! + c;
    dgammas![to]! += dy![i]! * (x![i]! - mean![k]!) * rstd![k]!;
    dbetas![to]! += dy![i]!;
  });
};

const gradInput: ReferenceKernel = (p, [x, dy, gamma, mean, rstd, slope, shift], [dx]) => {
  walk(p, (i, k, c) => {
    const xhat = (x![i]! - mean![k]!) * rstd![k]!;
    dx![i] = rstd![k]! * (gamma![c]! * dy![i]! - shift![k]! - xhat * slope![k]!);
  });
};

const sumOver = (from: NumberArray, outer: number, terms: number, channels: number, to: NumberArray): void => {
  for (let n = 0; n < outer; n++) {
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let t = 0; t < terms; t++) sum += from[(n * terms + t) * channels + c]!;
      to[n * channels + c] = sum;
    }
  }
};

export const groupNorm: ReferenceOp = {
  reduce_moments: reduceMoments,
  reduce_moments_vec4: reduceMoments,
  merge_moments({ images, rows, channels, chunks, chunkRows }, [means, m2s], [mean, m2]) {
    for (let n = 0; n < images!; n++) {
      for (let c = 0; c < channels!; c++) {
        const sets = Array.from({ length: chunks! }, (_, chunk) => {
          const at = (n * chunks! + chunk) * channels! + c;
          return { count: Math.min(chunkRows!, rows! - chunk * chunkRows!), mean: means![at]!, m2: m2s![at]! };
        });
        const all = merge(sets);
        mean![n * channels! + c] = all.mean;
        m2![n * channels! + c] = all.m2;
      }
    }
  },
  finish_moments({ images, rows, channels, groupSize, eps }, [means, m2s], [mean, rstd]) {
    for (let k = 0; k < images! * channels!; k++) {
      const first = k - (k % groupSize!); // groups divide the channels, so they do not cross images
      const sets = Array.from({ length: groupSize! }, (_, j) => ({
        count: rows!,
        mean: means![first + j]!,
        m2: m2s![first + j]!,
      }));
      const all = merge(sets);
      mean![k] = all.mean;
      rstd![k] = 1 / Math.sqrt(all.m2 / (rows! * groupSize!) + eps!);
    }
  },
  normalize,
  normalize_vec4: normalize,
  reduce_gradient: reduceGradient,
  reduce_gradient_vec4: reduceGradient,
  merge_gradient({ outer, terms, channels }, [dgammas, dbetas], [dgamma, dbeta]) {
    sumOver(dgammas!, outer!, terms!, channels!, dgamma!);
    sumOver(dbetas!, outer!, terms!, channels!, dbeta!);
  },
  group_gradient({ images, rows, channels, groupSize }, [dgammas, dbetas, gamma], [slope, shift]) {
    for (let k = 0; k < images! * channels!; k++) {
      const first = k - (k % groupSize!);
      let [sumGamma, sumBeta] = [0, 0];
      for (let j = first; j < first + groupSize!; j++) {
        sumGamma += gamma![j % channels!]! * dgammas![j]!;
        sumBeta += gamma![j % channels!]! * dbetas![j]!;
      }
      slope![k] = sumGamma / (rows! * groupSize!);
      shift![k] = sumBeta / (rows! * groupSize!);
    }
  },
  grad_input: gradInput,
  grad_input_vec4: gradInput,
};
