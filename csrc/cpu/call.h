// What the operations on a CPU share: tensors of a call, the kernels of this machine, threads over the batch.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <vector>

#include "../lrua.h"

namespace mannkern {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

extern const Isa* chosen;  // the instruction set in use

template <class T>
const Kernels<T>& kernels() {
  if constexpr (sizeof(T) == 4) return chosen->f32;
  else return chosen->f64;
}

// The tensors of one call: checked, made contiguous, and kept alive until it ends.
template <class T>
class Call {
 public:
  using Sizes = std::initializer_list<int64_t>;
  static constexpr ScalarType kType = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;

  const T* in(const Tensor& t, const char* name, Sizes sizes) {
    return static_cast<const T*>(hold(t, name, sizes, kType));
  }
  const T* in(const Maybe& t, const char* name, Sizes sizes) { return t ? in(*t, name, sizes) : nullptr; }
  // Slots below N, of every episode. A slot out of range would be written outside the memory.
  const int64_t* slots(const Tensor& t, const char* name, Sizes sizes, int64_t N) {
    const auto* found = static_cast<const int64_t*>(hold(t, name, sizes, ScalarType::Long));
    STD_TORCH_CHECK(std::all_of(found, found + t.numel(), [N](int64_t slot) { return 0 <= slot && slot < N; }),
                    "mannkern: ", name, " has a slot out of range");
    return found;
  }
  Tensor out(Sizes sizes) { return allocate(sizes, kType); }
  static Tensor allocate(Sizes sizes, ScalarType type) {
    int64_t strides[4], stride = 1;
    for (size_t d = sizes.size(); d-- > 0; stride *= std::max<int64_t>(sizes.begin()[d], 1)) strides[d] = stride;
    AtenTensorHandle handle;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides, int32_t(to_code(type)),
                                                    aoti_torch_device_type_cpu(), 0, &handle));
    return Tensor(handle);
  }

 private:
  static int32_t to_code(ScalarType type) {
    if (type == ScalarType::Long) return aoti_torch_dtype_int64();
    return type == ScalarType::Float ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64();
  }
  const void* hold(const Tensor& t, const char* name, Sizes sizes, ScalarType type) {
    const auto have = t.sizes();
    STD_TORCH_CHECK(t.scalar_type() == type && have.size() == sizes.size() &&
                        std::equal(sizes.begin(), sizes.end(), have.begin()),
                    "mannkern: ", name, " has the wrong dtype or shape");
    held_.push_back(t.is_contiguous() ? t : torch::stable::contiguous(t));
    return held_.back().const_data_ptr();
  }
  std::vector<Tensor> held_;
};

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}
template <class T>
T* data(const Maybe& t) {
  return t ? data<T>(*t) : nullptr;
}

// Episodes over the threads. A thread is worth waking for the work of about three standard steps.
template <class Op>
void over_batch(int64_t B, int64_t work, void (*kernel)(const Op&, int64_t, int64_t), const Op& op) {
  const int64_t grain = 65536 / std::max<int64_t>(work, 1) + 1;
  torch::stable::parallel_for(0, B, grain, [&](int64_t begin, int64_t end) { kernel(op, begin, end); });
}

inline Shape shape_of(const Tensor& memory, const Tensor& heads) {
  STD_TORCH_CHECK(memory.dim() == 3 && heads.dim() == 3, "mannkern: memory and key need three dimensions");
  STD_TORCH_CHECK(memory.size(1) > 0 && memory.size(2) > 0 && heads.size(1) > 0, "mannkern: only B may be 0");
  return {memory.size(1), memory.size(2), heads.size(1)};
}

template <class F>
auto by_dtype(const Tensor& t, F f) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "mannkern: needs float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace mannkern
