// y[o, offset + i] = x[o, i] for i < run, where a row of y holds `stride` elements. A thread owns a unit of x: 16
// bytes, or less where rows do not fit that. `_vec4` counts vectors of four.
#include "divide.h"
#include "units.h"

namespace lacuna::cuda::concat {

struct Params {
  uint32_t outer, run, stride, offset;
};

template <class U>
struct Copy {
  const U* x;
  U* y;
  Divisor run;
  size_t stride;
  __device__ void operator()(size_t index) const {
    uint32_t i;
    const size_t o = run.divide(static_cast<uint32_t>(index), i);
    y[o * stride + i] = x[index];
  }
};

template <size_t WIDTH>
void copy_part(const Params& p, const Args& a) {
  const size_t element = bytes_of(a.out_type(0)) * WIDTH;
  const size_t run = p.run * element, stride = p.stride * element, offset = p.offset * element;  // in bytes
  if (p.outer * run == 0) return;
  in_units(run | stride | offset | bits_of(a.in<void>(0), a.out<void>(0)), [&](auto unit) {
    using U = decltype(unit);
    const size_t units = run / sizeof(U);
    U* y = a.out<U>(0) + offset / sizeof(U);
    each(a, p.outer * units, Copy<U>{a.in<U>(0), y, Divisor(static_cast<uint32_t>(units)), stride / sizeof(U)});
  });
}

const Register kernels[] = {
    {"concat.copy_part", 1, 1, copy_part<1>},
    {"concat.copy_part_vec4", 1, 1, copy_part<4>},
    {"concat.copy_part_integer", 1, 1, copy_part<1>},
};

}  // namespace lacuna::cuda::concat
