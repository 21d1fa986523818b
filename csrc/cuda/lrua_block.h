// How a block of threads holds an episode of LRUA: a thread has a slot, whose row of the memory is in shared memory, and
// a warp copies and sums up the rows of its own 32 slots, so that it waits for no other warp.
//
// Every thread computes its slot's numbers by the same instructions, so that equal slots get equal bits.
#pragma once

#include "../args/lrua.h"
#include "cluster.h"
#include "tiles.h"

namespace mannkern {

constexpr int kStepSlots = 256, kStepNumbers = 10240;  // most slots, and numbers of a memory, of an episode
constexpr int kStepWidth = 128;                        // most columns, four times as many as a warp has lanes
constexpr int kSlices = 4;                             // most parts into which a warp's slots are divided to be summed up
constexpr uint32_t kAllLanes = 0xffffffffu;

#if defined(__CUDACC__)

// Copies four numbers to shared memory while the thread goes on; zeros unless they exist.
__device__ inline void copy_later(float* to, const float* from, bool exist) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(uint32_t(__cvta_generic_to_shared(to))), "l"(from),
               "r"(exist ? 16 : 0)
               : "memory");
}
__device__ inline void end_of_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for the warp's copies up to the last but `kLater` calls of end_of_copies.
template <int kLater>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLater) : "memory");
  __syncwarp();
}

#endif

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

// The numbers of slot i of episode e from rows (B,R,N); 0 where there are none, or no such slot.
template <int R>
__device__ void load_slot(float (&to)[R], const float* rows, int64_t e, int N, int i) {
#pragma unroll
  for (int h = 0; h < R; ++h) to[h] = rows && i < N ? rows[(e * R + h) * N + i] : 0.0f;
}
template <int R>
__device__ void store_slot(float* rows, const float (&from)[R], int64_t e, int N, int i) {
#pragma unroll
  for (int h = 0; h < R; ++h)
    if (i < N) rows[(e * R + h) * N + i] = from[h];
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
    sum = (lane & 1 ? v[1] : v[0]) + __shfl_xor_sync(kAllLanes, lane & 1 ? v[0] : v[1], 1);
    o = 2;
  }
  if constexpr (R > 2) {
    const float last = R == 4 ? v[R - 1] : 0.0f;
    const float other = (lane & 1 ? last : v[2]) + __shfl_xor_sync(kAllLanes, lane & 1 ? v[2] : last, 1);
    sum = (lane & 2 ? other : sum) + __shfl_xor_sync(kAllLanes, lane & 2 ? sum : other, 2);
    o = 4;
  }
#pragma unroll
  for (; o < kLanes; o *= 2) sum += __shfl_xor_sync(kAllLanes, sum, o);
  return sum;
}

// The chunks of a row, four columns each. kC is their number, or 0 if that is known only when the kernel runs.
template <int kC>
struct Chunks {
  int W;
  MANNKERN_HOST_TOO int count() const { return kC ? kC : W / 4; }
  MANNKERN_HOST_TOO int columns() const { return kC ? 4 * kC : W; }
  // at / count(), for at up to 32 times count(): rounding up 65536 / count() errs by less than 1 / count() there.
  __device__ int row_of(int at) const { return at * (65536 / count() + 1) >> 16; }
  // Numbers from a row to the next. An odd number of chunks: eight lanes then read a chunk of eight rows at once.
  MANNKERN_HOST_TOO int pitch() const { return 4 * (count() | 1); }
  __device__ int slices() const { return least(kLanes / count(), kSlices); }
};

// A warp's rows of a memory, in shared memory.
template <int kC>
struct WarpRows {
  Chunks<kC> chunks;
  float* at;
  int slots, lane;  // how many of the 32 slots exist

