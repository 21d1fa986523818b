// The operations lrua_step and lrua_step_backward on a GPU, queued on the current stream of the tensors' device.

#include "../host/lrua_step.h"
#include "lrua_inputs.h"

namespace mannkern {
namespace {

struct Cuda {
  template <class T>
  static void check(const Tensor& memory, const Shape& s, T) {
    check_taken(memory, s, Call<T>::kType);
  }
  template <class T>
  static Tensor allocate_memory(Call<T>& call, Sizes sizes) {
    return call.out(sizes);
  }
  template <class T, class MaybeTensor>
  static const T* memory(Call<T>& call, const MaybeTensor& t, const char* name, Sizes sizes) {
    return aligned(call, t, name, sizes);
  }
  // The kernels compare slots with their own numbers, so that any number is safe.
  template <class T>
  static const int64_t* slots(Call<T>& call, const Tensor& t, const char* name, Sizes sizes, int64_t) {
    return static_cast<const int64_t*>(call.hold(t, name, sizes, ScalarType::Long).const_data_ptr());
  }
  template <template <class> class Op>
  static void run(Device device, int64_t B, int64_t, const Op<float>& op) {
    Gpu gpu(device);
    run_step(gpu, B, op);
  }
  template <template <class> class Op>
  static void run(Device, int64_t, int64_t, const Op<double>&) {}  // check() has refused it
};

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CUDA, m) { mannkern::LRUAStepOperations<mannkern::Cuda>::add_to(m); }
