// The kernel of lrua_step: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_equations.h"

namespace mannkern {

// Blocks that a multiprocessor must have registers for.
template <int kN>
constexpr int kStepBlocks = kN ? 6 : 2;

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
  for (int h = warp; h < R; h += warps)
    put_head<R>(shared.adds, shared.units, shared.gates, load_head(op.interface, e * R + h, sizes, lane), sizes, h,
                lane);
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

  float square, cosine[R];
  write_row(rows, w, shared.adds, shared.units, square, cosine);
  __syncwarp();
  rows.store(op.memory_out + (e * N + warp * kLanes) * W);
  const float norm = norm_of_row(rows, square), inverse = inverse_of(norm);
  if (exists) op.norm[e * N + i] = norm;
#pragma unroll
  for (int h = 0; h < R; ++h) cosine[h] *= inverse;
  store_slot(op.cosine, cosine, first, N, exists);

  const float* strength = op.interface.strength ? op.interface.strength + e * R : nullptr;
  content_weights(cosine, strength, shared.totals + warps * kPitch<4>, exists, warp, warps, lane);
  sum_over_slots(rows, cosine, shared.weights + warp * kLanes * kPitch<R>, shared.totals, rows.at, warp, lane);
  __syncthreads();

  finish_weights(cosine, usage_out, shared.totals, sizes);
  store_slot(op.read_weights_out, cosine, first, N, exists);
  if (exists) op.usage_out[e * N + i] = usage_out;
  store_reads<R>(op.read + e * R * W, shared.totals, shared.rows, kLanes * sizes.pitch(), sizes, warp, lane);
}

}  // namespace mannkern
