// The convolution as matrix products in f32 (gemm_tile.h), for every card, type and shape; nothing is unfolded in memory.
//
//   y   [pixel, o]    = Σ over (tap, c) of x[pixel moved by tap, c] · wt[tap, c, o]        forward
//   dx  [pixel, c]    = Σ over (tap, o) of dy[pixel moved by tap, o] · w[o, tap, c]        grad_input
//   dw  [(tap, c), o] = Σ over pixels of x[pixel moved by tap, c] · dy[pixel, o]           grad_weight
//
// The first two are one kernel: outputs gather pixels of a source along taps. With a stride, the outputs of grad_input fall
// into phases: with ih = phase + stride · u, tap kh reaches row oh = u + (phase + pad - kh · dilation) / stride, if that
// divides, which it does for every (stride / gcd(stride, dilation))-th tap. A phase is a convolution of stride 1 with those
// taps; where some phases have none, all of dx is cleared first.
//
// A block skips the taps that lie outside the map for all of its pixels (grad_weight: the pixels outside for all of its
// taps), which in an ASPP are half of them. Sums are cut into splits where tiles alone would not fill the card.
#include <numeric>

#include "conv2d.h"
#include "gemm_tile.h"

namespace lacuna::cuda::conv2d::portable {
namespace {

using gemm::DEPTH;

// forward and grad_input

/**
 * Rows or columns of outputs and source. Of phase q: its u-th output is first_output + u · scale; for the tap that is the
 * kernel's q + a · every (q = 0 and every = 1 in forward) it reads the source at first + u · step + a · tap_step.
 */
struct Axis {
  int source, outputs, taps;  // the maps' sizes, the kernel's
  int phases;                 // with taps
  int scale, step, every, tap_step;
  int dilation, pad;
  bool gradient;
};
struct Phase {
  int count, first_output, first, taps;
};
__host__ __device__ __forceinline__ Phase phase_of(const Axis& x, int q) {
  const int from = q * x.dilation - x.pad;
  if (!x.gradient) return {x.outputs, 0, from, x.taps};
  const int output = (from % x.scale + x.scale) % x.scale;
  const int count = output < x.outputs ? (x.outputs - output + x.scale - 1) / x.scale : 0;
  return {count, output, (output - from) / x.scale, (x.taps - q + x.every - 1) / x.every};
}

struct Gather {
  Axis h, w;
  uint32_t images, groups;
  uint32_t channels, columns;                   // of the source and of the result, in one group
  int source_pitch, result_pitch;               // channels of all groups
  int kernel_row, kernel_column, kernel_channel;  // distances in the weights (less than 2^31); columns are neighbours
  int64_t kernel_group;
  uint32_t tiles_m, tiles_n, splits;
  int64_t count;  // elements of the result
};

/** Where tap (0, 0) of an output lies in the source; `at` is the first of the group's channels there. */
struct alignas(16) Corner {
  int y, x;
  int64_t at;
};
constexpr int NOWHERE = -(1 << 30);

/** The next slab's first (tap, channel), in the order of the sum, which runs over the taps that the block keeps. */
struct Terms {
  int y, x;            // tap
  uint32_t channel;
  int first_x, end_x;  // kept columns
  uint32_t channels, left;
  __device__ __forceinline__ void forward(uint32_t count) {
    channel += count;
    while (channel >= channels) {
      channel -= channels;
      if (++x == end_x) {
        x = first_x;
        y++;
      }
    }
    left -= min(left, count);
  }
};

template <class T, class Tile, int V>
struct Pixels {
  using Slab = gemm::Slab<T, Tile::M, Tile::THREADS, true, V>;
  const Gather& p;
  const T* x;
  const Corner* corners;  // [Tile::M], shared
  const Terms& terms;
  __device__ __forceinline__ void prepare(unsigned) {}
  __device__ __forceinline__ void fetch(unsigned, Slab& slab) {
    Terms at = terms;
    at.forward(static_cast<uint32_t>(Slab::term(0)));
    const int dy = at.y * p.h.tap_step, dx = at.x * p.w.tap_step;
    const int64_t moved = static_cast<int64_t>(dy * p.w.source + dx) * p.source_pitch + at.channel;
#pragma unroll
    for (int i = 0; i < Slab::ITEMS; i++) {
      const Corner corner = corners[Slab::row(i)];
      const bool inside = at.left > 0 && static_cast<unsigned>(corner.y + dy) < static_cast<unsigned>(p.h.source) &&
                          static_cast<unsigned>(corner.x + dx) < static_cast<unsigned>(p.w.source);
      slab.set(i, inside, x + (corner.at + moved));
    }
  }
};

/** Fetched after the pixels of a step: goes on to the next. */
template <class T, class Tile, int V>
struct Weights {
  using Slab = gemm::Slab<T, Tile::N, Tile::THREADS, false, V>;
  const Gather& p;
  const T* w;  // of the block's group and phase, and this thread's columns
  bool exists;
  Terms& terms;
  __device__ __forceinline__ void prepare(unsigned) {}
  __device__ __forceinline__ void fetch(unsigned, Slab& slab) {
#pragma unroll
    for (int i = 0; i < Slab::ITEMS; i++) {
      Terms at = terms;
      at.forward(static_cast<uint32_t>(Slab::term(i)));
      const int offset = at.y * p.kernel_row + at.x * p.kernel_column + static_cast<int>(at.channel) * p.kernel_channel;
      slab.set(i, exists && at.left > 0, w + offset);
    }
    terms.forward(DEPTH);
  }
};

template <class Tile>
struct GatherMemory {
  gemm::Memory<Tile> tiles;
  Corner corners[Tile::M];
  // What only the end needs, so that no registers hold it meanwhile: where each row's pixel goes, or -1; the tile's first
  // column in its group and in all of them; the split's first element.
  int64_t pixels[Tile::M];
  uint32_t column, channel;
  int64_t split;
};

/** Taps [begin, end) that reach the source from some output in [first, last]. */
__device__ __forceinline__ void keep_taps(const Axis& x, const Phase& p, uint32_t first, uint32_t last, int& begin,
                                          int& end) {
  const int low = p.first + static_cast<int>(first) * x.step, high = p.first + static_cast<int>(last) * x.step;
  begin = 0;
  end = p.taps;
  while (begin < end && (high + begin * x.tap_step < 0 || low + begin * x.tap_step >= x.source)) begin++;
  while (end > begin && (high + (end - 1) * x.tap_step < 0 || low + (end - 1) * x.tap_step >= x.source)) end--;
}

/** A block owns a tile of outputs x columns of one phase, group and split; neighbouring blocks share the outputs. */
template <class T, class Tile, int V>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    gather_kernel(Gather p, const T* x, const T* w, const Epilogue<T> epilogue, T* y, float* partials) {
  auto& memory = shared<GatherMemory<Tile>>();
  uint32_t block = blockIdx.x;
  const uint32_t first_n = block % p.tiles_n * Tile::N;
  block /= p.tiles_n;
  const uint32_t first_m = block % p.tiles_m * Tile::M;
  block /= p.tiles_m;
  const uint32_t split = block % p.splits;
  block /= p.splits;
  const uint32_t group = block % p.groups;
  block /= p.groups;
  const int phase_h = static_cast<int>(block) / p.w.phases, phase_w = static_cast<int>(block) % p.w.phases;
  const Phase h = phase_of(p.h, phase_h), v = phase_of(p.w, phase_w);
  const uint32_t rows = static_cast<uint32_t>(h.count), columns = static_cast<uint32_t>(v.count);
  const uint32_t outputs = p.images * rows * columns;
  if (first_m >= outputs) return;  // all of the block

  for (uint32_t i = threadIdx.x; i < Tile::M; i += Tile::THREADS) {
    const uint32_t m = first_m + i;
    Corner corner{NOWHERE, NOWHERE, 0};
    int64_t pixel = -1;
    if (m < outputs) {
      const uint32_t row = m / columns;
      const int64_t image = row / rows;
      const int i_y = static_cast<int>(row % rows), i_x = static_cast<int>(m % columns);
      corner.y = h.first + i_y * p.h.step;
      corner.x = v.first + i_x * p.w.step;
      corner.at = ((image * p.h.source + corner.y) * p.w.source + corner.x) * p.source_pitch +
                  static_cast<int64_t>(group) * p.channels;
      pixel = (image * p.h.outputs + h.first_output + i_y * p.h.scale) * p.w.outputs + v.first_output + i_x * p.w.scale;
    }
    memory.corners[i] = corner;
    memory.pixels[i] = pixel;
  }
  if (threadIdx.x == 0) {
    memory.column = first_n;
    memory.channel = group * p.columns + first_n;
    memory.split = split * p.count;
  }
  // Rows of the tile: all, where it spans images. Columns likewise.
  const uint32_t last_m = min(first_m + Tile::M, outputs) - 1;
  const uint32_t row0 = first_m / columns, row1 = last_m / columns;
  const bool one_image = row0 / rows == row1 / rows;
  int tap_y, end_y, tap_x, end_x;
  keep_taps(p.h, h, one_image ? row0 % rows : 0, one_image ? row1 % rows : rows - 1, tap_y, end_y);
  keep_taps(p.w, v, row0 == row1 ? first_m % columns : 0, row0 == row1 ? last_m % columns : columns - 1, tap_x, end_x);

  const uint32_t across = static_cast<uint32_t>(end_x - tap_x);
  const uint32_t depth = static_cast<uint32_t>(end_y - tap_y) * across * p.channels;
  const uint32_t all_steps = (depth + DEPTH - 1) / DEPTH;
  const uint32_t step0 = gemm::cut(all_steps, p.splits, split), step1 = gemm::cut(all_steps, p.splits, split + 1);
  gemm::Sums<Tile> sums;
  Terms terms{tap_y, tap_x, 0, tap_x, end_x, p.channels, depth - min(depth, step0 * DEPTH)};
  if (terms.left > 0) {
    const uint32_t term = step0 * DEPTH, tap = term / p.channels;
    terms.y += static_cast<int>(tap / across);
    terms.x += static_cast<int>(tap % across);
    terms.channel = term % p.channels;
  }
  Pixels<T, Tile, V> a{p, x, memory.corners, terms};
  const uint32_t column = first_n + static_cast<uint32_t>(Weights<T, Tile, V>::Slab::row(0));
  const int phase = phase_h * (p.kernel_row / p.h.every) + phase_w * (p.kernel_column / p.w.every);
  Weights<T, Tile, V> b{p, w + (group * p.kernel_group + phase + column), column < p.columns, terms};
  gemm::multiply<Tile>(memory.tiles, a, b, step1 - step0, sums);
  __syncthreads();  // also where there was nothing to multiply

#pragma unroll
  for (int j = 0; j < Tile::TN; j += 4) {
    const uint32_t n = static_cast<uint32_t>(gemm::Sums<Tile>::column(j)), o = memory.channel + n;
    const uint32_t length = gemm::run_length(memory.column + n, p.columns);
    float shift[4] = {};
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
      if (epilogue.bias && l < length) shift[l] = to_float(epilogue.bias[o + l]);
    }
#pragma unroll
    for (int i = 0; i < Tile::TM; i++) {
      const int64_t pixel = memory.pixels[gemm::Sums<Tile>::row(i)];
      if (pixel < 0) continue;
      float run[4];
#pragma unroll
      for (int l = 0; l < 4; l++) run[l] = sums.v[i][j + l] + shift[l];
      const int64_t at = pixel * p.result_pitch + o;
      if (partials) {
        gemm::store_run<V>(partials + (memory.split + at), length, run);
      } else {
        if (V != 4) {
          epilogue.finish_run(static_cast<size_t>(at), length, run);
        } else if (length > 0) {  // all four, or none
          epilogue.finish(static_cast<size_t>(at), run);
        }
        gemm::store_run<V>(y + at, length, run);
      }
    }
  }
}

template <class T>
struct Clear {
  T* y;
  __device__ void operator()(size_t i) const { y[i] = from_float<T>(0.0f); }
};

template <class T, int V>
void gather_in(const Args& a, Gather p, const T* x, const T* w, const Epilogue<T>& epilogue, T* y, bool whole) {
  const size_t m = size_t{p.images} * ceil_div(p.h.outputs, p.h.scale) * ceil_div(p.w.outputs, p.w.scale);
  const size_t phases = static_cast<size_t>(p.h.phases) * p.w.phases;
  const size_t taps = static_cast<size_t>(phase_of(p.h, 0).taps) * phase_of(p.w, 0).taps;  // no phase has more
  const auto plan = gemm::plan(a, m, p.columns, taps * p.channels, phases * p.groups, V > 1, whole);
  if (!whole) each(a, p.count, Clear<T>{y});
  p.splits = plan.splits;
  float* partials = p.splits > 1 ? a.scratch(p.splits * p.count) : nullptr;
  gemm::with_tile<V>(plan.size, [&](auto t) {
    using Tile = decltype(t);
    p.tiles_m = ceil_div(m, Tile::M);
    p.tiles_n = ceil_div(p.columns, Tile::N);
    const size_t blocks = phases * p.groups * p.splits * p.tiles_m * p.tiles_n;
    a.launch(gather_kernel<T, Tile, V>, dim3(static_cast<unsigned>(blocks)), dim3(Tile::THREADS),
             sizeof(GatherMemory<Tile>), p, x, w, partials ? Epilogue<T>{} : epilogue, y, partials);
  });
  if (partials) {
    each(a, p.count / V, gemm::AddSplits<T, V>{partials, p.splits, static_cast<size_t>(p.count), epilogue,
                                               static_cast<uint32_t>(p.result_pitch), y});
  }
}

/** `whole`: every output belongs to a phase that has taps. */
void gather(const Args& a, const Gather& p, const void* x, const void* w, const Epilogue<void>& epilogue, void* y,
            Type type, bool whole) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *ws = static_cast<const T*>(w);
    const Epilogue<T> known = epilogue.of<T>();
    auto* ys = static_cast<T*>(y);
    if (p.channels % 4 == 0 && in_vectors<4>(p.columns, xs, ws, ys, known.bias, known.residual)) {
      gather_in<T, 4>(a, p, xs, ws, known, ys, whole);
    } else {
      gather_in<T, 1>(a, p, xs, ws, known, ys, whole);
    }
  });
}

