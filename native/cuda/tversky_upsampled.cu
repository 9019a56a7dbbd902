// The fused Tversky loss of logits that are upsampled on the way (tversky.cu has the formulas): logits are of a small map,
// labels of a large one, and nothing of the large map's size times classes is in memory. What moves is small; the time goes
// into one exponential for each pixel and class, forward and backward.
//
// Up to 32 classes: a thread has a column of the large map and walks down it. Its logits in the two small-map rows that it is
// between, interpolated across, are registers; a pixel's are then one interpolation. Threads go down together: the next
// small-map row comes through shared memory, once for the block. Backward a block owns small-map pixels and walks through
// all pixels that read them. A thread adds its column's gradient for the row above and the row below in registers, and when
// a small-map row is complete the block gathers it across, each element in a fixed order; at the edges of its small-map
// pixels two blocks compute the same, so that no two write to one element. Norm and mean are found where they are needed.
// More classes, and the sigmoid, whose sums are by element: an element of the result on each thread.
#include <cfloat>

#include "tversky.h"

namespace lacuna::cuda::tversky_upsampled {

using namespace tversky;

/** One axis of the sampling: pixel i reads at (step i + offset) / scale, clamped to 0 ... size - 1. */
struct Axis {
  uint32_t size, out, step;
  int32_t offset;
  uint32_t scale;
  struct Between {
    uint32_t low, high;
    float t;  // the weight of high
  };
  __device__ __forceinline__ int32_t position(uint32_t i) const {
    const int32_t at = static_cast<int32_t>(step * i) + offset, last = static_cast<int32_t>((size - 1) * scale);
    return at < 0 ? 0 : at > last ? last : at;
  }
  __device__ __forceinline__ Between between(uint32_t i) const {
    const uint32_t at = static_cast<uint32_t>(position(i)), low = at / scale;
    return {low, low + 1 < size ? low + 1 : low, static_cast<float>(at - low * scale) / static_cast<float>(scale)};
  }
  /** The first pixel i >= 0 with step i + offset > bound, or `out`. */
  __device__ __forceinline__ uint32_t first_beyond(int32_t bound) const {
    if (bound < offset) return 0;
    if (step == 0) return out;
    const uint32_t i = static_cast<uint32_t>(bound - offset) / step + 1;
    return i < out ? i : out;
  }
  /** The pixels that read one of the small map's `first` to `last` - 1: from start to end - 1. */
  __device__ __forceinline__ uint32_t start(uint32_t first) const {
    return first > 0 ? first_beyond(static_cast<int32_t>((first - 1) * scale)) : 0;
  }
  __device__ __forceinline__ uint32_t end(uint32_t last) const {
    return last < size ? first_beyond(static_cast<int32_t>(last * scale) - 1) : out;
  }
  /** The weight of small-map pixel s at pixel i, which reads it. */
  __device__ __forceinline__ float weight(uint32_t i, uint32_t s) const {
    const int32_t away = position(i) - static_cast<int32_t>(s * scale);
    return 1 - static_cast<float>(away < 0 ? -away : away) / static_cast<float>(scale);
  }
};

struct Grid {
  uint32_t images, h, w, classes, out_h, out_w, step_h;
  int32_t offset_h;
  uint32_t scale_h, step_w;
  int32_t offset_w;
  uint32_t scale_w;
};
struct Maps {
  Axis down, across;
  RowShape shape;  // of small-map pixels
  const float* logits;
  Maps(const Grid& p, const float* logits)
      : down{p.h, p.out_h, p.step_h, p.offset_h, p.scale_h},
        across{p.w, p.out_w, p.step_w, p.offset_w, p.scale_w},
        shape(size_t{p.images} * p.h * p.w, p.classes),
        logits(logits) {}
  __host__ __device__ uint32_t classes() const { return shape.classes; }
  __host__ __device__ size_t pixels_of_image() const { return static_cast<size_t>(down.out) * across.out; }
};

// One pixel of any number of classes, from memory

/** Where a pixel reads. */
struct Corners {
  const float *top_left, *top_right, *bottom_left, *bottom_right;
  float u, v;
  __device__ __forceinline__ Corners(const Maps& m, size_t image, uint32_t row, uint32_t column) {
    const auto y = m.down.between(row), x = m.across.between(column);
    const float* map = m.logits + image * m.down.size * m.across.size * m.classes();
    const auto at = [&](uint32_t r, uint32_t c) {
      return map + (static_cast<size_t>(r) * m.across.size + c) * m.classes();
    };
    top_left = at(y.low, x.low), top_right = at(y.low, x.high);
    bottom_left = at(y.high, x.low), bottom_right = at(y.high, x.high);
    u = x.t, v = y.t;
  }
  __device__ __forceinline__ float operator[](uint32_t k) const {
    const float top = (1 - u) * top_left[k] + u * top_right[k], bottom = (1 - u) * bottom_left[k] + u * bottom_right[k];
    return (1 - v) * top + v * bottom;
  }
};
struct Place {
  size_t image;
  uint32_t row, column;
  __device__ __forceinline__ Place(const Maps& m, size_t pixel) {
    image = pixel / m.pixels_of_image();
    const auto rest = static_cast<uint32_t>(pixel - image * m.pixels_of_image());
    row = rest / m.across.out;
    column = rest - row * m.across.out;
  }
};

/** norm[i] = (max_k z[i, k], 1 / sum_k exp(z[i, k] - max)) */
struct Norm {
  Maps m;
  float2* norm;
  __device__ void operator()(size_t pixel) const {
    const Place place(m, pixel);
    const Corners z(m, place.image, place.row, place.column);
    float largest = -INFINITY, total = 0;
    for (uint32_t k = 0; k < m.classes(); k++) largest = max(largest, z[k]);
    for (uint32_t k = 0; k < m.classes(); k++) total += expf(z[k] - largest);
    norm[pixel] = make_float2(largest, 1.0f / total);
  }
};

/** mean[i] = (sum_k p[k] g[k], g[y] - sum_k p[k] g[k]), g less the first class's of false pixels; 0 where ignored. */
struct Mean {
  Maps m;
  const uint32_t* labels;
  const float2 *norm, *slopes;  // slopes from the first unit on
  float2* mean;
  uint32_t images_of_unit, ignore;
  __device__ void operator()(size_t pixel) const {
    const Place place(m, pixel);
    const uint32_t label = labels[pixel], classes = m.classes();
    float average = 0, above = 0;
    if (label != ignore && label < classes) {
      const Corners z(m, place.image, place.row, place.column);
      const float2* g = slopes + place.image / images_of_unit * classes;
      const float2 scale = norm[pixel];
      const float centre = g[0].y, own = g[label].x - centre;
      for (uint32_t k = 0; k < classes; k++) {
        const float p = expf(z[k] - scale.x) * scale.y, slope = k == label ? own : g[k].y - centre;
        average += p * slope;
        above += p * (own - slope);
      }
    }
    mean[pixel] = make_float2(average, above);
  }
};

void norm_upsampled(const Grid& p, const Args& a) {
  const Maps m(p, a.in(0));
  each(a, p.images * m.pixels_of_image(), Norm{m, a.out<float2>(0)});
}

struct MeanParams {
  Grid grid;
  uint32_t units, first_unit, ignore;
};
void mean_upsampled(const MeanParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Maps m(p, a.in(0));
  const float2* slopes = a.in<float2>(3) + static_cast<size_t>(all.first_unit) * p.classes;
  each(a, p.images * m.pixels_of_image(),
       Mean{m, a.in<uint32_t>(1), a.in<float2>(2), slopes, a.out<float2>(0), p.images / all.units, all.ignore});
}

// Columns of up to 32 classes, in registers

template <int K>
struct SmallRow {
  float at[(TILE + 2) * (K + 1)];  // as large a map has at most one small-map pixel more than pixels
};

/** A thread's column, its block's small-map row, and the two rows of the small map that it is between. */
template <int K>
struct Column {
  float upper[K], lower[K];
  const Maps& m;
  SmallRow<K>& memory;
  const float* map;          // the image's
  uint32_t first, count;     // small-map columns of the block
  unsigned left, right;      // the thread's, in shared memory
  float u;
  /** Columns `from` to `to` - 1 belong to the block. */
  __device__ __forceinline__ Column(const Maps& m, SmallRow<K>& memory, size_t image, uint32_t from, uint32_t to)
      : m(m), memory(memory) {
    map = m.logits + image * m.down.size * m.across.size * m.classes();
    first = m.across.between(from).low;
    count = m.across.between(to - 1).high + 1 - first;
    const uint32_t column = from + threadIdx.x < to ? from + threadIdx.x : to - 1;
    const auto x = m.across.between(column);
    left = (x.low - first) * m.shape.pitch();
    right = (x.high - first) * m.shape.pitch();
    u = x.t;
  }
  /** All threads of the block. */
  __device__ __forceinline__ void load(uint32_t row, float (&to)[K]) {
    const uint32_t classes = m.classes(), elements = count * classes;
    const float* from = map + (static_cast<size_t>(row) * m.across.size + first) * classes;
    __syncthreads();
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < elements; i += TILE) memory.at[m.shape.slot(i)] = from[i];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) {
      if (k < static_cast<int>(classes)) to[k] = (1 - u) * memory.at[left + k] + u * memory.at[right + k];
    }
  }
  __device__ __forceinline__ void start(uint32_t low) {
#pragma unroll
    for (int k = 0; k < K; k++) upper[k] = lower[k] = -FLT_MAX;  // past the classes: no part of any sum
    load(low, upper);
    load(low + 1 < m.down.size ? low + 1 : low, lower);
  }
  /** From the rows low - 1 and low to low and the next. */
  __device__ __forceinline__ void next(uint32_t low) {
#pragma unroll
    for (int k = 0; k < K; k++) upper[k] = lower[k];
    load(low + 1 < m.down.size ? low + 1 : low, lower);
  }
  /**
   * e[k] = exp(z[k] - largest) at weight v of the lower row; returns their sum. __expf is off by 2 + 1.2 |x| units in the
   * last place: e^x has the more of them the smaller it is.
   */
  __device__ __forceinline__ float exponentials(float v, float (&e)[K]) const {
    float largest = -INFINITY, total = 0;
#pragma unroll
    for (int k = 0; k < K; k++) {
      e[k] = (1 - v) * upper[k] + v * lower[k];
      largest = max(largest, e[k]);
    }
#pragma unroll
    for (int k = 0; k < K; k++) {
      e[k] = __expf(e[k] - largest);
      total += e[k];
    }
    return total;
  }
};

