// Dense convolution on the tensor cores of sm_80 and up (mma.sync): products of matrices that are never laid out whole.
//   y[p, o]       = relu(bias[o] + sum over taps, c of x[p + tap, c] wt[tap, c, o] + residual[p, o])
//   dx[q, c]      = sum over taps, o of dy[q - tap, o] w[o, tap, c]
//   dw[o, tap, c] = sum over p of dy[p, o] x[p + tap, c]
// bf16 tensors as they are, f32 rounded to tf32 where that is allowed; sums are f32.
//
// The first two are one kernel. A block makes a tile of pixels x channels of the map that is written, 128 x 128 (or 64 x 64
// where those would be too few for the card, or channels are few). It goes through the taps, and in each through the channels
// of the other map, 64 bytes of them at a time; a tap that none of the tile's pixels meets inside the map is left out for the
// whole block: at rate 18 on a map of 32 x 32 that is more than half of the work. Where it leaves out more, tiles are squares of
// 8 x 8 pixels. In dx of a strided convolution the pixels of one phase (h mod stride, w mod stride) meet the same taps, so
// phases are cut into tiles separately (blockIdx.z) and no product is with a zero that the stride put there.
//
// In dw the terms are pixels. For one tap the pixels that meet it inside the map are a box of each image: only those are
// counted through, so padding costs nothing. All steps of all tiles form one line that is cut into as many equal ranges as
// blocks fit the card; a tile that a range does not cover whole goes as a part into scratch memory (at most two for each
// block), and a second kernel adds the parts in the order of the blocks.
//
// Operands come by cp.async, 16 bytes a piece, into a ring of stages; pieces outside of the map, the channels or the pixels
// are zeros. Pieces are permuted within the rows of a stage so that neither writing them nor the loads of fragments meet in
// a bank. A warp owns 64 x 32 (32 x 32) of the tile: 16 (8) mma for 6 (4) loads of fragments.
#include "conv2d.h"
#include "mma.h"

namespace lacuna::cuda::conv2d::tensor {
namespace {

constexpr unsigned MOST_TAPS = 64;
/** Of one row of pixels in a stage: the terms of one step. */
constexpr unsigned DEPTH_BYTES = 64;
template <class T>
constexpr unsigned DEPTH = DEPTH_BYTES / sizeof(T);
/** Steps of mma in it: each takes 32 bytes. */
constexpr unsigned MMA_STEPS = 2;

/** M x N elements by ROWS x COLUMNS warps. BLOCKS of it on a multiprocessor. */
template <unsigned M_, unsigned N_, unsigned ROWS, unsigned COLUMNS_, unsigned STAGES_, unsigned BLOCKS_>
struct Tile {
  static constexpr unsigned M = M_, N = N_, COLUMNS = COLUMNS_, STAGES = STAGES_, BLOCKS = BLOCKS_;
  static constexpr unsigned WARPS = ROWS * COLUMNS, THREADS = 32 * WARPS;
  static constexpr unsigned WARP_M = M / ROWS, WARP_N = N / COLUMNS;
  static constexpr unsigned MT = WARP_M / 16, NT = WARP_N / 8;  // its mma tiles
  static constexpr unsigned A_BYTES = M * DEPTH_BYTES, STAGE_BYTES = (M + N) * DEPTH_BYTES;
  static constexpr unsigned PIECES = STAGE_BYTES / 16 / THREADS / 2;  // of one operand, that a thread brings for a stage
};
using Large = Tile<128, 128, 2, 4, 3, 2>;
using Small = Tile<64, 64, 2, 2, 4, 4>;

// Where pieces of 16 bytes lie in a stage

/** A row of DEPTH terms for each pixel. Eight neighbouring rows have one piece in eight different places modulo 128 bytes. */
__device__ __forceinline__ unsigned by_rows(unsigned row, unsigned piece) {
  return row * DEPTH_BYTES + (piece ^ (row / 2 % 4)) * 16;
}
/**
 * A row of COUNT elements for each of DEPTH terms. One piece of eight neighbouring rows (bf16: what ldmatrix reads), or two
 * pieces of four (tf32: what 32 lanes read), are in eight different places modulo 128 bytes.
 */
template <class T, unsigned COUNT>
__device__ __forceinline__ unsigned by_terms(unsigned term, unsigned piece) {
  return term * COUNT * sizeof(T) + (piece ^ (sizeof(T) == 2 ? term % 8 : term % 4 * 2)) * 16;
}

// A warp's part of the tile

template <class Tile>
using Sums = float[Tile::MT][Tile::NT][4];

template <class Tile>
__device__ __forceinline__ unsigned warp_row(unsigned thread) {
  return thread / 32 / Tile::COLUMNS * Tile::WARP_M;
}
template <class Tile>
__device__ __forceinline__ unsigned warp_column(unsigned thread) {
  return thread / 32 % Tile::COLUMNS * Tile::WARP_N;
}

// Which rows and columns of it the mma tiles take is free. bf16: neighbours, as ldmatrix gives them. tf32 that lies by terms
// has no such load; there lane (g, t) reads four neighbours 4 g.. at once and gives one to each of four mma tiles. Its sums
// then are four neighbours, too.

template <class T, class Tile>
__device__ __forceinline__ void load_b(uint32_t (&b)[Tile::NT][2], const unsigned char* tile, unsigned step) {
  const unsigned lane = threadIdx.x % 32, column = warp_column<Tile>(threadIdx.x);
  if constexpr (sizeof(T) == 2) {
    const unsigned matrix = lane / 8, term = step * 16 + matrix % 2 * 8 + lane % 8;
#pragma unroll
    for (unsigned n = 0; n < Tile::NT; n += 2) {
      uint32_t both[4];
      ldmatrix_x4_trans(both, tile + by_terms<T, Tile::N>(term, column / 8 + n + matrix / 2));
      b[n][0] = both[0], b[n][1] = both[1], b[n + 1][0] = both[2], b[n + 1][1] = both[3];
    }
  } else {
    static_assert(Tile::NT == 4);
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
      float four[4];
      load_floats<4>(reinterpret_cast<const float*>(
                         tile + by_terms<T, Tile::N>(step * 8 + i * 4 + lane % 4, column / 4 + lane / 4)), four);
#pragma unroll
      for (unsigned n = 0; n < 4; n++) b[n][i] = to_tf32(four[n]);
    }
  }
}

/** A that lies by rows. */
template <class T, class Tile>
__device__ __forceinline__ void load_a_by_rows(uint32_t (&a)[Tile::MT][4], const unsigned char* tile, unsigned step) {
  const unsigned lane = threadIdx.x % 32, matrix = lane / 8;
#pragma unroll
  for (unsigned m = 0; m < Tile::MT; m++) {
    const unsigned row = warp_row<Tile>(threadIdx.x) + m * 16 + matrix % 2 * 8 + lane % 8;
    ldmatrix_x4(a[m], tile + by_rows(row, 2 * step + matrix / 2));
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (uint32_t& bits : a[m]) bits = to_tf32(__uint_as_float(bits));
    }
  }
}
/** A that lies by terms. */
template <class T, class Tile>
__device__ __forceinline__ void load_a_by_terms(uint32_t (&a)[Tile::MT][4], const unsigned char* tile, unsigned step) {
  const unsigned lane = threadIdx.x % 32, row = warp_row<Tile>(threadIdx.x);
  if constexpr (sizeof(T) == 2) {
    const unsigned matrix = lane / 8, term = step * 16 + matrix / 2 * 8 + lane % 8;
#pragma unroll
    for (unsigned m = 0; m < Tile::MT; m++) {
      ldmatrix_x4_trans(a[m], tile + by_terms<T, Tile::M>(term, row / 8 + 2 * m + matrix % 2));
    }
  } else {
#pragma unroll
    for (unsigned i = 0; i < 2; i++) {
#pragma unroll
      for (unsigned all = 0; all < 2 * Tile::MT; all += 4) {  // half MT + m
        float four[4];
        load_floats<4>(reinterpret_cast<const float*>(
                           tile + by_terms<T, Tile::M>(step * 8 + i * 4 + lane % 4, row / 4 + all * 2 + lane / 4)), four);
#pragma unroll
        for (unsigned k = 0; k < 4; k++) a[(all + k) % Tile::MT][(all + k) / Tile::MT + 2 * i] = to_tf32(four[k]);
      }
    }
  }
}
/** The row of the warp's part that register half `half` of mma tile m belongs to. */
template <class T, class Tile, bool A_BY_ROWS>
__device__ __forceinline__ unsigned row_of(unsigned m, unsigned half, unsigned lane) {
  if constexpr (A_BY_ROWS || sizeof(T) == 2) return m * 16 + half * 8 + lane / 4;
  const unsigned all = half * Tile::MT + m;
  return all / 4 * 32 + lane / 4 * 4 + all % 4;
}

