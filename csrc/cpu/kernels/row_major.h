// The products of slot_blocks.h on a row-major memory (N,W). Single operations read the tensor directly, without
// converting it to slot blocks: converting there and back took 3.4 of a step's 7.5 us (docs/facts/cpu.md). An episode
// converts once and gains.
//
// A vector holds L columns of one slot. The last vector of a row holds its last L columns, so it may overlap the one
// before; in the overlap it adds 0. Every slot goes through the same instructions wherever it lies: equal slots stay
// bit-equal.
#pragma once

#include "slot_blocks.h"

namespace {

// A memory whose rows begin row_size apart. P is T or const T.
template <class P>
struct RowMajor {
  P* at;
  const P* from = nullptr;  // where the rows still lie, W apart, which rank_update copies first; null: at `at`
};

// Numbers from one row to the next: W, but at least a vector.
template <class T>
int64_t row_size(const Sizes<T>& s) {
  return s.W > Lanes<T>::L ? s.W : Lanes<T>::L;
}

// The first column of vector c of a row.
template <class T>
int64_t column(int64_t c, const Sizes<T>& s) {
  return smaller(c * Lanes<T>::L, row_size(s) - Lanes<T>::L);
}

// Numbers of the padded copy of a memory. Only a memory whose rows are shorter than a vector needs one.
template <class T>
int64_t copy_size(const Sizes<T>& s) {
  return s.W < Lanes<T>::L ? s.N * row_size(s) : 0;
}

template <class T>
void copy_rows(T* out, int64_t out_size, const T* in, int64_t in_size, const Sizes<T>& s) {
  for (int64_t i = 0; i < s.N; ++i) std::memcpy(out + i * out_size, in + i * in_size, s.W * sizeof(T));
}

// A memory (N,W) to read: the tensor itself, or its padded copy at `copy`.
template <class T>
RowMajor<const T> to_read(const T* memory, T* copy, const Sizes<T>& s) {
  if (s.W >= Lanes<T>::L) return {memory};
  std::memset(copy, 0, copy_size(s) * sizeof(T));
  copy_rows(copy, row_size(s), memory, s.W, s);
  return {copy};
}

// A copy of a memory to change: at `out`, or padded at `copy` until `finish` stores it to `out`. A null memory is
// zeros.
template <class T>
RowMajor<T> begin_at(T* out, const T* memory, T* copy, const Sizes<T>& s) {
  const bool whole = s.W >= Lanes<T>::L;
  T* at = whole ? out : copy;
  if (!whole || !memory) std::memset(at, 0, s.N * row_size(s) * sizeof(T));
  if (memory && !whole) copy_rows(at, row_size(s), memory, s.W, s);
  if (memory && whole && memory != out) std::memcpy(at, memory, s.N * s.W * sizeof(T));
  return {at};
}

// Stores a memory that begin_at put at `copy`.
template <class T>
void finish(T* out, RowMajor<T> X, const Sizes<T>& s) {
  if (X.at != out) copy_rows(out, s.W, static_cast<const T*>(X.at), row_size(s), s);
}

// The numbers of x (W) that belong to vector c of a row: 0 in the overlap with the vector before, and beyond W.
template <class T>
Vec<T> part(const T* x, int64_t c, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  if (c * L + L <= s.W) return load(x + c * L);
  T lanes[L] = {};
  for (int64_t j = c * L; j < s.W; ++j) lanes[j - column(c, s)] = x[j];
  return load(lanes);
}

// Calls f(c, number of vectors) until all vectors of a row are done: three at once as long as there are.
template <class T, class F>
void each_part(const Sizes<T>& s, F f) {
  const int64_t parts = padded(s.W, Lanes<T>::L) / Lanes<T>::L;
  int64_t c = 0;
  for (; c + 3 <= parts; c += 3) f(c, std::integral_constant<int, 3>{});
  if (parts - c == 2) f(c, std::integral_constant<int, 2>{});
  if (parts - c == 1) f(c, std::integral_constant<int, 1>{});
}

// The last vectors first: where rows are copied, a vector that overlaps the one before leaves its columns for that one.
// The last is never alone: what it adds to the overlap, 0 times a weight, is NaN where that is infinite, and is replaced
// only by a vector of the same call.
template <class T, class F>
void each_part_backwards(const Sizes<T>& s, F f) {
  int64_t c = padded(s.W, Lanes<T>::L) / Lanes<T>::L;
  if (c == 1) return f(0, std::integral_constant<int, 1>{});
  while (c % 3 != 0) f(c -= 2, std::integral_constant<int, 2>{});
  while (c > 0) f(c -= 3, std::integral_constant<int, 3>{});
}

template <class T, class P>
Slot<P> slot_at(RowMajor<P> X, int64_t i, const Sizes<T>& s) {
  return {X.at + i * row_size(s), 1};
}

template <class T, int H, int J>
void rank_update_parts(T* X, const T* from, const T* weights, const T* vectors, const T* shrink, const T* Y, int64_t c,
                       const Sizes<T>& s) {
  const int64_t size = row_size(s);
  int64_t at[J];
  Vec<T> v[H][J], own[J];
  for (int p = 0; p < J; ++p) {
    at[p] = column(c + p, s);
    for (int h = 0; h < H; ++h) v[h][p] = part(vectors + h * s.W, c + p, s);
    const int64_t first = (c + p) * Lanes<T>::L - at[p];
    for (int e = 0; e < Lanes<T>::L; ++e) own[p][e] = e >= first ? T(1) : T(0);
  }
  for (int64_t i = 0; i < s.N * size; i += size, ++weights) {
    Vec<T> x[J];
    for (int p = 0; p < J; ++p) x[p] = load(from + i + at[p]);
    for (int h = 0; h < H; ++h)
      for (int p = 0; p < J; ++p) x[p] += weights[h * s.Np] * v[h][p];
    if (shrink) {
      for (int p = 0; p < J; ++p) x[p] -= own[p] * *shrink * load(Y + i + at[p]);
      ++shrink;
    }
    for (int p = J - 1; p >= 0; --p) store(X + i + at[p], x[p]);  // last first: an overlap belongs to the one before
  }
}

// From X, or where they still lie, to X.
template <class T>
void rank_update(RowMajor<T> X, const T* weights, const T* vectors, const Sizes<T>& s, const T* shrink = nullptr,
                 RowMajor<const T> Y = {nullptr}) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    each_part_backwards(s, [&](int64_t c, auto parts) {
      rank_update_parts<T, H, decltype(parts)::value>(X.at, X.from && h == 0 ? X.from : X.at, weights + h * s.Np,
                                                      vectors + h * s.W, h + H == s.R ? shrink : nullptr, Y.at, c, s);
    });
  });
}

