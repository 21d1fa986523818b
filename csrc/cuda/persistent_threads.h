// How 8 warps hold a memory in their registers, and how they sum over its columns and slots.
//
// A warp has 16 slots: lane l has columns l%8, l%8 + 8 ... of four slots, l/8 * 4 and on. Sums over columns and over
// slots go through `scatter_sum`: in each round a lane keeps half of its sums and gives the other half to its partner.
// Sums of two slots are added up in the same order, so equal slots get equal bits.
#pragma once

#include "persistent_layout.h"

namespace mannkern {

constexpr int kColumnLanes = 8, kSlotsOfThread = 4, kColumnsOfThread = kMostColumns / kColumnLanes;
constexpr int kSlotsOfWarp = kMostSlots / kMemoryWarps;

// Adds up K numbers over the lanes that differ in bit `kBit` of their index. The lane whose bit is 0 keeps the first
// half of the sums, at v[0] and on, the other the second half.
template <int K, int kBit>
__device__ void scatter_sum(float* v) {
  const bool second = threadIdx.x & kBit;
#pragma unroll
  for (int k = 0; k < K / 2; ++k) {
    const float own = second ? v[k + K / 2] : v[k], given = second ? v[k] : v[k + K / 2];
    v[k] = add(own, __shfl_xor_sync(kAll, given, kBit));
  }
}

struct Largest {
  __device__ float operator()(float a, float b) const { return std::fmax(a, b); }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return add(a, b); }
};

// Combines the numbers of two heads over the lanes of a warp that have the same bit 0; a lane gets the result of the
// head that its bit 1 names.
template <class Combine>
__device__ float combine_pairs(float first, float second, Combine combine) {
  const bool other = threadIdx.x & 2;
  float v = combine(other ? second : first, __shfl_xor_sync(kAll, other ? first : second, 2));
  v = combine(v, __shfl_xor_sync(kAll, v, 4));
  v = combine(v, __shfl_xor_sync(kAll, v, 8));
  return combine(v, __shfl_xor_sync(kAll, v, 16));
}

// sigmoid(x); row_math.h's takes a division and a branch more.
__device__ inline float fast_sigmoid(float x) { return reciprocal(add(1, std::exp(-x))); }

struct DeviceMath {
  using Number = float;
  __device__ static float exp_nonpositive(float x) { return std::exp(x); }
  __device__ static float log1p_exp(float x) { return std::log1p(std::exp(x)); }
  __device__ static float expm1(float x) { return std::expm1(x); }
};

// A thread's part of a memory and of its rows. Lane l has slot `own` = l%8/2 of its four, and of that the weights of
// the heads 2 (l%2) and 2 (l%2) + 1; cosines and norms are those of the last step.
struct MemoryRegisters {
  float at[kSlotsOfThread][kColumnsOfThread];
  float read_weights[2], cosine[2];
  float usage, norm;
};

// A thread's place in the memory.
struct MemoryPlace {
  int thread, warp, column, first, own, head, slot;  // `slot` is number `own` of those from `first` on
  __device__ MemoryPlace() : MemoryPlace(int(threadIdx.x) % kMemoryThreads) {}
  __device__ explicit MemoryPlace(int thread) : thread(thread) {
    const int lane = thread % kLanes;
    warp = thread / kLanes;
    column = lane % kColumnLanes;
    first = warp * kSlotsOfWarp + lane / kColumnLanes * kSlotsOfThread;
    own = column / 2;
    head = 2 * (column % 2);
    slot = first + own;
  }
  // A barrier of the memory's threads.
  __device__ void sync() const { group_barrier(1, kMemoryThreads); }
  // Such a barrier that the block's other threads come to as well, by calling `arrive`.
  __device__ void sync_with_others() const { group_barrier(2, kPersistentThreads); }
  static __device__ void arrive() { group_arrive(2, kPersistentThreads); }
};

// The weights of four heads on a slot, side by side in shared memory.
__device__ inline float4 weights_of(const float* weights, int slot) {
  return reinterpret_cast<const float4*>(weights)[slot];
}
__device__ inline void set_weights(float* weights, const MemoryPlace& p, float first, float second) {
  reinterpret_cast<float2*>(weights)[(p.slot * kHeads + p.head) / 2] = float2{first, second};
}

// A thread's columns of the vectors of four heads.
using HeadColumns = float[kHeads][kColumnsOfThread];

__device__ inline void load_columns(HeadColumns& to, const float* vectors, const MemoryPlace& p) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) to[h][j] = vectors[h * kMostColumns + p.column + kColumnLanes * j];
}

// x(i) += sum_h weights[h](i) v[h], with the weights of shared memory.
__device__ inline void add_weighted(float (&x)[kColumnsOfThread], const float4& w, const HeadColumns& v) {
#pragma unroll
  for (int j = 0; j < kColumnsOfThread; ++j) {
    const float two = std::fma(w.y, v[1][j], std::fma(w.x, v[0][j], x[j]));
    x[j] = std::fma(w.w, v[3][j], std::fma(w.z, v[2][j], two));
  }
}

// Sums over the warp's slots of weights times memory, with the weights of shared memory; column j of a lane and head
// h = lane / 8 end in sums[j].
__device__ inline void sum_slots(float (&sums)[kHeads * kColumnsOfThread],
                                 const float (&x)[kSlotsOfThread][kColumnsOfThread], const float* weights,
                                 const MemoryPlace& p) {
#pragma unroll
  for (int k = 0; k < kHeads * kColumnsOfThread; ++k) sums[k] = 0;
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
    const float4 w = weights_of(weights, p.first + i);
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      sums[j] = std::fma(w.x, x[i][j], sums[j]);
      sums[kColumnsOfThread + j] = std::fma(w.y, x[i][j], sums[kColumnsOfThread + j]);
      sums[2 * kColumnsOfThread + j] = std::fma(w.z, x[i][j], sums[2 * kColumnsOfThread + j]);
      sums[3 * kColumnsOfThread + j] = std::fma(w.w, x[i][j], sums[3 * kColumnsOfThread + j]);
    }
  }
  scatter_sum<20, 16>(sums), scatter_sum<10, 8>(sums);
}

// Stores the sums of sum_slots as the warp's part.
__device__ inline void store_part(float* parts, const float (&sums)[kHeads * kColumnsOfThread], const MemoryPlace& p) {
  const int head = threadIdx.x % kLanes / kColumnLanes;
#pragma unroll
  for (int j = 0; j < kColumnsOfThread; ++j)
    parts[p.warp * kVector + head * kMostColumns + p.column + kColumnLanes * j] = sums[j];
}

}  // namespace mannkern
