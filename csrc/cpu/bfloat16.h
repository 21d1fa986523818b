// Products in bfloat16 with sums in float32: which kernels they are, and weights that come in bfloat16. A machine
// without such kernels multiplies the widened weights in float32.
#pragma once

#include <cstring>

#include "dispatch.h"

namespace mannkern {

// The kernels of products with packed panels. Those in bfloat16 have the panels rounded first.
template <class T>
struct MatrixKernels {
  void (*gemm)(const Product<T>&, int64_t begin, int64_t end);
  void (*gemms)(const Products<T>&, int64_t begin, int64_t end);
  void (*round)(T* panels, int64_t K, int64_t begin, int64_t end);  // null: panels stay as they are

  explicit MatrixKernels(bool bfloat16) : gemm(kernels<T>().gemm), gemms(kernels<T>().gemms), round(nullptr) {
    if constexpr (sizeof(T) == 4)
      if (const BFloat16Products* products = bfloat16 ? bfloat16_products() : nullptr)
        gemm = products->gemm, gemms = products->gemms, round = products->round;
  }
};

template <class T>
bool is_bfloat16(const Tensor& t) {
  return sizeof(T) == 4 && t.defined() && t.scalar_type() == ScalarType::BFloat16;
}

// A weight in bfloat16 in float32.
template <class T>
Matrix<T> widened(Call<T>& call, const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  call.check(t, name, {rows, columns}, ScalarType::BFloat16);
  check_storage(t, name, {rows, columns}, false, sizeof(uint16_t));
  const auto* from = static_cast<const uint16_t*>(t.const_data_ptr());
  const int64_t row = t.stride(0), column = t.stride(1);
  T* wide = call.scratch({rows, columns});
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const uint32_t bits = uint32_t(from[i * row + j * column]) << 16;
      std::memcpy(wide + i * columns + j, &bits, sizeof bits);
    }
  return {wide, columns, 1};
}

}  // namespace mannkern
