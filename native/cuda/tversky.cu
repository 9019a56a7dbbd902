// The fused Tversky loss: per unit (image or batch) and class TP = sum p [y = k], FP = sum p [y != k] and the number of
// true pixels; from them the loss and its slopes by the probability of a true and a false pixel; and with those
//   dz[k] = dy p[k] (g[k] - sum_j p[j] g[j])   (softmax)   or   dy p (1 - p) g   (sigmoid).
// Softmax: a thread has a row (class_rows.h). Sums and gradient read each logit and label once; as a row is in registers, they
// find its norm themselves, which is 8 bytes a pixel less than to read it. Sigmoid: an element has a label of its own;
// a thread walks through elements of the same classes, so that its sums and slopes are registers.
#include "tversky.h"

namespace lacuna::cuda::tversky {

struct NormParams {
  uint32_t rows, classes;
};

/** The largest logit of each row, and 1 / sum of the exponentials of the distances to it. */
struct Norm : RowMap {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = false;
  float2* norm;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t i, Row& row) {
    float largest, total;
    exponentials(row, largest, total);
    if (row.speaks()) norm[i] = make_float2(largest, 1.0f / total);
  }
};
void row_norm(const NormParams& p, const Args& a) {
  if (p.rows == 0) return;
  each_row<float>(a, p.rows, p.classes, {{a.in(0), nullptr}, nullptr}, Norm{{}, a.out<float2>(0)});
}

struct SumParams {
  uint32_t units, rows, classes, chunks, block, ignore;
};

template <int K>
struct SumsMemory {
  RowTile<K> tile;
  Columns<K> columns;
};

/** partials[unit, part, k, 3]; part q of a unit has its tiles q, q + parts, ... */
template <int K>
__global__ void __launch_bounds__(TILE, K <= 8 ? 8 : 4)
    sums_in_registers(RowShape shape, uint32_t parts, uint32_t ignore, const float* logits, const uint32_t* labels,
                      double* partials) {
  auto& memory = shared<SumsMemory<K>>();
  const uint32_t classes = shape.classes;
  const size_t unit = blockIdx.x / parts, tiles = shape.tiles();
  float misses[K] = {};
  memory.columns.clear();
  for (size_t tile = blockIdx.x % parts; tile < tiles; tile += parts) {
    const unsigned rows = shape.rows_of(tile);
    const size_t first = unit * shape.rows + tile * TILE;
    const uint32_t label = threadIdx.x < rows ? labels[first + threadIdx.x] : ignore;
    load_rows(shape, logits + first * classes, rows * classes, memory.tile);
    __syncthreads();
    if (label != ignore && label < classes) {
      const float* row = memory.tile.at + threadIdx.x * shape.pitch();
      float e[K], largest = -INFINITY, total = 0;
#pragma unroll
      for (int k = 0; k < K; k++) {
        const float z = row[k];
        e[k] = k < static_cast<int>(classes) ? z : -INFINITY;
        largest = max(largest, e[k]);
      }
#pragma unroll
      for (int k = 0; k < K; k++) {
        e[k] = expf(e[k] - largest);
        total += e[k];
      }
      const float scale = 1.0f / total;
      memory.columns.hits[label][threadIdx.x] += expf(row[label] - largest) * scale;
      memory.columns.counts[label][threadIdx.x] += 1;
#pragma unroll
      for (int k = 0; k < K; k++) misses[k] += k == static_cast<int>(label) ? 0.0f : e[k] * scale;
    }
    __syncthreads();
  }
  memory.columns.add_up(misses, classes, memory.tile.at, partials + static_cast<size_t>(blockIdx.x) * classes * 3);
}

