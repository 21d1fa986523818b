// What the host files of LRUA's kernels share: the sizes and types that the kernels take, and inputs that they copy.
#pragma once

#include "gpu.h"
#include "lrua_launch.h"

namespace mannkern {

inline void check_taken(const Tensor& memory, const Shape& s, ScalarType type) {
  if (type != ScalarType::Float) refuse("memory", text(type), "float32");
  if (!step_takes(s))
    refuse("memory", shape_text(memory) + " and R = " + std::to_string(s.R),
           "R up to 4, N up to 256, W up to 128 and a multiple of 4, N * W up to 10240 with N a multiple of 32");
}

// The kernels copy four numbers at once, so that a view which begins anywhere is copied first.
template <class T, class MaybeTensor>
const T* aligned(Call<T>& call, const MaybeTensor& t, const char* name, Sizes sizes) {
  const T* numbers = call.in(t, name, sizes);
  if (reinterpret_cast<uintptr_t>(numbers) % 16 == 0) return numbers;
  T* copy = call.scratch(sizes);
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  Gpu(call.device()).copy(name, copy, numbers, count);
  return copy;
}

}  // namespace mannkern
