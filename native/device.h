// What a native device is: memory, and named kernels that run in the order in which they were given.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace lacuna {

/** What addon.cc turns into a JavaScript error; `code` is one of those that src/backends/native/ knows. */
struct DeviceException : std::runtime_error {
  DeviceException(const char* code, const std::string& what) : std::runtime_error(what), code(code) {}
  const char* code;
};

/** Part of an allocation, in bytes. */
struct View {
  uint64_t handle;
  size_t offset;
  size_t size;
};

/** What a kernel takes, for the test that compares it with the contract. */
struct KernelInfo {
  std::string name;
  unsigned inputs;
  unsigned outputs;
  size_t params_bytes;
};

struct Stats {
  size_t live = 0;        // allocations
  size_t bytes = 0;       // in them
  size_t peak_bytes = 0;  // the most there were
  size_t reserved = 0;    // taken from the system, in use or kept for the next allocation
  uint64_t dispatches = 0;
};

/**
 * Commands (write, copy, run) return at once and take effect in order. All is called on one thread, but for what `read`
 * and `sync` return, which may wait on any. Throws DeviceException: "handle" for memory
 * that is not this device's or was freed, "range" for a part that is not inside it, "kernel", "argument", "memory",
 * "failed" where a command given before could not be carried out.
 */
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string description() const = 0;
  virtual uint64_t alloc(size_t bytes) = 0;
  virtual void free(uint64_t handle) = 0;
  virtual void write(const View& target, const void* data) = 0;
  virtual void copy(const View& source, const View& target) = 0;
  /** The number by which `run` knows a kernel; -1 where there is none of that name. */
  virtual int kernel(const std::string& name) const = 0;
  virtual std::vector<KernelInfo> kernels() const = 0;
  virtual void run(int kernel, const View* views, size_t count, const void* params, size_t params_bytes) = 0;
  /**
   * Checks the view and keeps its place in the order of commands; `wait` then blocks until that place is reached and
   * has copied the bytes. The two halves are apart so that only the second leaves the thread.
   */
  struct Pending {
    virtual ~Pending() = default;
    virtual void wait() = 0;
  };
  /** Throws where the view is not inside live memory of this device. */
  virtual void check(const View& view) const = 0;
  virtual Pending* read(const View& source, void* data) = 0;
  /** Throws what went wrong since the last one. */
  virtual Pending* sync() = 0;
  virtual Stats stats() const = 0;
};

}  // namespace lacuna
