// Dense convolution in bf16 on the H100 and H200, as products of matrices that are never laid out. Not yet run on such a card:
// the host device's twins of its instructions are what it was tested with.
//
//   y[p, o]       = relu(bias[o] + Σ_tap Σ_c x[p + tap, c] · wt[tap, c, o] + residual[p, o])
//                                                                             rows are pixels, columns are channels
//   dx[q, c]      = Σ_tap Σ_o dy[q − tap, o] · w[o, tap, c]
//   dw[o, tap, c] = Σ_p dy[p, o] · x[p + tap, c]                              rows and columns are channels
//
// One warp copies (TMA), two warpgroups multiply (wgmma): 128 rows by 64, 128, 192 or 256 columns, 64 terms at a time, through a
// ring of as many stages as shared memory holds. A block stays on its multiprocessor and takes tile after tile, so that
// the copies of the next begin while this one is finished.
//
// The tile's pixels are a box of the map, n x h x w of any sizes that make 128: one copy of the box, moved by the tap, is the
// matrix, and zeros come for what lies outside the map. Taps that see nothing but padding from a whole box are skipped,
// which at rate 18 on a map of 32 x 32 is more than half of them: the box's shape is the one that leaves least to do.
// dx is the same with the taps turned around; of a strided convolution, each phase of the pixels of dx is a convolution
// with some of the taps. In 1 x 1 convolutions all pixels are one row, so that no box is cut off by the map's edge.
//
// dw has few tiles and long sums: the (tile, box of 64 pixels) pairs are dealt out evenly, so that a block may begin and end
// within a tile; what it has of such a tile goes into a slot of its own, and a second kernel adds the slots in order.
#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "conv2d.h"
#include "hopper.h"

namespace lacuna::cuda::conv2d::hopper {
namespace {

using sm90::Barrier;
using sm90::TensorMap;

constexpr int ROWS = 128, DEPTH = 64;
constexpr unsigned CONSUMERS = 2, CONSUMER_THREADS = CONSUMERS * sm90::WARPGROUP, THREADS = sm90::WARPGROUP + CONSUMER_THREADS;

/** One side of the maps. Pixel i of the target sees pixel i·stride + tap·dilation − pad of the source. */
struct Axis {
  int target, source, taps, stride, dilation, pad;
  int first, step;  // tap k is tap first + k·step of the weights
  int box, tiles;   // pixels of the target that are done together, and how many such boxes there are
};
struct Range {
  int from, until;
  __host__ __device__ int count() const { return until - from; }
};
__host__ __device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
/** ⌈a / b⌉, but 0 where a is negative. */
__host__ __device__ __forceinline__ int steps_to(int a, int b) { return a <= 0 ? 0 : (a - 1) / b + 1; }

/** The taps that see something of the source from somewhere in this box. */
__host__ __device__ __forceinline__ Range taps_of(const Axis& a, int box) {
  const int start = box * a.box, low = start * a.stride - a.pad;
  const int high = low + (least(a.box, a.target - start) - 1) * a.stride;
  const int until = least(a.taps, steps_to(a.source - low, a.dilation));
  return {least(until, steps_to(-high, a.dilation)), until};
}
/** The boxes from which this tap sees something of the source. */
__host__ __device__ __forceinline__ Range boxes_of(const Axis& a, int tap) {
  const int low = tap * a.dilation - a.pad, high = low + (a.box - 1) * a.stride, step = a.box * a.stride;
  const int until = least(a.tiles, steps_to(a.source - low, step));
  return {least(until, steps_to(-high, step)), until};
}

struct Problem {
  Axis h, w;
  int images, box_images, image_tiles;
  int pixel_tiles;
  int depth;    // channels of the source
  int columns;  // channels of the target
  int column0, column_tiles;  // the tiles of this launch
  int kernel_width;
  bool taps_outside;           // the weights are [tap, term, column], not [term, tap, column]
  int half_n, half_h, half_w;  // where the second half of a box begins
};

template <int COLUMNS>
struct Memory {
  static constexpr int COLUMN_BLOCKS = COLUMNS / 64;
  static constexpr unsigned A_BYTES = ROWS * sm90::TILE_ROW_BYTES, B_BYTES = COLUMNS * sm90::TILE_ROW_BYTES;
  static constexpr unsigned OUT_BYTES = 64 * sm90::TILE_ROW_BYTES, STAGE_BYTES = A_BYTES + B_BYTES;
  static constexpr int STAGES = (sm90::MOST_SHARED - CONSUMERS * 2 * OUT_BYTES - sm90::SWIZZLE_BYTES) / STAGE_BYTES;
  alignas(sm90::SWIZZLE_BYTES) unsigned char a[STAGES][A_BYTES];
  alignas(sm90::SWIZZLE_BYTES) unsigned char b[STAGES][COLUMN_BLOCKS][DEPTH * sm90::TILE_ROW_BYTES];
  alignas(sm90::SWIZZLE_BYTES) unsigned char out[CONSUMERS][2][OUT_BYTES];  // 64 pixels by 64 channels, in turns
  Barrier full[STAGES], empty[STAGES];
};

struct WeightProblem {
  Axis h, w;
  int images, box_images, image_tiles;
  int cout, cin;
  int row_tiles, column0, column_tiles;
  int blocks, share, more;  // each block's iterations, and how many blocks have one more
};
/** Boxes of pixels that one tile of this tap adds up. */
__host__ __device__ __forceinline__ int iterations_of(const WeightProblem& p, int r, int s) {
  return boxes_of(p.h, r).count() * boxes_of(p.w, s).count() * p.image_tiles;
}
/** Where a block puts its share of a tile that it shares. Of the tiles it shares, one begins before it, or in it. */
__host__ __device__ __forceinline__ size_t slot_of(int block, bool begins) { return 2 * static_cast<size_t>(block) + begins; }

#if LACUNA_SM90

/** Tiles of rows that are taken together with all of their columns: a wave of blocks reads few rows and few columns. */
constexpr int GROUP = 16;
/** The first iteration of a block, of those of all tiles. */
__device__ __forceinline__ int begin_of(const WeightProblem& p, int block) {
  return block * p.share + least(block, p.more);
}

struct Ring {
  int stage = 0;
  unsigned parity = 0;
};
template <int STAGES>
__device__ __forceinline__ void advance(Ring& ring) {
  if (++ring.stage == STAGES) {
    ring.stage = 0;
    ring.parity ^= 1;
  }
}

template <int COLUMNS>
__device__ __forceinline__ void start(Memory<COLUMNS>& memory) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < Memory<COLUMNS>::STAGES; i++) {
      sm90::barrier_init(memory.full[i], 1);
      sm90::barrier_init(memory.empty[i], CONSUMER_THREADS / 32);
    }
    sm90::barrier_init_done();
  }
  __syncthreads();
}
/** Waits for a free stage and announces what will come. */
template <int COLUMNS>
__device__ __forceinline__ Barrier& fill(Memory<COLUMNS>& memory, const Ring& ring) {
  sm90::barrier_wait(memory.empty[ring.stage], ring.parity ^ 1);
  Barrier& full = memory.full[ring.stage];
  sm90::barrier_arrive(full, Memory<COLUMNS>::STAGE_BYTES);
  return full;
}

