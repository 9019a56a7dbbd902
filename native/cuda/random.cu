// y[4 b + j] = word j of Philox block counter + b, or that word as a multiple of 2^-24 in [0, 1). A thread makes a
// block, 16 bytes of y.
#include "philox.h"

namespace lacuna::cuda::random {

struct Word {
  using Type = uint32_t;
  static __device__ __forceinline__ uint32_t of(uint32_t word) { return word; }
};
struct Uniform {
  using Type = float;
  static __device__ __forceinline__ float of(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
};

template <class As>
struct Draw {
  using T = typename As::Type;
  philox::Stream stream;
  T* y;
  __device__ void operator()(size_t block) const {
    uint32_t words[4];
    stream.words(block, words);
    const size_t first = 4 * block;
    if (first + 4 <= stream.count) {
      Vec<T, 4> all;
#pragma unroll
      for (int k = 0; k < 4; k++) all.v[k] = As::of(words[k]);
      *reinterpret_cast<Vec<T, 4>*>(y + first) = all;
      return;
    }
#pragma unroll
    for (int k = 0; k < 3; k++) {
      if (first + k < stream.count) y[first + k] = As::of(words[k]);
    }
  }
};

template <class As>
void draw(const philox::Stream& p, const Args& a) {
  each(a, (static_cast<size_t>(p.count) + 3) / 4, Draw<As>{p, a.out<typename As::Type>(0)});
}

const Register kernels[] = {
    {"random.draw_bits", 0, 1, draw<Word>},
    {"random.draw_uniform", 0, 1, draw<Uniform>},
};

}  // namespace lacuna::cuda::random
