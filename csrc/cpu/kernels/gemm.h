// Matrix products C = A B or C += A B, where B is packed in panels of two vectors of columns.
//
// Each number of C is summed in the order of k, however C is cut into tiles, so neither the number of threads nor other
// rows change its bits. Beyond kTerms it is a sum of partial sums, so that it stays accurate.
#pragma once

#include "../../args/matrix.h"
#include "slot_blocks.h"

namespace {

using mannkern::Pack;
using mannkern::PackRows;
using mannkern::Product;
using mannkern::Products;
using mannkern::SumRows;

// Rows of a tile: its sums fill the registers, beside two vectors of B and one number of A.
constexpr int64_t kTileRows = MANNKERN_BYTES == 64 ? 14 : 6;
constexpr int64_t kTerms = 2048;
constexpr int64_t kInCache = 1 << 16;  // numbers of A that go through all panels before the next: 256 kB of float32
constexpr int64_t kRowsAhead = 8;      // how far ahead a tile prefetches A
constexpr int64_t kPanelAhead = 12;    // and B, which the memories of a step drive out of the near cache

template <class T>
constexpr int64_t kPanel = 2 * Lanes<T>::L;

// Columns of panel p: kPanel, or fewer in the last one.
template <class T>
int64_t columns_of(int64_t p, int64_t N) {
  return N - p * kPanel<T> < kPanel<T> ? N - p * kPanel<T> : kPanel<T>;
}

// Writes panels of B: for each k the kPanel numbers of its columns, zeros behind its last column.
template <class T>
void pack(const Pack<T>& op, int64_t begin, int64_t end) {
  constexpr int64_t P = kPanel<T>;
  const auto [b, row, column] = op.b;
  for (int64_t p = op.column / P + begin; p < op.column / P + end; ++p) {
    const int64_t first = p * P < op.column ? op.column % P : 0;  // the panel's first column that is of b
    T* out = op.panels + p * op.panel_size + first;
    const T* from = b + (p * P + first - op.column) * column;
    const int64_t columns = smaller(P - first, op.column + op.N - p * P - first);
    if (column == 1) {
      for (int64_t k = 0; k < op.K; ++k) {
        if (columns == P) {
          std::memcpy(out + k * P, from + k * row, P * sizeof(T));
        } else {
          std::memcpy(out + k * P, from + k * row, columns * sizeof(T));
          std::memset(out + k * P + columns, 0, (P - first - columns) * sizeof(T));
        }
      }
      continue;
    }
    constexpr int L = Lanes<T>::L;
    const int64_t whole = row == 1 && columns == P ? op.K / L * L : 0;  // of a transposed B: L x L squares in registers
    for (int64_t k = 0; k < whole; k += L)
      for (int64_t n = 0; n < P; n += L) {
        Vec<T> square[L];
        for (int i = 0; i < L; ++i) {
          square[i] = load(from + (n + i) * column + k);
          __builtin_prefetch(from + (n + i) * column + k + 4 * L);
        }
        transpose<T>(square);
        for (int i = 0; i < L; ++i) store(out + (k + i) * P + n, square[i]);
      }
    for (int64_t k = whole; k < op.K; ++k)
      for (int64_t n = 0; n < P - first; ++n) out[k * P + n] = n < columns ? from[n * column + k * row] : T(0);
  }
}

template <class T>
void pack_rows(const PackRows<T>& op, int64_t begin, int64_t end) {
  constexpr int64_t P = kPanel<T>;
  for (int64_t p = begin; p < end; ++p) {
    T* out = op.panels + p * P * op.K;
    const int64_t columns = columns_of<T>(p, op.N), at = op.first + p * P;
    if (columns == P && (at + P <= op.split || at >= op.split)) {
      const T* const* rows = at < op.split ? op.rows : op.others;
      const int64_t from = at < op.split ? at : at - op.split;
      for (int64_t k = 0; k < op.K; ++k) std::memcpy(out + k * P, rows[k] + from, P * sizeof(T));
      continue;
    }
    const int64_t of_rows = at < op.split ? smaller(op.split - at, columns) : 0;
    for (int64_t k = 0; k < op.K; ++k, out += P) {
      if (of_rows > 0) std::memcpy(out, op.rows[k] + at, of_rows * sizeof(T));
      if (of_rows < columns)
        std::memcpy(out + of_rows, op.others[k] + at + of_rows - op.split, (columns - of_rows) * sizeof(T));
      std::memset(out + columns, 0, (P - columns) * sizeof(T));
    }
  }
}

template <class T>
void sum_rows(const SumRows<T>& op, int64_t begin, int64_t end) {
  constexpr int L = Lanes<T>::L;
  for (int64_t i = 0; i < op.count; i += 64) {
    const T* rows = op.rows + i * op.width;
    const int64_t count = op.count - i < 64 ? op.count - i : 64;
    int64_t j = begin;
    for (; j + L <= end; j += L) {
      Vec<T> part = {};
      for (int64_t r = 0; r < count; ++r) part += load(rows + r * op.width + j);
      store(op.sum + j, load(op.sum + j) + part);
    }
    for (; j < end; ++j) {
      T part = 0;
      for (int64_t r = 0; r < count; ++r) part += rows[r * op.width + j];
      op.sum[j] += part;
    }
  }
}

// One tile of C: `Rows` rows of A times the first `Vectors` vectors of a panel, whose rows lie panel_row apart. Each
// number of B is loaded once for all rows.
template <class T, int Rows, int Vectors>
void tile(const Product<T>& op, const T* a, const T* panel, T* c, int64_t columns, int64_t panel_row) {
  constexpr int L = Lanes<T>::L;
  const int64_t row = op.a.row, column = op.a.column;
  if (op.M * op.c_stride > kInCache)  // or the sums would wait for C at the end
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v <= Vectors; ++v) __builtin_prefetch(c + r * op.c_stride + v * L, 1);
  Vec<T> sum[Rows][Vectors], b[Vectors];
#pragma GCC unroll 32  // or GCC clears the sums in memory
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[r][v] = Vec<T>{};
  for (int64_t k = 0; k < op.K; ++k, a += column, panel += panel_row) {
    if constexpr (Rows > 1) {  // rows of a transposed A lie pages apart, where no hardware prefetches
      __builtin_prefetch(a + kRowsAhead * column);
      __builtin_prefetch(a + kRowsAhead * column + Rows - 1);
      for (int v = 0; v < Vectors; ++v) __builtin_prefetch(panel + kPanelAhead * panel_row + v * L);
    }
    for (int v = 0; v < Vectors; ++v) b[v] = load(panel + v * L);
    for (int r = 0; r < Rows; ++r) {
      const Vec<T> x = a[r * row] - Vec<T>{};  // a broadcast; written 0 + a it would cost an addition
      for (int v = 0; v < Vectors; ++v) sum[r][v] += x * b[v];
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
    T* out = c + r * op.c_stride;
    if (columns == Vectors * L) {
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) store(out + v * L, op.add ? load(out + v * L) + sum[r][v] : sum[r][v]);
    } else {
      T sums[Vectors * L];
      for (int v = 0; v < Vectors; ++v) store(sums + v * L, sum[r][v]);
      for (int64_t n = 0; n < columns; ++n) out[n] = op.add ? out[n] + sums[n] : sums[n];
    }
  }
}

