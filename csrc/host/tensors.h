// The tensors of an operation's call, on every device: their checks, pointers and allocation.
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

#include "../args/ntm.h"
#include "../args/shape.h"

namespace mannkern {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;

// The device of a tensor.
struct Device {
  int32_t type, index;

  static Device cpu() { return {aoti_torch_device_type_cpu(), -1}; }
  static Device of(const Tensor& t) {
    Device device;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(t.get(), &device.type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(t.get(), &device.index));
    return device;
  }
  bool operator==(const Device& other) const {
    return type == other.type && (index == other.index || type == aoti_torch_device_type_cpu());
  }
};

// The tensors of one call, all on one device. It checks them, makes them contiguous, and keeps them alive until the
// call ends.
template <class T>
class Call {
 public:
  explicit Call(Device device = Device::cpu()) : device_(device) {}
  Device device() const { return device_; }

  using Sizes = std::initializer_list<int64_t>;
  static constexpr ScalarType kType = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;

  // The numbers of an input; null where an optional one is missing.
  const T* in(const Tensor& t, const char* name, Sizes sizes) {
    return static_cast<const T*>(hold(t, name, sizes, kType));
  }
  const T* in(const Maybe& t, const char* name, Sizes sizes) { return t ? in(*t, name, sizes) : nullptr; }
  // Slots, which must be in [0, N): any other would be written outside the memory.
  const int64_t* slots(const Tensor& t, const char* name, Sizes sizes, int64_t N) {
    const auto* slots = static_cast<const int64_t*>(hold(t, name, sizes, ScalarType::Long));
    STD_TORCH_CHECK(std::all_of(slots, slots + t.numel(), [N](int64_t slot) { return 0 <= slot && slot < N; }),
                    "mannkern: ", name, " has a slot out of range");
    return slots;
  }
  Tensor out(Sizes sizes) { return allocate(sizes, kType, device_); }
  static Tensor allocate(Sizes sizes, ScalarType type, Device device = Device::cpu()) {
    int64_t strides[4], stride = 1;
    for (size_t d = sizes.size(); d-- > 0; stride *= std::max<int64_t>(sizes.begin()[d], 1)) strides[d] = stride;
    AtenTensorHandle handle;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides, int32_t(to_code(type)),
                                                    device.type, std::max(device.index, 0), &handle));
    return Tensor(handle);
  }

 private:
  static int32_t to_code(ScalarType type) {
    if (type == ScalarType::Long) return aoti_torch_dtype_int64();
    return type == ScalarType::Float ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64();
  }
  const void* hold(const Tensor& t, const char* name, Sizes sizes, ScalarType type) {
    const auto have = t.sizes();
    STD_TORCH_CHECK(
        t.scalar_type() == type && have.size() == sizes.size() && std::equal(sizes.begin(), sizes.end(), have.begin()),
        "mannkern: ", name, " has the wrong dtype or shape");
    STD_TORCH_CHECK(Device::of(t) == device_, "mannkern: ", name, " is on another device");
    held_.push_back(t.is_contiguous() ? t : torch::stable::contiguous(t));
    return held_.back().const_data_ptr();
  }
  const Device device_;
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

inline Shape shape_of(const Tensor& memory, const Tensor& heads) {
  STD_TORCH_CHECK(memory.dim() == 3 && heads.dim() == 3, "mannkern: memory and key need three dimensions");
  STD_TORCH_CHECK(memory.size(1) > 0 && memory.size(2) > 0 && heads.size(1) > 0, "mannkern: only B may be 0");
  return {memory.size(1), memory.size(2), heads.size(1)};
}

inline NTMShape ntm_shape(const Tensor& weights, const Tensor& shift) {
  STD_TORCH_CHECK(weights.dim() == 3 && shift.dim() == 3, "mannkern: weights and shift need three dimensions");
  STD_TORCH_CHECK(weights.size(1) > 0 && weights.size(2) > 0, "mannkern: only B may be 0");
  STD_TORCH_CHECK(shift.size(2) % 2 == 1, "mannkern: the number of shifts is even");
  return {weights.size(2), 1, weights.size(1), shift.size(2)};
}
inline NTMShape ntm_shape(const Tensor& memory, const Tensor& key, const Tensor& shift) {
  const Shape s = shape_of(memory, key);
  STD_TORCH_CHECK(shift.dim() == 3 && shift.size(2) % 2 == 1, "mannkern: the number of shifts is even");
  return {s.N, s.W, s.R, shift.size(2)};
}

template <class F>
auto by_dtype(const Tensor& t, F f) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, "mannkern: needs float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace mannkern