// grad_weight

struct GradWeight {
  Geometry g;
  uint32_t channels, outputs;  // of one group
  uint32_t tiles_m, tiles_n, splits;
};
/** Of an output pixel: where tap (0, 0) lies in x, and the first channels of the group there and in dy, or -1. */
struct alignas(16) Pair {
  int y, x;
  int64_t x_at, dy_at;
};

/** Outputs [begin, end) whose taps first..last (some of them) lie inside the map. */
__device__ __forceinline__ void keep_outputs(uint32_t outputs, uint32_t source, uint32_t stride, uint32_t dilation,
                                             uint32_t pad, uint32_t first, uint32_t last, uint32_t& begin,
                                             uint32_t& end) {
  const int low = static_cast<int>(first * dilation - pad), high = static_cast<int>(last * dilation - pad);
  // output · stride + high >= 0 and output · stride + low < source
  const uint32_t from = high >= 0 ? 0 : (static_cast<uint32_t>(-high) + stride - 1) / stride;
  const int size = static_cast<int>(source);
  const uint32_t to = low >= size ? 0 : (static_cast<uint32_t>(size - low) + stride - 1) / stride;
  end = min(to, outputs);
  begin = min(from, end);
}

/** Pixels of a rectangle of all images, in slabs of DEPTH; both operands read what `prepare` of one of them finds out. */
struct Walk {
  const Geometry& g;
  Pair (*pairs)[DEPTH];  // [2], shared
  uint32_t row0, column0, rows, columns;
  uint32_t next, end;  // pixels
  int64_t x_group, dy_group;
  __device__ __forceinline__ void prepare(unsigned step) {
    if (threadIdx.x < DEPTH) {
      const uint32_t pixel = next + step * DEPTH + threadIdx.x;
      Pair pair{NOWHERE, NOWHERE, 0, -1};
      if (pixel < end) {
        const uint32_t row = pixel / columns, image = row / rows;
        const uint32_t oy = row0 + row % rows, ox = column0 + pixel % columns;
        pair.y = static_cast<int>(oy * g.stride_h) - static_cast<int>(g.pad_top);
        pair.x = static_cast<int>(ox * g.stride_w) - static_cast<int>(g.pad_left);
        pair.x_at = ((static_cast<int64_t>(image) * g.height + pair.y) * g.width + pair.x) * g.cin + x_group;
        pair.dy_at = ((static_cast<int64_t>(image) * g.out_height + oy) * g.out_width + ox) * g.cout + dy_group;
      }
      pairs[step % 2][threadIdx.x] = pair;
    }
  }
};