// Loads C columns, L or L/2, of L slots at X and transposes them, so that each lane holds one slot; 0 behind the last
// of `slots`.
template <class T, int C>
__attribute__((always_inline)) inline void load_tile(Vec<T>* tile, const T* X, int64_t slots, int64_t size) {
  constexpr int L = Lanes<T>::L;
  T rest[L * C];
  const int64_t ahead = kAhead<T> * size;
  if (__builtin_expect(slots < L, 0)) {
    std::memset(rest, 0, sizeof rest);
    for (int64_t r = 0; r < slots; ++r) std::memcpy(rest + r * C, X + r * size, C * sizeof(T));
    X = rest;
    size = C;
  }
  unrolled<C>([&](auto r) __attribute__((always_inline)) {
    __builtin_prefetch(X + ahead);
    if constexpr (C == L) {
      tile[r] = load(X);
    } else {
      __builtin_prefetch(X + ahead + C * size);
      tile[r] = load_halves(X, X + C * size);
    }
    X += size;
  });
  transpose<T, C>(tile);
}

template <class T, int H, bool SQUARES>
void slot_dot_tiles(T* out, T* squares, const T* X, const T* vectors, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t size = row_size(s);
  for (int64_t i = 0; i < padded(s.N, kBlock<T>); i += L) {
    const T* row = X + i * size;
    for (int64_t first = 0; first < s.W; first += kColumns) {
      Vec<T> sum[H] = {}, square = {};
      const auto meet = [&](Vec<T> x, int64_t j) __attribute__((always_inline)) {
        for (int h = 0; h < H; ++h) sum[h] += x * vectors[h * s.W + j];
        if constexpr (SQUARES) square += x * x;
      };
      const int64_t end = smaller(first + kColumns, s.W);
      int64_t j = first;
      for (; j + L <= end; j += L) {
        Vec<T> tile[L];
        load_tile<T, L>(tile, row + j, s.N - i, size);
        unrolled<L>([&](auto e) { meet(tile[e], j + e); });
      }
      if constexpr (L >= 32 / sizeof(T))  // half a vector must be at least 16 bytes
        for (; j + L / 2 <= end; j += L / 2) {
          Vec<T> tile[L / 2];
          load_tile<T, L / 2>(tile, row + j, s.N - i, size);
          unrolled<L / 2>([&](auto e) { meet(tile[e], j + e); });
        }
      if (j < end) {
        const int64_t at = smaller(j, size - L);
        Vec<T> tile[L];
        load_tile<T, L>(tile, row + at, s.N - i, size);
        T columns[L * L];
        for (int e = 0; e < L; ++e) store(columns + e * L, tile[e]);
        for (; j < end; ++j) meet(load(columns + (j - at) * L), j);
      }
      for (int h = 0; h < H; ++h) store_run<T>(out + h * s.Np + i, sum[h], first == 0);
      if constexpr (SQUARES) store_run<T>(squares + i, square, first == 0);
    }
  }
}