struct SumParams {
  Grid grid;
  uint32_t units, chunks, span, block, ignore, softmax;
};

template <int K>
struct SumsMemory {
  SmallRow<K> row;
  Columns<K> columns;
};

/** Blocks are images, bands of `span` rows, tiles of columns: partials[image, band, tile, k, 3]. */
template <int K>
__global__ void __launch_bounds__(TILE, K <= 8 ? 8 : 3)
    sums_of_columns(Maps m, uint32_t bands, uint32_t tiles, uint32_t span, uint32_t ignore, const uint32_t* labels,
                    double* partials) {
  auto& memory = shared<SumsMemory<K>>();
  const uint32_t tile = blockIdx.x % tiles, band = blockIdx.x / tiles % bands, classes = m.classes();
  const size_t image = blockIdx.x / (tiles * bands);
  const uint32_t from = tile * TILE, to = from + TILE < m.across.out ? from + TILE : m.across.out;
  const uint32_t begin = band * span, end = begin + span < m.down.out ? begin + span : m.down.out;
  float misses[K] = {};
  memory.columns.clear();
  Column<K> column(m, memory.row, image, from, to);
  uint32_t low = m.down.between(begin).low;
  column.start(low);
  for (uint32_t row = begin; row < end; row++) {
    const auto y = m.down.between(row);
    if (y.low != low) {
      low = y.low;
      column.next(low);
    }
    const uint32_t x = from + threadIdx.x;
    const uint32_t label = x < to ? labels[(image * m.down.out + row) * m.across.out + x] : ignore;
    if (label == ignore || label >= classes) continue;  // on to a barrier of the next row, if it has one
    float e[K], own = 0;
    const float scale = 1.0f / column.exponentials(y.t, e);
#pragma unroll
    for (int k = 0; k < K; k++) {
      const bool hit = k == static_cast<int>(label);
      own = hit ? e[k] : own;
      misses[k] += hit ? 0.0f : e[k] * scale;
    }
    memory.columns.hits[label][threadIdx.x] += own * scale;
    memory.columns.counts[label][threadIdx.x] += 1;
  }
  memory.columns.add_up(misses, classes, memory.row.at, partials + static_cast<size_t>(blockIdx.x) * classes * 3);
}