struct WarpSumsMemory {
  float sums[WARPS][3 * MOST_SHARED];
};
/** The same for many classes: a warp has a row, lane l the sums of classes l, l + 32, ... of the warp's rows. */
__global__ void __launch_bounds__(TILE, 4)
    sums_of_warps(RowShape shape, uint32_t parts, uint32_t ignore, const float* logits, const uint32_t* labels,
                  float* spare, double* partials) {
  auto& memory = shared<WarpSumsMemory>();
  const uint32_t classes = shape.classes, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const size_t unit = blockIdx.x / parts;
  float* all = spare ? spare + static_cast<size_t>(blockIdx.x) * WARPS * 3 * classes : memory.sums[0];
  float* sums = all + static_cast<size_t>(warp) * 3 * classes;
  for (uint32_t k = lane; k < classes; k += 32) sums[3 * k] = sums[3 * k + 1] = sums[3 * k + 2] = 0.0f;
  for (size_t i = static_cast<size_t>(blockIdx.x % parts) * WARPS + warp; i < shape.rows; i += size_t{parts} * WARPS) {
    const size_t row = unit * shape.rows + i;
    const uint32_t label = labels[row];
    if (label == ignore || label >= classes) continue;  // the same on all lanes
    const float* z = logits + row * classes;
    float largest = -INFINITY, total = 0;
    for (uint32_t k = lane; k < classes; k += 32) largest = max(largest, z[k]);
    largest = warp_max(largest);
    for (uint32_t k = lane; k < classes; k += 32) total += expf(z[k] - largest);
    const float scale = 1.0f / warp_sum(total);
    for (uint32_t k = lane; k < classes; k += 32) {
      sums[3 * k + (k == label ? 0 : 1)] += expf(z[k] - largest) * scale;
      if (k == label) sums[3 * k + 2] += 1;
    }
  }
  __syncthreads();
  for (uint32_t slot = threadIdx.x; slot < 3 * classes; slot += TILE) {
    double sum = 0;
    for (unsigned w = 0; w < WARPS; w++) sum += all[static_cast<size_t>(w) * 3 * classes + slot];
    partials[static_cast<size_t>(blockIdx.x) * 3 * classes + slot] = sum;
  }
}

void sums_softmax(const SumParams& p, const Args& a) {
  const RowShape shape(p.rows, p.classes);
  const bool registers = p.classes <= MOST_IN_REGISTERS;
  const uint32_t parts = parts_of(a, p.units, registers ? shape.tiles() : (shape.rows + WARPS - 1) / WARPS);
  const size_t blocks = size_t{p.units} * parts;
  const dim3 grid(static_cast<unsigned>(blocks));
  auto* partials = a.scratch<double>(blocks * p.classes * 3);
  if (registers) {
    with_registers(p.classes, [&](auto k) {
      constexpr int K = decltype(k)::value;
      a.launch(sums_in_registers<K>, grid, dim3(TILE), sizeof(SumsMemory<K>), shape, parts, p.ignore, a.in(0),
               a.in<uint32_t>(1), partials);
    });
  } else {
    float* spare = p.classes > MOST_SHARED ? a.scratch<float>(blocks * WARPS * 3 * p.classes) : nullptr;
    a.launch(sums_of_warps, grid, dim3(TILE), sizeof(WarpSumsMemory), shape, parts, p.ignore, a.in(0), a.in<uint32_t>(1),
             spare, partials);
  }
  each_sum(a, partials, p.units, parts, p.classes * 3, FirstChunk{a.out(0), p.chunks, p.classes * 3});
}

/** Elements of four classes' rows may be taken four at a time where units start at 16 bytes and end there. */
inline bool in_fours(size_t rows, uint32_t classes) { return classes <= BLOCK && rows * classes % 4 == 0; }

/** The labels and probabilities of V elements. */
template <int V>
struct Elements {
  const float* logits;
  const uint32_t* labels;
  uint32_t ignore;
  __device__ __forceinline__ void operator()(size_t at, float (&p)[V], bool (&hit)[V]) const {
    load_floats<V>(logits + at, p);
    const auto label = *reinterpret_cast<const Vec<uint32_t, V>*>(labels + at);
#pragma unroll
    for (int j = 0; j < V; j++) {
      const bool valid = label.v[j] != ignore && label.v[j] < 2;
      p[j] = valid ? sigmoid(p[j]) : 0.0f;
      hit[j] = valid && label.v[j] == 1;
    }
  }
};
void sums_sigmoid(const SumParams& p, const Args& a) {
  const auto go = [&]<int V>(std::integral_constant<int, V>) {
    sum_elements<V>(a, p.units, p.rows, p.classes, Elements<V>{a.in(0), a.in<uint32_t>(1), p.ignore},
                    FirstChunk{a.out(0), p.chunks, p.classes * 3});
  };
  if (in_fours(p.rows, p.classes)) {
    go(std::integral_constant<int, 4>{});
  } else {
    go(std::integral_constant<int, 1>{});
  }
}

