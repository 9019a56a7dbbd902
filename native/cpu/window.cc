// A box inside a larger tensor, [outer, three axes]: `cut` copies it out, `embed` puts it into a constant. A range owns
// some rows of the last axis of what is written; elements are bits of four bytes, whatever their type.
#include <cstring>

#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::window {

struct Box {
  uint32_t outer, part0, part1, part2, whole0, whole1, whole2, start0, start1, start2;
};
template <class T>
struct EmbedParams {
  Box box;
  T value;
};

/** part[o, i, j, k] = whole[o, start0 + i, start1 + j, start2 + k]; the last axis counts units of UNIT elements. */
template <size_t UNIT>
void cut(const Box& p, const Args& a) {
  const float* x = a.in(0);
  float* y = a.out(0);
  const size_t width = p.part2 * UNIT, whole = p.whole2 * UNIT, start = p.start2 * UNIT;
  parallel_for(size_t{p.outer} * p.part0 * p.part1, 32768 / (width + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      const size_t j = row % p.part1, i = row / p.part1 % p.part0, o = row / p.part1 / p.part0;
      const size_t from = (o * p.whole0 + i + p.start0) * p.whole1 + j + p.start1;
      std::memcpy(y + row * width, x + from * whole + start, width * sizeof(float));
    }
  });
}

template <class T, size_t UNIT>
void embed(const EmbedParams<T>& params, const Args& a) {
  const Box& p = params.box;
  const T* x = a.in<T>(0);
  T* y = a.out<T>(0);
  const size_t width = p.part2 * UNIT, whole = p.whole2 * UNIT, start = p.start2 * UNIT;
  const auto fill = [&](T* to, size_t count) {
    for (size_t k = 0; k < count; k++) to[k] = params.value;
  };
  parallel_for(size_t{p.outer} * p.whole0 * p.whole1, 32768 / (whole + 1) + 1, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
      // Before the box these wrap round to numbers larger than any size.
      const size_t j = row % p.whole1 - p.start1, i = row / p.whole1 % p.whole0 - p.start0;
      const size_t o = row / p.whole1 / p.whole0;
      T* to = y + row * whole;
      if (i >= p.part0 || j >= p.part1) {
        fill(to, whole);
        continue;
      }
      fill(to, start);
      std::memcpy(to + start, x + ((o * p.part0 + i) * p.part1 + j) * width, width * sizeof(T));
      fill(to + start + width, whole - start - width);
    }
  });
}

const Register kernels[] = {
    {"window.cut", 1, 1, cut<1>},
    {"window.cut_vec4", 1, 1, cut<4>},
    {"window.cut_integer", 1, 1, cut<1>},
    {"window.embed", 1, 1, embed<float, 1>},
    {"window.embed_vec4", 1, 1, embed<float, 4>},
    {"window.embed_integer", 1, 1, embed<int32_t, 1>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::window
