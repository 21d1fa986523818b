// The kernel of lrua_scan_backward: a block goes back through the steps of an episode.
#pragma once

#include "lrua_gradients.h"
#include "lrua_scan.h"

namespace mannkern {

// What a block knows of its episode.
template <int R, int kN, int kW>
struct ScanBackward {
  static constexpr int S = kOwn<kN>;
  static constexpr bool kLoadsAhead = kN != 0;  // the interface vector of the next step; else registers would spill
  const LRUAScanCosinesBackward<float>& op;
  const StepBackwardShared<R, kN, kW>& shared;
  const WarpRows<kN, kW>&rows, &grad_rows;
  float4* memories;  // the thread's part of the memories after the steps of a segment but the last, in chunks
  int64_t e;
  int warp;
  HeadOfWarp next;  // what the warp puts into shared memory at the next step
  float next_grad[kOfVector];

  // Chunk c of the thread's row s of a memory is number c S + s there.
  __device__ float4* memory_after(int step_of_segment) const {
    return memories + int64_t(step_of_segment) * (shared.sizes.chunks() * S) * blockDim.x;
  }
  __device__ int64_t at(int t) const { return t * op.B + e; }  // of the episode among those of all steps
  __device__ const float* strength(int t) const {
    return op.interface.strength ? op.interface.strength + at(t) * R : nullptr;
  }

  // The slots' cosines and read weights after step t; before the first step, the read weights alone.
  __device__ void load_weights(float (&w)[S][R], float (&cosine)[S][R], int t) const {
    const int N = shared.sizes.slots();
    const float* from = t < 0 ? op.read_weights + e * R * N : op.cosines + at(t) * R * (N + 2);
#pragma unroll
    for (int s = 0; s < S; ++s) load_slot(w[s], from, rows.slot(s), t < 0 ? N : N + 2, rows.has(s));
    if (t < 0) return;
    const float* strength = this->strength(t);
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float *last = from + h * (N + 2) + N, inverse = inverse_of(last[1]);
#pragma unroll
      for (int s = 0; s < S; ++s) {
        cosine[s][h] = w[s][h];
        const float power = strength ? content_weight(w[s][h], strength[h], last[0]) : exponential(w[s][h]);
        w[s][h] = rows.has(s) ? power * inverse : 0.0f;
      }
    }
  }
  // The slots' places among the least used ones of step t, or n.
  __device__ void load_places(int (&place)[S], int t) const {
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int mark = rows.has(s) ? op.marks[at(t) * shared.sizes.slots() + rows.slot(s)] : 0;
      place[s] = mark ? mark - 1 : int(op.options.n);
    }
  }

  // Computes the memories after steps [begin, end) again; the last stays in shared memory.
  __device__ void compute_again(int begin, int end) const {
    const StepSizes<kN, kW> sizes = shared.sizes;
    const int W = sizes.columns(), segment = begin / int(op.checkpoint_every);
    const float* from = segment ? op.checkpoints + (segment - 1) * op.B * sizes.slots() * W : op.memory;
    rows.load_later(from + (e * sizes.slots() + rows.first) * W);
    float add[kOfVector] = {}, gate = 0;
    const auto load = [&](int t, int h) {
      load_vector(add, op.interface.add + (at(t) * R + h) * W, sizes, rows.lane);
      gate = op.interface.gate[at(t) * R + h];
    };
    if (warp < R) load(begin, warp);
    float before[S][R], cosine[S][R];
    load_weights(before, cosine, begin - 1);
    int place[S];
    load_places(place, begin);
    wait_for_copies();
#pragma unroll 1
    for (int t = begin; t < end; ++t) {
      // two places take turns, so that a step has one barrier
      float *adds = t & 1 ? shared.units : shared.adds, *gates = t & 1 ? shared.totals : shared.gates;
      for (int h = warp; h < R; h += sizes.warps()) {
        if (h != warp) load(t, h);
        put_vector(adds, add, 1.0f, sizes, h, rows.lane);
        put_gate(gates, h, gate, rows.lane);
      }
      const bool goes_on = t + 1 < end;
      if (goes_on && warp < R) load(t + 1, warp);
      __syncthreads();
      float w[S][R];
#pragma unroll
      for (int s = 0; s < S; ++s) {
#pragma unroll
        for (int h = 0; h < R; ++h) w[s][h] = before[s][h];
        write_weights(w[s], gates, place[s], op.options);
        if (place[s] == 0) rows.clear_own(s);
      }
      if (goes_on) {
        load_weights(before, cosine, t);
        load_places(place, t + 1);
      }
      float4* kept = memory_after(t - begin);
#pragma unroll(kN ? 2 : 1)
      for (int c = 0; c < sizes.chunks(); ++c) {
        float4 x[S];
#pragma unroll
        for (int s = 0; s < S; ++s) x[s] = rows.own(s)[c];
#pragma unroll
        for (int h = 0; h < R; ++h) {
          const float4 a = load_four(adds + h * kGap<kW> + 4 * c);
#pragma unroll
          for (int s = 0; s < S; ++s) add_scaled(x[s], w[s][h], a);
        }
#pragma unroll
        for (int s = 0; s < S; ++s) {
          rows.own(s)[c] = x[s];
          if (goes_on) kept[(c * S + s) * blockDim.x] = x[s];
        }
      }
    }
  }

  __device__ void load_next(int t, int h) {
    next = load_head(op.interface, at(t) * R + h, shared.sizes, rows.lane);
    const float* from = op.grad_reads ? op.grad_reads + (at(t) * R + h) * shared.sizes.columns() : nullptr;
    load_vector(next_grad, from, shared.sizes, rows.lane);
  }

  // Goes back through step t of the segment that begins at `begin`. is_last: whether the memory after the step is still
  // in shared memory.
  __device__ void go_back(SlotGradients<S, R>& grad, int t, int begin, bool is_last) {
    const StepSizes<kN, kW> sizes = shared.sizes;
    __syncthreads();  // what the step behind has in shared memory has been read
    if (!is_last) {
      const float4* from = memory_after(t - begin);
#pragma unroll(kN ? kStepWidth / 4 : 1)
      for (int c = 0; c < sizes.chunks(); ++c)
#pragma unroll
        for (int s = 0; s < S; ++s)
          copy_later(reinterpret_cast<float*>(rows.own(s) + c),
                     reinterpret_cast<const float*>(from + (c * S + s) * blockDim.x), true);
    }
    SlotsOfStep<S, R> slots;
    float unused[S][R], written[S][R] = {}, squares[S] = {};
    load_weights(slots.w_r, slots.cosine, t);
    load_weights(slots.previous, unused, t - 1);
    load_places(slots.place, t);
    for (int h = warp; h < R; h += sizes.warps()) {
      if (h != warp || !kLoadsAhead) load_next(t, h);
      put_vector(shared.grad_reads, next_grad, 1.0f, sizes, h, rows.lane);
      const float key_norm = put_head(shared.adds, shared.units, shared.gates, next, sizes, h, rows.lane);
      if (rows.lane == 0) shared.key_norms[h] = key_norm;
    }
    if (kLoadsAhead && warp < R && t > begin) load_next(t - 1, warp);
    __syncthreads();
    wait_for_copies();

    add_read_products(grad, rows, shared.grad_reads);
#pragma unroll(kN ? kStepWidth / 4 : 1)
    for (int c = 0; c < sizes.chunks(); ++c)
#pragma unroll
      for (int s = 0; s < S; ++s) add_products(squares[s], rows.own(s)[c], rows.own(s)[c]);
#pragma unroll
    for (int s = 0; s < S; ++s) slots.norm[s] = norm_of_row(rows.own(s), squares[s], sizes.columns());
    step_gradients(grad, slots, written, shared, rows, grad_rows, strength(t), op.options, warp);
    __syncthreads();
    store_interface_gradients(op.grad_interface, at(t) * R, shared, warp, rows.lane);
  }
};

