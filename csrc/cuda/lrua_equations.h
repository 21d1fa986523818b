// The equations of LRUA's step on a block that holds an episode, for the kernels of the step and of the scan.
#pragma once

#include "lrua_block.h"

namespace mannkern {

// The most threads of a block.
template <int kN>
constexpr int kStepThreads = kN ? kN : kStepSlots;

// The interface vector of a head in the registers of a warp, on its way to shared memory.
struct HeadOfWarp {
  float add[kOfVector], key[kOfVector], gate;
};
// `head` counts the heads of all episodes and steps.
template <int kN, int kW>
__device__ HeadOfWarp load_head(const InterfaceVector<float>& from, int64_t head, const StepSizes<kN, kW>& sizes,
                                int lane) {
  HeadOfWarp to;
  load_vector(to.add, from.add + head * sizes.columns(), sizes, lane);
  load_vector(to.key, from.key + head * sizes.columns(), sizes, lane);
  to.gate = from.gate[head];
  return to;
}

// Integers in the order of the usages: -0 equals 0; NaN is above every number and below kTaken.
constexpr uint32_t kTaken = 0xffffffffu;
__device__ inline uint32_t usage_order(float u) {
  const uint32_t bits = bits_of(u == 0.0f ? 0.0f : u);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return u == u ? ordered : kTaken - 1;
}

MANNKERN_HOST_TOO int whole_fours(int count) { return (count + 3) & ~3; }

// Puts the smallest usages of a warp's slots at usages, ascending, with kTaken behind them up to a multiple of four, and
// returns the lane's place among them, or `candidates` if it has none.
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
// of lower warps come first. `usages` has what put_smallest put there, warp by warp.
__device__ inline int rank_of(const uint32_t* usages, uint32_t own, int place, int candidates, int warp, int warps) {
  int rank = place;
  const uint4* from = reinterpret_cast<const uint4*>(usages);
#pragma unroll 1
  for (int w = 0; w < warps; ++w) {
    const uint32_t bound = w < warp ? own : own - 1;
#pragma unroll 1
    for (int k = 0; k < candidates; k += 4, ++from) {
      if (w == warp) continue;
      const uint4 u = *from;
      rank += (u.x <= bound) + (u.y <= bound) + (u.z <= bound) + (u.w <= bound);
    }
  }
  return rank;
}

// Write weights of a slot, in place from the read weights; `gates` has sigmoid(g) of all heads, then sigmoid(-g).
template <int R>
__device__ void write_weights(float (&w)[R], const float* gates, int rank, const LRUAOptions& options) {
  const int n = int(options.n);
  float open[R], closed[R];
  load_heads(open, gates);
  load_heads(closed, gates + kPitch<4>);
  int asked = 0;  // h mod n
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const bool least_used = options.per_head ? rank == asked : rank < n;
    w[h] = open[h] * w[h] + (least_used ? closed[h] : 0.0f);
    asked = asked + 1 == n ? 0 : asked + 1;
  }
}

// Puts sigmoid(g) and sigmoid(-g) of head h at gates; by a warp.
__device__ inline void put_gate(float* gates, int h, float gate, int lane) {
  if (lane < 2) gates[lane * kPitch<4> + h] = inverse_of(1 + exponential(lane ? gate : -gate));
}

// Puts head h where a step has its adds and unit keys (W/4,R,4) and its gates; by a warp. Returns the norm of the key.
template <int R, int kN, int kW>
__device__ float put_head(float* adds, float* units, float* gates, const HeadOfWarp& head,
                          const StepSizes<kN, kW>& sizes, int h, int lane) {
  put_vector<R>(adds, head.add, 1.0f, sizes, h, lane);
  put_gate(gates, h, head.gate, lane);
  return put_unit_key<R>(units, head.key, sizes, h, lane);
}

