// The kernel of lrua_scan_backward: a block goes back through the steps of an episode, a thread has a slot.
#pragma once

#include "lrua_gradients.h"
#include "lrua_scan.h"

namespace mannkern {

// What a block knows of its episode, and a thread of its slot.
template <int R, int kN, int kW>
struct ScanBackward {
  static constexpr bool kLoadsAhead = kN != 0;  // the interface vector of the next step; otherwise registers would spill
  const LRUAScanWeightsBackward<float>& op;
  const StepBackwardShared<R, kN, kW>& shared;
  const WarpRows<kN, kW>&rows, &grad_rows;
  float* memories;  // the thread's part of the memories after the steps of a segment but the last: its row, in chunks
  int64_t e;
  int i, lane, warp;
  HeadOfWarp next;  // what the warp puts into shared memory at the next step
  float next_grad[kOfVector];

  __device__ bool exists() const { return shared.sizes.has(i); }
  __device__ float4* memory_after(int step_of_segment) const {
    return reinterpret_cast<float4*>(memories + int64_t(step_of_segment) * blockDim.x * shared.sizes.columns());
  }
  // The slot's read weights before step t.
  __device__ void load_weights(float (&w)[R], int t) const {
    const int N = shared.sizes.slots();
    load_slot(w, t ? op.step_weights + ((t - 1) * op.B + e) * R * N : op.read_weights + e * R * N, i, N, exists());
  }
  // The slot's place among the least used ones of step t, or n.
  __device__ int load_place(int t) const {
    const int mark = exists() ? op.marks[(t * op.B + e) * shared.sizes.slots() + i] : 0;
    return mark ? mark - 1 : int(op.options.n);
  }
  __device__ int64_t head(int t, int h) const { return (t * op.B + e) * R + h; }

  // Computes the memories after steps [begin, end) again; the last stays in shared memory.
  __device__ void compute_again(int begin, int end) const {
    const StepSizes<kN, kW> sizes = shared.sizes;
    const int W = sizes.columns();
    const int segment = begin / int(op.checkpoint_every);
    const float* from = segment ? op.checkpoints + (segment - 1) * op.B * sizes.slots() * W : op.memory;
    rows.load_later(from + (e * sizes.slots() + warp * kLanes) * W);
    float add[kOfVector] = {}, gate = 0;
    const auto load = [&](int t, int h) {
      load_vector(add, op.interface.add + head(t, h) * W, sizes, lane);
      gate = op.interface.gate[head(t, h)];
    };
    if (warp < R) load(begin, warp);
    float before[R];
    load_weights(before, begin);
    int place = load_place(begin);
    wait_for_copies();
#pragma unroll 1
    for (int t = begin; t < end; ++t) {
      // two places take turns, so that a step has one barrier
      float *adds = t & 1 ? shared.units : shared.adds, *gates = t & 1 ? shared.totals : shared.gates;
      for (int h = warp; h < R; h += sizes.warps()) {
        if (h != warp) load(t, h);
        put_vector<R>(adds, add, 1.0f, sizes, h, lane);
        put_gate(gates, h, gate, lane);
      }
      const bool goes_on = t + 1 < end;
      if (goes_on && warp < R) load(t + 1, warp);
      __syncthreads();
      float w[R];
#pragma unroll
      for (int h = 0; h < R; ++h) w[h] = before[h];
      write_weights(w, gates, place, op.options);
      if (place == 0) rows.clear_own();
      if (goes_on) {
        load_weights(before, t + 1);
        place = load_place(t + 1);
      }
      float4* kept = memory_after(t - begin);
#pragma unroll 2
      for (int c = 0; c < sizes.chunks(); ++c) {
        float4 x = rows.own()[c];
#pragma unroll
        for (int h = 0; h < R; ++h) add_scaled(x, w[h], load_four(adds + 4 * (c * R + h)));
        rows.own()[c] = x;
        if (goes_on) kept[c * blockDim.x] = x;
      }
    }
  }

  __device__ void load_next(int t, int h) {
    next = load_head(op.interface, head(t, h), shared.sizes, lane);
    const float* from = op.grad_reads ? op.grad_reads + head(t, h) * shared.sizes.columns() : nullptr;
    load_vector(next_grad, from, shared.sizes, lane);
  }