// `scratch` has the memories of a segment, those after its steps but the last, of each block.
template <int R, int kN, int kW>
__global__ void __launch_bounds__(kStepThreads<kN>, kN ? 4 : 2)
    lrua_scan_backward_kernel(LRUAScanCosinesBackward<float> op, float4* scratch) {
  constexpr int S = kOwn<kN>;
  const StepBackwardShared<R, kN, kW> shared(op.shape, shared_memory<float>());
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int N = sizes.slots(), W = sizes.columns(), every = int(op.checkpoint_every);
  const int lane = threadIdx.x % kLanes, warp = warp_of(threadIdx.x), first = warp * sizes.kOfWarp;
  const WarpRows<kN, kW> rows{sizes, shared.rows + first * sizes.pitch(), first, lane};
  const WarpRows<kN, kW> grad_rows{sizes, shared.grad_rows + first * sizes.pitch(), first, lane};
  float4* memories = scratch + int64_t(blockIdx.x) * (every - 1) * (sizes.chunks() * S) * blockDim.x + threadIdx.x;
  ScanBackward<R, kN, kW> back{op, shared, rows, grad_rows, memories, 0, warp, {}, {}};
#pragma unroll 1
  for (int64_t e = blockIdx.x; e < op.B; e += gridDim.x) {
    back.e = e;
    const int64_t rows_begin = (e * N + first) * W;
    if (op.grad_memory_out) grad_rows.load_later(op.grad_memory_out + rows_begin);
    SlotGradients<S, R> grad;
#pragma unroll
    for (int s = 0; s < S; ++s) {
      if (!op.grad_memory_out) grad_rows.clear_own(s);
      grad.usage[s] = op.grad_usage_out && rows.has(s) ? op.grad_usage_out[e * N + rows.slot(s)] : 0.0f;
      load_slot(grad.read_weights[s], op.grad_read_weights_out, e * R * N + rows.slot(s), N, rows.has(s));
    }
#pragma unroll 1
    for (int end = int(op.steps); end > 0;) {
      const int begin = (end - 1) / every * every;
      __syncthreads();
      back.compute_again(begin, end);
      if (back.kLoadsAhead && warp < R) back.load_next(end - 1, warp);
#pragma unroll 1
      for (int t = end - 1; t >= begin; --t) back.go_back(grad, t, begin, t + 1 == end);
      end = begin;
    }
    grad_rows.store(op.grad_memory + rows_begin);
#pragma unroll
    for (int s = 0; s < S; ++s) {
      store_slot(op.grad_read_weights, grad.read_weights[s], e * R * N + rows.slot(s), N, rows.has(s));
      if (rows.has(s)) op.grad_usage[e * N + rows.slot(s)] = grad.usage[s];
    }
    __syncwarp();
  }
}

}  // namespace mannkern