/** sums += A B over one stage. */
template <class T, class Tile, bool A_BY_ROWS>
__device__ __forceinline__ void multiply(Sums<Tile>& sums, const unsigned char* stage) {
  // Both steps' tf32 operands at once are more than the registers hold.
  [[maybe_unused]] constexpr int TOGETHER = sizeof(T) == 2 || A_BY_ROWS ? MMA_STEPS : 1;
#pragma unroll TOGETHER
  for (unsigned step = 0; step < MMA_STEPS; step++) {
    uint32_t a[Tile::MT][4], b[Tile::NT][2];
    load_b<T, Tile>(b, stage + Tile::A_BYTES, step);
    if constexpr (A_BY_ROWS) {
      load_a_by_rows<T, Tile>(a, stage, step);
    } else {
      load_a_by_terms<T, Tile>(a, stage, step);
    }
#pragma unroll
    for (unsigned m = 0; m < Tile::MT; m++) {
#pragma unroll
      for (unsigned n = 0; n < Tile::NT; n++) {
        if constexpr (sizeof(T) == 2) {
          mma_bf16(sums[m][n], a[m], b[n]);
        } else {
          mma_tf32(sums[m][n], a[m], b[n]);
        }
      }
    }
  }
}

/**
 * `steps` times: load(stage) starts the copies of what comes STAGES - 1 steps later, use(stage) follows when a stage is
 * there. Nobody uses the ring any more when it ends.
 */
template <class Tile, class Load, class Use>
__device__ __forceinline__ void in_stages(unsigned char* ring, unsigned steps, Load&& load, Use&& use) {
  constexpr unsigned AHEAD = Tile::STAGES - 1;
  for (unsigned i = 0; i < AHEAD; i++) {
    if (i < steps) load(ring + i * Tile::STAGE_BYTES);
    cp_async_commit();
  }
  unsigned used = 0, filled = AHEAD;
  for (unsigned step = 0; step < steps; step++) {
    cp_async_wait<AHEAD - 1>();
    __syncthreads();  // the stage is there for all, and the one before is used by all
    if (step + AHEAD < steps) load(ring + filled * Tile::STAGE_BYTES);
    cp_async_commit();
    use(ring + used * Tile::STAGE_BYTES);
    filled = used;
    used = used + 1 == Tile::STAGES ? 0 : used + 1;
  }
  cp_async_wait<0>();
  __syncthreads();
}

// y and dx

