// y = exp(x - max) / sum over the classes of a row, its logarithm, and their gradients
//   dx = y (dy - sum y dy)   and   dx = dy - exp(y) sum dy
// A thread or a warp has a row (class_rows.h): every byte moves once.
#include "class_rows.h"

namespace lacuna::cuda::softmax {

struct Params {
  uint32_t rows, classes;
};

struct Forward : RowMap {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = true;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t, Row& row) {
    float largest, total;
    exponentials(row, largest, total);
    const float scale = 1.0f / total;
    row.each([&](uint32_t, float& e) { e *= scale; });
  }
};

struct Backward : RowMap {
  static constexpr int INPUTS = 2;
  static constexpr float NEUTRAL = 0;
  static constexpr bool WRITES = true;
  /**
   * All dy less that of the likeliest class: as y adds up to 1 nothing changes, but where one y is near 1 its own dy - dot
   * is a sum over the others and keeps its digits. Of equally likely ones that with the largest dy, on every lane.
   */
  template <class Row>
  __device__ __forceinline__ void operator()(size_t, Row& row) {
    float top = -INFINITY, origin = -INFINITY;
    row.each([&](uint32_t, float, float y) { top = max(top, y); });
    top = row.largest(top);
    row.each([&](uint32_t, float dy, float y) {
      if (y == top) origin = max(origin, dy);
    });
    origin = row.largest(origin);
    float dot = 0;
    row.each([&](uint32_t, float dy, float y) { dot += (dy - origin) * y; });
    dot = row.sum(dot);
    row.each([&](uint32_t, float& dy, float y) { dy = y * ((dy - origin) - dot); });
  }
};

struct LogForward : RowMap {
  static constexpr int INPUTS = 1;
  static constexpr float NEUTRAL = -INFINITY;
  static constexpr bool WRITES = true;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t, Row& row) {
    const LogSum sum = log_sum(row);
    row.each([&](uint32_t, float& z) { z = (z - sum.largest) - sum.log; });
  }
};

struct LogBackward : RowMap {
  static constexpr int INPUTS = 2;
  static constexpr float NEUTRAL = 0;
  static constexpr bool WRITES = true;
  template <class Row>
  __device__ __forceinline__ void operator()(size_t, Row& row) {
    float total = 0;
    row.each([&](uint32_t, float dy, float) { total += dy; });
    total = row.sum(total);
    row.each([&](uint32_t, float& dy, float y) { dy -= expf(y) * total; });
  }
};

template <class F>
void run(const Params& p, const Args& a) {
  if (p.rows == 0) return;
  with_type(a.in_type(0), [&](auto t) {
    using T = decltype(t);
    each_row<T>(a, p.rows, p.classes, {{a.in<T>(0), F::INPUTS > 1 ? a.in<T>(1) : nullptr}, a.out<T>(0)}, F{});
  });
}

const Register kernels[] = {
    {"softmax.forward", 1, 1, run<Forward>},
    {"softmax.backward", 2, 1, run<Backward>},
    {"softmax.log_forward", 1, 1, run<LogForward>},
    {"softmax.log_backward", 2, 1, run<LogBackward>},
};

}  // namespace lacuna::cuda::softmax
