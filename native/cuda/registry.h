// Kernels by name, and what their launchers get.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <vector>

#include "../device.h"

namespace lacuna::cuda {

/** Throws DeviceException where a call of the runtime failed: "memory" when that is why, "failed" else. */
void check(cudaError_t error, const char* what);

/** Where a launcher works. */
class Context {
 public:
  cudaStream_t stream;
  int multiprocessors;
  int capability;          // major * 10 + minor
  bool tf32;               // products of f32 may be rounded to tf32
  const char* running;     // the kernel whose launcher is at work
  /** Memory until the launcher returns, 512-byte aligned, for the launches that it has made by then; not cleared. */
  virtual void* scratch(size_t bytes) = 0;
  /** After every launch. */
  virtual void launched() = 0;

 protected:
  ~Context() = default;
};

/** Buffers, inputs first, in the order of the contract; and the context. */
struct Args {
  void* const* buffers;
  const Type* types;
  unsigned inputs;
  Context& context;

  template <class T = float>
  const T* in(unsigned i) const {
    return static_cast<const T*>(buffers[i]);
  }
  template <class T = float>
  T* out(unsigned i) const {
    return static_cast<T*>(buffers[inputs + i]);
  }
  Type in_type(unsigned i) const { return types[i]; }
  Type out_type(unsigned i) const { return types[inputs + i]; }
  template <class T = float>
  T* scratch(size_t count) const {
    return static_cast<T*>(context.scratch(count * sizeof(T)));
  }
  int multiprocessors() const { return context.multiprocessors; }

  /** Launches a kernel; `shared` bytes of dynamic shared memory, as many as the card has. Defined in kernel.h. */
  template <class... P, class... A>
  void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) const;
};

struct Entry {
  const char* name;
  unsigned inputs;
  unsigned outputs;
  size_t params_bytes;
  void (*function)();
  void (*call)(void (*function)(), const void* params, const Args& args);
};

void add_kernel(const Entry& entry);
/** Throws std::runtime_error where the build has no code for this card. */
void probe(int capability);
/** Every kernel, sorted by name. */
const std::vector<const Entry*>& all_kernels();

}  // namespace lacuna::cuda
