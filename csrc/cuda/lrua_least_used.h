// How a block finds the least used slots of its episode.
#pragma once

#include "lrua_block.h"

namespace mannkern {

// Integers in the order of the usages: -0 equals 0; NaN is above every number and below kTaken.
constexpr uint32_t kTaken = 0xffffffffu;
__device__ inline uint32_t usage_order(float u) {
  const uint32_t bits = bits_of(u == 0.0f ? 0.0f : u);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return u == u ? ordered : kTaken - 1;
}

MANNKERN_HOST_TOO int whole_fours(int count) { return (count + 3) & ~3; }

// Puts the smallest usages of a group's slots, one of each lane, at usages, ascending, with kTaken behind them up to a
// multiple of four, and returns the lane's place among them, or `candidates` if it has none.
__device__ inline int put_smallest(uint32_t* usages, uint32_t own, int candidates, int lane) {
  if (lane < whole_fours(candidates)) usages[lane] = kTaken;
  __syncwarp();
  uint32_t left = own;
  int place = candidates;
#pragma unroll 1
  for (int k = 0; k < candidates; ++k) {
    const uint32_t smallest = __reduce_min_sync(kAllLanes, left);
    if (smallest == kTaken) break;
    if (lane != __ffs(int(__ballot_sync(kAllLanes, left == smallest))) - 1) continue;
    usages[k] = own;
    left = kTaken;
    place = k;
  }
  return place;
}

// The rank of a slot among all slots by usage, if it is a least used one; otherwise n or more. Of equal usages, those
// of lower groups come first. `usages` has what put_smallest put there, group by group.
__device__ inline int rank_of(const uint32_t* usages, uint32_t own, int place, int candidates, int group, int groups) {
  int rank = place;
  const uint4* from = reinterpret_cast<const uint4*>(usages);
#pragma unroll 1
  for (int g = 0; g < groups; ++g) {
    const uint32_t bound = g < group ? own : own - 1;
#pragma unroll 1
    for (int k = 0; k < candidates; k += 4, ++from) {
      if (g == group) continue;
      const uint4 u = *from;
      rank += (u.x <= bound) + (u.y <= bound) + (u.z <= bound) + (u.w <= bound);
    }
  }
  return rank;
}

// The ranks of the thread's slots by usage, in two parts, between which the block has a barrier: where a slot is no
// least used one, n or more. `usages` is shared memory (groups,whole_fours(candidates)).
template <int kN>
struct Ranks {
  uint32_t order[kOwn<kN>];
  int at[kOwn<kN>];

  template <int kW>
  __device__ void begin(const float (&usage)[kOwn<kN>], uint32_t* usages, int candidates,
                        const WarpRows<kN, kW>& rows) {
#pragma unroll
    for (int s = 0; s < kOwn<kN>; ++s) {
      const int group = rows.first / kLanes + s;
      order[s] = rows.has(s) ? usage_order(usage[s]) : kTaken;
      at[s] = put_smallest(usages + group * whole_fours(candidates), order[s], candidates, rows.lane);
    }
  }
  template <int kW>
  __device__ void end(const uint32_t* usages, int candidates, const WarpRows<kN, kW>& rows) {
    const int groups = rows.sizes.groups(), N = rows.sizes.slots();
#pragma unroll
    for (int s = 0; s < kOwn<kN>; ++s)
      at[s] = rows.has(s) ? rank_of(usages, order[s], at[s], candidates, rows.first / kLanes + s, groups) : N;
  }
};

}  // namespace mannkern