  __device__ float4* own() const { return reinterpret_cast<float4*>(at + lane * chunks.pitch()); }
  __device__ void clear_own() const {
    for (int c = 0; c < chunks.count(); ++c) own()[c] = float4{0.0f, 0.0f, 0.0f, 0.0f};
  }
  __device__ void load_later(const float* from) const {
#pragma unroll
    for (int k = 0; k < chunks.count(); ++k) {
      const int q = k * kLanes + lane, row = chunks.row_of(q);
      copy_later(place(q, row), row < slots ? from + 4 * q : from, row < slots);
    }
  }
  __device__ void store(float* to) const {
#pragma unroll
    for (int k = 0; k < chunks.count(); ++k) {
      const int q = k * kLanes + lane, row = chunks.row_of(q);
      if (row < slots) *reinterpret_cast<float4*>(to + 4 * q) = *reinterpret_cast<const float4*>(place(q, row));
    }
  }
  // Sums over the warp's slots of a weight of each head (32,kPitch<R>) times the row. A lane has a chunk of every
  // slices()-th slot.
  template <int R>
  __device__ void weighted_sums(float4 (&sums)[R], const float* weights) const {
    const int slice = chunks.row_of(lane), chunk = lane - slice * chunks.count(), slices = chunks.slices();
#pragma unroll
    for (int h = 0; h < R; ++h) sums[h] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (slice >= slices) return;
    const float* row = at + slice * chunks.pitch() + 4 * chunk;
#pragma unroll(kC ? kLanes : 2)
    for (int slot = 0; slot < kLanes; slot += slices) {
      if (slot + slice >= kLanes) break;
      float w[R];
      load_heads(w, weights + (slot + slice) * kPitch<R>);
      const float4 x = *reinterpret_cast<const float4*>(row + slot * chunks.pitch());
#pragma unroll
      for (int h = 0; h < R; ++h) add_scaled(sums[h], w[h], x);
    }
  }
  // Puts the weighted sums where the rows were, as set `set`; the warp must have read its rows.
  template <int R>
  __device__ void put_sums(const float4 (&sums)[R], int set) const {
    const int slice = chunks.row_of(lane), chunk = lane - slice * chunks.count(), slices = chunks.slices();
    if (slice >= slices) return;
    float4* to = reinterpret_cast<float4*>(at) + ((set * slices + slice) * chunks.count() + chunk) * R;
#pragma unroll
    for (int h = 0; h < R; ++h) to[h] = sums[h];
  }

 private:
  __device__ float* place(int q, int row) const { return at + 4 * (q + row * (1 - (chunks.count() & 1))); }
};

// Number j of head h of the weighted sums in set `set`, over all slots. `rows` are those of the first warp.
template <int R, int kC>
__device__ float total_at(const float* rows, const Chunks<kC>& chunks, int set, int h, int j, int warps) {
  const int slices = chunks.slices(), slice_numbers = chunks.columns() * R;
  const float* from = rows + set * slices * slice_numbers + (j / 4 * R + h) * 4 + j % 4;
  float sum = 0;
  for (int w = 0; w < warps; ++w)
    for (int s = 0; s < slices; ++s) sum += from[w * kLanes * chunks.pitch() + s * slice_numbers];
  return sum;
}

// The sum over warps of what each has put at totals (warps,kPitch<R>).
template <int R>
__device__ void add_warps(float (&sums)[R], const float* totals, int warps) {
#pragma unroll
  for (int h = 0; h < R; ++h) sums[h] = 0;
  for (int w = 0; w < warps; ++w) {
    float part[R];
    load_heads(part, totals + w * kPitch<R>);
#pragma unroll
    for (int h = 0; h < R; ++h) sums[h] += part[h];
  }
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
  float norm = std::sqrt(square);
  if (square > kMost<float>) norm = std::sqrt(scaled_square(kDown)) * (1 / kDown);
  return norm > kEps<float> ? norm : kEps<float>;
}

// Puts a head's vector (W) into vectors (W/4,R,4), as `x(j)` gives its number j; by a warp.
template <int R, class F>
__device__ void put_vector(float* vectors, int h, int W, int lane, F x) {
  for (int j = lane; j < W; j += kLanes) vectors[(j / 4 * R + h) * 4 + j % 4] = x(j);
}

// Puts the key k / max(|k|, eps) of head h into unit keys (W/4,R,4) and returns max(|k|, eps); by a warp.
template <int R>
__device__ float put_unit_key(float* units, const float* key, int h, int W, int lane) {
  const auto squares = [&](float scale) {
    float sum = 0;
    for (int j = lane; j < W; j += kLanes) sum += (scale * key[j]) * (scale * key[j]);
    return sum_of_lanes(sum);
  };
  const float norm = norm_from(squares(1.0f), squares), inverse = 1 / norm;
  put_vector<R>(units, h, W, lane, [&](int j) { return key[j] * inverse; });
  return norm;
}

}  // namespace mannkern
