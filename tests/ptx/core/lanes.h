// Instructions by which the lanes of a warp exchange values.
#pragma once

#include "arithmetic.h"
#include "machine.h"

namespace ptx {

enum Shuffle { kButterfly, kIndex, kUp, kDown };

inline void shuffle(Warp& w, const Instruction& i, u32 mask) {
  const u32 *a = values<u32>(w, i.s[0]), *b = values<u32>(w, i.s[1]), *c = values<u32>(w, i.s[2]);
  const u32 source_undefined = undefined(w, i.s[0]);
  u32 result[kLanes], bits = 0, inside = 0;
  for (int l = 0; l < kLanes; ++l) {
    const int by = b[l] & 31, clamp = c[l] & 31, segment = c[l] >> 8 & 31, border = (l & segment) | (clamp & ~segment);
    int from = 0;
    switch (i.immediate) {
      case kButterfly: from = l ^ by; break;
      case kIndex: from = (l & segment) | (by & ~segment); break;
      case kUp: from = l - by; break;
      default: from = l + by; break;
    }
    const bool is_inside = i.immediate == kUp ? from >= border : from <= border;
    if (!is_inside)
      from = l;
    else
      inside |= 1u << l;
    result[l] = a[from];
    if (has(source_undefined, from) || !has(mask, from)) bits |= 1u << l;
  }
  u32* d = values<u32>(w, i.d[0]);
  const u32 by_undefined = undefined(w, i.s[1]);
  each_lane(mask, [&](int l) { d[l] = result[l]; });
  set_undefined(w, i.d[0], mask, bits | by_undefined);
  if (i.num_results > 1) {
    set_predicate(w, i.d[1], mask, inside);
    set_undefined(w, i.d[1], mask, 0);
  }
}

enum Reduction { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <class T>
void reduce(Warp& w, const Instruction& i, u32 mask) {
  const T* a = values<T>(w, i.s[0]);
  T result = a[first_lane(mask)];
  each_lane(mask & (mask - 1), [&](int l) {
    switch (i.immediate) {
      case kAdd: result += a[l]; break;
      case kMin: result = a[l] < result ? a[l] : result; break;
      case kMax: result = a[l] > result ? a[l] : result; break;
      case kAnd: result &= a[l]; break;
      case kOr: result |= a[l]; break;
      default: result ^= a[l]; break;
    }
  });
  const bool is_undefined = undefined(w, i.s[0]) & mask;
  T* d = values<T>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = result; });
  set_undefined(w, i.d[0], mask, is_undefined ? kAllLanes : 0);
}

// Of single numbers: those that are NaN do not count, unless all are.
inline void reduce_float(Warp& w, const Instruction& i, u32 mask) {
  const float* a = values<float>(w, i.s[0]);
  float result = a[first_lane(mask)];
  each_lane(mask & (mask - 1), [&](int l) {
    result = i.immediate == kMin ? FloatLeast()(a[l], result) : FloatGreatest()(a[l], result);
  });
  const bool is_undefined = undefined(w, i.s[0]) & mask;
  float* d = values<float>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = result; });
  set_undefined(w, i.d[0], mask, is_undefined ? kAllLanes : 0);
}

enum Vote { kBallot, kAny, kAll };

inline void vote(Warp& w, const Instruction& i, u32 mask) {
  const u32 votes = predicate(w, i.s[0]) & mask;
  const bool is_undefined = undefined(w, i.s[0]) & mask;
  if (i.immediate == kBallot) {
    u32* d = values<u32>(w, i.d[0]);
    each_lane(mask, [&](int l) { d[l] = votes; });
  } else {
    const bool result = i.immediate == kAny ? votes != 0 : votes == mask;
    set_predicate(w, i.d[0], mask, result ? kAllLanes : 0);
  }
  set_undefined(w, i.d[0], mask, is_undefined ? kAllLanes : 0);
}

inline void warp_barrier(Warp& w, const Instruction&, u32) { w.epoch = ++w.machine->clock; }

}  // namespace ptx