/** Probability and label of one element (V = 1) of the large map. */
struct Elements {
  Maps m;
  const uint32_t* labels;
  const float2* norm;  // null: the sigmoid
  uint32_t ignore;
  __device__ void operator()(size_t at, float (&p)[1], bool (&hit)[1]) const {
    const uint32_t classes = m.classes();
    const size_t pixel = at / classes;
    const auto k = static_cast<uint32_t>(at - pixel * classes);
    const uint32_t label = norm ? labels[pixel] : labels[at];
    hit[0] = false;
    p[0] = 0;
    if (label == ignore || label >= (norm ? classes : 2)) return;
    const Place place(m, pixel);
    const float z = Corners(m, place.image, place.row, place.column)[k];
    hit[0] = label == (norm ? k : 1);
    p[0] = norm ? expf(z - norm[pixel].x) * norm[pixel].y : sigmoid(z);
  }
};

void sums_upsampled(const SumParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Maps m(p, a.in(0));
  const auto* labels = a.in<uint32_t>(1);
  const uint32_t slots = p.classes * 3;
  const FirstChunk first{a.out(0), all.chunks, slots};
  if (!all.softmax || p.classes > MOST_IN_REGISTERS) {
    const size_t pixels = p.images * m.pixels_of_image();
    float2* norm = all.softmax ? a.scratch<float2>(pixels) : nullptr;
    if (norm) each(a, pixels, Norm{m, norm});
    sum_elements<1>(a, all.units, pixels / all.units, p.classes, Elements{m, labels, norm, all.ignore}, first);
    return;
  }
  const uint32_t tiles = ceil_div(p.out_w, TILE);
  const size_t wanted = size_t{p.images} * tiles * p.out_h / (static_cast<size_t>(a.multiprocessors()) * 16);
  const auto span = static_cast<uint32_t>(wanted < 8 ? 8 : wanted > MOST_TERMS ? MOST_TERMS : wanted);
  const uint32_t bands = ceil_div(p.out_h, span), parts = p.images / all.units * bands * tiles;
  auto* partials = a.scratch<double>(size_t{all.units} * parts * slots);
  with_registers(p.classes, [&](auto k) {
    constexpr int K = decltype(k)::value;
    a.launch(sums_of_columns<K>, dim3(all.units * parts), dim3(TILE), sizeof(SumsMemory<K>), m, bands, tiles, span,
             all.ignore, labels, partials);
  });
  each_sum(a, partials, all.units, parts, slots, first);
}