/** Rows are (tap, channel) of x; a thread's are of one tap. */
template <class T, class Tile, int V>
struct Unfolded {
  using Slab = gemm::Slab<T, Tile::M, Tile::THREADS, false, V>;
  Walk walk;
  const T* x;
  bool exists;
  int dy, dx;     // this thread's tap
  int64_t moved;  // its distance, and the channel's
  __device__ __forceinline__ void prepare(unsigned step) { walk.prepare(step); }
  __device__ __forceinline__ void fetch(unsigned step, Slab& slab) {
#pragma unroll
    for (int i = 0; i < Slab::ITEMS; i++) {
      const Pair& pair = walk.pairs[step % 2][Slab::term(i)];
      const bool inside = exists && static_cast<unsigned>(pair.y + dy) < walk.g.height &&
                          static_cast<unsigned>(pair.x + dx) < walk.g.width;
      slab.set(i, inside, x + (pair.x_at + moved));
    }
  }
};

template <class T, class Tile, int V>
struct Slopes {
  using Slab = gemm::Slab<T, Tile::N, Tile::THREADS, false, V>;
  const Pair (*pairs)[DEPTH];
  const T* dy;
  bool exists;
  uint32_t column;
  __device__ __forceinline__ void prepare(unsigned) {}
  __device__ __forceinline__ void fetch(unsigned step, Slab& slab) {
#pragma unroll
    for (int i = 0; i < Slab::ITEMS; i++) {
      const int64_t at = pairs[step % 2][Slab::term(i)].dy_at;
      slab.set(i, exists && at >= 0, dy + (at + column));
    }
  }
};

