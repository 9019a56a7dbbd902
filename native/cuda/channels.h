// What normalisations do with a map, seen as [images, rows, channels]: apply factors that each channel (of each image) has,
// and reduce over rows. Bound by memory: every byte of the map is moved once, up to 16 bytes at a time.
//
// The channels of a row are cut into tiles of at most 32 vectors of N. A block owns one tile and a run of rows, with `threads`
// threads side by side, a vector each, and `high` rows of them; a thread walks down the rows, so that what belongs to its
// channels stays in registers. Rows that are reduced together, a segment, are split over blocks; in order of the splits, a second
// launch joins what they found. Addresses are multiples of 16 bytes, so channel counts alone say how wide vectors can be.
#pragma once
#include <type_traits>

#include "kernel.h"

namespace lacuna::cuda {

constexpr unsigned TILE = 32;

/** How a map is laid out, and which rows are reduced together: chunks of an image, `chunk_rows` or what is left. */
struct Segments {
  size_t images, rows, channels;
  size_t chunks, chunk_rows;
};

/** What a thread walks through: `count` vectors from element `at`, `step` elements apart. */
struct Walk {
  size_t image, channel;  // the vector's first
  size_t at, step, count;
  unsigned row, column;  // within the tile
};

struct Tiles {
  Segments map;
  size_t share;     // rows of a split
  unsigned splits;  // of a segment
  unsigned width;   // of a vector
  unsigned threads, high, across;

  /** `ahead`: rows that a thread reads at once, and it should have as many; `blocks`: that fill the card. */
  Tiles(const Segments& s, unsigned n, unsigned ahead, size_t blocks) : map(s), width(n) {
    const size_t vectors = s.channels / n, rows = s.chunk_rows < s.rows ? s.chunk_rows : s.rows;
    across = ceil_div(vectors, TILE);
    threads = ceil_div(vectors, across);
    high = BLOCK / threads;
    const size_t most = ceil_div(rows, size_t{high} * ahead), wanted = ceil_div(blocks, s.images * s.chunks * across);
    share = size_t{ceil_div(ceil_div(rows, wanted < most ? wanted : most), high)} * high;
    splits = ceil_div(rows, share);
  }
  dim3 grid() const { return dim3(static_cast<unsigned>(map.images * map.chunks * splits * across)); }
  dim3 block() const { return dim3(ceil_div(threads * high, 32) * 32); }