struct Product {
  uint32_t images;
  uint32_t source_height, source_width, depth;  // x, or dy
  uint32_t height, width, columns;              // y, or dx
  uint32_t step_h, step_w;    // pixels between neighbours of one phase: 1, or the stride
  uint32_t scale_h, scale_w;  // pixels of the source between theirs: the stride, or 1
  uint32_t kh, kw;
  int32_t dilation_h, dilation_w, pad_top, pad_left;
  uint32_t backward, squares, column_tiles;
  size_t tap_stride, term_stride;  // elements of the weights
};

/** A pixel of the tile; `y` and `x` are those of the source that a tap at offset 0 meets. */
struct Pixel {
  uint32_t image;
  int32_t y, x;
};
constexpr uint32_t NONE = 0xFFFFFFFFu;
constexpr int32_t OUTSIDE = -(1 << 30);
constexpr unsigned SQUARE = 8;

template <class T, class Tile>
struct ProductMemory {
  union {
    unsigned char ring[Tile::STAGES * Tile::STAGE_BYTES];
    Pixel pixels[Tile::M];                        // before it
    Vec<T, WIDE<T>> out[Tile::M][Tile::N / WIDE<T> + 1];  // after it, in bf16
  };
  uint32_t written[Tile::M];  // pixel of the map that is written, or NONE
  unsigned char meets[MOST_TAPS];
};

