// The convolution in which no channel meets another: each input channel has m = cout / cin outputs of its own.
//
//   y[n, i, j, o]  = relu(bias[o] + Σ over taps of x[n, i · stride + kh · dilation - top, j ..., o / m] w[o, tap]
//                    + residual[n, i, j, o])
//   dx[n, i, j, c] = Σ over taps and the m outputs o of c of dy[n, (i + top - kh · dilation) / stride, ..., o] w[o, tap]
//   dw[o, tap]     = Σ over pixels of x[pixel moved by tap, o / m] dy[pixel, o]
//
// All are bound by memory: each map should cross it once. Weights are first copied to [tap, o], so that a thread reads those
// of its neighbouring channels as vectors.
//
// The usual case, 3 x 3 taps, a stride of 1 and one output for each channel, slides a window: a thread owns four channels of
// one column of the result and walks down it in steps of the dilation, so that of the nine values of a window six are in
// registers already, whatever the dilation; rows and columns outside the map are not read. The three columns of a window are
// read by neighbours in the block, too, and found in the cache.
#include "conv2d.h"

namespace lacuna::cuda::conv2d::depthwise {
namespace {

/** wt[tap, o] = w[o, tap], or taps backwards */
template <class T>
struct Turn {
  const T* w;
  uint32_t cout, taps;
  bool mirrored;
  float* wt;
  __device__ void operator()(size_t i) const {
    const uint32_t item = static_cast<uint32_t>(i), tap = item / cout, o = item % cout;
    wt[i] = to_float(w[static_cast<size_t>(o) * taps + (mirrored ? taps - 1 - tap : tap)]);
  }
};
template <class T>
const float* turned(const Args& a, const Geometry& g, const T* w, bool mirrored) {
  const size_t count = static_cast<size_t>(g.cout) * g.kh * g.kw;
  float* wt = a.scratch(count);
  each(a, count, Turn<T>{w, g.cout, g.kh * g.kw, mirrored, wt});
  return wt;
}

/** dw[o, tap] = Σ over parts of partials[part, tap, o]: runs of 16 in f32, these in f64 */
struct AddParts {
  const float* partials;
  uint32_t cout, taps, parts;
  float* dw;
  __device__ void operator()(size_t i) const {
    const size_t count = static_cast<size_t>(cout) * taps;
    const uint32_t item = static_cast<uint32_t>(i);
    double total = 0;
    for (uint32_t first = 0; first < parts; first += 16) {
      float run = 0;
      for (uint32_t part = first; part < min(first + 16, parts); part++) run += partials[part * count + i];
      total += run;
    }
    dw[item % cout * taps + item / cout] = static_cast<float>(total);
  }
};

// Windows that slide

constexpr int V = 4;               // channels of a thread
constexpr uint32_t LONGEST = 16;   // results of a walk, which starts with two rows that its neighbours read, too
constexpr uint32_t TAPS = 9;
template <class T>
constexpr uint32_t ACROSS = 128 / (V * sizeof(T));  // threads side by side along channels: a line of memory
template <class T>
constexpr uint32_t COLUMNS = BLOCK / ACROSS<T>;

/** Result (i, j) reads source rows first_y + i + kh · step_y, and columns likewise; both maps have `channels`. */
struct Slide {
  uint32_t images, channels, source_height, source_width, height, width;
  int first_y, first_x, step_y, step_x;
  uint32_t residues, segments, column_blocks;  // walks: rows residue, residue + step_y, ... in segments of LONGEST
  uint32_t chunks, parts;                      // of the grid: channels, and shares of the walks
};
/** A walk of one thread, and of its neighbours. */
struct Walk {
  uint32_t image, row, column, count;
};
__device__ __forceinline__ Walk walk_of(const Slide& p, uint32_t item, uint32_t columns, uint32_t column) {
  Walk walk;
  walk.column = item % p.column_blocks * columns + column;
  item /= p.column_blocks;
  walk.row = item % p.residues;
  item /= p.residues;
  walk.row += item % p.segments * LONGEST * static_cast<uint32_t>(p.step_y);
  walk.image = item / p.segments;
  const uint32_t step = static_cast<uint32_t>(p.step_y);
  const uint32_t rest = walk.row < p.height ? (p.height - walk.row + step - 1) / step : 0;
  walk.count = walk.column < p.width ? min(rest, LONGEST) : 0;
  return walk;
}

/** Three neighbours (steps apart) in a row of the source; the next row's are on their way. */
template <class T>
struct Rows {
  const T* x;  // the first of the three in row `y`
  int y, height, step;
  uint32_t pitch;  // from this row to the next one's, less than 2^32
  uint32_t apart;  // from one of the three to the next
  bool inside[3];
  Vec<T, V> next[3];

