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

// Here [begin, end) counts the panels that the columns of b belong to.
template <class T>
struct Pack {
  int64_t K, N;
  Matrix<T> b;         // (K,N): columns [column,column + N) of the packed matrix, some of its rows
  int64_t column;
  T* panels;           // (panels,rows of a panel,columns of a panel), from the first row of b on; csrc/README.md
  int64_t panel_size;  // numbers of a panel
};

// As Pack, of a matrix whose K rows lie anywhere, each in two parts: `split` numbers, then the others. It packs columns
// [first,first + N).
template <class T>
struct PackRows {
  int64_t K, N, first, split;
  const T *const *rows, *const *others;  // others: null where the first part has all columns
  T* panels;
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

// `steps` products with one B, of A and C that lie a_step and c_step numbers apart. A panel stays in the first cache for
// all of them.
template <class T>
struct Products {
  Product<T> first;
  int64_t steps, a_step, c_step;
};

// Adds `count` rows behind each other to `sum`; here [begin, end) counts columns. It adds 64 rows at a time: thousands of
// float32 in one chain of sums would lose a digit.
template <class T>
struct SumRows {
  int64_t count, width;
  const T* rows;  // (count,width)
  T* sum;         // (width)
};

}  // namespace mannkern
