// The kernel of lrua_step_backward: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_gradients.h"

namespace mannkern {

// The place of a slot among the n least used ones, or n.
__device__ inline int place_of(const int64_t* least_used, int n, int i) {
  int place = n;
#pragma unroll 1
  for (int k = 0; k < n; ++k) place = least_used[k] == i ? k : place;
  return place;
}

template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kN ? 4 : 2) lrua_step_backward_kernel(LRUAStepBackward<float> op) {
  constexpr int S = kOwn<kN>;
  const StepBackwardShared<R, kN, kW> shared(op.shape, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), n = int(op.options.n);
  const int lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x), first = warp * sizes.kOfWarp;
  const int64_t e = blockIdx.x, rows_begin = (e * N + first) * W;
  const WarpRows<kN, kW> rows{sizes, shared.rows + first * sizes.pitch(), first, lane};
  const WarpRows<kN, kW> grad_rows{sizes, shared.grad_rows + first * sizes.pitch(), first, lane};
  if (op.grad_memory_out) {
    rows.load_later(op.memory_out + rows_begin, op.grad_memory_out + rows_begin, int(grad_rows.at - rows.at));
  } else {
    rows.load_later(op.memory_out + rows_begin);
    for (int s = 0; s < S; ++s) grad_rows.clear_own(s);
  }

  SlotsOfStep<S, R> slots;
  SlotGradients<S, R> grad;
  float written[S][R];
#pragma unroll
  for (int s = 0; s < S; ++s) {
    const int64_t i = e * N + rows.slot(s), at = e * R * N + rows.slot(s);
    const bool has = rows.has(s);
    grad.usage[s] = op.grad_usage_out && has ? op.grad_usage_out[i] : 0.0f;
    load_slot(grad.read_weights[s], op.grad_read_weights_out, at, N, has);
    load_slot(slots.w_r[s], op.read_weights_out, at, N, has);
    load_slot(slots.cosine[s], op.cosine, at, N, has);
    slots.norm[s] = has ? op.norm[i] : 1.0f;
    load_slot(slots.previous[s], op.read_weights, at, N, has);
    load_slot(written[s], op.grad_write_weights, at, N, has);
  }
  for (int h = warp; h < R; h += warps) {
    const int64_t head = e * R + h;
    float grad_read[kOfVector];
    load_vector(grad_read, op.grad_read ? op.grad_read + head * W : nullptr, sizes, lane);
    const HeadOfWarp vectors = load_head(op.interface, head, sizes, lane);
    put_vector(shared.grad_reads, grad_read, 1.0f, sizes, h, lane);
    const float key_norm = put_head(shared.adds, shared.units, shared.gates, vectors, sizes, h, lane);
    if (lane == 0) shared.key_norms[h] = key_norm;
  }
#pragma unroll
  for (int s = 0; s < S; ++s) slots.place[s] = rows.has(s) ? place_of(op.least_used + e * n, n, rows.slot(s)) : N;
  __syncthreads();
  wait_for_copies();

  add_read_products(grad, rows, shared.grad_reads);
  const float* strength = op.interface.strength ? op.interface.strength + e * R : nullptr;
  step_gradients(grad, slots, written, shared, rows, grad_rows, strength, op.options, warp);
  __syncwarp();
  grad_rows.store(op.grad_memory + rows_begin);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    store_slot(op.grad_read_weights, grad.read_weights[s], e * R * N + rows.slot(s), N, rows.has(s));
    if (rows.has(s)) op.grad_usage[e * N + rows.slot(s)] = grad.usage[s];
  }
  __syncthreads();
  store_interface_gradients(op.grad_interface, e * R, shared, warp, lane);
}

}  // namespace mannkern
