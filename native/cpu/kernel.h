// What an op file needs: its arguments, ranges that run in parallel, scratch memory, and its entry in the registry.
#pragma once
#include <cstddef>
#include <cstdint>

#include "registry.h"
#include "simd.h"
#include "threads.h"

namespace lacuna::cpu::LACUNA_ISA {

/** Calls f(begin, end) for fixed ranges of `grain` items (at least 1), on all threads. */
template <class F>
void parallel_for(size_t count, size_t grain, const F& f) {
  Threads::current()->split(
      count, grain == 0 ? 1 : grain,
      [](void* context, size_t begin, size_t end) { (*static_cast<const F*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

/** Items of `elements` each that one range owns: `least` elements or more, and no more than 64 ranges in all. */
inline size_t items_in_range(size_t items, size_t elements, size_t least = 16384) {
  const size_t enough = least / elements + 1, share = (items + 63) / 64;
  return enough > share ? enough : share;
}

/** `count` elements for the length of a call; not cleared. */
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t count) : data_(static_cast<T*>(acquire_scratch(count * sizeof(T)))) {}
  ~Scratch() { release_scratch(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_;
};

/** Puts a kernel into the table of this instruction set: its contract's name and numbers of inputs and outputs. */
struct Register {
  template <class P>
  Register(const char* name, unsigned inputs, unsigned outputs, void (*function)(const P&, const Args&)) {
    add_kernel(ISA_OF_FILE, Entry{name, inputs, outputs, sizeof(P), reinterpret_cast<void (*)()>(function),
                                  [](void (*f)(), const void* params, const Args& args) {
                                    reinterpret_cast<void (*)(const P&, const Args&)>(f)(
                                        *static_cast<const P*>(params), args);
                                  }});
  }
#define LACUNA_NAME_(isa) Isa::isa
#define LACUNA_NAME(isa) LACUNA_NAME_(isa)
  static constexpr Isa ISA_OF_FILE = LACUNA_NAME(LACUNA_ISA);
#undef LACUNA_NAME
#undef LACUNA_NAME_
};

}  // namespace lacuna::cpu::LACUNA_ISA
