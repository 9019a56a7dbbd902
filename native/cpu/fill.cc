// y[i] = value
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::fill {

template <class T>
struct Params {
  uint32_t count;
  T value;
};

template <class T>
void constant(const Params<T>& p, const Args& a) {
  T* y = a.out<T>(0);
  parallel_for(p.count, 65536, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = p.value;
  });
}

const Register kernels[] = {
    {"fill.constant", 0, 1, constant<float>},
    {"fill.integer", 0, 1, constant<int32_t>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::fill
