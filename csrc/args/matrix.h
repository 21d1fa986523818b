// Arguments of the kernels of matrix products. Here [begin, end) counts panels, not episodes.
#pragma once

#include <cstdint>

namespace mannkern {

// A matrix that is only read: its number (i, j) is data[i * row + j * column], so a transpose is a swap of strides.
template <class T>
struct Matrix {
  const T* data;
  int64_t row, column;
};

template <class T>
struct Pack {
  int64_t K, N;
  Matrix<T> b;  // (K,N)
  T* panels;    // (panels,K,columns of a panel): csrc/README.md draws it; reused by any number of products
};

template <class T>
struct Product {
  int64_t M, N, K;
  Matrix<T> a;      // (M,K)
  const T* panels;  // B (K,N), as Pack wrote it
  T* c;             // (M,N), rows c_stride apart; overlaps neither a nor panels
  int64_t c_stride;
  bool add;  // C += A B; false: C = A B, and what is in C is not read
};

}  // namespace mannkern