template <class Tile>
struct GradWeightMemory {
  gemm::Memory<Tile> tiles;
  Pair pairs[2][DEPTH];
};

/** A block owns a tile of (tap, channel) x outputs of one group, and a share of the pixels. */
template <class T, class Tile, int V>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    grad_weight_kernel(GradWeight p, const T* x, const T* dy, float* partials) {
  auto& memory = shared<GradWeightMemory<Tile>>();
  const Geometry& g = p.g;
  uint32_t block = blockIdx.x;
  const uint32_t first_n = block % p.tiles_n * Tile::N;
  block /= p.tiles_n;
  const uint32_t first_m = block % p.tiles_m * Tile::M;
  block /= p.tiles_m;
  const uint32_t split = block % p.splits, group = block / p.splits;
  const uint32_t m_end = g.kh * g.kw * p.channels;

  const uint32_t tap0 = first_m / p.channels, tap1 = (min(first_m + Tile::M, m_end) - 1) / p.channels;
  const bool one_row = tap0 / g.kw == tap1 / g.kw;
  uint32_t row0, row1, column0, column1;
  keep_outputs(g.out_height, g.height, g.stride_h, g.dilation_h, g.pad_top, tap0 / g.kw, tap1 / g.kw, row0, row1);
  keep_outputs(g.out_width, g.width, g.stride_w, g.dilation_w, g.pad_left, one_row ? tap0 % g.kw : 0,
               one_row ? tap1 % g.kw : g.kw - 1, column0, column1);
  const uint32_t pixels = g.n * (row1 - row0) * (column1 - column0);
  const uint32_t all_steps = (pixels + DEPTH - 1) / DEPTH;
  const uint32_t step0 = gemm::cut(all_steps, p.splits, split), step1 = gemm::cut(all_steps, p.splits, split + 1);

  using A = Unfolded<T, Tile, V>;
  using B = Slopes<T, Tile, V>;
  const uint32_t m = first_m + static_cast<uint32_t>(A::Slab::row(0)), tap = m / p.channels;
  const int tap_y = static_cast<int>(tap / g.kw * g.dilation_h), tap_x = static_cast<int>(tap % g.kw * g.dilation_w);
  A a{{g, memory.pairs, row0, column0, row1 - row0, column1 - column0, step0 * DEPTH, pixels,
       static_cast<int64_t>(group) * p.channels, static_cast<int64_t>(group) * p.outputs},
      x,
      m < m_end,
      tap_y,
      tap_x,
      (static_cast<int64_t>(tap_y) * g.width + tap_x) * g.cin + m % p.channels};
  const uint32_t n = first_n + static_cast<uint32_t>(B::Slab::row(0));
  B b{memory.pairs, dy, n < p.outputs, n};
  gemm::Sums<Tile> sums;
  gemm::multiply<Tile>(memory.tiles, a, b, step1 - step0, sums);

  float* to = partials + static_cast<int64_t>(split) * g.cout * m_end;
#pragma unroll
  for (int j = 0; j < Tile::TN; j++) {
    const uint32_t o = first_n + static_cast<uint32_t>(gemm::Sums<Tile>::column(j));
    if (o >= p.outputs) continue;
    float* of_output = to + (static_cast<int64_t>(group) * p.outputs + o) * m_end;
#pragma unroll
    for (int i = 0; i < Tile::TM; i += 4) {
      const uint32_t row = first_m + static_cast<uint32_t>(gemm::Sums<Tile>::row(i));
      const float run[4] = {sums.v[i][j], sums.v[i + 1][j], sums.v[i + 2][j], sums.v[i + 3][j]};
      gemm::store_run<V>(of_output + row, gemm::run_length(row, m_end), run);
    }
  }
}