struct GradParams {
  Grid grid;
  uint32_t units, first_unit, band, ignore, softmax;
};

template <int K>
struct GradMemory {
  SmallRow<K> row;
  RowTile<K> gradients;  // of a small-map row, by columns of the large map
  alignas(16) float misses[K];
  float hits[K];
};

/** The small-map pixels that a block owns, and the images of a unit. */
struct Ownership {
  uint32_t width, height, tiles, bands, images_of_unit;
};

template <int K>
__global__ void __launch_bounds__(TILE, K <= 8 ? 4 : K <= 16 ? 3 : 2)
    gradient_of_columns(Maps m, Ownership own, uint32_t ignore, const uint32_t* labels, const float2* slopes,
                        const float* dy, float* dlogits) {
  auto& memory = shared<GradMemory<K>>();
  const uint32_t tile = blockIdx.x % own.tiles, band = blockIdx.x / own.tiles % own.bands, classes = m.classes();
  const size_t image = blockIdx.x / (own.tiles * own.bands);
  const uint32_t left = tile * own.width, right = left + own.width < m.across.size ? left + own.width : m.across.size;
  const uint32_t top = band * own.height, bottom = top + own.height < m.down.size ? top + own.height : m.down.size;
  const float2* g = slopes + image / own.images_of_unit * classes;
  const float factor = dy[0], pixels_of_class = 1.0f / static_cast<float>(classes);
  if (threadIdx.x < K) {
    // less the first class's of false pixels: differences stay, and keep their digits
    const bool some = threadIdx.x < classes;
    memory.misses[threadIdx.x] = some ? g[threadIdx.x].y - g[0].y : 0.0f;
    memory.hits[threadIdx.x] = some ? g[threadIdx.x].x - g[0].y : 0.0f;
  }
  const uint32_t stop = m.across.end(right);
  // One pass where the pixels that read the block's fit its threads; else what one pass wrote the next adds to.
  for (uint32_t from = m.across.start(left), pass = 0; from < stop; from += TILE, pass++) {
    const uint32_t to = from + TILE < stop ? from + TILE : stop, x = from + threadIdx.x;
    Column<K> column(m, memory.row, image, from, to);
    // Gradients of the small-map rows. Of 32 classes one of them is in shared memory: not all would fit in registers.
    constexpr bool FITS = K <= 24;
    float* mine = memory.gradients.at + threadIdx.x * m.shape.pitch();
    float above[FITS ? K : 1] = {}, below[K] = {};
    uint32_t low = top > 0 ? top - 1 : 0, row = m.down.start(top);
    column.start(low);
    if constexpr (!FITS) {
#pragma unroll
      for (int k = 0; k < K; k++) {
        if (k < static_cast<int>(classes)) mine[k] = 0;
      }
    }
    for (;;) {
      const uint32_t end = m.down.end(low + 1);  // pixels between the rows low and low + 1
#pragma unroll 1
      for (; row < end; row++) {
        const uint32_t label = x < to ? labels[(image * m.down.out + row) * m.across.out + x] : ignore;
        if (label == ignore || label >= classes) continue;
        asm volatile("" ::: "memory");  // slopes stay in shared memory: there are no registers for them
        const float v = m.down.between(row).t;
        float e[K], mean = 0, less = 0;
        const float inverse = 1.0f / column.exponentials(v, e), hit = memory.hits[label];
#pragma unroll
        for (int k = 0; k < K; k++) {
          const float slope = k == static_cast<int>(label) ? hit : memory.misses[k];
          mean += e[k] * slope;
          less += e[k] * (hit - slope);
        }
        mean *= inverse;
        less *= inverse;
        asm volatile("" ::: "memory");
        const float to_above = (1 - v) * inverse, to_below = v * inverse;
#pragma unroll
        for (int k = 0; k < K; k++) {
          // the label's own g - mean as a sum over the others: it keeps its digits where p is near 1
          const float d = e[k] * (k == static_cast<int>(label) ? less : memory.misses[k] - mean);
          below[k] += to_below * d;
          if constexpr (FITS) {
            above[k] += to_above * d;
          } else if (k < static_cast<int>(classes)) {
            mine[k] += to_above * d;
          }
        }
      }
      if (low >= top) {
        if constexpr (FITS) {
#pragma unroll
          for (int k = 0; k < K; k++) {
            if (k < static_cast<int>(classes)) mine[k] = above[k];
          }
        }
        __syncthreads();
        float* result = dlogits + ((image * m.down.size + low) * m.across.size + left) * classes;
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < (right - left) * classes; i += TILE) {
          // below 2^12, so that half of a class more is enough to keep the quotient right
          const auto s = static_cast<uint32_t>((static_cast<float>(i) + 0.5f) * pixels_of_class);
          const uint32_t k = i - s * classes;
          uint32_t c = m.across.start(left + s), last = m.across.end(left + s + 1);
          c = c > from ? c : from;
          last = last < to ? last : to;
          float sum = 0;
#pragma unroll 1
          for (; c < last; c++) sum += m.across.weight(c, left + s) * memory.gradients.at[(c - from) * m.shape.pitch() + k];
          result[i] = pass > 0 ? result[i] + factor * sum : factor * sum;
        }
      }
      if (++low >= bottom) break;
      column.next(low);  // behind its barriers nobody reads what others have in `mine`
#pragma unroll
      for (int k = 0; k < K; k++) {
        if constexpr (FITS) {
          above[k] = below[k];
        } else if (k < static_cast<int>(classes)) {
          mine[k] = below[k];
        }
        below[k] = 0;
      }
    }
  }
}

