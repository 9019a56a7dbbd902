import type { NumberArray, ReferenceKernel, ReferenceOp } from "./kernel.js";

/** Count, mean and sum of squared deviations of each chunk: what Chan, Golub & LeVeque's formula merges. */
const reduceMoments: ReferenceKernel = (p, [x], [counts, means, m2s]) => {
  const { rows, channels, chunks, chunkRows, first } = p as Record<string, number>;
  for (let chunk = 0; chunk < chunks!; chunk++) {
    const start = chunk * chunkRows!;
    const end = Math.min(start + chunkRows!, rows!);
    counts![first! + chunk] = end - start;
    for (let c = 0; c < channels!; c++) {
      let sum = 0;
      for (let row = start; row < end; row++) sum += x![row * channels! + c]!;
      const mean = sum / (end - start);
      let m2 = 0;
      for (let row = start; row < end; row++) m2 += (x![row * channels! + c]! - mean) ** 2;
      means![(first! + chunk) * channels! + c] = mean;
      m2s![(first! + chunk) * channels! + c] = m2;
    }
  }
};

/** The moments of chunks `from` … `to` − 1 of channel `c` taken together. */
function merge(inputs: readonly NumberArray[], channels: number, c: number, from: number, to: number) {
  const [counts, means, m2s] = inputs;
  let count = 0;
  let sum = 0;
  for (let chunk = from; chunk < to; chunk++) {
    count += counts![chunk]!;
    sum += counts![chunk]! * means![chunk * channels + c]!;
  }
  const mean = sum / count;
  let m2 = 0;
  for (let chunk = from; chunk < to; chunk++) {
    m2 += m2s![chunk * channels + c]! + counts![chunk]! * (means![chunk * channels + c]! - mean) ** 2;
  }
  return { count, mean, m2 };
}

const normalize: ReferenceKernel = ({ rows, channels }, [x, gamma, beta, mean, rstd], [y]) => {
  for (let row = 0; row < rows!; row++) {
    for (let c = 0; c < channels!; c++) {
      const i = row * channels! + c;
      y![i] = (x![i]! - mean![c]!) * rstd![c]! * gamma![c]! + beta![c]!;
    }
  }
};

const normalizeFused: ReferenceKernel = (p, [x, gamma, beta, mean, rstd, residual], [y]) => {
  const { rows, channels, add, relu } = p as Record<string, number>;
  for (let row = 0; row < rows!; row++) {
    for (let c = 0; c < channels!; c++) {
      const i = row * channels! + c;
      const normal = (x![i]! - mean![c]!) * rstd![c]! * gamma![c]! + beta![c]!;
      const sum = add ? normal + residual![i]! : normal;
      y![i] = relu ? Math.max(sum, 0) : sum;
    }
  }
};

const reduceGradient: ReferenceKernel = (p, [x, dy, mean, rstd], [dgammas, dbetas]) => {
  const { rows, channels, chunks, chunkRows, first } = p as Record<string, number>;
  for (let chunk = 0; chunk < chunks!; chunk++) {
    for (let c = 0; c < channels!; c++) {
      let dgamma = 0;
      let dbeta = 0;
      for (let row = chunk * chunkRows!; row < Math.min((chunk + 1) * chunkRows!, rows!); row++) {
        const i = row * channels! + c;
        dgamma += dy![i]! * (x![i]! - mean![c]!) * rstd![c]!;
        dbeta += dy![i]!;
      }
      dgammas![(first! + chunk) * channels! + c] = dgamma;
      dbetas![(first! + chunk) * channels! + c] = dbeta;
    }
  }
};

/** The same behind a ReLU: of dy counts what falls on positive outputs. */
const reduceGradientRelu: ReferenceKernel = (p, [x, dy, gamma, beta, mean, rstd], [dgammas, dbetas]) => {
  const { rows, channels, chunks, chunkRows, first } = p as Record<string, number>;
  for (let chunk = 0; chunk < chunks!; chunk++) {
    for (let c = 0; c < channels!; c++) {
      let dgamma = 0;
      let dbeta = 0;
      for (let row = chunk * chunkRows!; row < Math.min((chunk + 1) * chunkRows!, rows!); row++) {
        const i = row * channels! + c;
        const xhat = (x![i]! - mean![c]!) * rstd![c]!;
        if (!(xhat * gamma![c]! + beta![c]! > 0)) continue;
        dgamma += dy![i]! * xhat;
        dbeta += dy![i]!;
      }
      dgammas![(first! + chunk) * channels! + c] = dgamma;
      dbetas![(first! + chunk) * channels! + c] = dbeta;
    }
  }
};

/** dx = gamma · rstd · (dy − mean(dy) − x̂ · mean(dy · x̂)), where x̂ = (x − mean) · rstd. */
const gradInput: ReferenceKernel = (p, [x, dy, gamma, mean, rstd, dgamma, dbeta], [dx]) => {
  const { rows, channels, total } = p as Record<string, number>;
  for (let row = 0; row < rows!; row++) {
    for (let c = 0; c < channels!; c++) {
      const i = row * channels! + c;
      const xhat = (x![i]! - mean![c]!) * rstd![c]!;
      dx![i] = gamma![c]! * rstd![c]! * (dy![i]! - dbeta![c]! / total! - (xhat * dgamma![c]!) / total!);
    }
  }
};

