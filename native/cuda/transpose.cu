// y[o, i0 ... i5] = x[o, i0 stride0 + ... + i5 stride5]. Elements are moved, whatever their type.
//
// Where the last axis of y is contiguous in x, a thread copies a unit of a row: 16 bytes, or what rows are made of.
// Else one axis of y, the `near` one, is contiguous in x and the last in y: these two are walked in tiles that a block
// reads along the one, into shared memory, and writes along the other, both in whole lines of memory. Where the two
// make small matrices, of which a tile would hold a few elements, each thread gathers an element: neighbours share
// cache lines.
#include "divide.h"
#include "units.h"

namespace lacuna::cuda::transpose {

struct Params {
  uint32_t outer;
  uint32_t size[6];
  uint32_t stride[6];
};

/** A unit of y; the last axis and all strides in units. */
template <class U>
struct Gather {
  const U* x;
  U* y;
  Divisor size[6];
  size_t stride[6];
  size_t item;
  int first;  // axes before it have one position
  __device__ void operator()(size_t index) const {
    uint32_t left = static_cast<uint32_t>(index), at;
    size_t from = 0;
#pragma unroll
    for (int axis = 5; axis >= 0; axis--) {
      if (axis < first) break;
      left = size[axis].divide(left, at);
      from += at * stride[axis];
    }
    y[index] = x[left * item + from];
  }
};

size_t item_size(const Params& p) {
  size_t item = 1;
  for (const uint32_t size : p.size) item *= size;
  return item;
}

/** In units of U, which are `width` elements where the last axis stays the last, else 1. */
template <class U>
void gather(const Params& p, const Args& a, unsigned width) {
  Gather<U> f{a.in<U>(0), a.out<U>(0), {}, {}, item_size(p) / width, 5};
  for (int axis = 5; axis >= 0; axis--) {
    f.size[axis] = Divisor(axis == 5 ? p.size[5] / width : p.size[axis]);
    f.stride[axis] = axis == 5 ? p.stride[5] : p.stride[axis] / width;
    if (p.size[axis] > 1) f.first = axis;
  }
  each(a, p.outer * f.item, f);
}

// A tile is TILE elements: 64 x 64, or 2^n of the shorter axis where that has fewer. A thread moves EACH of them.
constexpr unsigned TILE = 4096, SIDE = 64, EACH = TILE / BLOCK;

template <class E>
struct Tile {
  E elements[TILE + TILE / 2];  // rows of `last` are one longer than they need to be: there are TILE / 2 rows at most
};

/** The axes apart from near and last make matrices: [o, i0 ... i3]. */
struct Matrices {
  Divisor size[4];
  size_t from[4], to[4];  // strides in x and y
  size_t item;
  uint32_t near, last;            // sizes of the two axes
  size_t near_stride, last_stride;  // of `near` in y, of `last` in x
  Divisor tiles_near, tiles_last;
  unsigned near_bits, last_bits;  // a tile is 2^near_bits x 2^last_bits
};

template <class E>
__global__ void __launch_bounds__(BLOCK) turn(const E* x, E* y, Matrices m) {
  uint32_t tile_near, tile_last, at;
  uint32_t left = m.tiles_near.divide(m.tiles_last.divide(blockIdx.x, tile_last), tile_near);
#pragma unroll
  for (int axis = 3; axis >= 0; axis--) {
    left = m.size[axis].divide(left, at);
    x += at * m.from[axis];
    y += at * m.to[axis];
  }
  x += left * m.item;
  y += left * m.item;
  const uint32_t first_near = tile_near << m.near_bits, first_last = tile_last << m.last_bits;
  const unsigned pitch = (1u << m.last_bits) + 1;
  auto& tile = shared<Tile<E>>().elements;
  E moved[EACH];
#pragma unroll
  for (unsigned n = 0; n < EACH; n++) {
    const unsigned e = threadIdx.x + n * BLOCK;
    const uint32_t near = first_near + (e & ((1u << m.near_bits) - 1)), last = first_last + (e >> m.near_bits);
    moved[n] = near < m.near && last < m.last ? x[near + last * m.last_stride] : E{};
  }
#pragma unroll
  for (unsigned n = 0; n < EACH; n++) {
    const unsigned e = threadIdx.x + n * BLOCK;
    tile[(e & ((1u << m.near_bits) - 1)) * pitch + (e >> m.near_bits)] = moved[n];
  }
  __syncthreads();
#pragma unroll
  for (unsigned n = 0; n < EACH; n++) {
    const unsigned e = threadIdx.x + n * BLOCK, row = e >> m.last_bits, column = e & ((1u << m.last_bits) - 1);
    const uint32_t near = first_near + row, last = first_last + column;
    if (near < m.near && last < m.last) y[near * m.near_stride + last] = tile[row * pitch + column];
  }
}

/** The least n with 2^n >= size, up to that of a whole side. */
unsigned bits_for(uint32_t size) {
  unsigned bits = 0;
  while ((1u << bits) < SIDE && (1u << bits) < size) bits++;
  return bits;
}

template <class E>
void turn_all(const Params& p, const Args& a, int near) {
  Matrices m{};
  size_t to = 1, matrices = p.outer;
  for (int axis = 5, next = 3; axis >= 0; axis--) {
    if (axis == near) {
      m.near_stride = to;
    } else if (axis != 5) {
      m.size[next] = Divisor(p.size[axis]);
      m.from[next] = p.stride[axis];
      m.to[next] = to;
      matrices *= p.size[axis];
      next--;
    }
    to *= p.size[axis];
  }
  m.item = to;
  m.near = p.size[near];
  m.last = p.size[5];
  m.last_stride = p.stride[5];
  constexpr unsigned TILE_BITS = 12;
  static_assert(1u << TILE_BITS == TILE);
  m.near_bits = bits_for(m.near);
  m.last_bits = bits_for(m.last);
  if (m.near_bits < m.last_bits) {
    m.last_bits = TILE_BITS - m.near_bits;
  } else {
    m.near_bits = TILE_BITS - m.last_bits;
  }
  m.tiles_near = Divisor(ceil_div(m.near, size_t{1} << m.near_bits));
  m.tiles_last = Divisor(ceil_div(m.last, size_t{1} << m.last_bits));
  const size_t tiles = matrices * m.tiles_near.value() * m.tiles_last.value();
  a.launch(turn<E>, dim3(static_cast<unsigned>(tiles)), dim3(BLOCK), sizeof(Tile<E>), a.in<E>(0), a.out<E>(0), m);
}

void permute(const Params& p, const Args& a) {
  if (p.outer * item_size(p) == 0) return;
  const size_t element = bytes_of(a.out_type(0));
  if (p.stride[5] == 1) {
    size_t bits = p.size[5] * element | bits_of(a.in<void>(0), a.out<void>(0));
    for (int axis = 0; axis < 5; axis++) bits |= p.size[axis] > 1 ? p.stride[axis] * element : 0;
    return in_units(bits, [&](auto unit) {
      using U = decltype(unit);
      gather<U>(p, a, static_cast<unsigned>(sizeof(U) / element));
    });
  }
  int near = -1;
  for (int axis = 0; axis < 5; axis++) {
    if (p.size[axis] > 1 && p.stride[axis] == 1) near = axis;
  }
  const bool tiled = near >= 0 && static_cast<size_t>(p.size[near]) * p.size[5] >= TILE / 8;
  const auto move = [&](auto e) {
    using E = decltype(e);
    if (tiled) {
      turn_all<E>(p, a, near);
    } else {
      gather<E>(p, a, 1);
    }
  };
  if (element == 2) {
    move(uint16_t{});
  } else {
    move(uint32_t{});
  }
}

const Register kernels[] = {
    {"transpose.permute", 1, 1, permute},
    {"transpose.permute_integer", 1, 1, permute},
};

}  // namespace lacuna::cuda::transpose