/**
 * Adds `iterations` stages up: 64 of the rows. One group of products is under way while the next stage is waited for.
 * A_ACROSS: a stage is two tiles of 64 terms by 64 rows; else 128 rows of 64 terms.
 */
template <int COLUMNS, bool A_ACROSS>
__device__ __forceinline__ void multiply(float (&sums)[COLUMNS / 2], Memory<COLUMNS>& memory, Ring& ring, int iterations,
                                         unsigned consumer) {
  constexpr unsigned HALF = Memory<COLUMNS>::A_BYTES / 2, BLOCK_BYTES = DEPTH * sm90::TILE_ROW_BYTES;
  constexpr unsigned ACROSS_BYTES = 16 * sm90::TILE_ROW_BYTES, ALONG_BYTES = 16 * sizeof(bf16);
#pragma unroll
  for (int i = 0; i < COLUMNS / 2; i++) sums[i] = 0;
  const bool first_lane = threadIdx.x % 32 == 0;
  int before = -1;  // the stage whose products may still be under way
  for (int i = 0; i < iterations; i++) {
    sm90::barrier_wait(memory.full[ring.stage], ring.parity);
    const uint64_t a = sm90::descriptor(memory.a[ring.stage] + consumer * HALF, 16, sm90::SWIZZLE_BYTES);
    const uint64_t b = sm90::descriptor(memory.b[ring.stage], BLOCK_BYTES, sm90::SWIZZLE_BYTES);
    sm90::pin(sums);
    sm90::products_fence();
#pragma unroll
    for (int k = 0; k < DEPTH / 16; k++) {
      sm90::product<COLUMNS, A_ACROSS, true>(sums, sm90::advanced(a, k * (A_ACROSS ? ACROSS_BYTES : ALONG_BYTES)),
                                             sm90::advanced(b, k * ACROSS_BYTES));
    }
    sm90::products_commit();
    sm90::pin(sums);
    sm90::products_wait<1>();
    if (before >= 0 && first_lane) sm90::barrier_arrive(memory.empty[before]);
    before = ring.stage;
    advance<Memory<COLUMNS>::STAGES>(ring);
  }
  sm90::products_wait<0>();
  sm90::pin(sums);
  if (before >= 0 && first_lane) sm90::barrier_arrive(memory.empty[before]);
}

struct Tile {
  int w, h, n, column;  // where it begins
  Range rows, columns;  // taps
};
template <int COLUMNS>
__device__ __forceinline__ Tile tile_of(const Problem& p, int number) {
  const int group = number / (GROUP * p.column_tiles), within = number - group * GROUP * p.column_tiles;
  const int size = least(GROUP, p.pixel_tiles - group * GROUP);
  const int pixels = group * GROUP + within % size, column = within / size;
  const int w = pixels % p.w.tiles, h = pixels / p.w.tiles % p.h.tiles, n = pixels / p.w.tiles / p.h.tiles;
  return {w * p.w.box, h * p.h.box, n * p.box_images, p.column0 + column * COLUMNS, taps_of(p.h, h), taps_of(p.w, w)};
}