const gradInputFixed: ReferenceKernel = ({ rows, channels }, [dy, gamma, rstd], [dx]) => {
  for (let row = 0; row < rows!; row++) {
    for (let c = 0; c < channels!; c++) dx![row * channels! + c] = dy![row * channels! + c]! * gamma![c]! * rstd![c]!;
  }
};

/** gradInput behind a ReLU, from the factors that pack_factors makes. */
const gradInputRelu: ReferenceKernel = ({ rows, channels }, [x, dy, factors], [dx]) => {
  for (let c = 0; c < channels!; c++) {
    const [centre, scale, shift, share, slope] = [0, 1, 2, 3, 4].map((k) => factors![k * channels! + c]!);
    for (let row = 0; row < rows!; row++) {
      const i = row * channels! + c;
      const offset = x![i]! - centre!;
      const g = offset * scale! + shift! > 0 ? dy![i]! : 0;
      dx![i] = scale! * (g - share! - offset * slope!);
    }
  }
};

const gradInputFixedRelu: ReferenceKernel = ({ rows, channels }, [y, dy, gamma, rstd], [dx]) => {
  for (let row = 0; row < rows!; row++) {
    for (let c = 0; c < channels!; c++) {
      const i = row * channels! + c;
      dx![i] = y![i]! > 0 ? dy![i]! * gamma![c]! * rstd![c]! : 0;
    }
  }
};

export const batchNorm: ReferenceOp = {
  reduce_moments: reduceMoments,
  reduce_moments_vec4: reduceMoments,
  merge_moments({ channels, chunks, fanIn }, inputs, [counts, means, m2s]) {
    for (let part = 0; part * fanIn! < chunks!; part++) {
      for (let c = 0; c < channels!; c++) {
        const merged = merge(inputs, channels!, c, part * fanIn!, Math.min((part + 1) * fanIn!, chunks!));
        counts![part] = merged.count;
        means![part * channels! + c] = merged.mean;
        m2s![part * channels! + c] = merged.m2;
      }
    }
  },
  finish_moments({ channels, chunks, momentum, eps }, inputs, [mean, rstd, runningMean, runningVar]) {
    for (let c = 0; c < channels!; c++) {
      const all = merge(inputs, channels!, c, 0, chunks!);
      mean![c] = all.mean;
      rstd![c] = 1 / Math.sqrt(all.m2 / all.count + eps!);
      runningMean![c] = (1 - momentum!) * runningMean![c]! + momentum! * all.mean;
      runningVar![c] = (1 - momentum!) * runningVar![c]! + (momentum! * all.m2) / (all.count - 1);
    }
  },
  freeze_moments({ channels, eps }, [runningMean, runningVar], [mean, rstd]) {
    for (let c = 0; c < channels!; c++) {
      mean![c] = runningMean![c]!;
      rstd![c] = 1 / Math.sqrt(runningVar![c]! + eps!);
    }
  },
  normalize,
  normalize_vec4: normalize,
  normalize_fused: normalizeFused,
  normalize_fused_vec4: normalizeFused,
  reduce_gradient: reduceGradient,
  reduce_gradient_vec4: reduceGradient,
  reduce_gradient_relu: reduceGradientRelu,
  reduce_gradient_relu_vec4: reduceGradientRelu,
  merge_gradient({ channels, chunks, fanIn }, [dgammas, dbetas], [dgamma, dbeta]) {
    for (let part = 0; part * fanIn! < chunks!; part++) {
      for (let c = 0; c < channels!; c++) {
        let [sumGamma, sumBeta] = [0, 0];
        for (let chunk = part * fanIn!; chunk < Math.min((part + 1) * fanIn!, chunks!); chunk++) {
          sumGamma += dgammas![chunk * channels! + c]!;
          sumBeta += dbetas![chunk * channels! + c]!;
        }
        dgamma![part * channels! + c] = sumGamma;
        dbeta![part * channels! + c] = sumBeta;
      }
    }
  },
  grad_input: gradInput,
  grad_input_vec4: gradInput,
  grad_input_fixed: gradInputFixed,
  grad_input_fixed_vec4: gradInputFixed,
  pack_factors({ channels, total }, [gamma, beta, mean, rstd, dgamma, dbeta], [factors]) {
    for (let c = 0; c < channels!; c++) {
      factors![c] = mean![c]!;
      factors![channels! + c] = gamma![c]! * rstd![c]!;
      factors![2 * channels! + c] = beta![c]!;
      factors![3 * channels! + c] = dbeta![c]! / total!;
      factors![4 * channels! + c] = (rstd![c]! * dgamma![c]!) / total!;
    }
  },
  grad_input_relu: gradInputRelu,
  grad_input_relu_vec4: gradInputRelu,
  grad_input_fixed_relu: gradInputFixedRelu,
  grad_input_fixed_relu_vec4: gradInputFixedRelu,
};