  __device__ __forceinline__ Rows(const Slide& p, const Walk& walk, const T* source, uint32_t channel) {
    y = p.first_y + static_cast<int>(walk.row);
    height = static_cast<int>(p.source_height);
    step = p.step_y;
    const int column = p.first_x + static_cast<int>(walk.column);
    pitch = static_cast<uint32_t>(p.step_y) * p.source_width * p.channels;
    apart = static_cast<uint32_t>(p.step_x) * p.channels;
    x = source + ((static_cast<int64_t>(walk.image) * height + y) * p.source_width + column) * p.channels + channel;
#pragma unroll
    for (int b = 0; b < 3; b++) {
      inside[b] = static_cast<unsigned>(column + b * p.step_x) < p.source_width;
    }
    read();
  }
  __device__ __forceinline__ void read() {
    const bool within = static_cast<unsigned>(y) < static_cast<unsigned>(height);
#pragma unroll
    for (uint32_t b = 0; b < 3; b++) {
      if (within && inside[b]) {
        next[b] = *reinterpret_cast<const Vec<T, V>*>(x + b * static_cast<size_t>(apart));
      } else {
#pragma unroll
        for (int j = 0; j < V; j++) next[b].v[j] = from_float<T>(0.0f);
      }
    }
  }
  /** The row that was read; `more`: goes on to the next. */
  __device__ __forceinline__ void take(float (&row)[3][V], bool more) {
#pragma unroll
    for (int b = 0; b < 3; b++) {
#pragma unroll
      for (int j = 0; j < V; j++) row[b][j] = to_float(next[b].v[j]);
    }
    y += step;
    x += pitch;
    if (more) read();
  }
};

template <class T>
__global__ void __launch_bounds__(BLOCK, 2)
    slide_kernel(Slide p, uint32_t walks, const T* x, const float* wt, const Epilogue<T> epilogue, T* y) {
  const uint32_t channel = (blockIdx.x % p.chunks * ACROSS<T> + threadIdx.x % ACROSS<T>) * V;
  if (channel >= p.channels) return;
  float w[TAPS][V];
#pragma unroll
  for (uint32_t tap = 0; tap < TAPS; tap++) load_floats<V>(wt + tap * static_cast<size_t>(p.channels) + channel, w[tap]);
  for (uint32_t item = blockIdx.x / p.chunks; item < walks; item += p.parts) {
    const Walk walk = walk_of(p, item, COLUMNS<T>, threadIdx.x / ACROSS<T>);
    if (walk.count == 0) continue;
    Rows<T> rows(p, walk, x, channel);
    float window[3][3][V];
    rows.take(window[0], true);
    rows.take(window[1], true);
    const uint32_t pitch = static_cast<uint32_t>(p.step_y) * p.width * p.channels;
    const size_t pixel = (static_cast<size_t>(walk.image) * p.height + walk.row) * p.width + walk.column;
    T* to = y + (pixel * p.channels + channel);
    for (uint32_t i = 0; i < walk.count; i += 3) {
#pragma unroll
      for (uint32_t k = 0; k < 3; k++) {
        if (i + k < walk.count) {
          rows.take(window[(k + 2) % 3], i + k + 1 < walk.count);
          float sum[V] = {};
          if (epilogue.bias) load_floats<V>(epilogue.bias + channel, sum);  // rarely there: no registers are kept for it
#pragma unroll
          for (uint32_t tap = 0; tap < TAPS; tap++) {
#pragma unroll
            for (int j = 0; j < V; j++) sum[j] += window[(k + tap / 3) % 3][tap % 3][j] * w[tap][j];
          }
          epilogue.template finish<V>(static_cast<size_t>(to - y), sum);
          store_floats<V>(to, sum);
          to += pitch;
        }
      }
    }
  }
}

template <class T>
struct SlideMemory {
  float v[BLOCK / 32][TAPS][ACROSS<T> * V];
};
/** Sums of a thread's walks, then of the block's columns; partials[part, tap, channel]. */
template <class T>
__global__ void __launch_bounds__(BLOCK, 2)
    slide_weight_kernel(Slide p, uint32_t walks, const T* x, const T* dy, float* partials) {
  auto& memory = shared<SlideMemory<T>>();
  const uint32_t first = blockIdx.x % p.chunks * ACROSS<T> * V, channel = first + threadIdx.x % ACROSS<T> * V;
  const uint32_t part = blockIdx.x / p.chunks;
  float sums[TAPS][V] = {};
  for (uint32_t item = part; item < walks && channel < p.channels; item += p.parts) {
    const Walk walk = walk_of(p, item, COLUMNS<T>, threadIdx.x / ACROSS<T>);
    if (walk.count == 0) continue;
    Rows<T> rows(p, walk, x, channel);
    float window[3][3][V];
    rows.take(window[0], true);
    rows.take(window[1], true);
    const uint32_t pitch = static_cast<uint32_t>(p.step_y) * p.width * p.channels;
    const size_t pixel = (static_cast<size_t>(walk.image) * p.height + walk.row) * p.width + walk.column;
    const T* from = dy + (pixel * p.channels + channel);
    Vec<T, V> next = *reinterpret_cast<const Vec<T, V>*>(from);
    for (uint32_t i = 0; i < walk.count; i += 3) {
#pragma unroll
      for (uint32_t k = 0; k < 3; k++) {
        if (i + k < walk.count) {
          const bool more = i + k + 1 < walk.count;
          float slope[V];
#pragma unroll
          for (int j = 0; j < V; j++) slope[j] = to_float(next.v[j]);
          from += pitch;
          if (more) next = *reinterpret_cast<const Vec<T, V>*>(from);
          rows.take(window[(k + 2) % 3], more);
#pragma unroll
          for (uint32_t tap = 0; tap < TAPS; tap++) {
#pragma unroll
            for (int j = 0; j < V; j++) sums[tap][j] += window[(k + tap / 3) % 3][tap % 3][j] * slope[j];
          }
        }
      }
    }
  }
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (uint32_t tap = 0; tap < TAPS; tap++) {
#pragma unroll
    for (int j = 0; j < V; j++) {
      float sum = sums[tap][j];
#pragma unroll
      for (int bits = 16; bits >= static_cast<int>(ACROSS<T>); bits /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, bits);
      if (lane < ACROSS<T>) memory.v[warp][tap][lane * V + static_cast<uint32_t>(j)] = sum;
    }
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < TAPS * ACROSS<T> * V; i += BLOCK) {
    const uint32_t tap = i / (ACROSS<T> * V), at = i % (ACROSS<T> * V);
    if (first + at >= p.channels) continue;
    float total = 0;
#pragma unroll
    for (uint32_t k = 0; k < BLOCK / 32; k++) total += memory.v[k][tap][at];
    partials[(static_cast<size_t>(part) * TAPS + tap) * p.channels + first + at] = total;
  }
}

/** Of shapes in vectors. */
bool slides(const Geometry& g) {
  return g.kh == 3 && g.kw == 3 && g.stride_h == 1 && g.stride_w == 1;
}
/** From x to y, or back, with the taps mirrored. Sets the grid: `walks` in all. */
template <class T>
Slide slide_of(const Args& a, const Geometry& g, bool back, uint32_t& walks) {
  Slide p{};
  p.images = g.n;
  p.channels = g.cin;
  p.step_y = static_cast<int>(g.dilation_h);
  p.step_x = static_cast<int>(g.dilation_w);
  p.source_height = back ? g.out_height : g.height;
  p.source_width = back ? g.out_width : g.width;
  p.height = back ? g.height : g.out_height;
  p.width = back ? g.width : g.out_width;
  p.first_y = back ? static_cast<int>(g.pad_top) - 2 * p.step_y : -static_cast<int>(g.pad_top);
  p.first_x = back ? static_cast<int>(g.pad_left) - 2 * p.step_x : -static_cast<int>(g.pad_left);
  p.residues = min(g.dilation_h, p.height);
  p.segments = ceil_div(ceil_div(p.height, g.dilation_h), LONGEST);
  p.column_blocks = ceil_div(p.width, COLUMNS<T>);
  walks = p.images * p.segments * p.residues * p.column_blocks;
  p.chunks = ceil_div(p.channels, ACROSS<T> * V);
  p.parts = min(walks, ceil_div(static_cast<size_t>(a.multiprocessors()) * 8, p.chunks));
  return p;
}
template <class T>
void slide(const Args& a, const Geometry& g, bool back, const T* x, const T* w, const Epilogue<T>& epilogue, T* y) {
  uint32_t walks;
  const Slide p = slide_of<T>(a, g, back, walks);
  const float* wt = turned(a, g, w, back);
  a.launch(slide_kernel<T>, dim3(p.chunks * p.parts), dim3(BLOCK), 0, p, walks, x, wt, epilogue, y);
}
template <class T>
void slide_weight(const Args& a, const Geometry& g, const T* x, const T* dy, float* dw) {
  uint32_t walks;
  const Slide p = slide_of<T>(a, g, false, walks);
  float* partials = a.scratch(size_t{p.parts} * TAPS * p.channels);
  a.launch(slide_weight_kernel<T>, dim3(p.chunks * p.parts), dim3(BLOCK), sizeof(SlideMemory<T>), p, walks, x, dy,
           partials);
  each(a, size_t{TAPS} * p.channels, AddParts{partials, p.channels, TAPS, p.parts, dw});
}

// Any other shape: a thread owns N channels of one pixel of the result. N is more than 1 where each channel has one output.

/** f(row, item) for every item of every row. */
template <class F>
__global__ void __launch_bounds__(BLOCK) rows_kernel(uint32_t rows, uint32_t items, F f) {
  for (uint32_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (uint32_t item = threadIdx.x; item < items; item += BLOCK) f(row, item);
  }
}
template <class F>
void each_in_rows(const Args& a, uint32_t rows, uint32_t items, F f) {
  const uint32_t blocks = min(rows, static_cast<uint32_t>(a.multiprocessors()) * 32);
  a.launch(rows_kernel<F>, dim3(blocks), dim3(BLOCK), 0, rows, items, f);
}

template <class T, int N>
struct Forward {
  Geometry g;
  const T* x;
  const float* wt;
  Epilogue<T> epilogue;
  T* y;
  __device__ void operator()(uint32_t row, uint32_t item) const {
    const uint32_t vectors = g.cout / N, column = item / vectors, o = item % vectors * N;
    const uint32_t c = N == 1 ? o / (g.cout / g.cin) : o;
    const int top = static_cast<int>(row % g.out_height * g.stride_h) - static_cast<int>(g.pad_top);
    const int left = static_cast<int>(column * g.stride_w) - static_cast<int>(g.pad_left);
    float sum[N] = {};
    if (epilogue.bias) load_floats<N>(epilogue.bias + o, sum);
    for (uint32_t kh = 0; kh < g.kh; kh++) {
      const int iy = top + static_cast<int>(kh * g.dilation_h);
      if (iy < 0 || iy >= static_cast<int>(g.height)) continue;
      const size_t line = (static_cast<size_t>(row / g.out_height) * g.height + static_cast<size_t>(iy)) * g.width;
      for (uint32_t kw = 0; kw < g.kw; kw++) {
        const int ix = left + static_cast<int>(kw * g.dilation_w);
        if (ix < 0 || ix >= static_cast<int>(g.width)) continue;
        float v[N], w[N];
        load_floats<N>(x + (line + static_cast<size_t>(ix)) * g.cin + c, v);
        load_floats<N>(wt + static_cast<size_t>(kh * g.kw + kw) * g.cout + o, w);
#pragma unroll
        for (int j = 0; j < N; j++) sum[j] += v[j] * w[j];
      }
    }
    const size_t at = (static_cast<size_t>(row) * g.out_width + column) * g.cout + o;
    epilogue.template finish<N>(at, sum);
    store_floats<N>(y + at, sum);
  }
};

template <class T, int N>
struct GradInput {
  Geometry g;
  const T* dy;
  const float* wt;
  T* dx;
  __device__ void operator()(uint32_t row, uint32_t item) const {
    const uint32_t vectors = g.cin / N, column = item / vectors, c = item % vectors * N, outputs = g.cout / g.cin;
    const int bottom = static_cast<int>(row % g.height + g.pad_top), right = static_cast<int>(column + g.pad_left);
    const int stride_h = static_cast<int>(g.stride_h), stride_w = static_cast<int>(g.stride_w);
    float sum[N] = {};
    for (uint32_t kh = 0; kh < g.kh; kh++) {
      const int from_y = bottom - static_cast<int>(kh * g.dilation_h);
      if (from_y < 0 || from_y % stride_h != 0 || from_y / stride_h >= static_cast<int>(g.out_height)) continue;
      const size_t line =
          (static_cast<size_t>(row / g.height) * g.out_height + static_cast<size_t>(from_y / stride_h)) * g.out_width;
      for (uint32_t kw = 0; kw < g.kw; kw++) {
        const int from_x = right - static_cast<int>(kw * g.dilation_w);
        if (from_x < 0 || from_x % stride_w != 0 || from_x / stride_w >= static_cast<int>(g.out_width)) continue;
        const T* slopes = dy + (line + static_cast<size_t>(from_x / stride_w)) * g.cout + c * outputs;
        const float* weights = wt + static_cast<size_t>(kh * g.kw + kw) * g.cout + c * outputs;
        for (uint32_t k = 0; k < outputs; k++) {
          float v[N], w[N];
          load_floats<N>(slopes + k, v);
          load_floats<N>(weights + k, w);
#pragma unroll
          for (int j = 0; j < N; j++) sum[j] += v[j] * w[j];
        }
      }
    }
    store_floats<N>(dx + (static_cast<size_t>(row) * g.width + column) * g.cin + c, sum);
  }
};

constexpr uint32_t LANES = 32, WARPS = BLOCK / LANES;

template <int N>
struct WeightMemory {
  float v[WARPS][LANES * N];
};
/** A block owns one tap of 32 N outputs and a share of the rows, of which each warp takes every eighth. */
template <class T, int N>
__global__ void __launch_bounds__(BLOCK, 4)
    grad_weight_kernel(Geometry g, uint32_t column_blocks, uint32_t share, const T* x, const T* dy, float* partials) {
  auto& memory = shared<WeightMemory<N>>();
  const uint32_t taps = g.kh * g.kw, lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
  const uint32_t first = blockIdx.x % column_blocks * LANES * N, o = first + lane * N;
  const uint32_t tap = blockIdx.x / column_blocks % taps, part = blockIdx.x / column_blocks / taps;
  const uint32_t c = N == 1 ? o / (g.cout / g.cin) : o;
  const int down = static_cast<int>(tap / g.kw * g.dilation_h) - static_cast<int>(g.pad_top);
  const int across = static_cast<int>(tap % g.kw * g.dilation_w) - static_cast<int>(g.pad_left);
  const uint32_t end = min((part + 1) * share, g.n * g.out_height);
  float sum[N] = {};
  for (uint32_t row = part * share + warp; row < end; row += WARPS) {
    const int iy = static_cast<int>(row % g.out_height * g.stride_h) + down;
    if (o >= g.cout || iy < 0 || iy >= static_cast<int>(g.height)) continue;
    const size_t x_row = static_cast<size_t>(row / g.out_height) * g.height + static_cast<size_t>(iy);
    const T* line = x + (x_row * g.width * g.cin + c);
    const T* slopes = dy + static_cast<size_t>(row) * g.out_width * g.cout + o;
    float of_row[N] = {};
#pragma unroll 4
    for (uint32_t ow = 0; ow < g.out_width; ow++) {
      const int ix = static_cast<int>(ow * g.stride_w) + across;
      if (ix < 0 || ix >= static_cast<int>(g.width)) continue;
      float v[N], slope[N];
      load_floats<N>(line + static_cast<size_t>(ix) * g.cin, v);
      load_floats<N>(slopes + static_cast<size_t>(ow) * g.cout, slope);
#pragma unroll
      for (int j = 0; j < N; j++) of_row[j] += v[j] * slope[j];
    }
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] += of_row[j];
  }
#pragma unroll
  for (int j = 0; j < N; j++) memory.v[warp][lane * N + j] = sum[j];
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < LANES * N; i += BLOCK) {
    if (first + i >= g.cout) continue;
    float total = 0;
#pragma unroll
    for (uint32_t k = 0; k < WARPS; k++) total += memory.v[k][i];
    partials[(static_cast<size_t>(part) * taps + tap) * g.cout + first + i] = total;
  }
}

