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
  const StepBackwardShared<R, kN, kW> shared(op.shape, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), warps = sizes.warps(), n = int(op.options.n);
  const int i = threadIdx.x, lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x);
  const bool exists = sizes.has(i);
  const int64_t e = blockIdx.x, first = e * R * N + i, rows_begin = (e * N + warp * kLanes) * W;
  const WarpRows<kN, kW> rows{sizes, shared.rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  const WarpRows<kN, kW> grad_rows{sizes, shared.grad_rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  if (op.grad_memory_out) {
    rows.load_later(op.memory_out + rows_begin, op.grad_memory_out + rows_begin, int(grad_rows.at - rows.at));
  } else {
    rows.load_later(op.memory_out + rows_begin);
    grad_rows.clear_own();
  }

  SlotOfStep<R> slot;
  SlotGradients<R> grad;
  float written[R];
  grad.usage = op.grad_usage_out && exists ? op.grad_usage_out[e * N + i] : 0.0f;
  load_slot(grad.read_weights, op.grad_read_weights_out, first, N, exists);
  load_slot(slot.w_r, op.read_weights_out, first, N, exists);
  load_slot(slot.cosine, op.cosine, first, N, exists);
  slot.norm = exists ? op.norm[e * N + i] : 1.0f;
  load_slot(slot.previous, op.read_weights, first, N, exists);
  load_slot(written, op.grad_write_weights, first, N, exists);
  for (int h = warp; h < R; h += warps) {
    const int64_t head = e * R + h;
    float grad_read[kOfVector];
    load_vector(grad_read, op.grad_read ? op.grad_read + head * W : nullptr, sizes, lane);
    const HeadOfWarp vectors = load_head(op.interface, head, sizes, lane);
    put_vector<R>(shared.grad_reads, grad_read, 1.0f, sizes, h, lane);
    const float key_norm = put_head<R>(shared.adds, shared.units, shared.gates, vectors, sizes, h, lane);
    if (lane == 0) shared.key_norms[h] = key_norm;
  }
  slot.place = exists ? place_of(op.least_used + e * n, n, i) : N;
  __syncthreads();
  wait_for_copies();

#pragma unroll
  for (int h = 0; h < R; ++h) {
    grad.read_weights[h] += grad.usage;
    written[h] += grad.usage;
  }
  if (op.grad_read) add_read_products(grad.read_weights, rows, shared.grad_reads);
  const float* strength = op.interface.strength ? op.interface.strength + e * R : nullptr;
  step_gradients(grad, slot, written, shared, rows, grad_rows, strength, op.options, exists, warp, lane);
  __syncwarp();
  grad_rows.store(op.grad_memory + rows_begin);
  store_slot(op.grad_read_weights, grad.read_weights, first, N, exists);
  if (exists) op.grad_usage[e * N + i] = grad.usage;
  __syncthreads();
  store_interface_gradients(op.grad_interface, e * R, shared, warp, lane);
}

}  // namespace mannkern
