#pragma once
#include <memory>

#include "../device.h"

namespace lacuna::cuda {

struct Options {
  bool guard = false;    // zones round every allocation are checked, fresh memory is NaN
  bool reverse = false;  // on the host device threads take their turns backwards
  size_t memory = 0;     // on the host device no more bytes than these; 0: no limit
  int capability = 0;    // on the host device that of an older card, major * 10 + minor; 0: its own
};

/** Throws std::runtime_error with the reason where there is no card that this build can use. */
std::unique_ptr<Device> open(const Options& options);

}  // namespace lacuna::cuda