  /** First row, within the image, of a split; and how many rows it has: none where the segment is short. */
  __device__ __forceinline__ size_t begin(size_t segment, unsigned split, size_t& rows) const {
    const size_t from = segment % map.chunks * map.chunk_rows, past = from + map.chunk_rows;
    const size_t first = from + split * share, end = past < map.rows ? past : map.rows;
    const size_t left = first < end ? end - first : 0;
    rows = left < share ? left : share;
    return first;
  }
  /** The split of this block: its number in the order [segment, split]. */
  __device__ __forceinline__ size_t split() const { return blockIdx.x / across; }
  __device__ __forceinline__ Walk walk() const {
    Walk w;
    size_t rows;
    const size_t segment = split() / splits, first = begin(segment, static_cast<unsigned>(split() % splits), rows);
    w.row = threadIdx.x / threads;
    w.column = threadIdx.x % threads;
    w.image = segment / map.chunks;
    w.channel = (static_cast<size_t>(blockIdx.x % across) * threads + w.column) * width;
    w.at = (w.image * map.rows + first + w.row) * map.channels + w.channel;
    w.step = high * map.channels;
    const bool works = w.row < high && w.channel < map.channels && w.row < rows;
    w.count = works ? (rows - w.row + high - 1) / high : 0;
    return w;
  }
};

/** Calls g(width) with the widest vectors of T, as an integral_constant, that rows of `channels` are made of. */
template <class T, class G>
void with_width(size_t channels, G&& g) {
  if (channels % WIDE<T> == 0) return g(std::integral_constant<int, WIDE<T>>{});
  if constexpr (WIDE<T> > 4) {
    if (channels % 4 == 0) return g(std::integral_constant<int, 4>{});
  }
  g(std::integral_constant<int, 1>{});
}

/** A number per channel, or where `step` is the number of channels, per image and channel; else step is 0. */
struct Vector {
  const float* at;
  size_t step;
};

// A formula has VECTORS of these, from which, for a channel at a time, prepare() makes the FACTORS that it then applies.

template <class F, int N>
__device__ __forceinline__ void load_factors(const F& f, const Walk& w, float (&to)[F::FACTORS][N]) {
  constexpr int AT_ONCE = N < 4 ? N : 4;
  float raw[F::VECTORS][N];
#pragma unroll
  for (int k = 0; k < F::VECTORS; k++) {
#pragma unroll
    for (int n = 0; n < N; n += AT_ONCE) {
      float part[AT_ONCE];
      load_floats<AT_ONCE>(f.vectors[k].at + w.image * f.vectors[k].step + w.channel + n, part);
#pragma unroll
      for (int i = 0; i < AT_ONCE; i++) raw[k][n + i] = part[i];
    }
  }
#pragma unroll
  for (int n = 0; n < N; n++) {
    float of[F::VECTORS], made[F::FACTORS];
#pragma unroll
    for (int k = 0; k < F::VECTORS; k++) of[k] = raw[k][n];
    f.prepare(of, made);
#pragma unroll
    for (int k = 0; k < F::FACTORS; k++) to[k][n] = made[k];
  }
}
template <int M, int N>
__device__ __forceinline__ void factors_of(const float (&all)[M][N], int n, float (&to)[M]) {
#pragma unroll
  for (int m = 0; m < M; m++) to[m] = all[m][n];
}

/** The vector of row g of a group, or of the group's last row where it has no more than `count`. */
template <int N, bool WHOLE, class T>
__device__ __forceinline__ Vec<T, N> load_row(const T* x, size_t at, size_t step, unsigned g, unsigned count) {
  const unsigned row = WHOLE || g < count ? g : count - 1;
  return *reinterpret_cast<const Vec<T, N>*>(x + at + row * step);
}

// Maps: y = f(x[0], ..., factors), K = F::INPUTS arrays.

template <class T, int K>
struct Arguments {
  const T* x[K];
  T* y;
};

/** `AHEAD` rows at a time: all of their loads are in flight before the first result is stored. */
template <int AHEAD, class T, int N, class F>
__device__ __forceinline__ void apply_rows(const Arguments<T, F::INPUTS>& all, size_t at, size_t step, const F& f,
                                           const float (&factors)[F::FACTORS][N]) {
  Vec<T, N> x[AHEAD][F::INPUTS];
#pragma unroll
  for (int g = 0; g < AHEAD; g++) {
#pragma unroll
    for (int k = 0; k < F::INPUTS; k++) x[g][k] = load_row<N, true>(all.x[k], at, step, g, AHEAD);
  }
#pragma unroll
  for (int g = 0; g < AHEAD; g++) {
    float y[N];
#pragma unroll
    for (int n = 0; n < N; n++) {
      float of[F::INPUTS], factor[F::FACTORS];
#pragma unroll
      for (int k = 0; k < F::INPUTS; k++) of[k] = to_float(x[g][k].v[n]);
      factors_of(factors, n, factor);
      y[n] = f(of, factor);
    }
    store_floats<N>(all.y + at + g * step, y);
  }
}

template <class F>
constexpr int AHEAD = 4 / F::INPUTS;

template <class F, class T, int N>
__global__ void __launch_bounds__(BLOCK) apply_kernel(Tiles tiles, F f, Arguments<T, F::INPUTS> all) {
  Walk w = tiles.walk();
  if (w.count == 0) return;
  float factors[F::FACTORS][N];
  load_factors(f, w, factors);
  for (; w.count >= AHEAD<F>; w.count -= AHEAD<F>, w.at += AHEAD<F> * w.step) {
    apply_rows<AHEAD<F>>(all, w.at, w.step, f, factors);
  }
  for (; w.count > 0; w.count--, w.at += w.step) apply_rows<1>(all, w.at, w.step, f, factors);
}

/** `inputs`: which ones the formula is applied to. The output is the first. */
template <class F>
void apply(const Args& a, size_t images, size_t rows, size_t channels, const F& f, const unsigned (&inputs)[F::INPUTS]) {
  if (images * rows * channels == 0) return;
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    Arguments<T, F::INPUTS> all{{}, a.out<T>(0)};
    for (int k = 0; k < F::INPUTS; k++) all.x[k] = a.in<T>(inputs[k]);
    with_width<T>(channels, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const Tiles tiles({images, rows, channels, 1, rows}, N, 2 * AHEAD<F>, static_cast<size_t>(a.multiprocessors()) * 8);
      a.launch(apply_kernel<F, T, N>, tiles.grid(), tiles.block(), 0, tiles, f, all);
    });
  });
}

