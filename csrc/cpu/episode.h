// What whole episodes share: copies of the memory, gradients in place, sums over steps.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cmath>
#include <utility>

#include "products.h"

namespace mannkern {

// The root of T: as many copies of the memory are kept as are written anew at a time.
inline int64_t steps_between_copies(int64_t T) { return std::max<int64_t>(1, std::ceil(std::sqrt(double(T)))); }

// Memory for what is kept of every step, in pages of 2 MB where the system has them: a fresh page costs a fault, and
// those of 4 kB add up to a tenth of an episode.
template <class T>
Tensor kept(std::initializer_list<int64_t> sizes) {
  const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t(1) << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(out.data_ptr()), end = begin + out.numel() * sizeof(T);
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return out;
}

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

// Gradients of the weights of the input (4D,F) and of the output before (4D,O), for those of the gates (T B, 4D), with
// `first` (B,O) before the first step and `outputs` (T,B,O) after each.
template <class T>
std::pair<Tensor, Tensor> gate_weights_gradients(const Tensor& d_gates, const T* input, const T* first,
                                                 const T* outputs, int64_t steps, int64_t B, int64_t F, int64_t O) {
  const Tensor columns = torch::stable::contiguous(transposed(d_gates));  // once for both
  const Tensor before = kept<T>({steps * B, O});
  std::copy_n(first, B * O, data<T>(before));
  std::copy_n(outputs, (steps - 1) * B * O, data<T>(before) + B * O);
  return {product<T>(columns, transposed(matrix(input, steps * B, F, F))), product<T>(columns, transposed(before))};
}

}  // namespace mannkern
