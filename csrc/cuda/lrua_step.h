// The kernel of lrua_step: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_equations.h"

namespace mannkern {

// Blocks that a multiprocessor must have registers for.
template <int kN>
constexpr int kStepBlocks = kN ? 8 : 2;

// Where a block of lrua_step has its shared memory; every part begins at a multiple of 16 bytes.
template <int R, int kN, int kW>
struct StepShared {
  StepSizes<kN, kW> sizes;
  int candidates;  // least used slots that a warp may have
  float *rows, *weights, *adds, *units, *gates, *totals;
  uint32_t* usages;

  MANNKERN_HOST_TOO StepShared(const Shape& s, int64_t n, float* at)
      : sizes{int(s.N), int(s.W)}, candidates(least(n, kLanes)) {
    const int vectors = R * kGap<kW>, warps = sizes.warps();
    rows = at;
    weights = rows + warps * sizes.kOfWarp * sizes.pitch();
    adds = weights + warps * sizes.kOfWarp * kPitch<R>;
    units = adds + vectors;
    gates = units + vectors;
    totals = gates + 2 * kPitch<4>;
    usages = reinterpret_cast<uint32_t*>(totals + 2 * warps * kPitch<4>);
  }
  MANNKERN_HOST_TOO int64_t bytes() const {
    return reinterpret_cast<char*>(usages + sizes.groups() * whole_fours(candidates)) - reinterpret_cast<char*>(rows);
  }
};

template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kStepBlocks<kN>) lrua_step_kernel(LRUAStep<float> op) {
  constexpr int S = kOwn<kN>;
  const StepShared<R, kN, kW> shared(op.shape, op.options.n, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), candidates = shared.candidates;
  const int lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x), first = warp * sizes.kOfWarp;
  const int64_t e = blockIdx.x;
  const WarpRows<kN, kW> rows{sizes, shared.rows + first * sizes.pitch(), first, lane};
  rows.load_later(op.memory + (e * N + first) * W);
  float usage[S], w[S][R];
#pragma unroll
  for (int s = 0; s < S; ++s) {
    usage[s] = rows.has(s) ? op.usage[e * N + rows.slot(s)] : 0.0f;
    load_slot(w[s], op.read_weights, e * R * N + rows.slot(s), N, rows.has(s));
  }
  for (int h = warp; h < R; h += warps)
    put_head(shared.adds, shared.units, shared.gates, load_head(op.interface, e * R + h, sizes, lane), sizes, h,
                lane);
  Ranks<kN> ranks;
  ranks.begin(usage, shared.usages, candidates, rows);
  __syncthreads();

  ranks.end(shared.usages, candidates, rows);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    if (ranks.at[s] < op.options.n) op.least_used[e * op.options.n + ranks.at[s]] = rows.slot(s);
    write_weights(w[s], shared.gates, ranks.at[s], op.options);
    store_slot(op.write_weights, w[s], e * R * N + rows.slot(s), N, rows.has(s));
    usage[s] *= float(op.options.decay);
#pragma unroll
    for (int h = 0; h < R; ++h) usage[s] += w[s][h];
  }
  wait_for_copies();
#pragma unroll
  for (int s = 0; s < S; ++s)
    if (ranks.at[s] == 0) rows.clear_own(s);

  float squares[S], cosine[S][R];
  write_rows(rows, w, shared.adds, shared.units, squares, cosine);
  __syncwarp();
  rows.store(op.memory_out + (e * N + first) * W);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    const float norm = norm_of_row(rows.own(s), squares[s], W), inverse = inverse_of(norm);
    if (rows.has(s)) op.norm[e * N + rows.slot(s)] = norm;
#pragma unroll
    for (int h = 0; h < R; ++h) cosine[s][h] *= inverse;
    store_slot(op.cosine, cosine[s], e * R * N + rows.slot(s), N, rows.has(s));
  }

  const float* strength = op.interface.strength ? op.interface.strength + e * R : nullptr;
  content_weights(cosine, strength, shared.totals + warps * kPitch<4>, rows, warp);
  sum_over_slots(rows, cosine, shared.weights + first * kPitch<R>, shared.totals, rows.at, warp);
  __syncthreads();

  finish_weights(cosine, usage, shared.totals, sizes);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    store_slot(op.read_weights_out, cosine[s], e * R * N + rows.slot(s), N, rows.has(s));
    if (rows.has(s)) op.usage_out[e * N + rows.slot(s)] = usage[s];
  }
  store_reads<R>(op.read + e * R * W, shared.totals, shared.rows, sizes.kOfWarp * sizes.pitch(), sizes, warp, lane);
}

}  // namespace mannkern
