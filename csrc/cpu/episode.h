// What whole episodes share: copies of the memory, gradients in place, sums over steps.
#pragma once

#include <cmath>

#include "products.h"

namespace mannkern {

// The root of T: as many copies of the memory are kept as are written anew at a time.
inline int64_t steps_between_copies(int64_t T) { return std::max<int64_t>(1, std::ceil(std::sqrt(double(T)))); }

// A gradient to be updated in place, step by step: a copy of what came, or zeros.
template <class T>
Tensor start(Call<T>& call, const Maybe& grad, std::initializer_list<int64_t> sizes) {
  const Tensor out = call.out(sizes);
  const T* given = call.in(grad, "grad", sizes);
  if (given) std::copy_n(given, out.numel(), data<T>(out));
  else std::fill_n(data<T>(out), out.numel(), T(0));
  return out;
}

template <class T>
Tensor sum_rows(const Tensor& rows) {
  const int64_t count = rows.size(0), width = rows.size(1);
  const Tensor out = Call<T>::allocate({width}, Call<T>::kType);
  T* sum = data<T>(out);
  const T* row = data<T>(rows);
  std::fill_n(sum, width, T(0));
  for (int64_t i = 0; i < count; ++i, row += width)
    for (int64_t j = 0; j < width; ++j) sum[j] += row[j];
  return out;
}

// Gradient of the recurrent weight (4D,O): gates' gradients (T B, 4D) by the outputs before each step, `first` (B,O) and
// then `outputs` (T,B,O).
template <class T>
Tensor recurrent_gradient(const Tensor& d_gates, const T* first, const T* outputs, int64_t steps, int64_t B, int64_t O) {
  const int64_t width = d_gates.size(1), rows = (steps - 1) * B;
  const Tensor sum = product<T>(transposed(matrix(data<T>(d_gates), B, width, width)),
                                transposed(matrix(first, B, O, O)));
  if (steps > 1) {
    const Tensor later = product<T>(transposed(matrix(data<T>(d_gates) + B * width, rows, width, width)),
                                    transposed(matrix(outputs, rows, O, O)));
    T* total = data<T>(sum);
    const T* term = data<T>(later);
    for (int64_t i = 0; i < width * O; ++i) total[i] += term[i];
  }
  return sum;
}

}  // namespace mannkern
