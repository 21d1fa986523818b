// A plain C interface to the persistent kernels, which persistent_trial.py compiles and loads.

#include <cuda_runtime.h>

#include <cstring>

#include "../csrc/cuda/persistent_launch.h"

namespace {

struct Gpu {
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;
  int active_clusters = -1;
  bool only_ask = false;

  template <class Op>
  void launch_clusters(const char*, void (*kernel)(Op), int clusters, int blocks, int threads, int64_t bytes,
                       const Op& op) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    if (error != cudaSuccess) return;
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = blocks, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(clusters * blocks), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = size_t(bytes), config.stream = stream;
    config.attrs = &attribute, config.numAttrs = 1;
    if (only_ask) error = cudaOccupancyMaxActiveClusters(&active_clusters, kernel, &config);
    else error = cudaLaunchKernelEx(&config, kernel, op);
  }
};

template <class Op>
const char* call(const int64_t* fields, Gpu gpu, int64_t* clusters) {
  Op op;
  std::memcpy(&op, fields, sizeof op);
  if (const char* reason = mannkern::persistent_why_not(op.sizes)) return reason;
  mannkern::run_persistent(gpu, op);
  if (clusters) *clusters = gpu.active_clusters;
  return gpu.error == cudaSuccess ? nullptr : cudaGetErrorString(gpu.error);
}

}  // namespace

// Each returns null, or the text of an error.
extern "C" const char* persistent_forward(const int64_t* fields, void* stream) {
  return call<mannkern::MANNPersistent>(fields, Gpu{static_cast<cudaStream_t>(stream)}, nullptr);
}
extern "C" const char* persistent_backward(const int64_t* fields, void* stream) {
  return call<mannkern::MANNPersistentBackward>(fields, Gpu{static_cast<cudaStream_t>(stream)}, nullptr);
}

// Shared memory of a block in bytes, and clusters that the GPU runs at once.
extern "C" const char* persistent_occupancy(const int64_t* fields, int backward, int64_t* bytes, int64_t* clusters) {
  mannkern::PersistentShape sizes;
  std::memcpy(&sizes, fields, sizeof sizes);
  Gpu gpu{nullptr};
  gpu.only_ask = true;
  *bytes = backward ? mannkern::PersistentBackwardLayout(sizes).bytes() : mannkern::PersistentLayout(sizes).bytes();
  return backward ? call<mannkern::MANNPersistentBackward>(fields, gpu, clusters)
                  : call<mannkern::MANNPersistent>(fields, gpu, clusters);
}

// Copies the cycles of the parts of a step, and sets them to zero.
extern "C" void persistent_phases(long long* cycles) {
  const long long zeros[16] = {};
  cudaMemcpyFromSymbol(cycles, mannkern::phase_cycles, sizeof zeros);
  cudaMemcpyToSymbol(mannkern::phase_cycles, zeros, sizeof zeros);
}
