// slot_sum of slot_blocks.h, whose sums run over all lanes and blocks.
#pragma once

#include "slot_blocks.h"

namespace {

// Of S pairs of vectors (row[i], row[i + S]): adds lanes e and e + S of each, and keeps both results in row[i].
template <class T, int S>
__attribute__((always_inline)) inline void sum_pairs(Vec<T>* row) {
  constexpr int L = Lanes<T>::L;
  using Index = std::make_integer_sequence<int, L>;
  if constexpr (S > 0) {
    for (int i = 0; i < S; ++i) {
      const Vec<T> a = row[i], b = row[i + S];
      row[i] = shuffle<Exchange<L, S, 0>>(a, b, Index{}) + shuffle<Exchange<L, S, 1>>(a, b, Index{});
    }
    sum_pairs<T, S / 2>(row);
  }
}

// The sum over lanes of each of the `count` vectors at `lanes`, L vectors at a time, to `out`, or added to it.
template <class T>
void sum_lanes(T* out, const T* lanes, int64_t count, bool add) {
  constexpr int L = Lanes<T>::L;
  for (int64_t c = 0; c < count; c += L) {
    Vec<T> row[L];
    for (int e = 0; e < L; ++e) row[e] = c + e < count ? load(lanes + (c + e) * L) : Vec<T>{};
    sum_pairs<T, L / 2>(row);
    if (c + L <= count) store(out + c, add ? load(out + c) + row[0] : row[0]);
    else
      for (int64_t e = 0; c + e < count; ++e) out[c + e] = add ? out[c + e] + row[0][e] : row[0][e];
  }
}

// H heads of slot_sum for columns j to j + J over slots `first` to `end`, added to `out` behind the first ones; the sums
// over lanes stay in registers.
template <class T, int H, int J>
void slot_sum_columns(T* out, const T* X, const T* weights, int64_t j, int64_t first, int64_t end, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L, parts = (H * J + L - 1) / L;
  Vec<T> sum[parts * L] = {};
  for (int64_t i = first; i < end; i += kBlock<T>) {
    const T* block = X + i * s.W + j * kBlock<T>;
    for (int u = 0; u < 2; ++u) {
      Vec<T> w[H];
      for (int h = 0; h < H; ++h) w[h] = load(weights + h * s.Np + i + u * L);
      for (int c = 0; c < J; ++c) {
        const Vec<T> x = load(block + c * kBlock<T> + u * L);
        for (int h = 0; h < H; ++h) sum[h * J + c] += w[h] * x;
      }
    }
  }
  T sums[parts * L];
  for (int part = 0; part < parts; ++part) {
    sum_pairs<T, L / 2>(sum + part * L);
    store(sums + part * L, sum[part * L]);
  }
  for (int h = 0; first > 0 && h < H; ++h)
    for (int c = 0; c < J; ++c) sums[h * J + c] += out[h * s.W + j + c];
  for (int h = 0; h < H; ++h) std::memcpy(out + h * s.W + j, sums + h * J, J * sizeof(T));
}

template <class T>
void slot_sum(T* out, const T* X, const T* weights, const Sizes<T>& s) {
  constexpr int J = MANNKERN_BYTES >= 64 ? 4 : 2;  // kHeads J accumulators in 32 or 16 registers
  for (int64_t first = 0; first < s.Np; first += kRun<T>) {
    const int64_t end = run_end<T>(first, s.Np);
    each_heads(s, [&](int64_t h, auto heads) {
      constexpr int H = decltype(heads)::value, most = kHeads / H * J;
      T* to = out + h * s.W;
      const T* w = weights + h * s.Np;
      int64_t j = 0;
      for (; j + most <= s.W; j += most) slot_sum_columns<T, H, most>(to, X, w, j, first, end, s);
      for (; most > J && j + J <= s.W; j += J) slot_sum_columns<T, H, J>(to, X, w, j, first, end, s);
      for (; j < s.W; ++j) slot_sum_columns<T, H, 1>(to, X, w, j, first, end, s);
    });
  }
}

}  // namespace