template <class T, int V>
void grad_weight_in(const Args& a, const Geometry& g, const T* x, const T* dy, float* dw) {
  GradWeight p{g, g.cin / g.groups, g.cout / g.groups, 0, 0, 0};
  const size_t m = static_cast<size_t>(g.kh) * g.kw * p.channels, count = m * g.cout;
  const size_t pixels = static_cast<size_t>(g.n) * g.out_height * g.out_width;
  const auto plan = gemm::plan(a, m, p.outputs, pixels, g.groups, V > 1, true);
  p.splits = plan.splits;
  float* to = p.splits > 1 ? a.scratch(p.splits * count) : dw;
  gemm::with_tile<V>(plan.size, [&](auto t) {
    using Tile = decltype(t);
    p.tiles_m = ceil_div(m, Tile::M);
    p.tiles_n = ceil_div(p.outputs, Tile::N);
    const size_t blocks = size_t{g.groups} * p.splits * p.tiles_m * p.tiles_n;
    a.launch(grad_weight_kernel<T, Tile, V>, dim3(static_cast<unsigned>(blocks)), dim3(Tile::THREADS),
             sizeof(GradWeightMemory<Tile>), p, x, dy, to);
  });
  if (to != dw) each(a, count / V, gemm::AddSplits<float, V>{to, p.splits, count, {}, 1, dw});
}

}  // namespace