/** Channel 0 of the residual at a pixel of the half of a box that is the consumer's; null where there is none. */
__device__ __forceinline__ const bf16* residual_of(const Epilogue<bf16>& epilogue, const Problem& p, const Tile& tile,
                                                   unsigned consumer, unsigned pixel) {
  const int second = static_cast<int>(consumer), at = static_cast<int>(pixel);
  const int across = p.half_w > 0 ? p.half_w : p.w.box, down = p.half_h > 0 ? p.half_h : p.h.box;
  const int w = tile.w + second * p.half_w + at % across, h = tile.h + second * p.half_h + at / across % down;
  const int n = tile.n + second * p.half_n + at / across / down;
  if (!epilogue.residual || w >= p.w.target || h >= p.h.target || n >= p.images) return nullptr;
  return epilogue.residual + ((static_cast<size_t>(n) * p.h.target + h) * p.w.target + w) * p.columns;
}

/** 64 pixels by COLUMNS channels, with the epilogue, 64 channels at a time through shared memory into the target. */
template <int COLUMNS>
__device__ __forceinline__ void store(const float (&sums)[COLUMNS / 2], Memory<COLUMNS>& memory, const TensorMap& target,
                                      const Problem& p, const Epilogue<bf16>& epilogue, const Tile& tile, unsigned consumer,
                                      int& stored) {
  const unsigned thread = threadIdx.x % sm90::WARPGROUP, lane = thread % 32, row = thread / 32 * 16 + lane / 4;
  const unsigned pair = lane % 4;  // which two of eight columns
  const bf16* const residuals[2] = {residual_of(epilogue, p, tile, consumer, row),
                                    residual_of(epilogue, p, tile, consumer, row + 8)};
#pragma unroll
  for (int block = 0; block < COLUMNS / 64; block++) {
    const int column = tile.column + block * 64;
    if (column < p.columns) {
      unsigned char* out = memory.out[consumer][stored % 2];
      if (thread == 0) sm90::copies_wait<1>();  // the last but one was from here
      sm90::named_barrier(1 + consumer, sm90::WARPGROUP);
#pragma unroll
      for (int chunk = 0; chunk < 8; chunk++) {
        const int at = column + chunk * 8 + static_cast<int>(pair) * 2;
        float add[2] = {0, 0};
        if (epilogue.bias && at < p.columns) load_floats<2>(epilogue.bias + at, add);
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const float* own = sums + block * 32 + chunk * 4 + half * 2;
          float two[2] = {own[0] + add[0], own[1] + add[1]};
          const Epilogue<bf16> rest{nullptr, at < p.columns ? residuals[half] : nullptr, epilogue.relu};
          rest.finish<2>(static_cast<size_t>(at), two);
          const unsigned place = (row + half * 8) * sm90::TILE_ROW_BYTES + (chunk ^ row % 8) * 16 + pair * 4;
          *reinterpret_cast<uint32_t*>(out + place) = sm90::pack(two[0], two[1]);
        }
      }
      sm90::fence_async();
      sm90::named_barrier(1 + consumer, sm90::WARPGROUP);
      if (thread == 0) {
        const int second = static_cast<int>(consumer);
        sm90::copy_out(target, out, column, tile.w + second * p.half_w, tile.h + second * p.half_h, tile.n + second * p.half_n);
        sm90::copies_commit();
      }
      stored++;
    }
  }
}

/** The pieces of tiles that a block does, in order. */
struct Piece {
  int r, s, row, column;  // the tap and where the tile begins
  int from, until;        // iterations of the tile
  bool whole;
};
template <int COLUMNS>
struct Pieces {
  const WeightProblem& p;
  int at, end, base;     // iterations: the next one, the block's end, the tap's begin
  int tap, each, tiles;  // each: iterations of one tile of the tap

  __device__ __forceinline__ explicit Pieces(const WeightProblem& p)
      : p(p), base(0), tap(0), each(iterations_of(p, 0, 0)), tiles(p.row_tiles * p.column_tiles) {
    const int block = static_cast<int>(blockIdx.x);
    at = begin_of(p, block);
    end = begin_of(p, block + 1);
  }
  __device__ __forceinline__ bool next(Piece& piece) {
    if (at >= end) return false;
    while (base + each * tiles <= at) {
      base += each * tiles;
      tap++;
      each = iterations_of(p, tap / p.w.taps, tap % p.w.taps);
    }
    const int tile = (at - base) / each, begin = base + tile * each;
    piece.r = tap / p.w.taps;
    piece.s = tap % p.w.taps;
    piece.row = tile / p.column_tiles * ROWS;
    piece.column = p.column0 + tile % p.column_tiles * COLUMNS;
    piece.from = at - begin;
    piece.until = least(end - begin, each);
    piece.whole = piece.from == 0 && piece.until == each;
    at = begin + piece.until;
    return true;
  }
};

