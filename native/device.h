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

/** Types of elements, by the numbers that src/backends/native/ gives them. */
enum class Type : uint8_t { f32, i32, u32, bf16 };
constexpr size_t bytes_of(Type type) { return type == Type::bf16 ? 2 : 4; }

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

constexpr size_t MOST_BUFFERS = 16, MOST_PARAMS = 256;

/** Throws where a call does not have the buffers and parameters that the kernel's entry in a registry states. */
template <class Entry>
void check_call(const Entry& entry, const View* views, size_t count, size_t params_bytes) {
  const std::string name = entry.name;
  if (count != entry.inputs + entry.outputs || count > MOST_BUFFERS) {
    throw DeviceException("argument", name + " takes " + std::to_string(entry.inputs) + " inputs and " +
                                          std::to_string(entry.outputs) + " outputs, not " + std::to_string(count) +
                                          " buffers");
  }
  if (params_bytes != entry.params_bytes || params_bytes > MOST_PARAMS) {
    throw DeviceException("argument", name + " takes " + std::to_string(entry.params_bytes) +
                                          " bytes of parameters, not " + std::to_string(params_bytes));
  }
  for (size_t i = 0; i < count; i++) {
    if (views[i].offset % 2 != 0 || views[i].size % 2 != 0) {
      throw DeviceException("range", name + ": views are made of whole elements");
    }
  }
}

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
  virtual uint64_t alloc(size_t bytes, Type type) = 0;
  virtual void free(uint64_t handle) = 0;
  virtual void write(const View& target, const void* data) = 0;
  virtual void copy(const View& source, const View& target) = 0;
  /** The number by which `run` knows a kernel; -1 where there is none of that name. */
  virtual int kernel(const std::string& name) const = 0;
  virtual std::vector<KernelInfo> kernels() const = 0;
  virtual void run(int kernel, const View* views, size_t count, const void* params, size_t params_bytes) = 0;
  /** May products of f32 be rounded to tf32 on the way in? Of the kernels that are run from now on. */
  virtual void allow_tf32(bool) {}

  /**
   * From here to `end_capture` commands are kept rather than carried out. The graph holds the memory that was allocated
   * meanwhile, but not what was there before: it must outlive the graph. Reading and waiting throw "argument" meanwhile.
   */
  virtual void begin_capture() { throw DeviceException("argument", "this device does not capture"); }
  /** The number of the graph of all commands since; nothing is kept where `keep` is false. */
  virtual uint64_t end_capture(bool /*keep*/) { throw DeviceException("argument", "this device does not capture"); }
  /** Carries out the commands of a graph. `patches` gives calls of `run`, numbered from 0, other parameters from now on. */
  struct Patch {
    size_t run;
    const void* params;
    size_t params_bytes;
  };
  virtual void replay(uint64_t /*graph*/, const Patch*, size_t /*count*/) {
    throw DeviceException("argument", "this device does not capture");
  }
  virtual void free_graph(uint64_t /*graph*/) { throw DeviceException("argument", "this device does not capture"); }
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
