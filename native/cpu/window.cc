// A box inside a larger tensor, seen as [outer, three axes]: cut copies it out, embed puts it into a constant. A range
// owns rows (the last axis) of the result: copies at the speed of memory. Elements are four bytes whatever their type;
// `_vec4` counts vectors of four along the last axis.
#include "rows.h"

namespace lacuna::cpu::LACUNA_ISA::window {

struct Box {
  uint32_t outer;
  uint32_t part[3], whole[3], start[3];
};
template <class T>
struct Embedding {
  Box box;
  T value;
};

template <size_t WIDTH>
void cut(const Box& p, const Args& args) {
  const uint32_t* x = args.in<uint32_t>(0);
  uint32_t* y = args.out<uint32_t>(0);
  const size_t part = p.part[2] * WIDTH, whole = p.whole[2] * WIDTH, start = p.start[2] * WIDTH;
  rows::each_piece(size_t{p.outer} * p.part[0] * p.part[1], part, [&](size_t row, size_t from, size_t to) {
    const size_t j = row % p.part[1], i = row / p.part[1] % p.part[0], o = row / p.part[1] / p.part[0];
    const size_t source = (o * p.whole[0] + i + p.start[0]) * p.whole[1] + j + p.start[1];
    rows::copy(y + row * part + from, x + source * whole + start + from, to - from);
  });
}

template <size_t WIDTH, class T>
void embed(const Embedding<T>& e, const Args& args) {
  const Box& p = e.box;
  const uint32_t* x = args.in<uint32_t>(0);
  uint32_t* y = args.out<uint32_t>(0);
  const uint32_t value = bits<uint32_t>(e.value);
  const size_t part = p.part[2] * WIDTH, whole = p.whole[2] * WIDTH, start = p.start[2] * WIDTH;
  const auto fill = [&](uint32_t* to, size_t n) {
    for (size_t k = 0; k < n; k++) to[k] = value;
  };
  rows::each_piece(size_t{p.outer} * p.whole[0] * p.whole[1], whole, [&](size_t row, size_t from, size_t to) {
    uint32_t* target = y + row * whole;
    // Below start where the row lies before the window: the difference wraps, and is then too large.
    const size_t j = row % p.whole[1] - p.start[1], i = row / p.whole[1] % p.whole[0] - p.start[0];
    const size_t o = row / p.whole[1] / p.whole[0];
    if (j >= p.part[1] || i >= p.part[0]) return fill(target + from, to - from);
    const auto inside = [&](size_t k) { return k < from ? from : k > to ? to : k; };
    const size_t first = inside(start), last = inside(start + part);
    const uint32_t* source = x + ((o * p.part[0] + i) * p.part[1] + j) * part;
    fill(target + from, first - from);
    rows::copy(target + first, source + (first - start), last - first);
    fill(target + last, to - last);
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

}  // namespace lacuna::cpu::LACUNA_ISA::window
