// The GPU of a call: it launches kernels on the current stream of the tensors' device.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "../host/tensors.h"
#include "tiles.h"

namespace mannkern {

// The Gpu of launch.h. When it is destroyed, its workspaces go back to the allocator, which gives them only to later
// work of the same stream.
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
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "mannkern: the CUDA kernel of ", name,
                    " cannot be launched: ", cudaGetErrorString(error));
  }
  // Lets blocks of a kernel have this much shared memory, and as many of them on a multiprocessor as fit its whole.
  template <class... Parameters>
  void reserve(const char* name, void (*kernel)(Parameters...), int64_t bytes) {
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    if (error == cudaSuccess)
      error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                   cudaSharedmemCarveoutMaxShared);
    STD_TORCH_CHECK(error == cudaSuccess, "mannkern: the CUDA kernel of ", name,
                    " cannot have its shared memory: ", cudaGetErrorString(error));
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
  const Device device_;
  const torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
  std::vector<Tensor> held_;
};

}  // namespace mannkern