template <class T, class P>
void slot_dot(T* out, RowMajor<P> X, const T* vectors, const Sizes<T>& s, T* squares = nullptr) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    const auto dot = squares && h == 0 ? slot_dot_tiles<T, H, true> : slot_dot_tiles<T, H, false>;
    dot(out + h * s.Np, squares, X.at, vectors + h * s.W, s);
  });
}

constexpr int64_t kRowRun = 256;  // slots of a partial sum, as kRun

template <class T, int H, int J>
void slot_sum_parts(T* out, const T* X, const T* weights, int64_t c, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t size = row_size(s);
  int64_t at[J];
  Vec<T> total[H][J] = {};
  for (int p = 0; p < J; ++p) at[p] = column(c + p, s);
  for (int64_t first = 0; first < s.N; first += kRowRun) {
    Vec<T> sum[H][J] = {};
    for (int64_t i = first; i < smaller(first + kRowRun, s.N); ++i, X += size)
      for (int p = 0; p < J; ++p) {
        const Vec<T> x = load(X + at[p]);
        for (int h = 0; h < H; ++h) sum[h][p] += weights[h * s.Np + i] * x;
      }
    for (int h = 0; h < H; ++h)
      for (int p = 0; p < J; ++p) total[h][p] += sum[h][p];
  }
  for (int h = 0; h < H; ++h)
    for (int p = 0; p < J; ++p) {
      if (s.W >= L) store(out + h * s.W + at[p], total[h][p]);
      else std::memcpy(out + h * s.W, &total[h][p], s.W * sizeof(T));
    }
}

template <class T, class P>
void slot_sum(T* out, RowMajor<P> X, const T* weights, const Sizes<T>& s) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    each_part(s, [&](int64_t c, auto parts) {
      slot_sum_parts<T, H, decltype(parts)::value>(out + h * s.W, X.at, weights + h * s.Np, c, s);
    });
  });
}

}  // namespace
