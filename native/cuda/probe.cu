// Is there code for the card? Asked before a device opens.
#include <stdexcept>
#include <string>

#include "kernel.h"

namespace lacuna::cuda {

__global__ void probe_kernel() {}

void probe(int capability) {
#if !defined(LACUNA_HOST)
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe_kernel);
  cudaGetLastError();
  if (error == cudaSuccess) return;
  if (error != cudaErrorNoKernelImageForDevice && error != cudaErrorInvalidDeviceFunction) {
    throw std::runtime_error(cudaGetErrorString(error));
  }
  throw std::runtime_error("this build has no code for a card of compute capability " + std::to_string(capability / 10) +
                           "." + std::to_string(capability % 10));
#else
  (void)capability;
#endif
}

}  // namespace lacuna::cuda
