// A box inside a larger tensor, seen as [outer, three axes]: cut copies it out, embed puts it into a constant. A thread
// owns a unit of the result along the last axis: 16 bytes, or less where rows and the window's start do not fit that.
// `_vec4` counts vectors of four along the last axis.
#include <cstring>

#include "divide.h"
#include "units.h"

namespace lacuna::cuda::window {

struct Box {
  uint32_t outer;
  uint32_t part[3], whole[3], start[3];
};
template <class T>
struct Embedding {
  Box box;
  T value;
};

/** The last axis counted in units of `unit` bytes, each element of the contract having `element` of them. */
Box counted(Box p, size_t element, size_t unit) {
  for (uint32_t* n : {&p.part[2], &p.whole[2], &p.start[2]}) *n = static_cast<uint32_t>(*n * element / unit);
  return p;
}
size_t bits_of(const Box& p, size_t element) { return (p.part[2] | p.whole[2] | p.start[2]) * element; }
size_t count(size_t outer, const uint32_t (&size)[3]) { return outer * size[0] * size[1] * size[2]; }

/** An index taken apart into [o, i, j, k]. */
struct Place {
  Divisor size[3];
  explicit Place(const uint32_t (&of)[3]) : size{Divisor(of[0]), Divisor(of[1]), Divisor(of[2])} {}
  __device__ __forceinline__ size_t operator()(size_t index, uint32_t& i, uint32_t& j, uint32_t& k) const {
    return size[0].divide(size[1].divide(size[2].divide(static_cast<uint32_t>(index), k), j), i);
  }
};

/** y[o, i, j, k] = x[o, start0 + i, start1 + j, start2 + k] */
template <class U>
struct Cut {
  Box p;
  Place place;
  const U* x;
  U* y;
  __device__ void operator()(size_t index) const {
    uint32_t i, j, k;
    const size_t o = place(index, i, j, k);
    const size_t row = (o * p.whole[0] + p.start[0] + i) * p.whole[1] + p.start[1] + j;
    y[index] = x[row * p.whole[2] + p.start[2] + k];
  }
};

template <size_t WIDTH>
void cut(const Box& p, const Args& a) {
  if (count(p.outer, p.part) == 0) return;
  const size_t element = bytes_of(a.out_type(0)) * WIDTH;
  in_units(bits_of(p, element) | cuda::bits_of(a.in<void>(0), a.out<void>(0)), [&](auto unit) {
    using U = decltype(unit);
    const Box box = counted(p, element, sizeof(U));
    each(a, count(box.outer, box.part), Cut<U>{box, Place(box.part), a.in<U>(0), a.out<U>(0)});
  });
}

/** y[o, i, j, k] = x[o, i - start0, j - start1, k - start2] where that lies in x, else `value` */
template <class U>
struct Embed {
  Box p;
  Place place;
  const U* x;
  U* y;
  U value;
  __device__ void operator()(size_t index) const {
    uint32_t i, j, k;
    const size_t o = place(index, i, j, k);
    // Below the window's start the differences wrap, and are then too large.
    i -= p.start[0];
    j -= p.start[1];
    k -= p.start[2];
    const bool inside = i < p.part[0] && j < p.part[1] && k < p.part[2];
    y[index] = inside ? x[((o * p.part[0] + i) * p.part[1] + j) * p.part[2] + k] : value;
  }
};

template <size_t WIDTH, class T>
void embed(const Embedding<T>& e, const Args& a) {
  if (count(e.box.outer, e.box.whole) == 0) return;
  // The value's bits, four bytes of them: once, or twice where elements have two bytes.
  uint32_t bits;
  if (a.out_type(0) == Type::bf16) {
    const bf16 half[2] = {from_float<bf16>(static_cast<float>(e.value)), from_float<bf16>(static_cast<float>(e.value))};
    std::memcpy(&bits, half, sizeof(bits));
  } else {
    std::memcpy(&bits, &e.value, sizeof(bits));
  }
  const size_t element = bytes_of(a.out_type(0)) * WIDTH;
  in_units(bits_of(e.box, element) | cuda::bits_of(a.in<void>(0), a.out<void>(0)), [&](auto unit) {
    using U = decltype(unit);
    for (size_t at = 0; at < sizeof(U); at += 4) {
      std::memcpy(reinterpret_cast<unsigned char*>(&unit) + at, &bits, sizeof(U) < 4 ? sizeof(U) : 4);
    }
    const Box box = counted(e.box, element, sizeof(U));
    each(a, count(box.outer, box.whole), Embed<U>{box, Place(box.whole), a.in<U>(0), a.out<U>(0), unit});
  });
}

const Register kernels[] = {
    {"window.cut", 1, 1, cut<1>},
    {"window.cut_vec4", 1, 1, cut<4>},
    {"window.cut_integer", 1, 1, cut<1>},
    {"window.embed", 1, 1, embed<1, float>},
    {"window.embed_vec4", 1, 1, embed<4, float>},
    {"window.embed_integer", 1, 1, embed<1, int32_t>},
};

}  // namespace lacuna::cuda::window
