// Kernels by name, one table for each instruction set that the op files were compiled for.
#pragma once
#include <cstddef>
#include <string>

namespace lacuna::cpu {

/** Inputs, then outputs, in the order of the contract. Sizes in elements of four bytes. */
struct Args {
  void* const* buffers;
  const size_t* sizes;
  unsigned inputs;

  template <class T = float>
  const T* in(unsigned i) const {
    return static_cast<const T*>(buffers[i]);
  }
  template <class T = float>
  T* out(unsigned i) const {
    return static_cast<T*>(buffers[inputs + i]);
  }
  size_t in_size(unsigned i) const { return sizes[i]; }
  size_t out_size(unsigned i) const { return sizes[inputs + i]; }
};

struct Entry {
  const char* name;
  unsigned inputs;
  unsigned outputs;
  size_t params_bytes;
  void (*function)();
  void (*call)(void (*function)(), const void* params, const Args& args);
};

enum class Isa { portable, avx2, avx512 };

void add_kernel(Isa isa, const Entry& entry);
/** The widest set that was compiled in and that this processor has. `limit` (for tests) names a narrower one. */
Isa best_isa(const char* limit);
const char* name_of(Isa isa);
/** Null where there is no such kernel. */
const Entry* find_kernel(Isa isa, const std::string& name);
/** Every kernel of the set, sorted by name. */
const Entry* const* all_kernels(Isa isa, size_t& count);

}  // namespace lacuna::cpu
