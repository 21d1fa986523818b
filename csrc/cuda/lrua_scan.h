// The kernel of lrua_scan: a block goes through the steps of an episode, a thread has a slot. The memory stays in shared
// memory, the read weights and the usage in registers.
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
    const int vectors = R * sizes.columns(), warps = sizes.warps();
    rows = at;
    sums = rows + warps * kLanes * sizes.pitch();
    weights = sums + warps * sizes.template sums<R>();
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

// What is saved of a slot of this rank: 1 + rank at a least used slot, 0 elsewhere. No step asks for a rank above 3.
constexpr int kMostMark = 127;
__device__ inline int8_t mark_of(int rank, int n) { return int8_t(rank < n ? least(rank + 1, kMostMark) : 0); }

template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kN ? 5 : 2) lrua_scan_kernel(LRUAScanWeights<float> op) {
  const ScanShared<R, kN, kW> shared(op.shape, op.options.n, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), candidates = shared.candidates;
  const int i = threadIdx.x, lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x);
  const bool exists = sizes.has(i);
  const int64_t B = op.B, e = blockIdx.x, rows_begin = (e * N + warp * kLanes) * W;
  const WarpRows<kN, kW> rows{sizes, shared.rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  float* sums = shared.sums + warp * sizes.template sums<R>();
  rows.load_later(op.memory + rows_begin);
  float usage = exists ? op.usage[e * N + i] : 0.0f, w[R];
  load_slot(w, op.read_weights, e * R * N + i, N, exists);
  HeadOfWarp next = {};
  if (warp < R) next = load_head(op.interface, e * R + warp, sizes, lane);
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
      if (h != warp) next = load_head(op.interface, at * R + h, sizes, lane);
      put_head<R>(shared.adds, shared.units, shared.gates, next, sizes, h, lane);
    }
    if (warp < R && t + 1 < op.steps) next = load_head(op.interface, (at + B) * R + warp, sizes, lane);
    const uint32_t order = exists ? usage_order(usage) : kTaken;
    const int place = put_smallest(shared.usages + warp * whole_fours(candidates), order, candidates, lane);
    __syncthreads();

    const int rank = exists ? rank_of(shared.usages, order, place, candidates, warp, warps) : N;
    if (op.marks && exists) op.marks[at * N + i] = mark_of(rank, int(op.options.n));
    write_weights(w, shared.gates, rank, op.options);
    usage *= float(op.options.decay);
#pragma unroll
    for (int h = 0; h < R; ++h) usage += w[h];
    if (rank == 0) rows.clear_own();
    float square, products[R];
    write_row(rows, w, shared.adds, shared.units, square, products);
    __syncwarp();
    const float inverse = inverse_of(norm_of_row(rows, square));
#pragma unroll
    for (int h = 0; h < R; ++h) w[h] = products[h] * inverse;

    const float* strength = op.interface.strength ? op.interface.strength + at * R : nullptr;
    content_weights(w, strength, shared.totals + warps * kPitch<4>, exists, warp, warps, lane);
    sum_over_slots(rows, w, shared.weights + warp * kLanes * kPitch<R>, shared.totals, sums, warp, lane);
    __syncthreads();

    finish_weights(w, usage, shared.totals, sizes);
    if (op.marks) store_slot(op.step_weights, w, at * R * N + i, N, exists);
    store_reads<R>(op.reads + at * R * W, shared.totals, shared.sums, sizes.template sums<R>(), sizes, warp, lane);
  }
  rows.store(op.memory_out + rows_begin);
  store_slot(op.read_weights_out, w, e * R * N + i, N, exists);
  if (exists) op.usage_out[e * N + i] = usage;
}

}  // namespace mannkern
