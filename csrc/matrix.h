// Interface of the kernels of matrix products.
#pragma once

#include <cstdint>

namespace mannkern {

template <class T>
struct Matrix {  // its number (i, j) is data[i * row + j * column]
  const T* data;
  int64_t row, column;
};

template <class T>
struct Pack {  // B (K,N) into panels of columns
  int64_t K, N;
  Matrix<T> b;
  T* panels;
};

template <class T>
struct Product {  // C (M,N), rows c_stride apart: A (M,K) times what is packed in panels, added to what is there or not
  int64_t M, N, K;
  Matrix<T> a;
  const T* panels;
  T* c;
  int64_t c_stride;
  bool add;
};

}  // namespace mannkern
