// Products with a weight as it lies, a row an output, for a single step of a cell. What an episode packs once and reads
// T times, a step reads once.
//
// A number of y is one sum for each lane, in the order of k, and then a sum over lanes; so other episodes, the cut into
// tiles and the number of threads change no bits.
#pragma once

#include "../../args/cell.h"
#include "arena.h"
#include "gemm.h"

namespace {

using mannkern::Linear;
using mannkern::LinearBackward;
using mannkern::LinearPart;

// The sums over k of `Rows` episodes times `Columns` outputs: sum[r * Columns + c] has the lanes of one number of y.
template <class T, int Rows, int Columns>
__attribute__((always_inline)) inline void add_part(Vec<T>* sum, const LinearPart<T>& part, int64_t row,
                                                    int64_t column) {
  constexpr int L = Lanes<T>::L;
  const T *x = part.x + row * part.x_row, *w = part.w + column * part.w_row;
  const auto meet = [&](const Vec<T>* a, auto load_w) __attribute__((always_inline)) {
    unrolled<Columns>([&](auto c) __attribute__((always_inline)) {
      const Vec<T> b = load_w(w + c * part.w_row);
      unrolled<Rows>([&](auto r) __attribute__((always_inline)) { sum[r * Columns + c] += a[r] * b; });
    });
  };
  Vec<T> a[Rows];
  int64_t k = 0;
  for (; k + L <= part.K; k += L) {
    unrolled<Rows>([&](auto r) __attribute__((always_inline)) { a[r] = load(x + r * part.x_row + k); });
    meet(a, [&](const T* p) __attribute__((always_inline)) { return load(p + k); });
  }
  if (k == part.K) return;
  const int64_t count = part.K - k;
  unrolled<Rows>([&](auto r) __attribute__((always_inline)) {
    a[r] = load(Tail<T, const T*>(x + r * part.x_row + k, count).lane);
  });
  meet(a, [&](const T* p) __attribute__((always_inline)) { return load(Tail<T, const T*>(p + k, count).lane); });
}

template <class T, int Rows, int Columns>
void linear_tile(const Linear<T>& op, int64_t row, int64_t column) {
  constexpr int L = Lanes<T>::L;
  static_assert(Rows * Columns <= L, "the sums of a tile are transposed at once");
  Vec<T> sum[L] = {};
  for (const LinearPart<T>& part : op.parts)
    if (part.K) add_part<T, Rows, Columns>(sum, part, row, column);
  transpose<T>(sum);
  for (int l = 1; l < L; ++l) sum[0] += sum[l];
  T lanes[L];
  store(lanes, sum[0]);
  for (int r = 0; r < Rows; ++r) std::memcpy(op.y + (row + r) * op.N + column, lanes + r * Columns, Columns * sizeof(T));
}

// All episodes [begin, end) for `Columns` outputs, `Rows` episodes at a time.
template <class T, int Rows, int Columns>
void linear_columns(const Linear<T>& op, int64_t begin, int64_t end, int64_t column) {
  for (; begin + Rows <= end; begin += Rows) linear_tile<T, Rows, Columns>(op, begin, column);
  if constexpr (Rows > 1) linear_columns<T, Rows / 2, Columns>(op, begin, end, column);
}

template <class T>
void linear(const Linear<T>& op, int64_t begin, int64_t end) {
  constexpr int L = Lanes<T>::L;
  const auto columns = [&](auto count, auto rows) {
    constexpr int C = decltype(count)::value;
    if (op.N < C) {
      for (int64_t n = 0; n < op.N; ++n) linear_columns<T, decltype(rows)::value, 1>(op, begin, end, n);
      return;
    }
    for (int64_t n = 0; n < op.N; n += C)  // the last outputs may be computed twice
      linear_columns<T, decltype(rows)::value, C>(op, begin, end, n + C <= op.N ? n : op.N - C);
  };
  using std::integral_constant;
  if (end - begin == 1) return columns(integral_constant<int, L>{}, integral_constant<int, 1>{});
  if constexpr (L >= 8)
    if (end - begin >= 4) return columns(integral_constant<int, L / 4>{}, integral_constant<int, 4>{});
  columns(integral_constant<int, L / 2>{}, integral_constant<int, 2>{});
}

template <class T>
void linear_backward(const LinearBackward<T>& op, int64_t begin, int64_t end) {
  constexpr int64_t P = kPanel<T>;
  const int64_t M = end - begin, tiles = (M + kTileRows - 1) / kTileRows, whole = op.K / P;
  const auto start = [&](int64_t i) { return i * M / tiles; };
  Arena<T> arena(op.N * P);
  T* packed = arena.take(op.N * P);
  const Product<T> product = {M, op.K, op.N, {op.grad, op.N, 1}, nullptr, op.grad_x, op.K, op.add};
  for (int64_t p = 0; p * P < op.K; ++p) {
    const T* panel = op.w + p * P;
    const int64_t columns = columns_of<T>(p, op.K);
    if (p == whole) pack(Pack<T>{op.N, columns, {panel, op.w_row, 1}, packed}, 0, 1), panel = packed;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = begin + start(i);
      tile_of<T, kTileRows>(start(i + 1) - start(i), product, op.grad + first * op.N, panel,
                            op.grad_x + first * op.K + p * P, columns, p == whole ? P : op.w_row);
    }
  }
}

}  // namespace
