// The operations of the NTM on a GPU, queued on the current stream of the tensors' device.

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "../host/ntm_ops.h"
#include "launch.h"

namespace mannkern {
namespace {

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

struct Cuda {
  template <class Op>
  static void run(Device device, int64_t count, int64_t, const Op& op) {
    STD_TORCH_CHECK(numbers(op) < int64_t(1) << 31, "mannkern: a memory of 2^31 numbers or more");
    Gpu gpu(device);
    mannkern::run(gpu, count, op);
  }
  template <class T>
  static int64_t numbers(const ShiftSharpen<T>& op) {
    return op.N;
  }
  template <class T>
  static int64_t numbers(const ShiftSharpenBackward<T>& op) {
    return op.N;
  }
  template <class Op>
  static int64_t numbers(const Op& op) {
    return op.shape.N * op.shape.W;
  }
};

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CUDA, m) { mannkern::NTMOperations<mannkern::Cuda>::add_to(m); }