/** Elements 4i to 4i + 3 of what a thread of the two warpgroups has of a tile, to their places in dw. */
__device__ __forceinline__ void store_weights(const WeightProblem& p, float* dw, int r, int s, int row, int column, int thread,
                                              int i, const float (&four)[4]) {
  const int o = row + thread / 32 * 16 + thread % 32 / 4, c = column + i * 8 + thread % 4 * 2;
  if (c >= p.cin) return;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (o + half * 8 >= p.cout) continue;
    const size_t tap = (static_cast<size_t>(o + half * 8) * p.h.taps + r) * p.w.taps + s;
    *reinterpret_cast<float2*>(dw + tap * p.cin + c) = make_float2(four[half * 2], four[half * 2 + 1]);
  }
}
/** The same four in a slot: float4 after float4 of all threads. */
template <int COLUMNS>
__device__ __forceinline__ float4* in_slot(float* slots, size_t slot, int thread, int i) {
  float* begin = slots + slot * (ROWS * COLUMNS);
  return reinterpret_cast<float4*>(begin) + i * static_cast<int>(CONSUMER_THREADS) + thread;
}
#endif  // LACUNA_SM90

/** y or dx. Warpgroup 0 copies, 1 and 2 multiply: each half of the tile's pixels. */
template <int COLUMNS>
__global__ void __launch_bounds__(THREADS, 1)
convolve(const __grid_constant__ TensorMap source, const __grid_constant__ TensorMap weights,
         const __grid_constant__ TensorMap target, const Problem p, const Epilogue<bf16> epilogue) {
#if LACUNA_SM90
  auto& memory = shared<Memory<COLUMNS>>();
  start(memory);
  const int tiles = p.pixel_tiles * p.column_tiles, depth_blocks = steps_to(p.depth, DEPTH);
  Ring ring;
  if (threadIdx.x < sm90::WARPGROUP) {
    sm90::give_registers<40>();
    if (threadIdx.x == 0) {
      sm90::prefetch(source);
      sm90::prefetch(weights);
      for (int number = blockIdx.x; number < tiles; number += gridDim.x) {
        const Tile tile = tile_of<COLUMNS>(p, number);
        for (int r = tile.rows.from; r < tile.rows.until; r++) {
          for (int s = tile.columns.from; s < tile.columns.until; s++) {
            const int h = tile.h * p.h.stride + r * p.h.dilation - p.h.pad, w = tile.w * p.w.stride + s * p.w.dilation - p.w.pad;
            const int tap = (p.h.first + r * p.h.step) * p.kernel_width + p.w.first + s * p.w.step;
            for (int k = 0; k < depth_blocks; k++) {
              Barrier& full = fill(memory, ring);
              sm90::copy_in(memory.a[ring.stage], source, full, k * DEPTH, w, h, tile.n);
              for (int block = 0; block < COLUMNS / 64; block++) {
                sm90::copy_in(memory.b[ring.stage][block], weights, full, tile.column + block * 64,
                              p.taps_outside ? k * DEPTH : tap, p.taps_outside ? tap : k * DEPTH);
              }
              advance<Memory<COLUMNS>::STAGES>(ring);
            }
          }
        }
      }
    }
  } else {
    sm90::take_registers<232>();
    const unsigned consumer = threadIdx.x / sm90::WARPGROUP - 1;
    float sums[COLUMNS / 2];
    int stored = 0;
    for (int number = blockIdx.x; number < tiles; number += gridDim.x) {
      const Tile tile = tile_of<COLUMNS>(p, number);
      multiply<COLUMNS, false>(sums, memory, ring, tile.rows.count() * tile.columns.count() * depth_blocks, consumer);
      store<COLUMNS>(sums, memory, target, p, epilogue, tile, consumer, stored);
    }
    if (threadIdx.x % sm90::WARPGROUP == 0) sm90::copies_wait<0>();
  }
#elif defined(__CUDA_ARCH__)
  __trap();  // built without sm_90a: better than weights that were never computed
#endif
}

