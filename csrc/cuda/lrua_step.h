// The kernel of lrua_step: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_block.h"

namespace mannkern {

constexpr int kStepBlocks = 3;  // of kStepSlots threads that a multiprocessor must have registers for

// Where a block of lrua_step has its shared memory; every part begins at a multiple of 16 bytes.
template <int R, int kC>
struct StepShared {
  Chunks<kC> chunks;
  int warps, candidates;  // least used slots that a warp may have
  float *rows, *weights, *adds, *units, *gates, *totals;
  uint32_t* usages;

  MANNKERN_HOST_TOO StepShared(const Shape& s, int64_t n, float* at)
      : chunks{int(s.W)}, warps((int(s.N) + kLanes - 1) / kLanes), candidates(least(n, kLanes)) {
    const int vectors = R * chunks.columns();
    rows = at;
    weights = rows + warps * kLanes * chunks.pitch();
    adds = weights + warps * kLanes * kPitch<R>;
    units = adds + vectors;
    gates = units + vectors;
    totals = gates + 2 * kPitch<4>;
    usages = reinterpret_cast<uint32_t*>(totals + 2 * warps * kPitch<4>);
  }
  MANNKERN_HOST_TOO int64_t bytes() const {
    return reinterpret_cast<char*>(usages + warps * candidates) - reinterpret_cast<char*>(rows);
  }
};

// Integers in the order of the usages: -0 equals 0; NaN is above every number and below kTaken.
constexpr uint32_t kTaken = 0xffffffffu;
__device__ inline uint32_t usage_order(float u) {
  const uint32_t bits = bits_of(u == 0.0f ? 0.0f : u);
  const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
  return u == u ? ordered : kTaken - 1;
}

// Puts the smallest usages of a warp's slots at usages, ascending, and returns the lane's place among them, or
// `candidates` if it has none.
__device__ inline int put_smallest(uint32_t* usages, uint32_t own, int candidates, int lane) {
  uint32_t left = own;
  int place = candidates;
#pragma unroll 1
  for (int k = 0; k < candidates; ++k) {
    const uint32_t smallest = __reduce_min_sync(kAllLanes, left);
    const bool first = lane == __ffs(int(__ballot_sync(kAllLanes, left == smallest))) - 1;
    if (first && left != kTaken) left = kTaken, place = k;
    if (lane == 0) usages[k] = smallest;
  }
  return place;
}

// The rank of a slot among all slots by usage, if it is a least used one; otherwise n or more. Of equal usages, those
// of lower warps come first.
__device__ inline int rank_of(const uint32_t* usages, uint32_t own, int place, int candidates, int warp, int warps) {
  int rank = place;
#pragma unroll 1
  for (int w = 0; w < warps; ++w) {
    if (w == warp) continue;
    const uint32_t bound = w < warp ? own : own - 1;
#pragma unroll 4
    for (int k = 0; k < candidates; ++k) rank += usages[w * candidates + k] <= bound;
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

// Puts sigmoid(g) and sigmoid(-g) of head h at gates.
__device__ inline void put_gate(float* gates, int h, float gate) {
  gates[h] = 1 / (1 + std::exp(-gate));
  gates[kPitch<4> + h] = 1 / (1 + std::exp(gate));
}

template <int R, int kC>
__global__ void __launch_bounds__(kStepSlots, kStepBlocks) lrua_step_kernel(LRUAStep<float> op) {
  const StepShared<R, kC> shared(op.shape, op.options.n, shared_memory<float>());
  const Chunks<kC> chunks = shared.chunks;
  const int N = int(op.shape.N), W = chunks.columns(), warps = shared.warps, candidates = shared.candidates;
  const int i = threadIdx.x, lane = i % kLanes, warp = i / kLanes;
  const int64_t e = blockIdx.x;
  const WarpRows<kC> rows{chunks, shared.rows + warp * kLanes * chunks.pitch(), N - warp * kLanes, lane};
  rows.load_later(op.memory + (e * N + warp * kLanes) * W);
  end_of_copies();
  const float usage = i < N ? op.usage[e * N + i] : 0.0f;
  float w[R];
  load_slot(w, op.read_weights, e, N, i);
  for (int h = warp; h < R; h += warps) {
    const float *add = op.interface.add + (e * R + h) * W, *key = op.interface.key + (e * R + h) * W;
    put_vector<R>(shared.adds, h, W, lane, [&](int j) { return add[j]; });
    put_unit_key<R>(shared.units, key, h, W, lane);
    if (lane == 0) put_gate(shared.gates, h, op.interface.gate[e * R + h]);
  }
  const uint32_t order = i < N ? usage_order(usage) : kTaken;
  const int place = put_smallest(shared.usages + warp * candidates, order, candidates, lane);
  __syncthreads();

  const int rank = i < N ? rank_of(shared.usages, order, place, candidates, warp, warps) : N;
  if (rank < op.options.n) op.least_used[e * op.options.n + rank] = i;
  write_weights(w, shared.gates, rank, op.options);
  store_slot(op.write_weights, w, e, N, i);
  float usage_out = float(op.options.decay) * usage;
#pragma unroll
  for (int h = 0; h < R; ++h) usage_out += w[h];
  wait_for_copies<0>();
  if (rank == 0) rows.clear_own();

  // write, and the products of the new row with itself and with the unit keys
  float square = 0, cosine[R];
#pragma unroll
  for (int h = 0; h < R; ++h) cosine[h] = 0;
  const float4* adds = reinterpret_cast<const float4*>(shared.adds);
  const float4* units = reinterpret_cast<const float4*>(shared.units);
#pragma unroll
  for (int c = 0; c < chunks.count(); ++c) {
    float4 x = rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) add_scaled(x, w[h], adds[c * R + h]);
    rows.own()[c] = x;
    add_products(square, x, x);
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(cosine[h], x, units[c * R + h]);
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
  const float inverse = 1 / norm;
  if (i < N) op.norm[e * N + i] = norm;
#pragma unroll
  for (int h = 0; h < R; ++h) cosine[h] *= inverse;
  store_slot(op.cosine, cosine, e, N, i);

  // content weights; without strengths the logits are cosines, whose exponentials cannot overflow
  float content[R];
#pragma unroll
  for (int h = 0; h < R; ++h) content[h] = cosine[h];
  if (op.interface.strength) {
    float* largest = shared.totals + warps * kPitch<4>;
#pragma unroll
    for (int h = 0; h < R; ++h) {
      content[h] *= op.interface.strength[e * R + h];
      float most = i < N ? content[h] : kLowest<float>;
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
  for (int h = 0; h < R; ++h) content[h] = i < N ? std::exp(content[h]) : 0.0f;

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
  add_warps(totals, shared.totals, warps);
#pragma unroll
  for (int h = 0; h < R; ++h) {
    content[h] *= 1 / totals[h];
    usage_out += content[h];
  }
  store_slot(op.read_weights_out, content, e, N, i);
  if (i < N) op.usage_out[e * N + i] = usage_out;
  for (int h = warp; h < R; h += warps) {
    float total = 0;
    for (int v = 0; v < warps; ++v) total += shared.totals[v * kPitch<R> + h];
    const float scale = 1 / total;
    for (int j = lane; j < W; j += kLanes)
      op.read[(e * R + h) * W + j] = scale * total_at<R>(shared.rows, chunks, 0, h, j, warps);
  }
}

}  // namespace mannkern
