// The fused Tversky loss: per unit (image or batch) and class TP = sum p [y = k], FP = sum p [y != k] and the number of
// true pixels; from them the loss and its slopes by the probability of a true and a false pixel; and with those
//   dz[k] = dy p[k] (g[k] - sum_j p[j] g[j])   (softmax)   or   dy p (1 - p) g   (sigmoid).
// Softmax kernels work on tiles of LANES rows (tile.h). Sums give each chunk a contiguous share of its unit's rows, and
// add f32 lanes within 32 tiles, double above. In the sigmoid kernels an element has a label of its own: `classes`
// vectors in a row are LANES whole pixels, so that lane l of vector j always belongs to class (j LANES + l) % classes.
#include <cmath>

#include "tversky.h"

namespace lacuna::cpu::LACUNA_ISA::tversky {

constexpr size_t BLOCK = 32 * LANES;

struct NormParams {
  uint32_t rows, classes;
};

/** The largest logit of each row, and 1 / sum of the exponentials of the distances to it. */
void row_norm(const NormParams& p, const Args& a) {
  const float* logits = a.in(0);
  float* norm = a.out(0);
  const size_t classes = p.classes;
  each_tile(logits, p.rows, classes, 1, [&](size_t row, size_t count, const float* tile) {
    const Vec largest = largest_of(tile, classes);
    Vec total = splat(0.0f);
    for (size_t k = 0; k < classes; k++) total += exp(load(tile + k * LANES) - largest);
    float pair[2 * LANES];
    store(pair, largest);
    store(pair + LANES, splat(1.0f) / total);
    store_tile(norm + 2 * row, 2, count, pair);
  });
}

struct SumParams {
  uint32_t units, rows, classes, chunks, block, ignore;
};

/** Calls f(first row, end, the chunk's [classes, 3] sums) for each chunk of each unit. */
template <class F>
void by_chunk(const SumParams& p, float* partials, const F& f) {
  const Shares shares(p.rows, p.chunks);
  const size_t classes = p.classes;
  parallel_for(size_t{p.units} * p.chunks, 16384 / (shares.size * classes) + 1, [&](size_t first, size_t last) {
    Scratch<double> sums(classes * 3);
    for (size_t i = first; i < last; i++) {
      const size_t chunk = i % p.chunks, start = i / p.chunks * p.rows;
      const size_t begin = shares.begin(chunk), end = shares.end(chunk);
      for (size_t k = 0; k < classes * 3; k++) sums[k] = 0;
      if (begin < end) f(start + begin, start + end, sums.data());
      for (size_t k = 0; k < classes * 3; k++) partials[i * classes * 3 + k] = static_cast<float>(sums[k]);
    }
  });
}

void sums_softmax(const SumParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const float* norm = a.in(2);
  const size_t classes = p.classes;
  by_chunk(p, a.out(0), [&](size_t begin, size_t end, double* sums) {
    Scratch<float> scratch(classes * LANES * 4);
    float* tile = scratch.data();
    float* running = tile + classes * LANES;
    for (size_t block = begin; block < end; block += BLOCK) {
      const size_t stop = block + BLOCK < end ? block + BLOCK : end;
      for (size_t i = 0; i < classes * 3 * LANES; i += LANES) store(running + i, splat(0.0f));
      for (size_t row = block; row < stop; row += LANES) {
        const size_t count = stop - row < LANES ? stop - row : LANES;
        float pair[2 * LANES];
        load_tile(norm + 2 * row, 2, count, pair);
        load_tile(logits + row * classes, classes, count, tile);
        const Vec largest = load(pair), inverse = load(pair + LANES);
        const IVec label = load_labels(labels + row, count, p.ignore);
        const Mask valid = below(label, p.classes);
        for (size_t k = 0; k < classes; k++) {
          const Vec e = exp(load(tile + k * LANES) - largest) * inverse;
          tally(running + k * 3 * LANES, select(valid, e, splat(0.0f)), label == splat_int(static_cast<int32_t>(k)));
        }
      }
      for (size_t k = 0; k < classes * 3; k++) sums[k] += sum(load(running + k * LANES));
    }
  });
}

void sums_sigmoid(const SumParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const size_t classes = p.classes;
  by_chunk(p, a.out(0), [&](size_t first, size_t last, double* sums) {
    Scratch<float> scratch(classes * LANES * 3);
    float* running = scratch.data();
    for (size_t block = first; block < last; block += BLOCK) {
      const size_t stop = (block + BLOCK < last ? block + BLOCK : last) * classes;
      for (size_t i = 0; i < classes * 3 * LANES; i += LANES) store(running + i, splat(0.0f));
      size_t j = 0;
      for (size_t i = block * classes; i < stop; i += LANES) {
        const size_t count = stop - i < LANES ? stop - i : LANES;
        const IVec label = load_labels(labels + i, count, p.ignore);
        const Mask hit = label == splat_int(1);
        const Mask valid = hit | (label == splat_int(0));
        tally(running + j * 3 * LANES, select(valid, sigmoid(load_some(logits + i, count)), splat(0.0f)), hit);
        if (++j == classes) j = 0;
      }
      size_t k = 0;
      for (j = 0; j < classes; j++) {
        const float* at = running + j * 3 * LANES;
        for (size_t l = 0; l < LANES; l++) {
          for (size_t s = 0; s < 3; s++) sums[k * 3 + s] += at[s * LANES + l];
          if (++k == classes) k = 0;
        }
      }
    }
  });
}

struct CombineParams {
  uint32_t units, chunks, classes, block;
};

void combine_sums(const CombineParams& p, const Args& a) {
  const float* partials = a.in(0);
  float* sums = a.out(0);
  const size_t width = size_t{p.classes} * 3;
  for (size_t unit = 0; unit < p.units; unit++) {
    for (size_t k = 0; k < width; k++) {
      double total = 0;
      for (size_t chunk = 0; chunk < p.chunks; chunk++) total += partials[(unit * p.chunks + chunk) * width + k];
      sums[unit * width + k] = static_cast<float>(total);
    }
  }
}

struct IndexParams {
  uint32_t units, classes, micro;
  float alpha, beta, smooth_num, smooth_den, exponent;
  uint32_t mean_first, log_loss, empty;
};

/** A unit's class or, with `micro`, a unit: its weight in the mean, loss, and derivatives by true and false pixels. */
struct Cell {
  double weight, loss, hit, miss;
};
struct Power {
  double value, slope;
};

constexpr double DENOMINATOR = 1e-7, LOGARITHM = 1e-7, FOCAL = 1e-6;
constexpr uint32_t EMPTY_ZERO = 1, EMPTY_SKIP = 2;

/** x^exponent and its derivative, infinite at 0 for exponents below 1, hence the limit; exponent 1 is not clamped. */
inline Power focal(const IndexParams& p, double x) {
  if (p.exponent == 1.0f) return {x, 1};
  const double base = x > FOCAL ? x : FOCAL;
  const double power = std::pow(base, static_cast<double>(p.exponent));
  return {power, x > FOCAL ? p.exponent * power / base : 0};
}

inline Cell cell_of(const IndexParams& p, const float* sums, const float* weights, size_t i) {
  double tp = 0, fp = 0, truth = 0, weight = 1;
  if (p.micro) {
    for (size_t k = 0; k < p.classes; k++) {
      const float* s = sums + (i * p.classes + k) * 3;
      if (!(weights[k] > 0)) continue;
      tp += s[0];
      fp += s[1];
      truth += s[2];
    }
  } else {
    tp = sums[3 * i];
    fp = sums[3 * i + 1];
    truth = sums[3 * i + 2];
    weight = weights[i % p.classes];
  }
  if (weight == 0 || (truth == 0 && p.empty == EMPTY_SKIP)) return {0, 0, 0, 0};
  if (truth == 0 && p.empty == EMPTY_ZERO) return {weight, 0, 0, 0};
  const double full = tp + double{p.alpha} * fp + double{p.beta} * (truth - tp) + p.smooth_den;
  const bool free = full >= DENOMINATOR;  // a clamped denominator is a constant
  const double den = free ? full : DENOMINATOR;
  const double ti = (tp + p.smooth_num) / den;
  double value = 1 - ti, slope = -1;
  if (p.log_loss) {
    value = -std::log(ti > LOGARITHM ? ti : LOGARITHM);
    slope = ti > LOGARITHM ? -1 / ti : 0;
  }
  if (!p.mean_first) {
    const Power power = focal(p, value);
    value = power.value;
    slope *= power.slope;
  }
  const double hit = free ? (1 - ti * (1 - double{p.beta})) / den : 1 / den;
  const double miss = free ? -ti * p.alpha / den : 0;
  return {weight, value, slope * hit, slope * miss};
}

void index(const IndexParams& p, const Args& a) {
  const float* sums = a.in(0);
  const float* weights = a.in(1);
  float* slopes = a.out(1);
  const size_t per_cell = p.micro ? p.classes : 1;
  const size_t cells = size_t{p.units} * p.classes / per_cell;
  double losses = 0, total = 0;
  for (size_t i = 0; i < cells; i++) {
    const Cell cell = cell_of(p, sums, weights, i);
    losses += cell.weight * cell.loss;
    total += cell.weight;
  }
  Power mean{total > 0 ? losses / total : 0, 1};
  if (p.mean_first && total > 0) mean = focal(p, mean.value);
  a.out(0)[0] = static_cast<float>(mean.value);
  for (size_t i = 0; i < cells; i++) {
    const Cell cell = cell_of(p, sums, weights, i);
    const double scale = total > 0 ? cell.weight / total * mean.slope : 0;
    for (size_t k = 0; k < per_cell; k++) {
      const bool counts = !p.micro || weights[k] != 0;
      slopes[2 * (i * per_cell + k)] = counts ? static_cast<float>(scale * cell.hit) : 0.0f;
      slopes[2 * (i * per_cell + k) + 1] = counts ? static_cast<float>(scale * cell.miss) : 0.0f;
    }
  }
}

struct GradParams {
  uint32_t units, rows, classes, first_unit, ignore;
};

/** Calls f(first row, end, slopes of the unit) for ranges of rows of one unit each. */
template <class F>
void by_range(const GradParams& p, const float* slopes, const F& f) {
  const size_t size = rows_per_range(p.rows, p.classes);
  const size_t ranges = (p.rows + size - 1) / size;
  const size_t grain = p.rows < size ? size / (p.rows + 1) + 1 : 1;  // of small units, several
  parallel_for(p.units * ranges, grain, [&](size_t first, size_t last) {
    for (size_t i = first; i < last; i++) {
      const size_t unit = i / ranges, begin = i % ranges * size;
      const size_t end = begin + size < p.rows ? begin + size : p.rows;
      f(unit * p.rows + begin, unit * p.rows + end, slopes + (p.first_unit + unit) * p.classes * 2);
    }
  });
}

void grad_softmax(const GradParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const float* norm = a.in(2);
  const Vec dy = splat(a.in(4)[0]);
  float* dlogits = a.out(0);
  const size_t classes = p.classes;
  by_range(p, a.in(3), [&](size_t begin, size_t end, const float* slopes) {
    Scratch<float> scratch(classes * (LANES + 2));
    float* tile = scratch.data();
    // Less the mean slope of false pixels: differences stay, and so do the digits of g[k] - mean where slopes are
    // nearly the same for all false classes (with micro, just the same).
    float* hits = tile + classes * LANES;
    float* misses = hits + classes;
    double centre = 0;
    for (size_t k = 0; k < classes; k++) centre += slopes[2 * k + 1];
    centre /= static_cast<double>(classes);
    for (size_t k = 0; k < classes; k++) {
      hits[k] = static_cast<float>(slopes[2 * k] - centre);
      misses[k] = static_cast<float>(slopes[2 * k + 1] - centre);
    }
    for (size_t row = begin; row < end; row += LANES) {
      const size_t count = end - row < LANES ? end - row : LANES;
      float pair[2 * LANES];
      load_tile(norm + 2 * row, 2, count, pair);
      load_tile(logits + row * classes, classes, count, tile);
      const Vec largest = load(pair), inverse = load(pair + LANES);
      const IVec label = load_labels(labels + row, count, p.ignore);
      Vec own = splat(0.0f);
      Mask valid = splat_int(0);
      for (size_t k = 0; k < classes; k++) {
        const Mask hit = label == splat_int(static_cast<int32_t>(k));
        valid = valid | hit;
        own = select(hit, splat(hits[k]), own);
      }
      Vec mean = splat(0.0f), less = splat(0.0f);
      for (size_t k = 0; k < classes; k++) {
        const Mask hit = label == splat_int(static_cast<int32_t>(k));
        const Vec e = exp(load(tile + k * LANES) - largest) * inverse;
        store(tile + k * LANES, e);
        const Vec g = select(hit, own, splat(misses[k]));
        mean = fma(e, g, mean);
        less = fma(e, own - g, less);
      }
      for (size_t k = 0; k < classes; k++) {
        const Mask hit = label == splat_int(static_cast<int32_t>(k));
        // the label's own g - mean as a sum over the others: it keeps its digits where p is near 1
        const Vec d = dy * load(tile + k * LANES) * select(hit, less, splat(misses[k]) - mean);
        store(tile + k * LANES, select(valid, d, splat(0.0f)));
      }
      store_tile(dlogits + row * classes, classes, count, tile);
    }
  });
}

void grad_sigmoid(const GradParams& p, const Args& a) {
  const float* logits = a.in(0);
  const uint32_t* labels = a.in<uint32_t>(1);
  const Vec dy = splat(a.in(3)[0]);
  float* dlogits = a.out(0);
  const size_t classes = p.classes;
  by_range(p, a.in(2), [&](size_t begin, size_t end, const float* slopes) {
    // the slopes of LANES pixels
    Scratch<float> scratch(classes * LANES * 2);
    float* hits = scratch.data();
    float* misses = hits + classes * LANES;
    for (size_t i = 0; i < classes * LANES; i++) {
      hits[i] = slopes[i % classes * 2];
      misses[i] = slopes[i % classes * 2 + 1];
    }
    const size_t stop = end * classes;
    size_t j = 0;
    for (size_t i = begin * classes; i < stop; i += LANES) {
      const size_t count = stop - i < LANES ? stop - i : LANES;
      const IVec label = load_labels(labels + i, count, p.ignore);
      const Mask hit = label == splat_int(1);
      const Vec e = exp(-abs(load_some(logits + i, count)));
      const Vec q = splat(1.0f) / (splat(1.0f) + e);
      const Vec g = select(hit, load(hits + j * LANES), load(misses + j * LANES));
      const Vec d = select(hit | (label == splat_int(0)), dy * (e * q * q) * g, splat(0.0f));
      store_some(dlogits + i, d, count);
      if (++j == classes) j = 0;
    }
  });
}

const Register kernels[] = {
    {"tversky.row_norm", 1, 1, row_norm},
    {"tversky.sums_softmax", 3, 1, sums_softmax},
    {"tversky.sums_sigmoid", 2, 1, sums_sigmoid},
    {"tversky.combine_sums", 1, 1, combine_sums},
    {"tversky.index", 2, 2, index},
    {"tversky.grad_softmax", 5, 1, grad_softmax},
    {"tversky.grad_sigmoid", 4, 1, grad_sigmoid},
};

}  // namespace lacuna::cpu::LACUNA_ISA::tversky
