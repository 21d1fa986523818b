// Matrix products over threads, by the kernels of kernels/gemm.h.
//
// Why not PyTorch's: for an episode's products oneDNN and MKL are slower up to about 64 rows, because a call takes 10
// to 20 us to begin and allocates, and because MKL chooses AVX2 on AMD. For weight gradients they are slower at any
// size, because both matrices must be transposed first. docs/facts/cpu.md has the figures.
#pragma once

#include "bfloat16.h"

namespace mannkern {

template <class T>
Matrix<T> rows_of(const T* data, int64_t stride) {
  return {data, stride, 1};
}
template <class T>
Matrix<T> transposed(const Matrix<T>& a) {
  return {a.data, a.column, a.row};
}

// A weight, which may be some columns of a larger one.
template <class T>
Matrix<T> weight(Call<T>& call, const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  if (is_bfloat16<T>(t)) return widened(call, t, name, rows, columns);
  call.check(t, name, {rows, columns});
  if (t.stride(1) == 1 && t.stride(0) > columns) {
    check_storage(t, name, {rows, columns}, false, sizeof(T));
    return rows_of(static_cast<const T*>(t.const_data_ptr()), t.stride(0));
  }
  return rows_of(call.in(t, name, {rows, columns}), columns);
}
// Its columns from `first` on.
template <class T>
Matrix<T> columns_from(const Matrix<T>& weight, int64_t first) {
  return {weight.data + first, weight.row, weight.column};
}

// A part (K,N) of a matrix, whose first number is number (row,column) of that matrix.
template <class T>
struct Part {
  Matrix<T> b;
  int64_t K, N, row, column;
};

// A matrix (K,N), packed once for all products that have it on the right.
template <class T>
class PackedMatrix {
 public:
  // bfloat16: whether products with it are in bfloat16, where the machine has them.
  PackedMatrix(const Matrix<T>& b, int64_t K, int64_t N, bool bfloat16 = false)
      : PackedMatrix(K, N, {{b, K, N, 0, 0}}, bfloat16) {}
  // Of parts below each other or side by side, in this order.
  PackedMatrix(int64_t K, int64_t N, std::initializer_list<Part<T>> parts, bool bfloat16 = false)
      : K_(K), N_(N), kernels_(bfloat16),
        panels_(Call<T>::allocate({(N + panel() - 1) / panel(), K, panel()}, Call<T>::kType)) {
    const int64_t P = panel();
    for (const auto& [b, rows, columns, row, column] : parts)
      if (rows > 0 && columns > 0)
        // by several threads only if it is long: each region of threads is a wait where others use the machine
        over_batch((column + columns + P - 1) / P - column / P, rows * P / 16, kernels<T>().pack,
                   Pack<T>{rows, columns, b, column, data<T>(panels_) + row * P, K * P});
    if (kernels_.round) kernels_.round(data<T>(panels_), K, 0, panels_.size(0));
  }
  // c = a (M,K) times this matrix, or c += with `add`; the M rows of c are c_stride apart.
  void multiply(const Matrix<T>& a, int64_t M, T* c, int64_t c_stride, bool add = false) const {
    // over_batch counts work in units that take as long as sixteen multiplications here
    over_batch(panels_.size(0), M * K_ * panel() / 16, kernels_.gemm,
               Product<T>{M, N_, K_, a, data<T>(panels_), c, c_stride, add});
  }

  // The same for `steps` matrices a, a_step numbers apart, with results c_step apart.
  void multiply(const Matrix<T>& a, int64_t M, T* c, int64_t c_stride, int64_t steps, int64_t a_step,
                int64_t c_step) const {
    over_batch(panels_.size(0), steps * M * K_ * panel() / 16, kernels_.gemms,
               Products<T>{{M, N_, K_, a, data<T>(panels_), c, c_stride, false}, steps, a_step, c_step});
  }
  static int64_t panel() { return block_slots(sizeof(T)); }  // columns: two vectors, as slots of a block

 private:
  const int64_t K_, N_;
  const MatrixKernels<T> kernels_;
  const Tensor panels_;
};

}  // namespace mannkern
