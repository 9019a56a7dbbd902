// y[i] = value. A thread writes 16 bytes at a time.
#include "kernel.h"

namespace lacuna::cuda::fill {

template <class V>
struct Params {
  uint32_t count;
  V value;
};

template <class T>
struct Fill {
  T* y;
  T value;
  size_t wide;  // elements that whole vectors cover
  __device__ void operator()(size_t i) const {
    if (i < wide / WIDE<T>) {
      Vec<T, WIDE<T>> all;
#pragma unroll
      for (int k = 0; k < WIDE<T>; k++) all.v[k] = value;
      *reinterpret_cast<Vec<T, WIDE<T>>*>(y + i * WIDE<T>) = all;
    } else {
      y[wide + (i - wide / WIDE<T>)] = value;
    }
  }
};

template <class T>
void fill(const Args& a, size_t count, T value) {
  T* y = a.out<T>(0);
  const size_t wide = in_vectors<WIDE<T>>(WIDE<T>, y) ? count / WIDE<T> * WIDE<T> : 0;
  each(a, wide / WIDE<T> + (count - wide), Fill<T>{y, value, wide});
}

void constant(const Params<float>& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    fill<T>(a, p.count, from_float<T>(p.value));
  });
}
void integer(const Params<int32_t>& p, const Args& a) { fill<int32_t>(a, p.count, p.value); }

const Register kernels[] = {
    {"fill.constant", 0, 1, constant},
    {"fill.integer", 0, 1, integer},
};

}  // namespace lacuna::cuda::fill
