// What the lanes of a warp do in the kernels of LRUA's step: copies, the numbers of a slot's heads, sums over lanes.
// tests/cuda/emulate_lrua.cpp has the functions that are instructions of a GPU for a CPU.
#pragma once

#include "../args/lrua.h"
#include "cluster.h"
#include "tiles.h"

namespace mannkern {

constexpr uint32_t kAllLanes = 0xffffffffu;

#if defined(__CUDACC__)

// Copies four numbers to shared memory while the thread goes on; zeros unless they exist.
__device__ inline void copy_later(float* to, const float* from, bool exist) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint32_t(__cvta_generic_to_shared(to))), "l"(from),
               "r"(exist ? 16 : 0)
               : "memory");
}
// Four numbers of shared memory by one instruction. Left to itself, the compiler reads one of the four again.
__device__ inline float4 load_four(const float* from) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(uint32_t(__cvta_generic_to_shared(from))));
  return v;
}

// Square root, 1 / x and exp by one instruction, off by at most two of the last bits. The square root of a number under
// 1e-38 is 0; x of 1 / x is at least 1e-27, and scaled, because a result under 1e-38 would be 0.
__device__ inline float root(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float inverse_of(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 0x1p-32f));
  return y * 0x1p-32f;
}
__device__ inline float exponential(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
  return y;
}

// Waits for the warp's copies.
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncwarp();
}

#endif

// The warp of thread i, which the compiler then knows to be the same in all lanes.
__device__ inline int warp_of(unsigned i) { return __shfl_sync(kAllLanes, int(i / kLanes), 0); }

// The numbers of R heads that lie side by side, kPitch<R> apart from the next ones.
template <int R>
constexpr int kPitch = R == 3 ? 4 : R;

template <int R>
__device__ void load_heads(float (&to)[R], const float* from) {
  if constexpr (R == 1) to[0] = from[0];
  else if constexpr (R == 2) {
    const float2 v = *reinterpret_cast<const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  } else {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z;
    if constexpr (R == 4) to[3] = v.w;
  }
}

template <int R>
__device__ void store_heads(float* to, const float (&from)[R]) {
  if constexpr (R == 1) to[0] = from[0];
  else if constexpr (R == 2) *reinterpret_cast<float2*>(to) = float2{from[0], from[1]};
  else if constexpr (R == 3) *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], 0.0f};
  else *reinterpret_cast<float4*>(to) = float4{from[0], from[1], from[2], from[3]};
}

// The numbers of a slot from rows (B,R,N), whose first one is number `first`; 0 where there are none, or no such slot.
template <int R>
__device__ void load_slot(float (&to)[R], const float* rows, int64_t first, int N, bool exists) {
#pragma unroll
  for (int h = 0; h < R; ++h) to[h] = 0;
  if (!rows || !exists) return;
  const float* from = rows + first;
#pragma unroll
  for (int h = 0; h < R; ++h) to[h] = from[h * N];
}
template <int R>
__device__ void store_slot(float* rows, const float (&from)[R], int64_t first, int N, bool exists) {
  if (!exists) return;
  float* to = rows + first;
#pragma unroll
  for (int h = 0; h < R; ++h) to[h * N] = from[h];
}

// x += w y, and the products of two chunks.
__device__ inline void add_scaled(float4& x, float w, const float4& y) {
  x.x += w * y.x, x.y += w * y.y, x.z += w * y.z, x.w += w * y.w;
}
__device__ inline void add_products(float& sum, const float4& x, const float4& y) {
  sum += x.x * y.x, sum += x.y * y.y, sum += x.z * y.z, sum += x.w * y.w;
}

// The sums over the lanes of a warp of R numbers; lane h < R gets that of head h.
template <int R>
__device__ float sum_over_lanes(const float (&v)[R], int lane) {
  float sum = v[0];
  int o = 1;
  if constexpr (R > 1) {  // lanes share the heads between them while they add up
    sum = add(lane & 1 ? v[1] : v[0], __shfl_xor_sync(kAllLanes, lane & 1 ? v[0] : v[1], 1));
    o = 2;
  }
  if constexpr (R > 2) {
    const float last = R == 4 ? v[R - 1] : 0.0f;
    const float other = add(lane & 1 ? last : v[2], __shfl_xor_sync(kAllLanes, lane & 1 ? v[2] : last, 1));
    sum = add(lane & 2 ? other : sum, __shfl_xor_sync(kAllLanes, lane & 2 ? sum : other, 2));
    o = 4;
  }
#pragma unroll
  for (; o < kLanes; o *= 2) sum = add(sum, __shfl_xor_sync(kAllLanes, sum, o));
  return sum;
}

// The sum over the lanes of a warp, for all of them.
__device__ inline float sum_of_lanes(float v) {
#pragma unroll
  for (int o = kLanes / 2; o > 0; o /= 2) v = add(v, __shfl_xor_sync(kAllLanes, v, o));
  return v;
}

// The norm max(|x|, eps) from the sum of squares; if that overflowed, from scaled_square(s), the sum of (s x)^2.
template <class F>
__device__ float norm_from(float square, F scaled_square) {
  constexpr float kDown = 0x1p-70f;
  float norm = root(square);
  if (square > kMost<float>) norm = root(scaled_square(kDown)) * (1 / kDown);
  return norm > kEps<float> ? norm : kEps<float>;
}

}  // namespace mannkern
