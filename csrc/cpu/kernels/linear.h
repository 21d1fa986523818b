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

// The last `count` lanes of the vector at p, 0 in the others.
template <class T>
inline Vec<T> load_last(const T* p, int64_t count) {
  constexpr int L = Lanes<T>::L;
  const Vec<T> v = load(p);
  IntVec<T> lane;
  for (int e = 0; e < L; ++e) lane[e] = e;
  return bits<Vec<T>>(bits<IntVec<T>>(v) & (lane >= L - decltype(lane[0] + 0)(count)));
}

// The sums over k of `Rows` episodes times `Columns` outputs: sum[r * Columns + c] has the lanes of one number of y.
template <class T, int Rows, int Columns>
__attribute__((always_inline)) inline void add_part(Vec<T>* sum, const LinearPart<T>& part, int64_t row,
                                                    int64_t column) {
  constexpr int L = Lanes<T>::L;
  const T *x = part.x + row * part.x_row, *w = part.w + column * part.w_row;
  const int64_t x_row = part.x_row, w_row = part.w_row, K = part.K;
  const auto meet = [&](auto load_at) __attribute__((always_inline)) {
    Vec<T> a[Rows];
    unrolled<Rows>([&](auto r) __attribute__((always_inline)) { a[r] = load_at(x + r * x_row); });
    unrolled<Columns>([&](auto c) __attribute__((always_inline)) {
      const Vec<T> b = load_at(w + c * w_row);
      unrolled<Rows>([&](auto r) __attribute__((always_inline)) { sum[r * Columns + c] += a[r] * b; });
    });
  };
  int64_t k = 0;
  for (; k + L <= K; k += L) meet([&](const T* p) __attribute__((always_inline)) { return load(p + k); });
  if (k == K) return;
  if (K > L) meet([&](const T* p) __attribute__((always_inline)) { return load_last(p + K - L, K - k); });
  else meet([&](const T* p) __attribute__((always_inline)) { return load(Tail<T, const T*>(p, K).lane); });
}

// Sums each of 2 S vectors over its lanes, halves first: lane e of the first vector is then the sum of vector e.
template <class T, int S>
__attribute__((always_inline)) inline void sum_lanes_of(Vec<T>* v) {
  constexpr int L = Lanes<T>::L;
  using Index = std::make_integer_sequence<int, L>;
  if constexpr (S > 0) {
    unrolled<S>([&](auto i) __attribute__((always_inline)) {
      const Vec<T> a = v[i], b = v[i + S];
      v[i] = shuffle<Exchange<L, S, 0>>(a, b, Index{}) + shuffle<Exchange<L, S, 1>>(a, b, Index{});
    });
    sum_lanes_of<T, S / 2>(v);
  }
}

template <class T, int Rows, int Columns>
void linear_tile(const Linear<T>& op, int64_t row, int64_t column) {
  constexpr int L = Lanes<T>::L;
  static_assert(Rows * Columns <= L, "the sums of a tile are transposed at once");
  Vec<T> sum[L] = {};
  add_part<T, Rows, Columns>(sum, op.parts[0], row, column);
  add_part<T, Rows, Columns>(sum, op.parts[1], row, column);
  sum_lanes_of<T, L / 2>(sum);
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
    if (p == whole) pack(Pack<T>{op.N, columns, {panel, op.w_row, 1}, 0, packed, 0}, 0, 1), panel = packed;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = begin + start(i);
      tile_of<T, kTileRows>(start(i + 1) - start(i), product, op.grad + first * op.N, panel,
                            op.grad_x + first * op.K + p * P, columns, p == whole ? P : op.w_row);
    }
  }
}

}  // namespace