/** How far from the source's pixel a tap lies, in one dimension; false where no pixel of this phase has one there. */
__device__ __forceinline__ bool offset_of(const Product& p, uint32_t tap, int32_t dilation, int32_t pad, uint32_t step,
                                          uint32_t phase, int32_t& offset) {
  const int32_t forward = static_cast<int32_t>(tap) * dilation - pad;
  if (!p.backward) {
    offset = forward;
    return true;
  }
  const int32_t backward = static_cast<int32_t>(phase) - forward, stride = static_cast<int32_t>(step);
  offset = backward / stride;
  return offset * stride == backward;
}
__device__ __forceinline__ bool in_source(const Product& p, int32_t y, int32_t x) {
  return static_cast<uint32_t>(y) < p.source_height && static_cast<uint32_t>(x) < p.source_width;
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    product(const __grid_constant__ Product p, const T* source, const T* w, const Epilogue<T> epilogue, T* out) {
  auto& memory = shared<ProductMemory<T, Tile>>();
  const uint32_t phase_h = blockIdx.z / p.step_w, phase_w = blockIdx.z % p.step_w;
  const uint32_t tile = blockIdx.x / p.column_tiles, first_column = blockIdx.x % p.column_tiles * Tile::N;

  {  // the pixels of the tile
    const uint32_t rows = phase_h < p.height ? (p.height - phase_h - 1) / p.step_h + 1 : 0;
    const uint32_t columns = phase_w < p.width ? (p.width - phase_w - 1) / p.step_w + 1 : 0;
    uint32_t image = p.images, i = 0, j = 0;
    if (p.squares) {
      const uint32_t across = (columns + SQUARE - 1) / SQUARE, down = (rows + SQUARE - 1) / SQUARE;
      image = tile / (across * down) * (Tile::M / (SQUARE * SQUARE)) + threadIdx.x / (SQUARE * SQUARE);
      i = tile / across % down * SQUARE + threadIdx.x / SQUARE % SQUARE;
      j = tile % across * SQUARE + threadIdx.x % SQUARE;
      if (i >= rows || j >= columns) image = p.images;
    } else {
      const uint32_t first = tile * Tile::M;
      if (static_cast<uint64_t>(first) >= static_cast<uint64_t>(p.images) * rows * columns) return;  // a smaller phase
      const uint32_t index = first + threadIdx.x;
      image = index / (rows * columns);
      i = index / columns % rows;
      j = index % columns;
    }
    if (threadIdx.x < Tile::M) {
      const bool there = image < p.images;
      memory.pixels[threadIdx.x] = {image, there ? static_cast<int32_t>(i * p.scale_h) : OUTSIDE,
                                    static_cast<int32_t>(j * p.scale_w)};
      memory.written[threadIdx.x] =
          there ? (image * p.height + i * p.step_h + phase_h) * p.width + j * p.step_w + phase_w : NONE;
    }
  }
  __syncthreads();

  // Which taps does any of them meet?
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t taps = p.kh * p.kw;
  for (uint32_t tap = warp; tap < taps; tap += Tile::WARPS) {
    int32_t offset_h, offset_w;
    const bool fits_h = offset_of(p, tap / p.kw, p.dilation_h, p.pad_top, p.step_h, phase_h, offset_h);
    const bool fits_w = offset_of(p, tap % p.kw, p.dilation_w, p.pad_left, p.step_w, phase_w, offset_w);
    bool any = false;
    for (unsigned row = lane; fits_h && fits_w && row < Tile::M; row += 32) {
      any |= in_source(p, memory.pixels[row].y + offset_h, memory.pixels[row].x + offset_w);
    }
    any = __any_sync(ALL_LANES, any);
    if (lane == 0) memory.meets[tap] = any;
  }

  // What this thread brings: of two rows of pixels always the same piece, and two pieces of the weights.
  constexpr unsigned ROW_PIECES = DEPTH_BYTES / 16, N_PIECES = Tile::N / WIDE<T>;
  const unsigned a_piece = threadIdx.x % ROW_PIECES, a_row = threadIdx.x / ROW_PIECES;
  const unsigned b_piece = threadIdx.x % N_PIECES, b_term = threadIdx.x / N_PIECES;
  Pixel pixels[Tile::PIECES];
#pragma unroll
  for (unsigned u = 0; u < Tile::PIECES; u++) pixels[u] = memory.pixels[a_row + u * Tile::THREADS / ROW_PIECES];
  __syncthreads();

  uint32_t met = 0;
  for (uint32_t tap = 0; tap < taps; tap++) met += memory.meets[tap];

  uint32_t tap = NONE, tap_h = 0, tap_w = NONE, channel = p.depth;
  const T *rows[Tile::PIECES], *weights = w;
  const auto next_tap = [&] {
    do {
      tap++;
      if (++tap_w == p.kw) tap_w = 0, tap_h++;
    } while (!memory.meets[tap]);
    int32_t offset_h, offset_w;
    offset_of(p, tap_h, p.dilation_h, p.pad_top, p.step_h, phase_h, offset_h);
    offset_of(p, tap_w, p.dilation_w, p.pad_left, p.step_w, phase_w, offset_w);
#pragma unroll
    for (unsigned u = 0; u < Tile::PIECES; u++) {
      const int32_t y = pixels[u].y + offset_h, x = pixels[u].x + offset_w;
      const uint32_t pixel = (pixels[u].image * p.source_height + y) * p.source_width + x;
      rows[u] = in_source(p, y, x) ? source + static_cast<size_t>(pixel) * p.depth : nullptr;
    }
    weights = w + tap * p.tap_stride + first_column + b_piece * WIDE<T>;
  };
  const auto load = [&](unsigned char* stage) {
    if (channel >= p.depth) {
      channel = 0;
      next_tap();
    }
    const uint32_t from = channel + a_piece * WIDE<T>;
#pragma unroll
    for (unsigned u = 0; u < Tile::PIECES; u++) {
      const bool inside = rows[u] != nullptr && from < p.depth;
      cp_async16(stage + by_rows(a_row + u * Tile::THREADS / ROW_PIECES, a_piece), inside ? rows[u] + from : source, inside);
    }
#pragma unroll
    for (unsigned u = 0; u < Tile::PIECES; u++) {
      const uint32_t term = b_term + u * Tile::THREADS / N_PIECES;
      const bool inside = channel + term < p.depth && first_column + b_piece * WIDE<T> < p.columns;
      cp_async16(stage + Tile::A_BYTES + by_terms<T, Tile::N>(term, b_piece),
                 inside ? weights + (channel + term) * p.term_stride : w, inside);
    }
    channel += DEPTH<T>;
  };

  Sums<Tile> sums = {};
  const uint32_t steps = met * ((p.depth + DEPTH<T> - 1) / DEPTH<T>);
  in_stages<Tile>(memory.ring, steps, load,
                  [&](const unsigned char* stage) { multiply<T, Tile, true>(sums, stage); });

  if constexpr (sizeof(T) == 2) {  // through shared memory, so that 16 bytes are written at once
#pragma unroll
    for (unsigned n = 0; n < Tile::NT; n++) {
      const unsigned in_tile = warp_column<Tile>(threadIdx.x) + n * 8 + lane % 4 * 2;
      const uint32_t column = first_column + in_tile;
      const bool inside = column < p.columns;
      float add[2] = {};
      if (epilogue.bias && inside) load_floats<2>(epilogue.bias + column, add);
#pragma unroll
      for (unsigned i = 0; i < 2 * Tile::MT; i++) {
        const unsigned row = warp_row<Tile>(threadIdx.x) + row_of<T, Tile, true>(i / 2, i % 2, lane);
        const float* own = sums[i / 2][n] + i % 2 * 2;
        float two[2] = {own[0] + add[0], own[1] + add[1]};
        const uint32_t pixel = memory.written[row];
        if (inside && pixel != NONE) epilogue.template finish<2>(static_cast<size_t>(pixel) * p.columns + column, two);
        store_floats<2>(&memory.out[row][in_tile / WIDE<T>].v[in_tile % WIDE<T>], two);
      }
    }
    __syncthreads();
    const uint32_t column = first_column + b_piece * WIDE<T>;
#pragma unroll 4
    for (unsigned row = b_term; row < Tile::M; row += Tile::THREADS / N_PIECES) {
      const uint32_t pixel = memory.written[row];
      if (pixel == NONE || column >= p.columns) continue;
      *reinterpret_cast<Vec<T, WIDE<T>>*>(out + static_cast<size_t>(pixel) * p.columns + column) = memory.out[row][b_piece];
    }
  } else {
#pragma unroll
    for (unsigned e = 0; e < 2; e++) {
      const uint32_t column = first_column + warp_column<Tile>(threadIdx.x) + lane % 4 * 8 + e * 4;
      if (column >= p.columns) continue;
      float add[4] = {};
#pragma unroll
      for (unsigned n = 0; n < 4; n++) {
        if (epilogue.bias) add[n] = epilogue.bias[column + n];
      }
#pragma unroll
      for (unsigned i = 0; i < 2 * Tile::MT; i++) {
        const uint32_t pixel = memory.written[warp_row<Tile>(threadIdx.x) + row_of<T, Tile, true>(i / 2, i % 2, lane)];
        const auto& own = sums[i / 2];
        const unsigned k = i % 2 * 2 + e;
        if (pixel == NONE) continue;
        const size_t at = static_cast<size_t>(pixel) * p.columns + column;
        float four[4] = {own[0][k] + add[0], own[1][k] + add[1], own[2][k] + add[2], own[3][k] + add[3]};
        epilogue.template finish<4>(at, four);
        store_floats<4>(out + at, four);
      }
    }
  }
}

/** Those of `count` places i >= 0 for which 0 <= i scale + offset < size. */
struct Range {
  uint32_t first, count;
};
__host__ __device__ inline Range range_inside(int32_t offset, uint32_t scale, uint32_t size, uint32_t count) {
  const int32_t step = static_cast<int32_t>(scale), room = static_cast<int32_t>(size) - 1 - offset;
  const int32_t first = offset >= 0 ? 0 : (-offset + step - 1) / step, fit = room < 0 ? 0 : room / step + 1;
  const int32_t end = fit < static_cast<int32_t>(count) ? fit : static_cast<int32_t>(count);
  return {static_cast<uint32_t>(first), end > first ? static_cast<uint32_t>(end - first) : 0};
}

/** Pairs of a tile of M pixels and a tap that meet inside the map, for one way to cut an unstrided map into tiles. */
struct Meetings {
  const Product& p;
  Range rows_of(uint32_t tap) const { return range(tap, p.dilation_h, p.pad_top, p.scale_h, p.source_height, p.height); }
  Range columns_of(uint32_t tap) const { return range(tap, p.dilation_w, p.pad_left, p.scale_w, p.source_width, p.width); }
  Range range(uint32_t tap, int32_t dilation, int32_t pad, uint32_t scale, uint32_t size, uint32_t count) const {
    const int32_t offset = static_cast<int32_t>(tap) * dilation - pad;
    return range_inside(p.backward ? -offset : offset, scale, size, count);
  }
  static uint64_t meet(const Range& range, uint32_t first, uint32_t last) {
    return range.count > 0 && first < range.first + range.count && last >= range.first ? 1 : 0;
  }
  uint64_t in_squares(uint32_t m) const {
    uint64_t down = 0, across = 0;
    for (uint32_t tap = 0; tap < p.kh; tap++) down += squares(rows_of(tap));
    for (uint32_t tap = 0; tap < p.kw; tap++) across += squares(columns_of(tap));
    return down * across * ceil_div(p.images, m / (SQUARE * SQUARE));
  }
  static uint64_t squares(const Range& range) {
    return range.count > 0 ? (range.first + range.count - 1) / SQUARE - range.first / SQUARE + 1 : 0;
  }
  /** Of the first image, times the images. */
  uint64_t in_lines(uint32_t m) const {
    uint64_t pairs = 0;
    for (uint32_t first = 0; first < p.height * p.width; first += m) {
      const uint32_t last = first + m < p.height * p.width ? first + m - 1 : p.height * p.width - 1;
      const bool one_row = first / p.width == last / p.width;
      uint64_t down = 0, across = 0;
      for (uint32_t tap = 0; tap < p.kh; tap++) down += meet(rows_of(tap), first / p.width, last / p.width);
      for (uint32_t tap = 0; tap < p.kw; tap++) {
        across += one_row ? meet(columns_of(tap), first % p.width, last % p.width) : meet(columns_of(tap), 0, p.width - 1);
      }
      pairs += down * across;
    }
    return pairs * p.images;
  }
};

constexpr size_t MOST = size_t{1} << 30;

/** Is all that is counted in 32 bits small enough, and are all rows whole pieces of 16 bytes? */
template <class T>
bool fits(const Args& a, const Geometry& p) {
  const size_t taps = size_t{p.kh} * p.kw;
  return a.context.capability >= 80 && (sizeof(T) == 2 || a.context.tf32) && p.groups == 1 && p.cin % WIDE<T> == 0 &&
         p.cout % WIDE<T> == 0 && taps <= MOST_TAPS && size_t{p.n} * p.height * p.width < MOST &&
         size_t{p.n} * p.out_height * p.out_width < MOST && size_t{p.kh} * p.dilation_h + p.pad_top < MOST &&
         size_t{p.kw} * p.dilation_w + p.pad_left < MOST && size_t{p.out_height} * p.stride_h < MOST &&
         size_t{p.out_width} * p.stride_w < MOST && size_t{p.stride_h} * p.stride_w < 65536;
}
bool aligned(const void* first, const void* second, const void* third) {
  const auto bits = reinterpret_cast<uintptr_t>(first) | reinterpret_cast<uintptr_t>(second) | reinterpret_cast<uintptr_t>(third);
  return bits % 16 == 0;
}

template <class T, class Tile>
void launch_product(const Args& a, Product p, const T* source, const T* w, const Epilogue<T>& epilogue, T* out) {
  constexpr uint32_t FAR = 16;  // taps that lie nearer together meet almost every tile
  const uint32_t reach_h = (p.kh - 1) * p.dilation_h, reach_w = (p.kw - 1) * p.dilation_w;
  const Meetings meetings{p};
  p.squares = p.step_h * p.step_w == 1 && (reach_h >= FAR || reach_w >= FAR) &&
              meetings.in_squares(Tile::M) < meetings.in_lines(Tile::M);
  const uint32_t rows = ceil_div(p.height, p.step_h), columns = ceil_div(p.width, p.step_w);
  const size_t tiles = p.squares ? size_t{ceil_div(rows, SQUARE)} * ceil_div(columns, SQUARE) *
                                       ceil_div(p.images, Tile::M / (SQUARE * SQUARE))
                                 : ceil_div(size_t{p.images} * rows * columns, Tile::M);
  p.column_tiles = ceil_div(p.columns, Tile::N);
  a.launch(product<T, Tile>, dim3(static_cast<unsigned>(tiles * p.column_tiles), 1, p.step_h * p.step_w),
           dim3(Tile::THREADS), sizeof(ProductMemory<T, Tile>), p, source, w, epilogue, out);
}

template <class T>
bool run_product(const Args& a, const Geometry& g, const Product& p, const void* source, const void* w,
                 const Epilogue<void>& epilogue, void* out) {
  if (!fits<T>(a, g) || !aligned(source, w, out) || !aligned(epilogue.bias, epilogue.residual, nullptr)) return false;
  const size_t pixels = size_t{p.images} * p.height * p.width;
  if (pixels / Small::M * ceil_div(p.columns, Small::N) >= MOST) return false;
  const auto run = p.columns > Small::N && size_t{ceil_div(pixels, Large::M)} * ceil_div(p.columns, Large::N) >=
                                               static_cast<size_t>(a.multiprocessors())
                       ? launch_product<T, Large>
                       : launch_product<T, Small>;
  run(a, p, static_cast<const T*>(source), static_cast<const T*>(w), epilogue.of<T>(), static_cast<T*>(out));
  return true;
}

// dw

struct Weights {
  uint32_t images, height, width, cin, out_height, out_width, cout, kh, kw, stride_h, stride_w;
  int32_t dilation_h, dilation_w, pad_top, pad_left;
  uint32_t row_tiles, column_tiles, blocks;
  uint64_t first[MOST_TAPS + 1];  // step of each tap's first tile; the last: all steps
};

/** A tile of one tap, and the step at which it begins. */
struct WeightTile {
  uint32_t tap, first_row, first_column, steps;
  uint64_t begin;
};
template <class Tile>
__device__ __forceinline__ WeightTile tile_of_tap(const Weights& p, uint32_t tap, uint32_t tile) {
  const auto steps = static_cast<uint32_t>((p.first[tap + 1] - p.first[tap]) / (p.row_tiles * p.column_tiles));
  return {tap, tile / p.column_tiles * Tile::M, tile % p.column_tiles * Tile::N, steps,
          p.first[tap] + static_cast<uint64_t>(tile) * steps};
}
template <class Tile>
__device__ __forceinline__ WeightTile tile_at(const Weights& p, uint64_t step) {
  uint32_t tap = 0;
  while (step >= p.first[tap + 1]) tap++;
  const uint64_t steps = (p.first[tap + 1] - p.first[tap]) / (p.row_tiles * p.column_tiles);
  return tile_of_tap<Tile>(p, tap, static_cast<uint32_t>((step - p.first[tap]) / steps));
}
/** The first step of a block, and the block that has a step. */
__device__ __forceinline__ uint64_t begin_of(const Weights& p, uint64_t block) {
  return block * p.first[p.kh * p.kw] / p.blocks;
}
__device__ __forceinline__ uint64_t block_of(const Weights& p, uint64_t step) {
  return ((step + 1) * p.blocks - 1) / p.first[p.kh * p.kw];
}

/** Division of numbers below 2^31 by one that the device finds out, as a multiplication. */
struct Count {
  uint32_t value, factor, shift;
  __device__ void set(uint32_t count) {
    value = count;
    shift = 63 - static_cast<uint32_t>(__clz(static_cast<int>(count - 1)));  // 31 + ceil(log2(count))
    factor = static_cast<uint32_t>(((uint64_t{1} << shift) + count - 1) / count);
  }
  __device__ uint32_t divide(uint32_t number) const { return static_cast<uint32_t>(uint64_t{number} * factor >> shift); }
};

/** dw[first_row + row, tap, first_column + column], and its neighbours. */
template <int N>
__device__ __forceinline__ void store_weights(const Weights& p, const WeightTile& tile, float* dw, unsigned row, unsigned column,
                                              const float (&v)[N]) {
  const uint32_t o = tile.first_row + row, c = tile.first_column + column;
  if (o < p.cout && c < p.cin) store_floats<N>(dw + (static_cast<size_t>(o) * p.kh * p.kw + tile.tap) * p.cin + c, v);
}
// A thread's sums in pieces of four, MT NT of them. bf16: of an mma tile. f32: neighbours, one of each mma tile of a row.
template <class T, class Tile>
__device__ __forceinline__ void take_piece(const Sums<Tile>& sums, unsigned piece, float (&v)[4]) {
#pragma unroll
  for (unsigned k = 0; k < 4; k++) {
    v[k] = sizeof(T) == 2 ? sums[piece / Tile::NT][piece % Tile::NT][k] : sums[piece / Tile::NT][k][piece % Tile::NT];
  }
}
template <class T, class Tile>
__device__ __forceinline__ void store_piece(const Weights& p, const WeightTile& tile, float* dw, unsigned thread, unsigned piece,
                                            const float (&v)[4]) {
  const unsigned lane = thread % 32, m = piece / Tile::NT, n = piece % Tile::NT;
  const unsigned row = warp_row<Tile>(thread), column = warp_column<Tile>(thread);
  if constexpr (sizeof(T) == 2) {
    const unsigned pair = column + n * 8 + lane % 4 * 2;
    store_weights<2>(p, tile, dw, row + row_of<T, Tile, false>(m, 0, lane), pair, {v[0], v[1]});
    store_weights<2>(p, tile, dw, row + row_of<T, Tile, false>(m, 1, lane), pair, {v[2], v[3]});
  } else {
    store_weights<4>(p, tile, dw, row + row_of<T, Tile, false>(m, n / 2, lane), column + lane % 4 * 8 + n % 2 * 4, v);
  }
}

/** What a block does next. Here, as it would take many registers through the multiplications. */
struct Segment {
  WeightTile tile;
  uint64_t at, end;  // steps
  uint32_t steps, within;
  Count rows, columns;  // of the box of y's pixels that meet the tile's tap inside the map
  uint32_t pixels;      // in all boxes
  size_t y_first, x_first;  // the first image's first, and what it meets
};
template <class Tile>
struct WeightMemory {
  unsigned char ring[Tile::STAGES * Tile::STAGE_BYTES];
  Segment segment;
};

/** parts[2 block + (0: it starts with the block's range, 1: within), piece, thread, 4] */
template <class T, class Tile>
__global__ void __launch_bounds__(Tile::THREADS, Tile::BLOCKS)
    weight_ranges(const __grid_constant__ Weights p, const T* x, const T* dy, float* dw, float* parts) {
  static_assert(Tile::M == Tile::N, "a thread brings the same pieces of both");
  auto& memory = shared<WeightMemory<Tile>>();
  constexpr unsigned PIECES = Tile::M / WIDE<T>;
  const unsigned piece = threadIdx.x % PIECES, first_term = threadIdx.x / PIECES;
  Segment& segment = memory.segment;
  if (threadIdx.x == 0) {
    segment.at = begin_of(p, blockIdx.x);
    segment.end = begin_of(p, blockIdx.x + 1);
    segment.within = 0;
  }
  for (;;) {
    if (threadIdx.x == 0 && segment.at < segment.end) {
      const WeightTile tile = segment.tile = tile_at<Tile>(p, segment.at);
      const uint64_t left = tile.begin + tile.steps - segment.at, own = segment.end - segment.at;
      segment.steps = static_cast<uint32_t>(left < own ? left : own);
      const int32_t offset_h = static_cast<int32_t>(tile.tap / p.kw) * p.dilation_h - p.pad_top;
      const int32_t offset_w = static_cast<int32_t>(tile.tap % p.kw) * p.dilation_w - p.pad_left;
      const Range rows = range_inside(offset_h, p.stride_h, p.height, p.out_height);
      const Range columns = range_inside(offset_w, p.stride_w, p.width, p.out_width);
      segment.rows.set(rows.count);
      segment.columns.set(columns.count);
      segment.pixels = p.images * rows.count * columns.count;
      segment.y_first = rows.first * p.out_width + columns.first;
      segment.x_first = (rows.first * p.stride_h + offset_h) * p.width + columns.first * p.stride_w + offset_w;
    }
    __syncthreads();
    if (segment.at >= segment.end) return;
    const uint32_t first_row = segment.tile.first_row + piece * WIDE<T>;
    const uint32_t first_column = segment.tile.first_column + piece * WIDE<T>;
    const bool in_cout = first_row < p.cout, in_cin = first_column < p.cin;
    const T* dy_first = dy + segment.y_first * p.cout + first_row;
    const T* x_first = x + segment.x_first * p.cin + first_column;
    uint32_t number = static_cast<uint32_t>(segment.at - segment.tile.begin) * DEPTH<T> + first_term;
    const auto load = [&](unsigned char* stage) {
#pragma unroll
      for (unsigned u = 0; u < Tile::PIECES; u++) {
        const unsigned term = u * Tile::THREADS / PIECES;
        const uint32_t pixel = number + term, line = segment.columns.divide(pixel), image = segment.rows.divide(line);
        const uint32_t i = line - image * segment.rows.value, j = pixel - line * segment.columns.value;
        const uint32_t from = (image * p.out_height + i) * p.out_width + j;
        const uint32_t met = (image * p.height + i * p.stride_h) * p.width + j * p.stride_w;
        const bool inside = pixel < segment.pixels;
        const unsigned place = by_terms<T, Tile::M>(first_term + term, piece);
        cp_async16(stage + place, inside && in_cout ? dy_first + static_cast<size_t>(from) * p.cout : dy, inside && in_cout);
        cp_async16(stage + Tile::A_BYTES + place, inside && in_cin ? x_first + static_cast<size_t>(met) * p.cin : x,
                   inside && in_cin);
      }
      number += DEPTH<T>;
    };
    Sums<Tile> sums = {};
    in_stages<Tile>(memory.ring, segment.steps, load,
                    [&](const unsigned char* stage) { multiply<T, Tile, false>(sums, stage); });

    const bool whole = segment.steps == segment.tile.steps;
    float* part = parts + (2 * static_cast<size_t>(blockIdx.x) + segment.within) * (Tile::M * Tile::N);
#pragma unroll
    for (unsigned i = 0; i < Tile::MT * Tile::NT; i++) {
      float v[4];
      take_piece<T, Tile>(sums, i, v);
      if (whole) {
        store_piece<T, Tile>(p, segment.tile, dw, threadIdx.x, i, v);
      } else {
        store_floats<4>(part + (i * Tile::THREADS + threadIdx.x) * 4, v);
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      segment.at += segment.steps;
      segment.within = 1;
    }
  }
}

/** Threads of a block of the kernel below: so many pieces, each by so many threads that share its parts. */
constexpr unsigned ADD_PIECES = 64, ADD_SHARES = 4;
struct AddMemory {
  Vec<float, 4> sums[ADD_SHARES][ADD_PIECES];
};
/** dw of the tiles that no block has alone; a block adds ADD_PIECES pieces of one. */
template <class T, class Tile>
__global__ void __launch_bounds__(ADD_PIECES* ADD_SHARES)
    add_parts(const __grid_constant__ Weights p, const float* parts, float* dw) {
  auto& memory = shared<AddMemory>();
  const uint32_t tiles = p.row_tiles * p.column_tiles;
  const WeightTile tile = tile_of_tap<Tile>(p, blockIdx.x / tiles, blockIdx.x % tiles);
  uint64_t first = 0;
  uint32_t count = 0;  // of a tap that no pixel meets: dw is 0
  bool within = false;
  if (tile.steps > 0) {
    first = block_of(p, tile.begin);
    count = static_cast<uint32_t>(block_of(p, tile.begin + tile.steps - 1) - first) + 1;
    within = begin_of(p, first) != tile.begin;
    if (count == 1) return;
  }
  const unsigned share = threadIdx.x / ADD_PIECES, place = threadIdx.x % ADD_PIECES;
  const unsigned index = blockIdx.y * ADD_PIECES + place;  // piece THREADS + thread
  float sums[4] = {};
#pragma unroll 4
  for (uint32_t i = count * share / ADD_SHARES; i < count * (share + 1) / ADD_SHARES; i++) {
    float more[4];
    load_floats<4>(parts + (2 * (first + i) + (i == 0 && within ? 1 : 0)) * (Tile::M * Tile::N) + index * 4, more);
#pragma unroll
    for (int k = 0; k < 4; k++) sums[k] += more[k];
  }
  store_floats<4>(memory.sums[share][place].v, sums);
  __syncthreads();
  if (share > 0) return;
#pragma unroll
  for (unsigned other = 1; other < ADD_SHARES; other++) {
#pragma unroll
    for (int k = 0; k < 4; k++) sums[k] += memory.sums[other][place].v[k];
  }
  store_piece<T, Tile>(p, tile, dw, index % Tile::THREADS, index / Tile::THREADS, sums);
}

template <class T, class Tile>
void launch_weights(const Args& a, Weights p, const T* x, const T* dy, float* dw) {
  constexpr size_t FEWEST = 4;  // steps for which a part is worth its way through memory
  p.row_tiles = ceil_div(p.cout, Tile::M);
  p.column_tiles = ceil_div(p.cin, Tile::N);
  const uint64_t tiles = uint64_t{p.row_tiles} * p.column_tiles;
  p.first[0] = 0;
  for (uint32_t tap = 0; tap < p.kh * p.kw; tap++) {
    const int32_t offset_h = static_cast<int32_t>(tap / p.kw) * p.dilation_h - p.pad_top;
    const int32_t offset_w = static_cast<int32_t>(tap % p.kw) * p.dilation_w - p.pad_left;
    const size_t pixels = size_t{p.images} * range_inside(offset_h, p.stride_h, p.height, p.out_height).count *
                          range_inside(offset_w, p.stride_w, p.width, p.out_width).count;
    p.first[tap + 1] = p.first[tap] + ceil_div(pixels, DEPTH<T>) * tiles;
  }
  const size_t all = p.first[p.kh * p.kw], most = static_cast<size_t>(a.multiprocessors()) * Tile::BLOCKS;
  p.blocks = static_cast<uint32_t>(all < most * FEWEST ? (all + FEWEST - 1) / FEWEST : most);
  float* parts = a.scratch<float>(2 * size_t{p.blocks} * Tile::M * Tile::N);
  if (all > 0) {
    a.launch(weight_ranges<T, Tile>, dim3(p.blocks), dim3(Tile::THREADS), sizeof(WeightMemory<Tile>), p, x, dy, dw, parts);
  }
  a.launch(add_parts<T, Tile>, dim3(static_cast<unsigned>(tiles * p.kh * p.kw), Tile::M * Tile::N / 4 / ADD_PIECES),
           dim3(ADD_PIECES * ADD_SHARES), sizeof(AddMemory), p, parts, dw);
}

template <class T>
bool run_weights(const Args& a, const Geometry& g, const void* x, const void* dy, float* dw) {
  if (!fits<T>(a, g) || !aligned(x, dy, dw)) return false;
  if (size_t{ceil_div(g.cout, Small::M)} * ceil_div(g.cin, Small::N) * g.kh * g.kw >= MOST) return false;
  Weights p = {};
  p.images = g.n, p.height = g.height, p.width = g.width, p.cin = g.cin;
  p.out_height = g.out_height, p.out_width = g.out_width, p.cout = g.cout;
  p.kh = g.kh, p.kw = g.kw, p.stride_h = g.stride_h, p.stride_w = g.stride_w;
  p.dilation_h = static_cast<int32_t>(g.dilation_h), p.dilation_w = static_cast<int32_t>(g.dilation_w);
  p.pad_top = static_cast<int32_t>(g.pad_top), p.pad_left = static_cast<int32_t>(g.pad_left);
  const auto run = g.cout > Small::M && g.cin > Small::N ? launch_weights<T, Large> : launch_weights<T, Small>;
  run(a, p, static_cast<const T*>(x), static_cast<const T*>(dy), dw);
  return true;
}

/** What y and dx have in common; the rest is each one's own. */
Product product_of(const Geometry& g) {
  Product p = {};
  p.images = g.n, p.kh = g.kh, p.kw = g.kw;
  p.dilation_h = static_cast<int32_t>(g.dilation_h), p.dilation_w = static_cast<int32_t>(g.dilation_w);
  p.pad_top = static_cast<int32_t>(g.pad_top), p.pad_left = static_cast<int32_t>(g.pad_left);
  return p;
}

}  // namespace

bool forward(const Args& a, const Geometry& g, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type) {
  Product p = product_of(g);
  p.source_height = g.height, p.source_width = g.width, p.depth = g.cin;
  p.height = g.out_height, p.width = g.out_width, p.columns = g.cout;
  p.step_h = 1, p.step_w = 1, p.scale_h = g.stride_h, p.scale_w = g.stride_w;
  p.tap_stride = size_t{g.cin} * g.cout, p.term_stride = g.cout;
  return type == Type::bf16 ? run_product<bf16>(a, g, p, x, wt, epilogue, y)
                            : run_product<float>(a, g, p, x, wt, epilogue, y);
}

bool grad_input(const Args& a, const Geometry& g, const void* dy, const void* w, void* dx, Type type) {
  Product p = product_of(g);
  p.source_height = g.out_height, p.source_width = g.out_width, p.depth = g.cout;
  p.height = g.height, p.width = g.width, p.columns = g.cin;
  p.step_h = g.stride_h, p.step_w = g.stride_w, p.scale_h = 1, p.scale_w = 1;
  p.backward = 1;
  p.tap_stride = g.cin, p.term_stride = size_t{g.kh} * g.kw * g.cin;
  return type == Type::bf16 ? run_product<bf16>(a, g, p, dy, w, {}, dx) : run_product<float>(a, g, p, dy, w, {}, dx);
}

bool grad_weight(const Args& a, const Geometry& g, const void* x, const void* dy, float* dw, Type type) {
  return type == Type::bf16 ? run_weights<bf16>(a, g, x, dy, dw) : run_weights<float>(a, g, x, dy, dw);
}

}  // namespace lacuna::cuda::conv2d::tensor
