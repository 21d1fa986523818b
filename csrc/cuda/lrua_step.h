// The kernel of lrua_step: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_block.h"

namespace mannkern {

// The most threads of a block, and blocks that a multiprocessor must have registers for.
template <int kN>
constexpr int kStepThreads = kN ? kN : kStepSlots;
template <int kN>
constexpr int kStepBlocks = kN ? 6 : 2;

MANNKERN_HOST_TOO int whole_fours(int count) { return (count + 3) & ~3; }

// Where a block of lrua_step has its shared memory; every part begins at a multiple of 16 bytes.
template <int R, int kN, int kW>
struct StepShared {
  StepSizes<kN, kW> sizes;
  int candidates;  // least used slots that a warp may have
  float *rows, *weights, *adds, *units, *gates, *totals;
  uint32_t* usages;

  MANNKERN_HOST_TOO StepShared(const Shape& s, int64_t n, float* at)
      : sizes{int(s.N), int(s.W)}, candidates(least(n, kLanes)) {
    const int vectors = R * sizes.columns(), warps = sizes.warps();
    rows = at;
    weights = rows + warps * kLanes * sizes.pitch();
    adds = weights + warps * kLanes * kPitch<R>;
    units = adds + vectors;
    gates = units + vectors;
    totals = gates + 2 * kPitch<4>;
    usages = reinterpret_cast<uint32_t*>(totals + 2 * warps * kPitch<4>);
  }
  MANNKERN_HOST_TOO int64_t bytes() const {
    return reinterpret_cast<char*>(usages + sizes.warps() * whole_fours(candidates)) - reinterpret_cast<char*>(rows);
  }
};

// Integers in the order of the usages: -0 equals 0; NaN is above every number and below kTaken.
constexpr uint32_t kTaken = 0xffffffffu;
__device__ inline uint32_t usage_order(float u) {
  const uint32_t bits = bits_of(u == 0.0f ? 0.0f : u);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return u == u ? ordered : kTaken - 1;
}

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

template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kStepBlocks<kN>) lrua_step_kernel(LRUAStep<float> op) {
  const StepShared<R, kN, kW> shared(op.shape, op.options.n, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), candidates = shared.candidates;
  const int i = threadIdx.x, lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x);
  const bool exists = sizes.has(i);
  const int64_t e = blockIdx.x, first = e * R * N + i;
  const WarpRows<kN, kW> rows{sizes, shared.rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  rows.load_later(op.memory + (e * N + warp * kLanes) * W);
  const float usage = exists ? op.usage[e * N + i] : 0.0f;
  float w[R];
  load_slot(w, op.read_weights, first, N, exists);
  for (int h = warp; h < R; h += warps) {
    const int64_t head = e * R + h;
    float add[kOfVector], key[kOfVector];
    load_vector(add, op.interface.add + head * W, sizes, lane);
    load_vector(key, op.interface.key + head * W, sizes, lane);
    const float gate = op.interface.gate[head];
    put_vector<R>(shared.adds, add, 1.0f, sizes, h, lane);
    put_unit_key<R>(shared.units, key, sizes, h, lane);
    put_gate(shared.gates, h, gate, lane);
  }
  const uint32_t order = exists ? usage_order(usage) : kTaken;
  const int place = put_smallest(shared.usages + warp * whole_fours(candidates), order, candidates, lane);
  __syncthreads();

  const int rank = exists ? rank_of(shared.usages, order, place, candidates, warp, warps) : N;
  if (rank < op.options.n) op.least_used[e * op.options.n + rank] = i;
  write_weights(w, shared.gates, rank, op.options);
  store_slot(op.write_weights, w, first, N, exists);
  float usage_out = float(op.options.decay) * usage;
#pragma unroll
  for (int h = 0; h < R; ++h) usage_out += w[h];
  wait_for_copies();
  if (rank == 0) rows.clear_own();

  // write, and the products of the new row with itself and with the unit keys
  float square = 0, cosine[R];
#pragma unroll
  for (int h = 0; h < R; ++h) cosine[h] = 0;
#pragma unroll 2
  for (int c = 0; c < sizes.chunks(); ++c) {
    float4 x = rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) add_scaled(x, w[h], load_four(shared.adds + 4 * (c * R + h)));
    rows.own()[c] = x;
    add_products(square, x, x);
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(cosine[h], x, load_four(shared.units + 4 * (c * R + h)));
  }
  __syncwarp();
  rows.store(op.memory_out + (e * N + warp * kLanes) * W);
  const float norm = norm_from(square, [&](float scale) {
    float sum = 0;
    for (int j = 0; j < W; ++j) {
      const float x = scale * reinterpret_cast<const float*>(rows.own())[j];
      sum += x * x;
    }
    return sum;
  });
  const float inverse = inverse_of(norm);
  if (exists) op.norm[e * N + i] = norm;
#pragma unroll
  for (int h = 0; h < R; ++h) cosine[h] *= inverse;
  store_slot(op.cosine, cosine, first, N, exists);

  // content weights; without strengths the logits are cosines, whose exponentials cannot overflow
  float content[R];
#pragma unroll
  for (int h = 0; h < R; ++h) content[h] = cosine[h];
  if (op.interface.strength) {
    float* largest = shared.totals + warps * kPitch<4>;
#pragma unroll
    for (int h = 0; h < R; ++h) {
      content[h] *= op.interface.strength[e * R + h];
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

  // sums over slots: of the weights, and of the weighted rows
  const float sum = sum_over_lanes(content, lane);
  if (lane < R) shared.totals[warp * kPitch<R> + lane] = sum;
  float* weights = shared.weights + warp * kLanes * kPitch<R>;
  store_heads(weights + lane * kPitch<R>, content);
  __syncwarp();
  float4 sums[R];
  rows.weighted_sums(sums, weights);
  __syncwarp();
  rows.put_sums(sums, 0);
  __syncthreads();

  float totals[R];
  add_warps(totals, shared.totals, sizes);
#pragma unroll
  for (int h = 0; h < R; ++h) {
    content[h] *= inverse_of(totals[h]);
    usage_out += content[h];
  }
  store_slot(op.read_weights_out, content, first, N, exists);
  if (exists) op.usage_out[e * N + i] = usage_out;
  for (int h = warp; h < R; h += warps) {
    float total = 0;
    for (int v = 0; v < warps; ++v) total += shared.totals[v * kPitch<R> + h];
    const float scale = inverse_of(total);
    for (int j = lane; j < W; j += kLanes)
      op.read[(e * R + h) * W + j] = scale * total_at<R>(shared.rows, sizes, 0, h, j);
  }
}

}  // namespace mannkern