// Reductions of a segment's rows to two numbers a channel.

/** Sums: how two pairs of them are joined. */
struct Add {
  __device__ Add(double, double) {}
  __device__ __forceinline__ void operator()(double& first, double& second, double more_first, double more_second) const {
    first += more_first;
    second += more_second;
  }
};
/** Mean and sum of squared deviations, of `count` and of `more` values (Chan, Golub & LeVeque, 1979). */
struct Chan {
  double share, weight;
  __device__ Chan(double count, double more) : share(more > 0 ? more / (count + more) : 0.0), weight(count * share) {}
  __device__ __forceinline__ void operator()(double& mean, double& m2, double more_mean, double more_m2) const {
    const double delta = more_mean - mean;
    mean += delta * share;
    m2 += more_m2 + delta * delta * weight;
  }
};

/**
 * A thread's moments of its rows: those of 8 at a time, in f32 and in two passes over registers, join what there is. The mean is
 * f64: it may be large beside the deviations.
 */
template <class T, int N>
struct Moments {
  using Join = Chan;
  struct Source {
    const T* x;
  };
  static constexpr int WIDTH = N;
  static constexpr unsigned GROUP = 8;
  float count = 0;
  double mean[N] = {};
  float m2[N] = {};

  __device__ __forceinline__ void start(const Source&, const Walk&) {}
  template <bool WHOLE>
  __device__ __forceinline__ void add(const Source& from, size_t at, size_t step, unsigned rows) {
    Vec<T, N> x[GROUP];
#pragma unroll
    for (unsigned g = 0; g < GROUP; g++) x[g] = load_row<N, WHOLE>(from.x, at, step, g, rows);
    const float more = static_cast<float>(WHOLE ? GROUP : rows), inverse = 1.0f / more;
    const float share = more / (count + more), weight = count * share;
#pragma unroll
    for (int n = 0; n < N; n++) {
      float sum = 0, squares = 0;
#pragma unroll
      for (unsigned g = 0; g < GROUP; g++) sum += WHOLE || g < rows ? to_float(x[g].v[n]) : 0.0f;
      const float centre = sum * inverse;
#pragma unroll
      for (unsigned g = 0; g < GROUP; g++) {
        const float offset = WHOLE || g < rows ? to_float(x[g].v[n]) - centre : 0.0f;
        squares += offset * offset;
      }
      const double delta = centre - mean[n];
      mean[n] += delta * share;
      const float rounded = static_cast<float>(delta);
      m2[n] += squares + rounded * rounded * weight;
    }
    count += more;
  }
  __device__ __forceinline__ double first(int n) const { return mean[n]; }
  __device__ __forceinline__ double second(int n) const { return m2[n]; }
};

/** A thread's sums over its rows of g · (x − mean) and g, which F makes of x and dy: of 4 rows in f32, and those in f64. */
template <class F, class T, int N>
struct Sums {
  using Join = Add;
  struct Source {
    F f;
    const T *x, *dy;
  };
  static constexpr int WIDTH = N;
  static constexpr unsigned GROUP = 4;
  static constexpr float count = 0;  // sums do not ask for it
  float factors[F::FACTORS][N];
  double products[N] = {}, totals[N] = {};

