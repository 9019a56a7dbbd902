// y[i] = word i of the stream >= threshold ? x[i] factor : 0; word 4 b + j is word j of Philox block counter + b. The
// mask is made where it is used and never stored. A thread owns 16 bytes of x: one block of four words, or two of bf16.
#include "philox.h"

namespace lacuna::cuda::dropout {

struct Params {
  philox::Stream stream;
  uint32_t threshold;
  float factor;
};

template <class T>
struct Apply {
  static constexpr int N = WIDE<T>;
  Params p;
  const T* x;
  T* y;
  __device__ __forceinline__ float kept(float value, uint32_t word) const {
    return word >= p.threshold ? value * p.factor : 0.0f;
  }
  __device__ void operator()(size_t piece) const {
    const size_t first = piece * N, count = p.stream.count;
    uint32_t words[N / 4][4];
#pragma unroll
    for (int b = 0; b < N / 4; b++) p.stream.words(piece * (N / 4) + b, words[b]);
    if (first + N <= count) {
      float values[N];
      load_floats<N>(x + first, values);
#pragma unroll
      for (int k = 0; k < N; k++) values[k] = kept(values[k], words[k / 4][k % 4]);
      return store_floats<N>(y + first, values);
    }
#pragma unroll
    for (int k = 0; k < N - 1; k++) {
      if (first + k < count) y[first + k] = from_float<T>(kept(to_float(x[first + k]), words[k / 4][k % 4]));
    }
  }
};

void apply(const Params& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    each(a, (static_cast<size_t>(p.stream.count) + WIDE<T> - 1) / WIDE<T>, Apply<T>{p, a.in<T>(0), a.out<T>(0)});
  });
}

const Register kernels[] = {
    {"dropout.apply", 1, 1, apply},
};

}  // namespace lacuna::cuda::dropout