/** One element of the small map: all pixels that read it. */
struct Gather {
  Maps m;
  const uint32_t* labels;
  const float2 *norm, *mean;  // null: the sigmoid
  const float2* slopes;
  const float* dy;
  float* dlogits;
  uint32_t images_of_unit, ignore;
  __device__ void operator()(size_t element) const {
    const uint32_t classes = m.classes();
    const size_t small = element / classes, map = static_cast<size_t>(m.down.size) * m.across.size, image = small / map;
    const auto k = static_cast<uint32_t>(element - small * classes), rest = static_cast<uint32_t>(small - image * map);
    const uint32_t r = rest / m.across.size, s = rest - r * m.across.size;
    const float2* g = slopes + image / images_of_unit * classes;
    const float2 slope = g[k];
    const float others = norm ? slope.y - g[0].y : 0.0f;
    double sum = 0;
    for (uint32_t row = m.down.start(r); row < m.down.end(r + 1); row++) {
      float line = 0;
      for (uint32_t column = m.across.start(s); column < m.across.end(s + 1); column++) {
        const size_t pixel = (image * m.down.out + row) * m.across.out + column;
        const uint32_t label = norm ? labels[pixel] : labels[pixel * classes + k];
        if (label == ignore || label >= (norm ? classes : 2)) continue;
        const float z = Corners(m, image, row, column)[k];
        float d;
        if (norm) {
          d = expf(z - norm[pixel].x) * norm[pixel].y * (k == label ? mean[pixel].y : others - mean[pixel].x);
        } else {
          d = sigmoid_slope(z) * (label == 1 ? slope.x : slope.y);
        }
        line += m.across.weight(column, s) * d;
      }
      sum += m.down.weight(row, r) * line;
    }
    dlogits[element] = dy[0] * static_cast<float>(sum);
  }
};