  // Goes back through step t of the segment that begins at `begin`. `w_r` are the read weights after the step, then those
  // before it. is_last: whether the memory after the step is still in shared memory.
  __device__ void go_back(SlotGradients<R>& grad, float (&w_r)[R], int t, int begin, bool is_last) {
    const StepSizes<kN, kW> sizes = shared.sizes;
    __syncthreads();  // what the step behind has in shared memory has been read
    if (!is_last) {
      const float4* from = memory_after(t - begin);
#pragma unroll
      for (int c = 0; c < sizes.chunks(); ++c)
        copy_later(reinterpret_cast<float*>(rows.own() + c), reinterpret_cast<const float*>(from + c * blockDim.x), true);
    }
    SlotOfStep<R> slot;
    load_weights(slot.previous, t);
    slot.place = load_place(t);
    for (int h = warp; h < R; h += sizes.warps()) {
      if (h != warp || !kLoadsAhead) load_next(t, h);
      put_vector<R>(shared.grad_reads, next_grad, 1.0f, sizes, h, lane);
      const float key_norm = put_head<R>(shared.adds, shared.units, shared.gates, next, sizes, h, lane);
      if (lane == 0) shared.key_norms[h] = key_norm;
    }
    if (kLoadsAhead && warp < R && t > begin) load_next(t - 1, warp);
    __syncthreads();
    wait_for_copies();

    float written[R], square = 0;
#pragma unroll
    for (int h = 0; h < R; ++h) {
      grad.read_weights[h] += grad.usage;
      written[h] = grad.usage;
      slot.w_r[h] = w_r[h];
      slot.cosine[h] = 0;
      w_r[h] = slot.previous[h];
    }
#pragma unroll(kW ? 2 : 1)
    for (int c = 0; c < sizes.chunks(); ++c) {
      const float4 x = rows.own()[c];
      add_products(square, x, x);
#pragma unroll
      for (int h = 0; h < R; ++h) {
        add_products(grad.read_weights[h], x, load_four(shared.grad_reads + 4 * (c * R + h)));
        add_products(slot.cosine[h], x, load_four(shared.units + 4 * (c * R + h)));
      }
    }
    slot.norm = norm_of_row(rows, square);
    const float inverse = inverse_of(slot.norm);
#pragma unroll
    for (int h = 0; h < R; ++h) slot.cosine[h] *= inverse;
    const float* strength = op.interface.strength ? op.interface.strength + head(t, 0) : nullptr;
    step_gradients(grad, slot, written, shared, rows, grad_rows, strength, op.options, exists(), warp, lane);
    __syncthreads();
    store_interface_gradients(op.grad_interface, head(t, 0), shared, warp, lane);
  }
};

// `scratch` has the memories of a segment, those after its steps but the last, of each block.
template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kN ? 4 : 2)
    lrua_scan_backward_kernel(LRUAScanWeightsBackward<float> op, float* scratch) {
  const StepBackwardShared<R, kN, kW> shared(op.shape, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), i = threadIdx.x, lane = threadIdx.x % kLanes;
  const int warp = warp_of(threadIdx.x);
  const WarpRows<kN, kW> rows{sizes, shared.rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  const WarpRows<kN, kW> grad_rows{sizes, shared.grad_rows + warp * kLanes * sizes.pitch(), warp * kLanes, lane};
  float* memories = scratch + blockIdx.x * (op.checkpoint_every - 1) * int64_t(blockDim.x) * W + 4 * i;
  ScanBackward<R, kN, kW> back{op, shared, rows, grad_rows, memories, blockIdx.x, i, lane, warp, {}, {}};
#pragma unroll 1
  for (int64_t e = blockIdx.x; e < op.B; e += gridDim.x) {
    back.e = e;
    const int64_t first = e * R * N + i, rows_begin = (e * N + warp * kLanes) * W;
    if (op.grad_memory_out) grad_rows.load_later(op.grad_memory_out + rows_begin);
    else grad_rows.clear_own();
    SlotGradients<R> grad;
    grad.usage = op.grad_usage_out && back.exists() ? op.grad_usage_out[e * N + i] : 0.0f;
    load_slot(grad.read_weights, op.grad_read_weights_out, first, N, back.exists());
    float w_r[R];
    back.load_weights(w_r, int(op.steps));
#pragma unroll 1
    for (int end = int(op.steps); end > 0;) {
      const int begin = (end - 1) / int(op.checkpoint_every) * int(op.checkpoint_every);
      __syncthreads();
      back.compute_again(begin, end);
      if (back.kLoadsAhead && warp < R) back.load_next(end - 1, warp);
#pragma unroll 1
      for (int t = end - 1; t >= begin; --t) back.go_back(grad, w_r, t, begin, t + 1 == end);
      end = begin;
    }
    grad_rows.store(op.grad_memory + rows_begin);
    store_slot(op.grad_read_weights, grad.read_weights, first, N, back.exists());
    if (back.exists()) op.grad_usage[e * N + i] = grad.usage;
    __syncwarp();
  }
}

}  // namespace mannkern
