#include "registry.h"

#include <map>

namespace lacuna::cuda {
namespace {

/** Filled by static initialisers of the op files, in any order: so it is made on first use. */
std::map<std::string, Entry>& table() {
  static std::map<std::string, Entry> entries;
  return entries;
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const bool memory = error == cudaErrorMemoryAllocation;
  throw DeviceException(memory ? "memory" : "failed", std::string(what) + ": " + cudaGetErrorString(error));
}

void add_kernel(const Entry& entry) { table().emplace(entry.name, entry); }

const std::vector<const Entry*>& all_kernels() {
  static const std::vector<const Entry*> all = [] {
    std::vector<const Entry*> made;
    for (const auto& [name, entry] : table()) made.push_back(&entry);
    return made;
  }();
  return all;
}

}  // namespace lacuna::cuda
