// The threads of a CPU device. Work is split into fixed ranges: which thread takes which is left to chance, what a
// range computes is not, so results have the same bits for any number of threads.
#pragma once
#include <cstddef>
#include <memory>

namespace lacuna::cpu {

class Threads {
 public:
  /** `count` threads work on a call, the caller among them. */
  explicit Threads(unsigned count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  unsigned count() const;
  using Range = void (*)(void* context, size_t begin, size_t end);
  /** Calls `range` for [0, grain), [grain, 2 grain), … up to `count`; returns when all have run. Not reentrant. */
  void split(size_t count, size_t grain, Range range, void* context);

  /** Those that kernels on this thread use; a range that splits again runs it alone, in order. */
  static Threads*& current();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/** Memory for the length of one kernel call, 64-byte aligned, not cleared; kept by the thread for the next call. */
void* acquire_scratch(size_t bytes);
void release_scratch(void* memory);

}  // namespace lacuna::cpu
