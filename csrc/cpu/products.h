// Matrix products over threads, by the kernels of cpu/gemm.h.
//
// Why not PyTorch's: of an episode's products oneDNN's and MKL's are slower up to about 64 rows, by the 10 to 20 us a call
// takes to begin, by what a library allocates for it, and MKL by its choice of AVX2 on AMD; of weight gradients they are
// slower at any size, since both matrices must be transposed first. bench/FACTS.md has the figures.
#pragma once

#include "call.h"

namespace mannkern {

template <class T>
Matrix<T> rows_of(const T* data, int64_t stride) {
  return {data, stride, 1};
}
template <class T>
Matrix<T> transposed(const Matrix<T>& a) {
  return {a.data, a.column, a.row};
}

// The second factor (K,N) of products, packed once for all of them.
template <class T>
class Factor {
 public:
  Factor(const Matrix<T>& b, int64_t K, int64_t N)
      : K_(K), N_(N), panels_(Call<T>::allocate({(N + panel() - 1) / panel(), K, panel()}, Call<T>::kType)) {
    over_batch(panels_.size(0), 4 * K * panel(), kernels<T>().pack, Pack<T>{K, N, b, data<T>(panels_)});
  }
  // c (M,N), rows c_stride apart, becomes a (M,K) times this, or that is added to it.
  void multiply(const Matrix<T>& a, int64_t M, T* c, int64_t c_stride, bool add = false) const {
    // sixteen multiplications take as long as one of those that over_batch counts
    over_batch(panels_.size(0), M * K_ * panel() / 16, kernels<T>().gemm,
               Product<T>{M, N_, K_, a, data<T>(panels_), c, c_stride, add});
  }

 private:
  static int64_t panel() { return 2 * chosen->bytes / sizeof(T); }
  const int64_t K_, N_;
  const Tensor panels_;
};

}  // namespace mannkern