bool forward(const Args& a, const Geometry& g, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type) {
  const auto axis = [](uint32_t source, uint32_t outputs, uint32_t taps, uint32_t stride, uint32_t dilation,
                       uint32_t pad) {
    Axis x{};
    x.source = static_cast<int>(source);
    x.outputs = static_cast<int>(outputs);
    x.taps = static_cast<int>(taps);
    x.phases = x.scale = x.every = 1;
    x.step = static_cast<int>(stride);
    x.tap_step = x.dilation = static_cast<int>(dilation);
    x.pad = static_cast<int>(pad);
    return x;
  };
  Gather p{};
  p.h = axis(g.height, g.out_height, g.kh, g.stride_h, g.dilation_h, g.pad_top);
  p.w = axis(g.width, g.out_width, g.kw, g.stride_w, g.dilation_w, g.pad_left);
  p.images = g.n;
  p.groups = g.groups;
  p.channels = g.cin / g.groups;
  p.columns = g.cout / g.groups;
  p.source_pitch = static_cast<int>(g.cin);
  p.result_pitch = static_cast<int>(g.cout);
  p.kernel_channel = static_cast<int>(g.cout);
  p.kernel_column = static_cast<int>(p.channels * g.cout);
  p.kernel_row = static_cast<int>(g.kw * p.channels * g.cout);
  p.kernel_group = p.columns;
  p.count = static_cast<int64_t>(g.n) * g.out_height * g.out_width * g.cout;
  gather(a, p, x, wt, epilogue, y, type, true);
  return true;
}

