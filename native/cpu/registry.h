// Kernels by name, one table for each instruction set that the op files were compiled for.
#pragma once
#include <cstddef>
#include <string>

namespace lacuna::cpu {

/** Inputs, then outputs, in the order of the contract. */
struct Args {
  void* const* buffers;
  unsigned inputs;

  template <class T = float>
  const T* in(unsigned i) const {
    return static_cast<const T*>(buffers[i]);
  }
  template <class T = float>
  T* out(unsigned i) const {
    return static_cast<T*>(buffers[inputs + i]);
  }
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
/**
 * The widest set that was compiled in and that this processor has, no wider than what `limit` names, unless that is empty.
 * Throws std::invalid_argument where it names none.
 */
Isa best_isa(const std::string& limit);
const char* name_of(Isa isa);
/** Every kernel of the set, sorted by name. */
const Entry* const* all_kernels(Isa isa, size_t& count);

}  // namespace lacuna::cpu
