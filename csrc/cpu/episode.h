// What whole episodes share: copies of the memory, gradients in place, sums over steps.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cmath>

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

// The gradients of an LSTM's and an interface's weights and biases, and of the input where it is wanted, from a few steps
// at a time: what they are products of is still in the cache, and need not be kept for the whole episode.
template <class T>
class WeightGradients {
 public:
  // F features, D hidden, O of the output, I of the interface
  WeightGradients(int64_t steps, int64_t B, int64_t F, int64_t D, int64_t O, int64_t I, bool wants_input)
      : input_weight(zeros({4 * D, F})),
        bias(zeros({4 * D})),
        recurrent_weight(zeros({4 * D, O})),
        interface_weight(zeros({I, D})),
        interface_bias(zeros({I})),
        input(Call<T>::allocate({wants_input ? steps : 0, B, F}, Call<T>::kType)),
        steps_(std::min(steps, 512 / std::max<int64_t>(B, 1) + 1)),
        B_(B), F_(F), D_(D), O_(O), I_(I),
        gates_(kept<T>({steps_ * B, 4 * D})),
        asked_(kept<T>({steps_ * B, I})) {}

  // Where the gradients of step t's gates, before activation, and interface go: (B,4D) and (B,I).
  T* gates(int64_t t) const { return data<T>(gates_) + t % steps_ * B_ * 4 * D_; }
  T* asked(int64_t t) const { return data<T>(asked_) + t % steps_ * B_ * I_; }

  // Steps of a product: about 512 rows, beyond which a product is no faster and leaves the cache. `add` where it begins.
  int64_t steps() const { return steps_; }

  // Adds those of steps begin to end, at most `steps()`. x (T,B,F), W (4D,F), `first` (B,O) before the first step and
  // `outputs` (T,B,O) after each.
  void add(int64_t begin, int64_t end, const T* x, const T* W, const T* first, const T* outputs) {
    const int64_t rows = (end - begin) * B_;
    const T* previous = outputs + (begin - 1) * B_ * O_;
    Tensor copied;
    if (begin == 0) {
      copied = Call<T>::allocate({rows, O_}, Call<T>::kType);
      std::copy_n(first, B_ * O_, data<T>(copied));
      std::copy_n(outputs, rows * O_ - B_ * O_, data<T>(copied) + B_ * O_);
      previous = data<T>(copied);
    }
    const Tensor d_gates = matrix(gates(begin), rows, 4 * D_, 4 * D_);
    const Tensor columns = torch::stable::contiguous(transposed(d_gates));
    add_to(input_weight, product<T>(columns, transposed(matrix(x + begin * B_ * F_, rows, F_, F_))));
    add_to(recurrent_weight, product<T>(columns, transposed(matrix(previous, rows, O_, O_))));
    add_to(interface_weight, product<T>(transposed(matrix(asked(begin), rows, I_, I_)),
                                        transposed(matrix(outputs + begin * B_ * O_, rows, D_, O_))));
    add_rows(bias, gates(begin), rows);
    add_rows(interface_bias, asked(begin), rows);
    if (input.numel() == 0) return;
    const Tensor d_input = product<T>(d_gates, transposed(matrix(W, 4 * D_, F_, F_)));
    std::copy_n(data<T>(d_input), rows * F_, data<T>(input) + begin * B_ * F_);
  }

  const Tensor input_weight, bias, recurrent_weight, interface_weight, interface_bias, input;

 private:
  static Tensor zeros(std::initializer_list<int64_t> sizes) {
    const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
    std::fill_n(data<T>(out), out.numel(), T(0));
    return out;
  }
  static void add_to(const Tensor& total, const Tensor& term) {
    T* sum = data<T>(total);
    const T* found = data<T>(term);
    for (int64_t i = 0, count = total.numel(); i < count; ++i) sum[i] += found[i];
  }
  // 64 rows at a time: sums of thousands of float32 in one chain would lose a digit.
  static void add_rows(const Tensor& total, const T* row, int64_t count) {
    const int64_t width = total.numel();
    T* sum = data<T>(total);
    std::vector<T> part(width);
    for (int64_t i = 0; i < count; ++i, row += width) {
      for (int64_t j = 0; j < width; ++j) part[j] += row[j];
      if (i % 64 != 63 && i + 1 != count) continue;
      for (int64_t j = 0; j < width; ++j) sum[j] += part[j];
      std::fill(part.begin(), part.end(), T(0));
    }
  }

  const int64_t steps_, B_, F_, D_, O_, I_;
  const Tensor gates_, asked_;
};

}  // namespace mannkern
