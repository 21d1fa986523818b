// Passes over a memory in slot blocks that do what two or three of the products of slot_blocks.h do, so that a memory is
// loaded and stored once for all of them. Each number has the same bits as from these products.
#pragma once

#include "slot_blocks.h"

namespace {

// rank_update from X to Y, which may be X, and slot_dot of Y with other vectors and itself, in one pass: kHeads heads.
template <class T>
void rank_update_dot(T* Y, const T* X, const T* weights, const T* vectors, T* out, T* squares, const T* others,
                     const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L, U = MANNKERN_BYTES >= 64 ? 2 : 1;  // vectors at once, as the registers allow
  for (int64_t i = 0; i < s.Np; i += U * L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * s.W + i % kBlock<T>;
    Vec<T> w[kHeads][U];
    for (int h = 0; h < kHeads; ++h)
      for (int u = 0; u < U; ++u) w[h][u] = load(weights + h * s.Np + i + u * L);
    for (int64_t first = 0; first < s.W; first += kColumns) {
      Vec<T> sum[kHeads][U] = {}, square[U] = {};
      for (int64_t j = first, end = smaller(first + kColumns, s.W); j < end; ++j) {
        const int64_t at = block + j * kBlock<T>;
        Vec<T> x[U];
        for (int u = 0; u < U; ++u) x[u] = load(X + at + u * L);
        for (int h = 0; h < kHeads; ++h)
          for (int u = 0; u < U; ++u) x[u] += w[h][u] * vectors[h * s.W + j];
        for (int u = 0; u < U; ++u) store(Y + at + u * L, x[u]);
        for (int h = 0; h < kHeads; ++h)
          for (int u = 0; u < U; ++u) sum[h][u] += x[u] * others[h * s.W + j];
        for (int u = 0; u < U; ++u) square[u] += x[u] * x[u];
      }
      for (int u = 0; u < U; ++u) {
        for (int h = 0; h < kHeads; ++h) store_run<T>(out + h * s.Np + i + u * L, sum[h][u], first == 0);
        store_run<T>(squares + i + u * L, square[u], first == 0);
      }
    }
  }
}

// Two rank_updates of D, the second with `shrink`, and then slot_dot unless `out` is null, in one pass: H heads.
template <class T, int H>
void rank_updates_dot(T* D, const T* weights, const T* vectors, const T* weights2, const T* vectors2, const T* shrink,
                      const T* Y, T* out, const T* others, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L, U = MANNKERN_BYTES >= 64 ? 2 : 1;
  for (int64_t i = 0; i < s.Np; i += U * L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * s.W + i % kBlock<T>;
    Vec<T> w[H][U], w2[H][U], lost[U];
    for (int u = 0; u < U; ++u) {
      for (int h = 0; h < H; ++h) w[h][u] = load(weights + h * s.Np + i + u * L);
      for (int h = 0; h < H; ++h) w2[h][u] = load(weights2 + h * s.Np + i + u * L);
      lost[u] = load(shrink + i + u * L);
    }
    for (int64_t first = 0; first < s.W; first += kColumns) {
      Vec<T> sum[H][U] = {};
      for (int64_t j = first, end = smaller(first + kColumns, s.W); j < end; ++j) {
        const int64_t at = block + j * kBlock<T>;
        Vec<T> d[U];
        for (int u = 0; u < U; ++u) d[u] = load(D + at + u * L);
        for (int h = 0; h < H; ++h)
          for (int u = 0; u < U; ++u) d[u] += w[h][u] * vectors[h * s.W + j];
        for (int h = 0; h < H; ++h)
          for (int u = 0; u < U; ++u) d[u] += w2[h][u] * vectors2[h * s.W + j];
        for (int u = 0; u < U; ++u) d[u] -= lost[u] * load(Y + at + u * L);
        for (int u = 0; u < U; ++u) store(D + at + u * L, d[u]);
        for (int h = 0; out && h < H; ++h)
          for (int u = 0; u < U; ++u) sum[h][u] += d[u] * others[h * s.W + j];
      }
      for (int h = 0; out && h < H; ++h)
        for (int u = 0; u < U; ++u) store_run<T>(out + h * s.Np + i + u * L, sum[h][u], first == 0);
    }
  }
}
// The same without slot_dot, for any number of heads.
template <class T>
void rank_updates(T* D, const T* weights, const T* vectors, const T* weights2, const T* vectors2, const T* shrink,
                  const T* Y, const Sizes<T>& s) {
  if (s.R == 1)
    return rank_updates_dot<T, 1>(D, weights, vectors, weights2, vectors2, shrink, Y, nullptr, nullptr, s);
  rank_update(D, weights, vectors, s);
  rank_update(D, weights2, vectors2, s, shrink, Y);
}

}  // namespace
