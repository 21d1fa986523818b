// The operation cell_weight_gradients: the gradients of a cell's weights from the rows that its backward steps gave.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "allocate.h"
#include "packed_gemm.h"

namespace mannkern {
namespace {

// Sums of columns, 64 rows at a time: thousands of float32 in one chain of sums would lose a digit.
template <class T>
void sum_rows(T* sum, const T* rows, int64_t count, int64_t width, int64_t stride) {
  std::vector<T> part(width);
  std::fill_n(sum, width, T(0));
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < width; ++j) part[j] += rows[i * stride + j];
    if (i % 64 != 63 && i + 1 != count) continue;
    for (int64_t j = 0; j < width; ++j) sum[j] += part[j];
    std::fill(part.begin(), part.end(), T(0));
  }
}

constexpr int64_t kRows = 512;  // of one product, for the same reason

// rows (M,row): G gradients of gates, I of an interface vector, X numbers [x, r] and U of h that the gates were products
// of, and D of h that the interface vector was a product of. Returns the gradients of the weight (G,X), the recurrent
// weight (G,U), the bias (G), the interface's weight (I,D) and its bias (I).
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> cell_weight_gradients(const Tensor& rows, int64_t G, int64_t I,
                                                                         int64_t X, int64_t U, int64_t D) {
  return by_dtype(rows, "rows", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const int64_t most = (int64_t(1) << 31) - 1, row = G + I + X + U + D;
    check_range(G, "num_gates", 1, most), check_range(I, "interface_size", 1, most);
    check_range(X, "input_size", 1, most), check_range(D, "hidden_size", 1, most);
    check_range(U, "recurrent_size", 0, most);
    check_sizes(rows, "rows", "Bn");
    const int64_t M = rows.size(0);
    const T* d_gates = call.in(rows, "rows", {M, row});
    const T *d_interface = d_gates + G, *x = d_interface + I, *u = x + X, *h = u + U;
    const auto product = [&](const T* grad, int64_t width, const T* of, int64_t columns) {
      const Tensor out = allocate_large<T>({width, columns});
      if (M == 0) std::fill_n(data<T>(out), out.numel(), T(0));
      for (int64_t first = 0; first < M && columns > 0; first += kRows)
        PackedMatrix<T>(rows_of(of + first * row, row), std::min(kRows, M - first), columns)
            .multiply(transposed(rows_of(grad + first * row, row)), width, data<T>(out), columns, first > 0);
      return out;
    };
    const Tensor bias = call.out({G}), interface_bias = call.out({I});
    sum_rows(data<T>(bias), d_gates, M, G, row);
    sum_rows(data<T>(interface_bias), d_interface, M, I, row);
    return std::make_tuple(product(d_gates, G, x, X), product(d_gates, G, u, U), bias, product(d_interface, I, h, D),
                           interface_bias);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("cell_weight_gradients", TORCH_BOX(&mannkern::cell_weight_gradients));
}