// A tile of `rows` rows, which are at most `Rows`.
template <class T, int Rows>
void tile_of(int64_t rows, const Product<T>& op, const T* a, const T* panel, T* c, int64_t columns,
             int64_t panel_row = kPanel<T>) {
  if constexpr (Rows > 0) {
    if (rows != Rows) tile_of<T, Rows - 1>(rows, op, a, panel, c, columns, panel_row);
    else if (columns > Lanes<T>::L) tile<T, Rows, 2>(op, a, panel, c, columns, panel_row);
    else tile<T, Rows, 1>(op, a, panel, c, columns, panel_row);
  }
}

// Computes the columns of C that belong to panels [begin, end) of B.
template <class T>
void gemm(const Product<T>& op, int64_t begin, int64_t end) {
  constexpr int64_t P = kPanel<T>;
  const int64_t tiles = (op.M + kTileRows - 1) / kTileRows, fit = kInCache / (op.K * kTileRows + 1) + 1;
  const auto start = [&](int64_t i) { return i * op.M / tiles; };  // tiles as equal in size as they can be
  Product<T> part = op;
  int64_t k = 0;
  do {
    part.K = smaller(kTerms, op.K - k);
    for (int64_t first = 0; first < tiles; first += fit)
      for (int64_t p = begin; p < end; ++p)
        for (int64_t i = first; i < tiles && i < first + fit; ++i)
          tile_of<T, kTileRows>(start(i + 1) - start(i), part, op.a.data + start(i) * op.a.row + k * op.a.column,
                                op.panels + p * P * op.K + k * P, op.c + start(i) * op.c_stride + p * P,
                                columns_of<T>(p, op.N));
    part.add = true;
    k += kTerms;
  } while (k < op.K);
}

template <class T>
void gemms(const Products<T>& op, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p)
    for (int64_t i = 0; i < op.steps; ++i) {
      Product<T> product = op.first;
      product.a.data += i * op.a_step, product.c += i * op.c_step;
      gemm(product, p, p + 1);
    }
}

}  // namespace
