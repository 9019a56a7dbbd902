// y = exp(x - max) / sum over the classes of a row, its logarithm, and their gradients
//   dx = y (dy - sum y dy)   and   dx = dy - exp(y) sum dy
// A range owns whole tiles of LANES rows, each class a vector over the rows (tile.h): rows are short and many.
#include "tile.h"

namespace lacuna::cpu::LACUNA_ISA::softmax {

struct Params {
  uint32_t rows, classes;
};

/** Calls f(tile, other) with one or two inputs in tiles, and writes what it leaves in `tile` to y. */
template <class F>
void by_tile(const Params& p, const float* x, const float* second, float* y, const F& f) {
  const size_t classes = p.classes;
  each_tile(x, p.rows, classes, 2, [&](size_t row, size_t count, float* tile) {
    float* other = tile + classes * LANES;
    if (second) load_tile(second + row * classes, classes, count, other);
    f(tile, other);
    store_tile(y + row * classes, classes, count, tile);
  });
}

void forward(const Params& p, const Args& a) {
  const size_t n = p.classes * LANES;
  by_tile(p, a.in(0), nullptr, a.out(0), [n](float* x, float*) {
    const Vec largest = largest_of(x, n / LANES);
    Vec total = splat(0.0f);
    for (size_t i = 0; i < n; i += LANES) {
      const Vec e = exp(load(x + i) - largest);
      store(x + i, e);
      total += e;
    }
    const Vec scale = splat(1.0f) / total;
    for (size_t i = 0; i < n; i += LANES) store(x + i, load(x + i) * scale);
  });
}

void backward(const Params& p, const Args& a) {
  const size_t n = p.classes * LANES;
  by_tile(p, a.in(0), a.in(1), a.out(0), [n](float* dy, float* y) {
    // All dy less that of the likeliest class: as y adds up to 1 nothing changes, but where one y is near 1 its own
    // dy - dot is a sum over the others and keeps its digits.
    Vec top = load(y), shift = load(dy);
    for (size_t i = LANES; i < n; i += LANES) {
      const Mask above = load(y + i) > top;
      top = select(above, load(y + i), top);
      shift = select(above, load(dy + i), shift);
    }
    Vec dot = splat(0.0f);
    for (size_t i = 0; i < n; i += LANES) dot = fma(load(dy + i) - shift, load(y + i), dot);
    for (size_t i = 0; i < n; i += LANES) store(dy + i, load(y + i) * ((load(dy + i) - shift) - dot));
  });
}

void log_forward(const Params& p, const Args& a) {
  const size_t n = p.classes * LANES;
  by_tile(p, a.in(0), nullptr, a.out(0), [n](float* x, float*) {
    const LogSum sum = log_sum(x, n / LANES);
    for (size_t i = 0; i < n; i += LANES) store(x + i, (load(x + i) - sum.largest) - sum.log);
  });
}

void log_backward(const Params& p, const Args& a) {
  const size_t n = p.classes * LANES;
  by_tile(p, a.in(0), a.in(1), a.out(0), [n](float* dy, float* y) {
    Vec total = splat(0.0f);
    for (size_t i = 0; i < n; i += LANES) total += load(dy + i);
    for (size_t i = 0; i < n; i += LANES) store(dy + i, load(dy + i) - exp(load(y + i)) * total);
  });
}

const Register kernels[] = {
    {"softmax.forward", 1, 1, forward},
    {"softmax.backward", 2, 1, backward},
    {"softmax.log_forward", 1, 1, log_forward},
    {"softmax.log_backward", 2, 1, log_backward},
};

}  // namespace lacuna::cpu::LACUNA_ISA::softmax