template <class T, int N>
void grad_weight_in(const Args& a, const Geometry& g, const T* x, const T* dy, float* dw) {
  const uint32_t rows = g.n * g.out_height, taps = g.kh * g.kw, column_blocks = ceil_div(g.cout, LANES * N);
  const uint32_t busy = ceil_div(static_cast<size_t>(a.multiprocessors()) * 8, static_cast<size_t>(column_blocks) * taps);
  const uint32_t share = max(WARPS, ceil_div(rows, busy)), parts = ceil_div(rows, share);
  float* partials = a.scratch(static_cast<size_t>(parts) * taps * g.cout);
  a.launch(grad_weight_kernel<T, N>, dim3(column_blocks * taps * parts), dim3(BLOCK), sizeof(WeightMemory<N>), g,
           column_blocks, share, x, dy, partials);
  each(a, static_cast<size_t>(taps) * g.cout, AddParts{partials, g.cout, taps, parts, dw});
}

}  // namespace

void forward(const Args& a, const Geometry& g, const void* x, const void* w, const Epilogue<void>& epilogue, void* y,
             Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *ws = static_cast<const T*>(w);
    const Epilogue<T> known = epilogue.of<T>();
    auto* ys = static_cast<T*>(y);
    const bool vectors = g.cout == g.cin && in_vectors<V>(g.cout, xs, known.bias, known.residual, ys);
    if (vectors && slides(g)) return slide(a, g, false, xs, ws, known, ys);
    const float* wt = turned(a, g, ws, false);
    const uint32_t rows = g.n * g.out_height, items = g.out_width * g.cout;
    if (vectors) {
      each_in_rows(a, rows, items / V, Forward<T, V>{g, xs, wt, known, ys});
    } else {
      each_in_rows(a, rows, items, Forward<T, 1>{g, xs, wt, known, ys});
    }
  });
}

