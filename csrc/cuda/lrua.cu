// The operations lrua_step and lrua_step_backward on a GPU, queued on the current stream of the tensors' device.

#include "../host/lrua_step.h"
#include "gpu.h"
#include "lrua_launch.h"

namespace mannkern {
namespace {

struct Cuda {
  template <class T>
  static void check(const Tensor& memory, const Shape& s, T) {
    if (sizeof(T) != 4) refuse("memory", "float64", "float32");
    if (!step_takes(s))
      refuse("memory", shape_text(memory) + " and R = " + std::to_string(s.R),
             "R up to 4, N up to 256, W up to 128 and a multiple of 4, N * W up to 10240 with N a multiple of 32");
  }
  template <class T>
  static Tensor allocate_memory(Call<T>& call, Sizes sizes) {
    return call.out(sizes);
  }
  // The kernels copy four numbers at once, so that a view which begins anywhere is copied first.
  template <class T, class MaybeTensor>
  static const T* memory(Call<T>& call, const MaybeTensor& t, const char* name, Sizes sizes) {
    const T* numbers = call.in(t, name, sizes);
    if (reinterpret_cast<uintptr_t>(numbers) % 16 == 0) return numbers;
    T* aligned = call.scratch(sizes);
    int64_t count = 1;
    for (const int64_t size : sizes) count *= size;
    Gpu(call.device()).copy(name, aligned, numbers, count);
    return aligned;
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