struct CombineParams {
  uint32_t units, chunks, classes, block;
};

struct Sums {
  float* sums;
  uint32_t slots;
  __device__ void operator()(uint32_t unit, uint32_t slot, double sum) const {
    sums[static_cast<size_t>(unit) * slots + slot] = static_cast<float>(sum);
  }
};
void combine_sums(const CombineParams& p, const Args& a) {
  each_sum(a, a.in(0), p.units, p.chunks, p.classes * 3, Sums{a.out(0), p.classes * 3});
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

/**
 * x^exponent and its derivative, infinite at 0 for exponents below 1, hence the limit; exponent 1 is not clamped. Powers and
 * logarithms are of floats: in double they would be what most cards are slow at, and the sums they are of are floats.
 */
__device__ inline Power focal(const IndexParams& p, double x) {
  if (p.exponent == 1.0f) return {x, 1};
  const double base = x > FOCAL ? x : FOCAL;
  const double power = powf(static_cast<float>(base), p.exponent);
  return {power, x > FOCAL ? p.exponent * power / base : 0};
}

__device__ inline Cell cell_of(const IndexParams& p, const float* sums, const float* weights, size_t i) {
  double tp = 0, fp = 0, truth = 0, weight = 1;
  if (p.micro) {
    for (uint32_t k = 0; k < p.classes; k++) {
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
    value = -logf(static_cast<float>(ti > LOGARITHM ? ti : LOGARITHM));
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

struct IndexMemory {
  double losses[32], weights[32];
};
/** One block; a thread has cells t, t + 256, ... and works them out again for the slopes: the mean comes in between. */
__global__ void __launch_bounds__(BLOCK)
    index_of_cells(IndexParams p, const float* sums, const float* weights, float* loss, float* slopes) {
  auto& memory = shared<IndexMemory>();
  const uint32_t per_cell = p.micro ? p.classes : 1;
  const size_t cells = static_cast<size_t>(p.units) * p.classes / per_cell;
  double losses = 0, total = 0;
  for (size_t i = threadIdx.x; i < cells; i += BLOCK) {
    const Cell cell = cell_of(p, sums, weights, i);
    losses += cell.weight * cell.loss;
    total += cell.weight;
  }
  losses = block_sum(losses, memory.losses);
  total = block_sum(total, memory.weights);
  Power mean{total > 0 ? losses / total : 0, 1};
  if (p.mean_first && total > 0) mean = focal(p, mean.value);
  if (threadIdx.x == 0) *loss = static_cast<float>(mean.value);
  for (size_t i = threadIdx.x; i < cells; i += BLOCK) {
    const Cell cell = cell_of(p, sums, weights, i);
    const double scale = total > 0 ? cell.weight / total * mean.slope : 0;
    for (uint32_t k = 0; k < per_cell; k++) {
      const bool counts = !p.micro || weights[k] != 0;
      slopes[2 * (i * per_cell + k)] = counts ? static_cast<float>(scale * cell.hit) : 0.0f;
      slopes[2 * (i * per_cell + k) + 1] = counts ? static_cast<float>(scale * cell.miss) : 0.0f;
    }
  }
}
void index(const IndexParams& p, const Args& a) {
  a.launch(index_of_cells, dim3(1), dim3(BLOCK), sizeof(IndexMemory), p, a.in(0), a.in(1), a.out(0), a.out(1));
}

struct GradParams {
  uint32_t units, rows, classes, first_unit, ignore;
};

struct Gradient : RowMap {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = true;
  const uint32_t* labels;
  const float2* slopes;  // [units, classes], from the first unit on
  const float* dy;
  uint32_t rows, ignore;
  bool one_unit;
  /** Slopes are taken less the first class's of false pixels: differences stay, and keep their digits. */
  template <class Row>
  __device__ __forceinline__ void operator()(size_t i, Row& row) {
    const float2* g = slopes + (one_unit ? 0 : i / rows * row.classes);
    const uint32_t label = labels[i];
    const bool valid = label != ignore && label < row.classes;
    const float centre = g[0].y, own = valid ? g[label].x - centre : 0.0f;
    float largest, total, mean = 0, less = 0;
    exponentials(row, largest, total);
    const auto slope = [&](uint32_t k) { return k < row.classes ? g[k].y - centre : 0.0f; };
    row.each([&](uint32_t k, float e) {
      const float s = k == label ? own : slope(k);
      mean += e * s;
      less += e * (own - s);
    });
    const float inverse = 1.0f / total, by = valid ? dy[0] * inverse : 0.0f;
    mean = row.sum(mean) * inverse;
    less = row.sum(less) * inverse;
    // the label's own g - mean as a sum over the others: it keeps its digits where p is near 1
    row.each([&](uint32_t k, float& e) { e = by * e * (k == label ? less : slope(k) - mean); });
  }
};
void grad_softmax(const GradParams& p, const Args& a) {
  const size_t rows = size_t{p.units} * p.rows;
  if (rows == 0) return;
  const float2* slopes = a.in<float2>(3) + static_cast<size_t>(p.first_unit) * p.classes;
  each_row<float>(a, rows, p.classes, {{a.in(0), nullptr}, a.out(0)},
                  Gradient{{}, a.in<uint32_t>(1), slopes, a.in(4), p.rows, p.ignore, p.units == 1});
}

/** `slopes`: those of the first unit on. */
template <int V>
__global__ void __launch_bounds__(BLOCK)
    gradient_of_elements(Walk walk, uint32_t ignore, const float* logits, const uint32_t* labels, const float2* slopes,
                         const float* dy, float* dlogits) {
  const size_t unit = walk.unit() * walk.elements, first = walk.first<V>();
  if (first >= walk.elements) return;
  float hit[V], miss[V];
#pragma unroll
  for (int j = 0; j < V; j++) {
    const float2 slope = slopes[walk.unit() * walk.classes + (first + j) % walk.classes];
    hit[j] = dy[0] * slope.x;
    miss[j] = dy[0] * slope.y;
  }
  for (size_t i = walk.part(); i < walk.steps; i += walk.parts) {
    const size_t at = first + i * walk.step;
    if (at >= walk.elements) break;
    float z[V];
    load_floats<V>(logits + unit + at, z);
    const auto label = *reinterpret_cast<const Vec<uint32_t, V>*>(labels + unit + at);
#pragma unroll
    for (int j = 0; j < V; j++) {
      const uint32_t y = label.v[j];
      z[j] = y != ignore && y < 2 ? sigmoid_slope(z[j]) * (y == 1 ? hit[j] : miss[j]) : 0.0f;
    }
    store_floats<V>(dlogits + unit + at, z);
  }
}
void grad_sigmoid(const GradParams& p, const Args& a) {
  if (p.units == 0 || p.rows == 0) return;
  const float2* slopes = a.in<float2>(2) + static_cast<size_t>(p.first_unit) * p.classes;
  const auto go = [&]<int V>(std::integral_constant<int, V>) {
    const Walk walk(a, p.units, p.rows, p.classes, V);
    a.launch(gradient_of_elements<V>, dim3(walk.blocks(p.units)), dim3(BLOCK), 0, walk, p.ignore, a.in(0),
             a.in<uint32_t>(1), slopes, a.in(3), a.out(0));
  };
  if (in_fours(p.rows, p.classes)) {
    go(std::integral_constant<int, 4>{});
  } else {
    go(std::integral_constant<int, 1>{});
  }
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

}  // namespace lacuna::cuda::tversky
