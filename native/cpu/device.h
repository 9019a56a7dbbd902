#pragma once
#include <memory>
#include <string>

#include "../device.h"

namespace lacuna::cpu {

struct Options {
  unsigned threads = 0;  // 0: as many as the machine runs at once
  bool guard = false;    // zones round every allocation are checked, fresh memory is NaN
  std::string isa;       // the widest instruction set to use, of those that name_of gives; empty: the best
};

std::unique_ptr<Device> open(const Options& options);

}  // namespace lacuna::cpu