  __device__ __forceinline__ void start(const Source& from, const Walk& w) { load_factors(from.f, w, factors); }
  template <bool WHOLE>
  __device__ __forceinline__ void add(const Source& from, size_t at, size_t step, unsigned rows) {
    Vec<T, N> x[GROUP], dy[GROUP];
#pragma unroll
    for (unsigned g = 0; g < GROUP; g++) {
      x[g] = load_row<N, WHOLE>(from.x, at, step, g, rows);
      dy[g] = load_row<N, WHOLE>(from.dy, at, step, g, rows);
    }
#pragma unroll
    for (int n = 0; n < N; n++) {
      float factor[F::FACTORS], product = 0, total = 0;
      factors_of(factors, n, factor);
#pragma unroll
      for (unsigned g = 0; g < GROUP; g++) {
        const float offset = to_float(x[g].v[n]) - factor[0];
        const float passed = from.f(offset, to_float(dy[g].v[n]), factor);
        product += WHOLE || g < rows ? passed * offset : 0.0f;
        total += WHOLE || g < rows ? passed : 0.0f;
      }
      products[n] += product;
      totals[n] += total;
    }
  }
  __device__ __forceinline__ double first(int n) const { return products[n]; }
  __device__ __forceinline__ double second(int n) const { return totals[n]; }
};

template <int N>
struct Pairs {
  double first[N][BLOCK], second[N][BLOCK];
  float count[BLOCK];
};

/** partials[segment, split, 2, channels] */
template <class R>
__global__ void __launch_bounds__(BLOCK, 2) reduce_rows(Tiles tiles, typename R::Source from, double* partials) {
  constexpr int N = R::WIDTH;
  constexpr unsigned GROUP = R::GROUP;
  Walk w = tiles.walk();
  R all;
  if (w.count > 0) {
    all.start(from, w);
    for (; w.count >= GROUP; w.count -= GROUP, w.at += GROUP * w.step) {
      all.template add<true>(from, w.at, w.step, GROUP);
    }
    if (w.count > 0) all.template add<false>(from, w.at, w.step, static_cast<unsigned>(w.count));
  }
  auto& memory = shared<Pairs<N>>();
  const unsigned thread = threadIdx.x;
#pragma unroll
  for (int n = 0; n < N; n++) {
    memory.first[n][thread] = all.first(n);
    memory.second[n][thread] = all.second(n);
  }
  memory.count[thread] = all.count;
  unsigned half = 1;
  while (2 * half < tiles.high) half *= 2;
  for (; half > 0; half /= 2) {
    __syncthreads();
    if (w.row < half && w.row + half < tiles.high) {
      const unsigned other = thread + half * tiles.threads;
      const typename R::Join join(memory.count[thread], memory.count[other]);
#pragma unroll
      for (int n = 0; n < N; n++) {
        join(memory.first[n][thread], memory.second[n][thread], memory.first[n][other], memory.second[n][other]);
      }
      memory.count[thread] += memory.count[other];
    }
  }
  if (w.row > 0 || w.channel >= tiles.map.channels) return;
  double* to = partials + tiles.split() * 2 * tiles.map.channels + w.channel;
#pragma unroll
  for (int n = 0; n < N; n++) {
    to[n] = memory.first[n][thread];
    to[tiles.map.channels + n] = memory.second[n][thread];
  }
}

constexpr unsigned SIDE = 8;
struct Splits {
  double first[BLOCK / SIDE][SIDE], second[BLOCK / SIDE][SIDE], count[BLOCK / SIDE][SIDE];
};
/** A block owns 8 of [segment, channel], with 32 threads for each, and calls write(segment, channel, rows, first, second). */
template <class Join, class W>
__global__ void __launch_bounds__(BLOCK) join_splits(Tiles tiles, const double* partials, W write) {
  const unsigned lane = threadIdx.x % SIDE, row = threadIdx.x / SIDE;
  const size_t i = static_cast<size_t>(blockIdx.x) * SIDE + lane, channels = tiles.map.channels;
  const size_t segment = i / channels, channel = i % channels;
  const bool works = segment < tiles.map.images * tiles.map.chunks;
  double count = 0, first = 0, second = 0;
  if (works) {
#pragma unroll 4
    for (unsigned split = row; split < tiles.splits; split += BLOCK / SIDE) {
      const double* from = partials + (segment * tiles.splits + split) * 2 * channels + channel;
      size_t rows;
      tiles.begin(segment, split, rows);
      const double more = static_cast<double>(rows);
      Join(count, more)(first, second, from[0], from[channels]);
      count += more;
    }
  }
  auto& memory = shared<Splits>();
  memory.first[row][lane] = first;
  memory.second[row][lane] = second;
  memory.count[row][lane] = count;
  for (unsigned half = BLOCK / SIDE / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row < half) {
      const unsigned other = row + half;
      const Join join(memory.count[row][lane], memory.count[other][lane]);
      join(memory.first[row][lane], memory.second[row][lane], memory.first[other][lane], memory.second[other][lane]);
      memory.count[row][lane] += memory.count[other][lane];
    }
  }
  if (row == 0 && works) {
    write(segment, channel, static_cast<float>(memory.count[0][lane]), memory.first[0][lane], memory.second[0][lane]);
  }
}

