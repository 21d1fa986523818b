// The least used slots: the n slots of smallest usage, ascending; equal usage: the lower index first; NaN counts as the
// largest.
#pragma once

#include <type_traits>

#include "slot_blocks.h"
#include "sort_least_used.h"

namespace {

template <class T>
using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
template <class T>
constexpr Int<T> kTaken = std::numeric_limits<Int<T>>::max();  // the rank of a slot that was taken, and of padding

// Integers in the order of the usages: -0 equals 0; NaN is above every number and below kTaken.
template <class T>
IntVec<T> usage_rank(Vec<T> u) {
  const IntVec<T> b = bits<IntVec<T>>(u + T(0));
  const IntVec<T> ordered = b ^ ((b >> int(8 * sizeof(T) - 1)) & kTaken<T>);
  return u == u ? ordered : IntVec<T>{} + (kTaken<T> - 1);
}

// n passes over the ranks, each of which takes the smallest; more than 8 would be slower than sorting. `rank` is
// scratch for Np integers as wide as T.
template <class T>
void least_used(int64_t* slots, const T* usage, int64_t n, T* rank, const Sizes<T>& s) {
  using I = IntVec<T>;
  constexpr int L = Lanes<T>::L;
  if (n > 8) return mannkern::sort_least_used(usage, s.N, n, slots);
  for (int64_t i = 0; i < s.Np; i += L) {
    I r;
    if (i + L <= s.N) r = usage_rank<T>(load(usage + i));
    else {
      Vec<T> u = {};
      for (int e = 0; e < L; ++e) u[e] = i + e < s.N ? usage[i + e] : T(0);
      r = usage_rank<T>(u);
      for (int e = 0; e < L; ++e) r[e] = i + e < s.N ? r[e] : kTaken<T>;
    }
    std::memcpy(rank + i, &r, sizeof r);
  }
  for (int64_t k = 0; k < n; ++k) {
    I best = I{} + kTaken<T>, where = {};
    for (int64_t i = 0; i < s.Np; i += L) {
      const I r = bits<I>(load(rank + i)), smaller = r < best;
      best = smaller ? r : best;
      where = smaller ? I{} + Int<T>(i) : where;
    }
    for (int e = 0; e < L; ++e) where[e] += e;
    const I smallest = I{} + lane_min<T>(best);
    const int64_t slot = lane_min<T>(best == smallest ? where : I{} + kTaken<T>);  // of equal ones the first
    slots[k] = slot;
    std::memcpy(rank + slot, &kTaken<T>, sizeof(T));
  }
}

}  // namespace