void grad_input(const Args& a, const Geometry& g, const void* dy, const void* w, void* dx, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *dys = static_cast<const T*>(dy), *ws = static_cast<const T*>(w);
    auto* dxs = static_cast<T*>(dx);
    const bool vectors = g.cout == g.cin && in_vectors<V>(g.cin, dys, dxs);
    if (vectors && slides(g)) return slide(a, g, true, dys, ws, Epilogue<T>{}, dxs);
    const float* wt = turned(a, g, ws, false);
    const uint32_t rows = g.n * g.height, items = g.width * g.cin;
    if (vectors) {
      each_in_rows(a, rows, items / V, GradInput<T, V>{g, dys, wt, dxs});
    } else {
      each_in_rows(a, rows, items, GradInput<T, 1>{g, dys, wt, dxs});
    }
  });
}

void grad_weight(const Args& a, const Geometry& g, const void* x, const void* dy, float* dw, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *dys = static_cast<const T*>(dy);
    const bool vectors = g.cout == g.cin && in_vectors<V>(g.cout, xs, dys);
    if (vectors && slides(g)) return slide_weight(a, g, xs, dys, dw);
    if (vectors) {
      grad_weight_in<T, V>(a, g, xs, dys, dw);
    } else {
      grad_weight_in<T, 1>(a, g, xs, dys, dw);
    }
  });
}

}  // namespace lacuna::cuda::conv2d::depthwise
