// The kernel of lrua_scan: a block goes through the steps of an episode. The memory stays in shared memory, the read
// weights and the usage in registers.
#pragma once

#include "lrua_equations.h"

namespace mannkern {

// Where a block of lrua_scan has its shared memory; every part begins at a multiple of 16 bytes.
template <int R, int kN, int kW>
struct ScanShared {
  StepSizes<kN, kW> sizes;
  int candidates;  // least used slots that a warp may have
  float *rows, *sums, *weights, *adds, *units, *gates, *totals;
  uint32_t* usages;

  MANNKERN_HOST_TOO ScanShared(const Shape& s, int64_t n, float* at)
      : sizes{int(s.N), int(s.W)}, candidates(least(n, kLanes)) {
    const int vectors = R * kGap<kW>, warps = sizes.warps();
    rows = at;
    sums = rows + warps * sizes.kOfWarp * sizes.pitch();
    weights = sums + warps * sizes.template sums<R>();
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

// What is saved of a slot of this rank: 1 + rank at a least used slot, 0 elsewhere. No step asks for a rank above 3.
constexpr int kMostMark = 127;
__device__ inline int8_t mark_of(int rank, int n) { return int8_t(rank < n ? least(rank + 1, kMostMark) : 0); }

template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kN ? 6 : 2) lrua_scan_kernel(LRUAScanCosines<float> op) {
  constexpr int S = kOwn<kN>;
  const ScanShared<R, kN, kW> shared(op.shape, op.options.n, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), candidates = shared.candidates;
  const int lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x), first = warp * sizes.kOfWarp;
  const int64_t B = op.B, e = blockIdx.x, rows_begin = (e * N + first) * W;
  const WarpRows<kN, kW> rows{sizes, shared.rows + first * sizes.pitch(), first, lane};
  float *sums = shared.sums + warp * sizes.template sums<R>(), *largest = shared.totals + warps * kPitch<4>;
  rows.load_later(op.memory + rows_begin);
  float usage[S], w[S][R];
#pragma unroll
  for (int s = 0; s < S; ++s) {
    usage[s] = rows.has(s) ? op.usage[e * N + rows.slot(s)] : 0.0f;
    load_slot(w[s], op.read_weights, e * R * N + rows.slot(s), N, rows.has(s));
  }
  constexpr bool kLoadsAhead = kN != 0;  // as in the backward pass
  HeadOfWarp next = {};  // of the next step
  if (kLoadsAhead && warp < R) next = load_head(op.interface, e * R + warp, sizes, lane);
  wait_for_copies();

  float* checkpoint = op.checkpoints + rows_begin;
  int until_checkpoint = int(op.checkpoint_every);
  int64_t at = e;  // of the episode among those of all steps
#pragma unroll 1
  for (int t = 0; t < op.steps; ++t, at += B) {
    if (op.marks && until_checkpoint-- == 0) {
      until_checkpoint = int(op.checkpoint_every) - 1;
      rows.store(checkpoint);
      checkpoint += B * N * W;
    }
    for (int h = warp; h < R; h += warps) {
      const HeadOfWarp head = h == warp && kLoadsAhead ? next : load_head(op.interface, at * R + h, sizes, lane);
      put_head(shared.adds, shared.units, shared.gates, head, sizes, h, lane);
    }
    if (kLoadsAhead && warp < R && t + 1 < op.steps) next = load_head(op.interface, (at + B) * R + warp, sizes, lane);
    Ranks<kN> ranks;
    ranks.begin(usage, shared.usages, candidates, rows);
    __syncthreads();

    ranks.end(shared.usages, candidates, rows);
#pragma unroll
    for (int s = 0; s < S; ++s) {
      if (op.marks && rows.has(s)) op.marks[at * N + rows.slot(s)] = mark_of(ranks.at[s], int(op.options.n));
      write_weights(w[s], shared.gates, ranks.at[s], op.options);
      usage[s] *= float(op.options.decay);
#pragma unroll
      for (int h = 0; h < R; ++h) usage[s] += w[s][h];
      if (ranks.at[s] == 0) rows.clear_own(s);
    }
    float squares[S], products[S][R];
    write_rows(rows, w, shared.adds, shared.units, squares, products);
    __syncwarp();
    float* cosines = op.cosines + at * R * (N + 2);
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const float inverse = inverse_of(norm_of_row(rows.own(s), squares[s], W));
#pragma unroll
      for (int h = 0; h < R; ++h) w[s][h] = products[s][h] * inverse;
      if (op.marks) store_slot(cosines, w[s], rows.slot(s), N + 2, rows.has(s));
    }

    const float* strength = op.interface.strength ? op.interface.strength + at * R : nullptr;
    content_weights(w, strength, largest, rows, warp);
    sum_over_slots(rows, w, shared.weights + first * kPitch<R>, shared.totals, sums, warp);
    __syncthreads();

    finish_weights(w, usage, shared.totals, sizes);
    if (op.marks && threadIdx.x < R) {
      const int h = threadIdx.x;
      cosines[h * (N + 2) + N] = strength ? largest_of<R>(largest, h, warps) : 0.0f;
      cosines[h * (N + 2) + N + 1] = sum_of<R>(shared.totals, h, warps);
    }
    store_reads<R>(op.reads + at * R * W, shared.totals, shared.sums, sizes.template sums<R>(), sizes, warp, lane);
  }
  rows.store(op.memory_out + rows_begin);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    store_slot(op.read_weights_out, w[s], e * R * N + rows.slot(s), N, rows.has(s));
    if (rows.has(s)) op.usage_out[e * N + rows.slot(s)] = usage[s];
  }
}

}  // namespace mannkern