bool grad_input(const Args& a, const Geometry& g, const void* dy, const void* w, void* dx, Type type) {
  const auto axis = [](uint32_t source, uint32_t outputs, uint32_t taps, uint32_t stride, uint32_t dilation,
                       uint32_t pad) {
    const int common = static_cast<int>(std::gcd(stride, dilation));
    Axis x{};
    x.source = static_cast<int>(source);
    x.outputs = static_cast<int>(outputs);
    x.taps = static_cast<int>(taps);
    x.scale = static_cast<int>(stride);
    x.every = x.scale / common;
    x.phases = min(x.every, x.taps);
    x.step = 1;
    x.dilation = static_cast<int>(dilation);
    x.tap_step = -x.dilation / common;
    x.pad = static_cast<int>(pad);
    x.gradient = true;
    return x;
  };
  Gather p{};
  p.h = axis(g.out_height, g.height, g.kh, g.stride_h, g.dilation_h, g.pad_top);
  p.w = axis(g.out_width, g.width, g.kw, g.stride_w, g.dilation_w, g.pad_left);
  p.images = g.n;
  p.groups = g.groups;
  p.channels = g.cout / g.groups;
  p.columns = g.cin / g.groups;
  p.source_pitch = static_cast<int>(g.cout);
  p.result_pitch = static_cast<int>(g.cin);
  p.kernel_channel = static_cast<int>(g.kh * g.kw * p.columns);
  p.kernel_column = p.w.every * static_cast<int>(p.columns);
  p.kernel_row = p.h.every * static_cast<int>(g.kw * p.columns);
  p.kernel_group = static_cast<int64_t>(p.channels) * p.kernel_channel;
  p.count = static_cast<int64_t>(g.n) * g.height * g.width * g.cin;
  gather(a, p, dy, w, {}, dx, type, p.h.phases == p.h.scale && p.w.phases == p.w.scale);
  return true;
}

bool grad_weight(const Args& a, const Geometry& g, const void* x, const void* dy, float* dw, Type type) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    const auto *xs = static_cast<const T*>(x), *dys = static_cast<const T*>(dy);
    if ((g.cin / g.groups) % 4 == 0 && in_vectors<4>(g.cout / g.groups, xs, dys, dw)) {
      grad_weight_in<T, 4>(a, g, xs, dys, dw);
    } else {
      grad_weight_in<T, 1>(a, g, xs, dys, dw);
    }
  });
  return true;
}

}  // namespace lacuna::cuda::conv2d::portable
