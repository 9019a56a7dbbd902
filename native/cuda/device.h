#pragma once
#include <memory>

#include "../device.h"

namespace lacuna::cuda {

struct Options {
  bool guard = false;    // zones round every allocation are checked, fresh memory is NaN
  bool reverse = false;  // on the host device threads take their turns backwards
  size_t memory = 0;     // on the host device no more bytes than these; 0: no limit
};

/** Throws std::runtime_error with the reason where there is no card that this build can use. */
std::unique_ptr<Device> open(const Options& options);

}  // namespace lacuna::cuda
