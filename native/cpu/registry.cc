#include "registry.h"

#include <array>
#include <map>
#include <stdexcept>
#include <vector>

namespace lacuna::cpu {
namespace {

constexpr int ISAS = 3;
using Table = std::map<std::string, Entry>;

/** Filled by static initialisers of the op files, in any order: so it is made on first use. */
Table& table(Isa isa) {
  static Table tables[ISAS];
  return tables[static_cast<int>(isa)];
}

bool runs_here(Isa isa) {
  if (table(isa).empty()) return false;
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  }
#endif
  return isa == Isa::portable;
}

}  // namespace

void add_kernel(Isa isa, const Entry& entry) { table(isa).emplace(entry.name, entry); }

const char* name_of(Isa isa) {
  static const char* const names[ISAS] = {"portable", "avx2", "avx512"};
  return names[static_cast<int>(isa)];
}

Isa best_isa(const std::string& limit) {
  int widest = ISAS - 1;
  if (!limit.empty()) {
    while (widest >= 0 && limit != name_of(static_cast<Isa>(widest))) widest--;
    if (widest < 0) throw std::invalid_argument("there is no instruction set \"" + limit + "\"");
  }
  for (int i = widest; i > 0; i--) {
    if (runs_here(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::portable;
}

const Entry* const* all_kernels(Isa isa, size_t& count) {
  static const std::array<std::vector<const Entry*>, ISAS> lists = [] {
    std::array<std::vector<const Entry*>, ISAS> made;
    for (int i = 0; i < ISAS; i++) {
      for (const auto& [name, entry] : table(static_cast<Isa>(i))) made[i].push_back(&entry);
    }
    return made;
  }();
  const auto& list = lists[static_cast<int>(isa)];
  count = list.size();
  return list.data();
}

}  // namespace lacuna::cpu
