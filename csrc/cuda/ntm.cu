// The operations of the NTM on a GPU, queued on the current stream of the tensors' device.

#include "../host/ntm_ops.h"
#include "gpu.h"
#include "launch.h"

namespace mannkern {
namespace {

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

// Whether the library has kernels for a device, whose GPU may be another than those that it was compiled for.
extern "C" __attribute__((visibility("default"))) int mannkern_has_kernels(int device) {
  cudaFuncAttributes kernel = {};
  return mannkern::find_kernel(device, mannkern::write_kernel<float>, kernel);
}
