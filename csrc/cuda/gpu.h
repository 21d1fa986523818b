// The GPU that the host files of csrc/cuda launch kernels on.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "../host/tensors.h"
#include "tiles.h"

namespace mannkern {

// The attributes of a kernel on a device. False where the library has no code for it, neither machine code nor PTX.
template <class Kernel>
bool find_kernel(int device, Kernel* kernel, cudaFuncAttributes& attributes) {
  try {
    // cudaSetDevice would also set up the GPU that it goes back to, where this thread has not used that one yet.
    const torch::stable::accelerator::DeviceGuard guard(device);
    const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
    if (error != cudaSuccess) (void)cudaGetLastError();  // the next call would report it as its own
    return error == cudaSuccess;
  } catch (const std::exception&) {  // no such GPU
    return false;
  }
}

// The Gpu of launch.h and persistent_launch.h: it queues kernels on the current stream of a device. When it is
// destroyed, its workspaces go back to the allocator, which gives them only to later work of the same stream.
class Gpu {
 public:
  explicit Gpu(Device device) : device_(device), guard_(device.index) {
    void* stream;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device.index, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), int blocks, int threads, int64_t bytes,
              const Arguments&... arguments) {
    kernel<<<blocks, threads, bytes, stream_>>>(arguments...);
    check(cudaGetLastError(), name);
  }
  template <class Op>
  void launch_clusters(const char* name, void (*kernel)(Op), int clusters, int blocks, int threads, int64_t bytes,
                       int64_t most, const Op& op) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = blocks, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(clusters * blocks), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = size_t(bytes), config.stream = stream_;
    config.attrs = &attribute, config.numAttrs = 1;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most)), name);
    check(cudaLaunchKernelEx(&config, kernel, op), name);
  }
  // Lets blocks of a kernel have this much shared memory, and as many of them on a multiprocessor as fit its whole.
  // That is a property of the kernel, which calls of other threads share, so `most` is the same for every call.
  template <class... Parameters>
  void reserve(const char* name, void (*kernel)(Parameters...), int64_t most) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most)), name);
    const auto carveout = cudaFuncAttributePreferredSharedMemoryCarveout;
    check(cudaFuncSetAttribute(kernel, carveout, cudaSharedmemCarveoutMaxShared), name);
  }
  // The blocks of a kernel that the GPU runs side by side.
  template <class... Parameters>
  int64_t at_once(const char* name, void (*kernel)(Parameters...), int threads, int64_t bytes) {
    int blocks, multiprocessors;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, size_t(bytes)), name);
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device_.index), name);
    return int64_t(std::max(blocks, 1)) * multiprocessors;
  }
  template <class T>
  void copy(const char* name, T* to, const T* from, int64_t count) {
    const cudaError_t error = cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToDevice, stream_);
    STD_TORCH_CHECK(error == cudaSuccess, "mannkern: ", name, " cannot be copied: ", cudaGetErrorString(error));
  }
  template <class T>
  T* workspace(int64_t count) {
    held_.push_back(Call<T>::allocate({count}, Call<T>::kType, device_));
    return data<T>(held_.back());
  }

 private:
  static void check(cudaError_t error, const char* name) {
    if (error != cudaSuccess) (void)cudaGetLastError();  // else the next good launch would report it too
    STD_TORCH_CHECK(error == cudaSuccess, "mannkern: the CUDA kernel of ", name,
                    " cannot be launched: ", cudaGetErrorString(error));
  }
  const Device device_;
  const torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
  std::vector<Tensor> held_;
};

}  // namespace mannkern