/** R is Moments or Sums; W a struct with the operator that join_splits calls. */
template <class R, class W>
void reduce_segments(const Args& a, const Segments& s, const typename R::Source& from, const W& write) {
  if (s.images * s.chunks * s.channels == 0 || s.rows == 0) return;
  const Tiles tiles(s, R::WIDTH, R::GROUP, static_cast<size_t>(a.multiprocessors()) * 4);
  const size_t outputs = s.images * s.chunks * s.channels;
  auto* partials = a.scratch<double>(outputs * tiles.splits * 2);
  a.launch(reduce_rows<R>, tiles.grid(), tiles.block(), sizeof(Pairs<R::WIDTH>), tiles, from, partials);
  a.launch(join_splits<typename R::Join, W>, dim3(ceil_div(outputs, SIDE)), dim3(BLOCK), sizeof(Splits), tiles, partials,
           write);
}
/** write(segment, channel, rows, mean, sum of squared deviations) of the first input. */
template <class W>
void moments(const Args& a, const Segments& s, const W& write) {
  with_type(a.in_type(0), [&](auto t) {
    using T = decltype(t);
    with_width<T>(s.channels, [&](auto width) {
      reduce_segments<Moments<T, decltype(width)::value>>(a, s, {a.in<T>(0)}, write);
    });
  });
}
/** write(segment, channel, rows, sum of g · (x − mean), sum of g), x and dy being the first inputs. */
template <class F, class W>
void gradient_sums(const Args& a, const Segments& s, const F& f, const W& write) {
  with_type(a.in_type(0), [&](auto t) {
    using T = decltype(t);
    with_width<T>(s.channels, [&](auto width) {
      reduce_segments<Sums<F, T, decltype(width)::value>>(a, s, {f, a.in<T>(0), a.in<T>(1)}, write);
    });
  });
}

// Formulas of both norms.

/** What normalises x, the mean taken off first: x · scale + shift would cancel where it is large. */
__device__ __forceinline__ float normal(float offset, float scale, float shift) { return fmaf(offset, scale, shift); }

/** y = (x − mean) · rstd · gamma + beta, + residual where ADD, and no less than `least` (ReLU, or nothing: −∞). */
template <bool ADD>
struct Normalize {
  static constexpr int INPUTS = ADD ? 2 : 1, VECTORS = 4, FACTORS = 3;
  Vector vectors[VECTORS];  // gamma, beta, mean, rstd
  float least;
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const {
    to[0] = of[2];
    to[1] = of[0] * of[3];
    to[2] = of[1];
  }
  __device__ __forceinline__ float operator()(const float (&x)[INPUTS], const float (&f)[FACTORS]) const {
    float y = normal(x[0] - f[0], f[1], f[2]);
    if constexpr (ADD) y += x[1];
    return y <= least ? least : y;  // NaN stays
  }
};

/** g = dy */
struct All {
  static constexpr int VECTORS = 1, FACTORS = 1;
  Vector vectors[VECTORS];  // mean
  __device__ __forceinline__ void prepare(const float (&of)[VECTORS], float (&to)[FACTORS]) const { to[0] = of[0]; }
  __device__ __forceinline__ float operator()(float, float dy, const float (&)[FACTORS]) const { return dy; }
};

}  // namespace lacuna::cuda