void grad_upsampled(const GradParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Maps m(p, a.in(0));
  const auto* labels = a.in<uint32_t>(1);
  const float2* slopes = a.in<float2>(4) + static_cast<size_t>(all.first_unit) * p.classes;
  const float* dy = a.in(5);
  const uint32_t images_of_unit = p.images / all.units;
  if (!all.softmax || p.classes > MOST_IN_REGISTERS) {
    const size_t pixels = p.images * m.pixels_of_image();
    float2 *norm = nullptr, *mean = nullptr;
    if (all.softmax) {
      norm = a.scratch<float2>(pixels);
      mean = a.scratch<float2>(pixels);
      each(a, pixels, Norm{m, norm});
      each(a, pixels, Mean{m, labels, norm, slopes, mean, images_of_unit, all.ignore});
    }
    each(a, m.shape.rows * p.classes,
         Gather{m, labels, norm, mean, slopes, dy, a.out(0), images_of_unit, all.ignore});
    return;
  }
  // As many small-map columns as a block's threads have the pixels of, shared out evenly; so many rows that computing
  // those at the ends twice is a tenth or so, and that the card is full.
  const uint64_t fits = uint64_t{TILE} * p.step_w / p.scale_w;
  const uint32_t most = fits > 2 ? static_cast<uint32_t>(fits) - 1 : 1;
  Ownership own{};
  own.tiles = ceil_div(p.w, most);
  own.width = ceil_div(p.w, own.tiles);
  own.tiles = ceil_div(p.w, own.width);
  const size_t rows = size_t{p.images} * own.tiles * p.h / (static_cast<size_t>(a.multiprocessors()) * 8);
  own.height = static_cast<uint32_t>(rows < 8 ? 8 : rows > 32 ? 32 : rows);
  own.bands = ceil_div(p.h, own.height);
  own.images_of_unit = images_of_unit;
  with_registers(p.classes, [&](auto k) {
    constexpr int K = decltype(k)::value;
    a.launch(gradient_of_columns<K>, dim3(p.images * own.bands * own.tiles), dim3(TILE), sizeof(GradMemory<K>), m, own,
             all.ignore, labels, slopes, dy, a.out(0));
  });
}

const Register kernels[] = {
    {"tversky.norm_upsampled", 1, 1, norm_upsampled},
    {"tversky.sums_upsampled", 3, 1, sums_upsampled},
    {"tversky.mean_upsampled", 4, 1, mean_upsampled},
    {"tversky.grad_upsampled", 6, 1, grad_upsampled},
};

}  // namespace lacuna::cuda::tversky_upsampled
