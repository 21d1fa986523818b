// The equations of LRUA's step on a block that holds an episode, for the kernels of the step and of the scan.
#pragma once

#include "lrua_least_used.h"

namespace mannkern {

// The most threads of a block.
template <int kN>
constexpr int kStepThreads = kN ? kN / kOwn<kN> : kStepSlots;

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

// Puts head h where a step has its adds and unit keys (R,kGap<kW>) and its gates; by a warp. Returns the key's norm.
template <int kN, int kW>
__device__ float put_head(float* adds, float* units, float* gates, const HeadOfWarp& head,
                          const StepSizes<kN, kW>& sizes, int h, int lane) {
  put_vector(adds, head.add, 1.0f, sizes, h, lane);
  put_gate(gates, h, head.gate, lane);
  return put_unit_key(units, head.key, sizes, h, lane);
}

// Writes to the thread's rows; `squares` and `products` become those of the new rows with themselves and with the unit
// keys.
template <int R, int kN, int kW>
__device__ void write_rows(const WarpRows<kN, kW>& rows, const float (&w)[kOwn<kN>][R], const float* adds,
                           const float* units, float (&squares)[kOwn<kN>], float (&products)[kOwn<kN>][R]) {
  constexpr int S = kOwn<kN>;
#pragma unroll
  for (int s = 0; s < S; ++s) {
    squares[s] = 0;
#pragma unroll
    for (int h = 0; h < R; ++h) products[s][h] = 0;
  }
#pragma unroll 2
  for (int c = 0; c < rows.sizes.chunks(); ++c) {
    float4 x[S];
#pragma unroll
    for (int s = 0; s < S; ++s) x[s] = rows.own(s)[c];
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float4 add = load_four(adds + h * kGap<kW> + 4 * c);
#pragma unroll
      for (int s = 0; s < S; ++s) add_scaled(x[s], w[s][h], add);
    }
#pragma unroll
    for (int s = 0; s < S; ++s) {
      rows.own(s)[c] = x[s];
      add_products(squares[s], x[s], x[s]);
    }
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float4 unit = load_four(units + h * kGap<kW> + 4 * c);
#pragma unroll
      for (int s = 0; s < S; ++s) add_products(products[s][h], x[s], unit);
    }
  }
}

// The norm max(|x|, eps) of a row, whose sum of squares may have overflowed.
__device__ inline float norm_of_row(const float4* row, float square, int W) {
  return norm_from(square, [&](float scale) {
    float sum = 0;
    for (int j = 0; j < W; ++j) {
      const float x = scale * reinterpret_cast<const float*>(row)[j];
      sum += x * x;
    }
    return sum;
  });
}

// A content weight times their sum over slots, from cosine, strength and largest logit; without strengths it is
// exponential(cosine), which cannot overflow.
__device__ inline float content_weight(float cosine, float strength, float largest) {
  return exponential(add(bounded(strength) * cosine, -largest));
}
// The largest logit of a head, from those of warps (warps,kPitch<R>).
template <int R>
__device__ float largest_of(const float* largest, int h, int warps) {
  float most = largest[h];
  for (int v = 1; v < warps; ++v) most = largest[v * kPitch<R> + h] > most ? largest[v * kPitch<R> + h] : most;
  return most;
}
// The sum over slots of a head, from those of warps (warps,kPitch<R>).
template <int R>
__device__ float sum_of(const float* totals, int h, int warps) {
  float total = 0;
  for (int v = 0; v < warps; ++v) total += totals[v * kPitch<R> + h];
  return total;
}

// Content weights of the thread's slots, times their sum over slots, in place from their cosines. `strength` (R) may be
// null. `largest` is shared memory (warps,kPitch<R>).
template <int R, int kN, int kW>
__device__ void content_weights(float (&content)[kOwn<kN>][R], const float* strength, float* largest,
                                const WarpRows<kN, kW>& rows, int warp) {
  constexpr int S = kOwn<kN>;
  if (strength) {
#pragma unroll
    for (int h = 0; h < R; ++h) {
      float most = kLowest<float>;
#pragma unroll
      for (int s = 0; s < S; ++s) {
        const float logit = bounded(strength[h]) * content[s][h];
        most = rows.has(s) && logit > most ? logit : most;
      }
#pragma unroll
      for (int o = kLanes / 2; o > 0; o /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, most, o);
        most = other > most ? other : most;
      }
      if (rows.lane == 0) largest[warp * kPitch<R> + h] = most;
    }
    __syncthreads();
  }
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const float most = strength ? largest_of<R>(largest, h, rows.sizes.warps()) : 0.0f;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const float e = strength ? content_weight(content[s][h], strength[h], most) : exponential(content[s][h]);
      content[s][h] = rows.has(s) ? e : 0.0f;
    }
  }
}

// The sum over a warp's slots of R numbers of each; lane h < R gets that of head h.
template <int S, int R>
__device__ float sum_over_warp(const float (&v)[S][R], int lane) {
  float sums[R];
#pragma unroll
  for (int h = 0; h < R; ++h) {
    sums[h] = v[0][h];
    if constexpr (S == 2) sums[h] = add(sums[h], v[1][h]);
  }
  return sum_over_lanes(sums, lane);
}

// Puts R numbers of each of the thread's slots at weights (kOfWarp,kPitch<R>).
template <int S, int R>
__device__ void put_weights(float* weights, const float (&w)[S][R], int lane) {
#pragma unroll
  for (int s = 0; s < S; ++s) store_heads(weights + (s * kLanes + lane) * kPitch<R>, w[s]);
}

// The warp's sums over its slots: of the content weights at totals (warps,kPitch<R>), and of the weighted rows at sums.
// `weights` is shared memory (kOfWarp,kPitch<R>).
template <int R, int kN, int kW>
__device__ void sum_over_slots(const WarpRows<kN, kW>& rows, const float (&content)[kOwn<kN>][R], float* weights,
                               float* totals, float* sums, int warp) {
  const float sum = sum_over_warp(content, rows.lane);
  if (rows.lane < R) totals[warp * kPitch<R> + rows.lane] = sum;
  put_weights(weights, content, rows.lane);
  __syncwarp();
  float4 of_rows[R];
  rows.weighted_sums(of_rows, weights);
  __syncwarp();
  rows.put_sums(of_rows, sums);
}

// Divides the content weights by their sum over slots, and adds them to the slots' new usage.
template <int R, int kN, int kW>
__device__ void finish_weights(float (&content)[kOwn<kN>][R], float (&usage)[kOwn<kN>], const float* totals,
                               const StepSizes<kN, kW>& sizes) {
  float sums[R];
  add_warps(sums, totals, sizes);
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const float inverse = inverse_of(sums[h]);
#pragma unroll
    for (int s = 0; s < kOwn<kN>; ++s) {
      content[s][h] *= inverse;
      usage[s] += content[s][h];
    }
  }
}

// Stores the reads (R,W) of an episode; sums of warps lie `gap` numbers apart.
template <int R, int kN, int kW>
__device__ void store_reads(float* reads, const float* totals, const float* sums, int gap,
                            const StepSizes<kN, kW>& sizes, int warp, int lane) {
  for (int h = warp; h < R; h += sizes.warps()) {
    const float scale = inverse_of(sum_of<R>(totals, h, sizes.warps()));
    for (int j = lane; j < sizes.columns(); j += kLanes)
      reads[h * sizes.columns() + j] = scale * total_at<R>(sums, gap, sizes, h, j);
  }
}

}  // namespace mannkern