// Writes to the thread's row; `square` and `products` become those of the new row with itself and with the unit keys.
template <int R, int kN, int kW>
__device__ void write_row(const WarpRows<kN, kW>& rows, const float (&w)[R], const float* adds, const float* units,
                          float& square, float (&products)[R]) {
  square = 0;
#pragma unroll
  for (int h = 0; h < R; ++h) products[h] = 0;
#pragma unroll 2
  for (int c = 0; c < rows.sizes.chunks(); ++c) {
    float4 x = rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) add_scaled(x, w[h], load_four(adds + 4 * (c * R + h)));
    rows.own()[c] = x;
    add_products(square, x, x);
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(products[h], x, load_four(units + 4 * (c * R + h)));
  }
}

// The norm max(|x|, eps) of the thread's row, whose sum of squares may have overflowed.
template <int kN, int kW>
__device__ float norm_of_row(const WarpRows<kN, kW>& rows, float square) {
  return norm_from(square, [&](float scale) {
    float sum = 0;
    for (int j = 0; j < rows.sizes.columns(); ++j) {
      const float x = scale * reinterpret_cast<const float*>(rows.own())[j];
      sum += x * x;
    }
    return sum;
  });
}

// Content weights of a slot, times their sum over slots, in place from its cosines. `strength` (R) may be null: then the
// logits are cosines, whose exponentials cannot overflow. `largest` is shared memory (warps,kPitch<R>).
template <int R>
__device__ void content_weights(float (&content)[R], const float* strength, float* largest, bool exists, int warp,
                                int warps, int lane) {
  if (strength) {
#pragma unroll
    for (int h = 0; h < R; ++h) {
      content[h] *= strength[h];
      float most = exists ? content[h] : kLowest<float>;
#pragma unroll
      for (int o = kLanes / 2; o > 0; o /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, most, o);
        most = other > most ? other : most;
      }
      if (lane == 0) largest[warp * kPitch<R> + h] = most;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < R; ++h) {
      float most = largest[h];
      for (int v = 1; v < warps; ++v) most = largest[v * kPitch<R> + h] > most ? largest[v * kPitch<R> + h] : most;
      content[h] -= most;
    }
  }
#pragma unroll
  for (int h = 0; h < R; ++h) content[h] = exists ? exponential(content[h]) : 0.0f;
}

// The warp's sums over its slots: of the content weights at totals (warps,kPitch<R>), and of the weighted rows at sums.
// `weights` is shared memory (32,kPitch<R>).
template <int R, int kN, int kW>
__device__ void sum_over_slots(const WarpRows<kN, kW>& rows, const float (&content)[R], float* weights, float* totals,
                               float* sums, int warp, int lane) {
  const float sum = sum_over_lanes(content, lane);
  if (lane < R) totals[warp * kPitch<R> + lane] = sum;
  store_heads(weights + lane * kPitch<R>, content);
  __syncwarp();
  float4 of_rows[R];
  rows.weighted_sums(of_rows, weights);
  __syncwarp();
  rows.put_sums(of_rows, sums);
}

// Divides the content weights by their sum over slots, and adds them to the slot's new usage.
template <int R, int kN, int kW>
__device__ void finish_weights(float (&content)[R], float& usage, const float* totals,
                               const StepSizes<kN, kW>& sizes) {
  float sums[R];
  add_warps(sums, totals, sizes);
#pragma unroll
  for (int h = 0; h < R; ++h) {
    content[h] *= inverse_of(sums[h]);
    usage += content[h];
  }
}

// Stores the reads (R,W) of an episode; sums of warps lie `gap` numbers apart.
template <int R, int kN, int kW>
__device__ void store_reads(float* reads, const float* totals, const float* sums, int gap,
                            const StepSizes<kN, kW>& sizes, int warp, int lane) {
  for (int h = warp; h < R; h += sizes.warps()) {
    float total = 0;
    for (int v = 0; v < sizes.warps(); ++v) total += totals[v * kPitch<R> + h];
    const float scale = inverse_of(total);
    for (int j = lane; j < sizes.columns(); j += kLanes)
      reads[h * sizes.columns() + j] = scale * total_at<R>(sums, gap, sizes, h, j);
  }
}

}  // namespace mannkern