/** dw, or a part of it in a slot. Warpgroup 0 copies, 1 and 2 multiply: each 64 of the tile's output channels. */
template <int COLUMNS>
__global__ void __launch_bounds__(THREADS, 1)
convolve_weight(const __grid_constant__ TensorMap dys, const __grid_constant__ TensorMap xs, const WeightProblem p, float* dw,
                float* slots) {
#if LACUNA_SM90
  auto& memory = shared<Memory<COLUMNS>>();
  start(memory);
  Ring ring;
  Pieces<COLUMNS> pieces(p);
  Piece piece;
  if (threadIdx.x < sm90::WARPGROUP) {
    sm90::give_registers<40>();
    if (threadIdx.x == 0) {
      sm90::prefetch(dys);
      sm90::prefetch(xs);
      while (pieces.next(piece)) {
        const Range rows = boxes_of(p.h, piece.r), columns = boxes_of(p.w, piece.s);
        const int row_shift = piece.r * p.h.dilation - p.h.pad, column_shift = piece.s * p.w.dilation - p.w.pad;
        int w = columns.from + piece.from % columns.count(), h = rows.from + piece.from / columns.count() % rows.count();
        int n = piece.from / columns.count() / rows.count();
        for (int i = piece.from; i < piece.until; i++) {
          Barrier& full = fill(memory, ring);
          const int at_w = w * p.w.box, at_h = h * p.h.box, at_n = n * p.box_images;
          for (int block = 0; block < ROWS / 64; block++) {
            sm90::copy_in(memory.a[ring.stage] + block * DEPTH * sm90::TILE_ROW_BYTES, dys, full, piece.row + block * 64, at_w, at_h,
                          at_n);
          }
          for (int block = 0; block < COLUMNS / 64; block++) {
            sm90::copy_in(memory.b[ring.stage][block], xs, full, piece.column + block * 64, at_w * p.w.stride + column_shift,
                          at_h * p.h.stride + row_shift, at_n);
          }
          advance<Memory<COLUMNS>::STAGES>(ring);
          if (++w == columns.until) {
            w = columns.from;
            if (++h == rows.until) {
              h = rows.from;
              n++;
            }
          }
        }
      }
    }
  } else {
    sm90::take_registers<232>();
    const int thread = static_cast<int>(threadIdx.x - sm90::WARPGROUP);
    const unsigned consumer = thread / sm90::WARPGROUP;
    float sums[COLUMNS / 2];
    while (pieces.next(piece)) {
      multiply<COLUMNS, true>(sums, memory, ring, piece.until - piece.from, consumer);
      const size_t slot = slot_of(static_cast<int>(blockIdx.x), piece.from == 0);
#pragma unroll
      for (int i = 0; i < COLUMNS / 8; i++) {
        const float four[4] = {sums[i * 4], sums[i * 4 + 1], sums[i * 4 + 2], sums[i * 4 + 3]};
        if (piece.whole) {
          store_weights(p, dw, piece.r, piece.s, piece.row, piece.column, thread, i, four);
        } else {
          *in_slot<COLUMNS>(slots, slot, thread, i) = make_float4(four[0], four[1], four[2], four[3]);
        }
      }
    }
  }
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/** How many float4 a thread of add_slots does. */
constexpr int SLOT_VECTORS = 4;

/** A block: part of one tile, of which several blocks have a share, or none. */
template <int COLUMNS>
__global__ void __launch_bounds__(CONSUMER_THREADS) add_slots(const WeightProblem p, float* dw, float* slots) {
#if LACUNA_SM90
  const int tiles = p.row_tiles * p.column_tiles, tap = static_cast<int>(blockIdx.x) / tiles;
  const int tile = static_cast<int>(blockIdx.x) % tiles, r = tap / p.w.taps, s = tap % p.w.taps;
  const int thread = static_cast<int>(threadIdx.x);
  int begin = 0;
  for (int i = 0; i < tap; i++) begin += iterations_of(p, i / p.w.taps, i % p.w.taps) * tiles;
  const int each = iterations_of(p, r, s);
  begin += tile * each;
  int first = 0, last = 0;  // blocks that have a share
  if (each > 0) {
    for (int above = p.blocks; above - first > 1;) {  // begin_of(first) <= begin < begin_of(above)
      const int middle = (first + above) / 2;
      (begin_of(p, middle) <= begin ? first : above) = middle;
    }
    last = first + 1;
    while (begin_of(p, last) < begin + each) last++;
    if (last == first + 1) return;  // it has written the tile itself
  }
#pragma unroll
  for (int k = 0; k < SLOT_VECTORS; k++) {
    const int i = static_cast<int>(blockIdx.y) * SLOT_VECTORS + k;
    float sum[4] = {0, 0, 0, 0};
    for (int block = first; block < last; block++) {
      const float4 part = *in_slot<COLUMNS>(slots, slot_of(block, begin_of(p, block) <= begin), thread, i);
      sum[0] += part.x;
      sum[1] += part.y;
      sum[2] += part.z;
      sum[3] += part.w;
    }
    store_weights(p, dw, r, s, tile / p.column_tiles * ROWS, p.column0 + tile % p.column_tiles * COLUMNS, thread, i, sum);
  }
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

// The launchers

/** Was its code compiled? For sm_90 without the a it would trap. */
#if defined(LACUNA_HOST) || defined(LACUNA_SM90A)
constexpr bool COMPILED = true;
#else
constexpr bool COMPILED = false;
#endif

/** Whether this path is for the card, the type and the shape. */
bool suits(const Args& a, const Geometry& p, Type type) {
  constexpr uint64_t MOST = uint64_t{1} << 30;  // coordinates are 32-bit integers, with room to step over the edge
  return COMPILED && a.context.capability == 90 && type == Type::bf16 && p.groups == 1 && p.cin % 8 == 0 && p.cout % 8 == 0 &&
         p.stride_h <= 8 && p.stride_w <= 8 && uint64_t{p.n} * p.height * p.width < MOST &&
         uint64_t{p.n} * p.out_height * p.out_width < MOST && p.cin < MOST && p.cout < MOST && p.pad_top < MOST &&
         p.pad_left < MOST && uint64_t{p.kh} * p.dilation_h < MOST && uint64_t{p.kw} * p.dilation_w < MOST &&
         p.kh * uint64_t{p.kw} < 65536;
}

/** A 1 x 1 convolution that keeps the map's size is one of a single row of pixels. */
Geometry flat(Geometry p) {
  if (p.kh == 1 && p.kw == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 && p.pad_left == 0 &&
      p.height == p.out_height && p.width == p.out_width) {
    p.width = p.out_width = p.n * p.height * p.width;
    p.n = p.height = p.out_height = 1;
  }
  return p;
}

Axis axis(uint32_t target, uint32_t source, uint32_t taps, uint32_t stride, uint32_t dilation, uint32_t pad) {
  const auto i = [](uint32_t v) { return static_cast<int>(v); };
  return {i(target), i(source), i(taps), i(stride), i(dilation), i(pad), 0, 1, 0, 0};
}
void cut(Axis& a, int box) {
  a.box = box;
  a.tiles = steps_to(a.target, box);
}

/** The box of `pixels` pixels for which least is to be done: sets the boxes of h and w, and returns how many images it has. */
int choose_box(Axis& h, Axis& w, int images, int pixels) {
  const auto work = [](Axis a, int box) {
    cut(a, box);
    double taps = 0;
    for (int i = 0; i < a.tiles; i++) taps += taps_of(a, i).count();
    return std::pair<double, double>{taps, a.tiles};
  };
  int best_h = 1, best_w = 1;
  double best = -1;
  for (const int bw : {16, 8, 32, 64, 128, 4, 2, 1}) {  // of equals the squarest, whose boxes overlap least
    if (bw > pixels || bw * w.stride > 256) continue;
    const auto [taps_w, tiles_w] = work(w, bw);
    for (const int bh : {8, 16, 4, 2, 1, 32, 64, 128}) {
      if (bw * bh > pixels || bh * h.stride > 256) continue;
      const auto [taps_h, tiles_h] = work(h, bh);
      const double all = (taps_w * taps_h + tiles_w * tiles_h) * steps_to(images, pixels / bw / bh);
      if (best >= 0 && all >= best) continue;
      best = all;
      best_h = bh;
      best_w = bw;
    }
  }
  cut(h, best_h);
  cut(w, best_w);
  return pixels / best_h / best_w;
}

/** [images, height, width, channels] of bf16, of which every step_h-th row and step_w-th column from `base` on is meant. */
bool encode_pixels(TensorMap& map, const bf16* base, int images, int height, int width, int channels, const uint32_t (&box)[4],
                   const uint32_t (&steps)[4], size_t image_bytes, size_t row_bytes, size_t pixel_bytes) {
  const uint64_t sizes[] = {static_cast<uint64_t>(channels), static_cast<uint64_t>(width), static_cast<uint64_t>(height),
                            static_cast<uint64_t>(images)};
  const uint64_t strides[] = {pixel_bytes, row_bytes, image_bytes};
  return sm90::encode<4>(map, base, sizes, strides, box, steps);
}
/** The map of a source: boxes are of the target's pixels, a stride apart. */
bool encode_source(TensorMap& map, const bf16* base, const Axis& h, const Axis& w, int images, int box_images, int channels) {
  const auto u = [](int v) { return static_cast<uint32_t>(v); };
  const size_t pixel = channels * sizeof(bf16), row = pixel * w.source;
  return encode_pixels(map, base, images, h.source, w.source, channels,
                       {64, u(w.box * w.stride), u(h.box * h.stride), u(box_images)}, {1, u(w.stride), u(h.stride), 1},
                       row * h.source, row, pixel);
}

/** Tiles of columns: so many of one width, then one of another. */
struct Columns {
  int width, tiles, last_width;  // last_width: 0 where there is none
};
/** `turns`(tiles of columns): how often one tile is done after the other. */
template <class F>
Columns choose_columns(int columns, F turns) {
  // Narrow tiles wait for shared memory: the part of the peak that they can be expected to reach.
  const auto cost = [&](int width, int tiles) {
    const double reached = width == 64 ? 0.6 : width == 128 ? 0.85 : width == 192 ? 0.95 : 1.0;
    return turns(tiles) * width / reached;
  };
  Columns best{};
  double least_cost = -1;
  for (const int width : {256, 192, 128, 64}) {
    const int whole = columns / width, rest = columns - whole * width;
    const auto offer = [&](Columns c, double now) {
      if (least_cost >= 0 && now >= least_cost) return;
      least_cost = now;
      best = c;
    };
    offer({width, steps_to(columns, width), 0}, cost(width, steps_to(columns, width)));
    if (whole == 0 || rest == 0) continue;
    const int last = steps_to(rest, 64) * 64;
    if (last < width) offer({width, whole, last}, cost(width, whole) + cost(last, 1));
  }
  return best;
}
/** f(integral constant of the width, first column, tiles) for each width. */
template <class F>
void each_width(const Columns& columns, F f) {
  const auto call = [&](int width, int first, int tiles) {
    if (width == 64) f(std::integral_constant<int, 64>{}, first, tiles);
    if (width == 128) f(std::integral_constant<int, 128>{}, first, tiles);
    if (width == 192) f(std::integral_constant<int, 192>{}, first, tiles);
    if (width == 256) f(std::integral_constant<int, 256>{}, first, tiles);
  };
  call(columns.width, 0, columns.tiles);
  if (columns.last_width > 0) call(columns.last_width, columns.width * columns.tiles, 1);
}

/** One convolution of the kind that the kernel does, ready to be launched. */
struct Job {
  Problem p;
  TensorMap source, weights, target;
};

/** The tile's shape and the map of the source, where h and w are set but for their boxes. */
bool prepare(Job& job, const bf16* source) {
  Problem& p = job.p;
  p.box_images = choose_box(p.h, p.w, p.images, ROWS);
  p.image_tiles = steps_to(p.images, p.box_images);
  p.pixel_tiles = p.image_tiles * p.h.tiles * p.w.tiles;
  p.half_n = p.box_images > 1 ? p.box_images / 2 : 0;
  p.half_h = p.half_n == 0 && p.h.box > 1 ? p.h.box / 2 : 0;
  p.half_w = p.half_n == 0 && p.half_h == 0 ? p.w.box / 2 : 0;
  return encode_source(job.source, source, p.h, p.w, p.images, p.box_images, p.depth);
}
/** The map of the target; the steps between its pixels are those of a whole map of the given height and width. */
bool prepare_target(Job& job, const bf16* target, size_t height, size_t width, size_t step_h, size_t step_w) {
  const Problem& p = job.p;
  const auto half = [](int box, int at) { return static_cast<uint32_t>(at > 0 ? at : box); };
  const size_t pixel = p.columns * sizeof(bf16);
  return encode_pixels(job.target, target, p.images, p.h.target, p.w.target, p.columns,
                       {64, half(p.w.box, p.half_w), half(p.h.box, p.half_h), half(p.box_images, p.half_n)}, {1, 1, 1, 1},
                       pixel * width * height, pixel * width * step_h, pixel * step_w);
}

void launch(const Args& a, const Job& job, const Epilogue<bf16>& epilogue) {
  const int processors = a.multiprocessors(), pixel_tiles = job.p.pixel_tiles;
  const Columns columns = choose_columns(
      job.p.columns, [&](int tiles) { return static_cast<double>((int64_t{tiles} * pixel_tiles + processors - 1) / processors); });
  each_width(columns, [&](auto width, int first, int tiles) {
    constexpr int WIDTH = decltype(width)::value;
    Problem p = job.p;
    p.column0 = first;
    p.column_tiles = tiles;
    a.launch(convolve<WIDTH>, dim3(least(processors, pixel_tiles * tiles)), dim3(THREADS), sizeof(Memory<WIDTH>), job.source,
             job.weights, job.target, p, epilogue);
  });
}

}  // namespace

bool forward(const Args& a, const Geometry& geometry, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type) {
  if (!suits(a, geometry, type)) return false;
  const Geometry g = flat(geometry);
  Job job{};
  Problem& p = job.p;
  p.h = axis(g.out_height, g.height, g.kh, g.stride_h, g.dilation_h, g.pad_top);
  p.w = axis(g.out_width, g.width, g.kw, g.stride_w, g.dilation_w, g.pad_left);
  p.images = static_cast<int>(g.n);
  p.depth = static_cast<int>(g.cin);
  p.columns = static_cast<int>(g.cout);
  p.kernel_width = static_cast<int>(g.kw);
  p.taps_outside = true;
  const uint64_t row = g.cout * sizeof(bf16);
  if (!prepare(job, static_cast<const bf16*>(x)) ||
      !prepare_target(job, static_cast<const bf16*>(y), g.out_height, g.out_width, 1, 1) ||
      !sm90::encode<3>(job.weights, wt, {g.cout, g.cin, uint64_t{g.kh} * g.kw}, {row, row * g.cin}, {64, DEPTH, 1}, {1, 1, 1})) {
    return false;
  }
  launch(a, job, epilogue.of<bf16>());
  return true;
}

namespace {

/**
 * One side of dx's pixels phase, phase + stride, ... Those see pixel (phase + stride·i + pad − tap·dilation) / stride of dy where
 * that is whole: for one tap of `step`. The taps are turned around, so that later ones see later pixels.
 */
Axis phase_axis(uint32_t size, uint32_t out, uint32_t taps, uint32_t stride, uint32_t dilation, uint32_t pad, uint32_t phase) {
  const int step = static_cast<int>(stride / std::gcd(stride, dilation));
  int last = -1, count = 0;
  for (uint32_t tap = 0; tap < taps; tap++) {
    const int64_t moved = int64_t{phase} + pad - int64_t{tap} * dilation;
    if (moved % static_cast<int64_t>(stride) != 0) continue;
    last = static_cast<int>(tap);
    count++;
  }
  Axis a = axis((size - phase + stride - 1) / stride, out, static_cast<uint32_t>(count), 1, 1, 0);
  if (count == 0) return a;
  a.dilation = static_cast<int>(static_cast<uint32_t>(step) * dilation / stride);
  a.pad = static_cast<int>((int64_t{last} * dilation - phase - pad) / static_cast<int64_t>(stride));
  a.first = last;
  a.step = -step;
  return a;
}

}  // namespace

bool grad_input(const Args& a, const Geometry& geometry, const void* dy, const void* w, void* dx, Type type) {
  if (!suits(a, geometry, type)) return false;
  const Geometry g = flat(geometry);
  std::vector<Job> jobs;
  const uint64_t row = g.cin * sizeof(bf16), taps = uint64_t{g.kh} * g.kw;
  for (uint32_t i = 0; i < std::min(g.stride_h, g.height); i++) {
    for (uint32_t j = 0; j < std::min(g.stride_w, g.width); j++) {
      Job& job = jobs.emplace_back();
      Problem& p = job.p;
      p.h = phase_axis(g.height, g.out_height, g.kh, g.stride_h, g.dilation_h, g.pad_top, i);
      p.w = phase_axis(g.width, g.out_width, g.kw, g.stride_w, g.dilation_w, g.pad_left, j);
      p.images = static_cast<int>(g.n);
      p.depth = static_cast<int>(g.cout);
      p.columns = static_cast<int>(g.cin);
      p.kernel_width = static_cast<int>(g.kw);
      p.taps_outside = false;
      const bf16* target = static_cast<const bf16*>(dx) + (size_t{i} * g.width + j) * g.cin;
      if (!prepare(job, static_cast<const bf16*>(dy)) ||
          !prepare_target(job, target, g.height, g.width, g.stride_h, g.stride_w) ||
          !sm90::encode<3>(job.weights, w, {g.cin, taps, g.cout}, {row, row * taps}, {64, 1, DEPTH}, {1, 1, 1})) {
        return false;
      }
    }
  }
  for (const Job& job : jobs) launch(a, job, {});
  return true;
}

bool grad_weight(const Args& a, const Geometry& geometry, const void* x, const void* dy, float* dw, Type type) {
  if (!suits(a, geometry, type)) return false;
  const Geometry g = flat(geometry);
  constexpr int LEAST_ITERATIONS = 8;  // of a block, so that a slot is worth its while
  WeightProblem p{};
  p.h = axis(g.out_height, g.height, g.kh, g.stride_h, g.dilation_h, g.pad_top);
  p.w = axis(g.out_width, g.width, g.kw, g.stride_w, g.dilation_w, g.pad_left);
  p.images = static_cast<int>(g.n);
  p.cout = static_cast<int>(g.cout);
  p.cin = static_cast<int>(g.cin);
  p.box_images = choose_box(p.h, p.w, p.images, DEPTH);
  p.image_tiles = steps_to(p.images, p.box_images);
  p.row_tiles = steps_to(p.cout, ROWS);
  const auto u = [](int v) { return static_cast<uint32_t>(v); };
  const size_t pixel = g.cout * sizeof(bf16), row = pixel * g.out_width;
  TensorMap dys, xs;
  if (!encode_source(xs, static_cast<const bf16*>(x), p.h, p.w, p.images, p.box_images, p.cin) ||
      !encode_pixels(dys, static_cast<const bf16*>(dy), p.images, p.h.target, p.w.target, p.cout,
                     {64, u(p.w.box), u(p.h.box), u(p.box_images)}, {1, 1, 1, 1}, row * g.out_height, row, pixel)) {
    return false;
  }
  int64_t each = 0;  // iterations of one tile of each tap
  for (int r = 0; r < p.h.taps; r++) {
    for (int s = 0; s < p.w.taps; s++) each += iterations_of(p, r, s);
  }
  if (each * p.row_tiles * steps_to(p.cin, 64) > INT32_MAX) return false;
  const Columns columns = choose_columns(p.cin, [](int tiles) { return static_cast<double>(tiles); });
  each_width(columns, [&](auto width, int first, int tiles) {
    constexpr int WIDTH = decltype(width)::value;
    p.column0 = first;
    p.column_tiles = tiles;
    const int iterations = static_cast<int>(each) * p.row_tiles * tiles;
    p.blocks = std::clamp(iterations / LEAST_ITERATIONS, 1, a.multiprocessors());
    p.share = iterations / p.blocks;
    p.more = iterations % p.blocks;
    float* slots = a.scratch(slot_of(p.blocks, false) * (ROWS * WIDTH));
    if (iterations > 0) {
      a.launch(convolve_weight<WIDTH>, dim3(u(p.blocks)), dim3(THREADS), sizeof(Memory<WIDTH>), dys, xs, p, dw, slots);
    }
    a.launch(add_slots<WIDTH>, dim3(u(p.row_tiles * tiles * p.h.taps * p.w.taps), WIDTH / 8 / SLOT_VECTORS),
             dim3(CONSUMER_THREADS), 0, p, dw, slots);
  });
  return true;
}

}  // namespace lacuna::cuda::conv2d::hopper
