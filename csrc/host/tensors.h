// The tensors of an operation's call, on every device: their checks, pointers and allocation.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "../args/ntm.h"
#include "../args/shape.h"
#include "checks.h"

namespace mannkern {

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

  static constexpr ScalarType kType = sizeof(T) == 4 ? ScalarType::Float : ScalarType::Double;

  // The numbers of an input; null where an optional one is missing.
  const T* in(const Tensor& t, const char* name, Sizes sizes) {
    return static_cast<const T*>(hold(t, name, sizes, kType).const_data_ptr());
  }
  const T* in(const Maybe& t, const char* name, Sizes sizes) { return t ? in(*t, name, sizes) : nullptr; }
  // A new tensor, which lives until the call ends.
  T* scratch(Sizes sizes) {
    held_.push_back(out(sizes));
    return static_cast<T*>(held_.back().mutable_data_ptr());
  }
  // Slots, which must be in [0, N): any other would be written outside the memory.
  const int64_t* slots(const Tensor& t, const char* name, Sizes sizes, int64_t N) {
    const auto* slots = static_cast<const int64_t*>(hold(t, name, sizes, ScalarType::Long).const_data_ptr());
    const auto* end = slots + t.numel();
    const auto* wrong = std::find_if(slots, end, [N](int64_t slot) { return slot < 0 || slot >= N; });
    if (wrong != end) refuse(name, "slot " + std::to_string(*wrong), "0 to N - 1 = " + std::to_string(N - 1));
    return slots;
  }
  // Checks an input whose numbers are not read.
  void check(const Tensor& t, const char* name, Sizes sizes, ScalarType type = kType) const {
    check_defined(t, name);
    if (!has_shape(t, sizes)) refuse(name, shape_text(t), text(sizes));
    if (t.scalar_type() != type) refuse(name, text(t.scalar_type()), text(type));
    if (!(Device::of(t) == device_)) refuse(name, "a tensor on another device", "that of the others");
  }
  // The checked input, contiguous.
  const Tensor& hold(const Tensor& t, const char* name, Sizes sizes, ScalarType type = kType) {
    check(t, name, sizes, type);
    const bool is_contiguous = t.is_contiguous();
    check_storage(t, name, sizes, is_contiguous, bytes_of(type));
    held_.push_back(is_contiguous ? t : contiguous(t, bytes_of(type)));
    return held_.back();
  }
  Tensor out(Sizes sizes) { return allocate(sizes, kType, device_); }
  static Tensor allocate(Sizes sizes, ScalarType type, Device device = Device::cpu()) {
    int64_t strides[4], stride = 1;
    double count = 1;
    for (const int64_t size : sizes) count *= double(std::max<int64_t>(size, 1));
    if (count >= double(int64_t(1) << 48)) refuse("result", "shape " + text(sizes), "fewer than 2^48 numbers");
    for (size_t d = sizes.size(); d-- > 0; stride *= std::max<int64_t>(sizes.begin()[d], 1)) strides[d] = stride;
    AtenTensorHandle handle;
    if (aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides, int32_t(to_code(type)), device.type,
                                 std::max(device.index, 0), &handle) != 0)
      throw_out_of_memory(count * double(bytes_of(type)));
    return Tensor(handle);
  }

 private:
  static Tensor contiguous(const Tensor& t, int64_t bytes) {
    try {
      return torch::stable::contiguous(t);
    } catch (const std::runtime_error&) {
      throw_out_of_memory(double(t.numel()) * double(bytes));
    }
  }
  static int64_t bytes_of(ScalarType type) {
    if (type == ScalarType::Bool || type == ScalarType::Char) return 1;
    return type == ScalarType::Float || type == ScalarType::Int ? 4 : 8;
  }
  static int32_t to_code(ScalarType type) {
    if (type == ScalarType::Long) return aoti_torch_dtype_int64();
    if (type == ScalarType::Char) return aoti_torch_dtype_int8();
    return type == ScalarType::Float ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64();
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

inline Shape shape_of(const Tensor& memory, const Tensor& heads, const char* name, const char* letters = "BRW") {
  check_sizes(memory, "memory", "BNW");
  check_sizes(heads, name, letters);
  return {memory.size(1), memory.size(2), heads.size(1)};
}

inline int64_t number_of_shifts(const Tensor& shift) {
  check_sizes(shift, "shift", "BHS");
  if (shift.size(2) % 2 == 0) refuse("shift", shape_text(shift), "(B, H, S) with S odd: the middle one stays");
  return shift.size(2);
}
inline NTMShape ntm_shape(const Tensor& weights, const Tensor& shift) {
  check_sizes(weights, "weights", "BHN");
  return {weights.size(2), 1, weights.size(1), number_of_shifts(shift)};
}
inline NTMShape ntm_shape(const Tensor& memory, const Tensor& key, const Tensor& shift) {
  const Shape s = shape_of(memory, key, "key", "BHW");
  return {s.N, s.W, s.R, number_of_shifts(shift)};
}

// Calls f with a zero of the dtype of the argument `name`.
template <class F>
auto by_dtype(const Tensor& t, const char* name, F f) {
  check_defined(t, name);
  const ScalarType type = t.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double) refuse(name, text(type), "float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace mannkern
