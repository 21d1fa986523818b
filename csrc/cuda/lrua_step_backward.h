// The kernel of lrua_step_backward: a block computes an episode, a thread a slot.
#pragma once

#include "lrua_step.h"

namespace mannkern {

// Where a block of lrua_step_backward has its shared memory; every part begins at a multiple of 16 bytes.
template <int R, int kN, int kW>
struct StepBackwardShared {
  StepSizes<kN, kW> sizes;
  float *rows, *grad_rows, *weights, *grad_reads, *units, *adds, *gates, *key_norms, *totals, *end;

  MANNKERN_HOST_TOO StepBackwardShared(const Shape& s, float* at)
      : sizes{int(s.N), int(s.W)} {
    const int warps = sizes.warps(), slots = warps * kLanes, vectors = R * sizes.columns();
    rows = at;
    grad_rows = rows + slots * sizes.pitch();
    weights = grad_rows + slots * sizes.pitch();
    grad_reads = weights + slots * kPitch<R>;
    units = grad_reads + vectors;
    adds = units + vectors;
    gates = adds + vectors;
    key_norms = gates + 2 * kPitch<4>;
    totals = key_norms + kPitch<4>;
    end = totals + 4 * warps * kPitch<4>;
  }
  MANNKERN_HOST_TOO int64_t bytes() const { return reinterpret_cast<char*>(end) - reinterpret_cast<char*>(rows); }
};

// The place of a slot among the n least used ones, or n.
__device__ inline int place_of(const int64_t* least_used, int n, int i) {
  int place = n;
#pragma unroll 1
  for (int k = 0; k < n; ++k) place = least_used[k] == i ? k : place;
  return place;
}

// Gradients of keys, unit keys' gradients being weighted sums of set 0, and of adds, those of set 1; a warp has a head.
template <int R, int kN, int kW>
__device__ void store_vector_gradients(const LRUAStepBackward<float>& op, const StepBackwardShared<R, kN, kW>& shared,
                                       int64_t e, int warp, int lane) {
  const int W = shared.sizes.columns();
  for (int h = warp; h < R; h += shared.sizes.warps()) {
    float *grad_key = op.grad_interface.key + (e * R + h) * W, *grad_add = op.grad_interface.add + (e * R + h) * W;
    const float key_norm = shared.key_norms[h];
    float g[kStepWidth / kLanes], along = 0;
#pragma unroll
    for (int k = 0; k < kStepWidth / kLanes; ++k) {
      const int j = k * kLanes + lane;
      g[k] = 0;
      if (j >= W) continue;
      g[k] = total_at<R>(shared.rows, shared.sizes, 0, h, j);
      along += g[k] * shared.units[place_in_vectors<R>(h, j)];
      grad_add[j] = total_at<R>(shared.rows, shared.sizes, 1, h, j);
    }
    along = sum_of_lanes(along);
    if (!(key_norm > kEps<float>)) along = 0;
    const float inverse = inverse_of(key_norm);
#pragma unroll
    for (int k = 0; k < kStepWidth / kLanes; ++k) {
      const int j = k * kLanes + lane;
      if (j < W) grad_key[j] = (g[k] - along * shared.units[place_in_vectors<R>(h, j)]) * inverse;
    }
  }
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

  const float grad_usage = op.grad_usage_out && exists ? op.grad_usage_out[e * N + i] : 0.0f;
  float grad[R], w_r[R], cosine[R];
  load_slot(grad, op.grad_read_weights_out, first, N, exists);
  load_slot(w_r, op.read_weights_out, first, N, exists);
  load_slot(cosine, op.cosine, first, N, exists);
  const float norm = exists ? op.norm[e * N + i] : 1.0f, inverse = inverse_of(norm);
  float w_w[R], previous[R], outgoing[R];
  load_slot(w_w, op.write_weights, first, N, exists);
  load_slot(previous, op.read_weights, first, N, exists);
  load_slot(outgoing, op.grad_write_weights, first, N, exists);
  for (int h = warp; h < R; h += warps) {
    const int64_t head = e * R + h;
    float add[kOfVector], key[kOfVector], grad_read[kOfVector];
    load_vector(add, op.interface.add + head * W, sizes, lane);
    load_vector(key, op.interface.key + head * W, sizes, lane);
    load_vector(grad_read, op.grad_read ? op.grad_read + head * W : nullptr, sizes, lane);
    const float gate = op.interface.gate[head];
    put_vector<R>(shared.adds, add, 1.0f, sizes, h, lane);
    put_vector<R>(shared.grad_reads, grad_read, 1.0f, sizes, h, lane);
    const float key_norm = put_unit_key<R>(shared.units, key, sizes, h, lane);
    put_gate(shared.gates, h, gate, lane);
    if (lane == 0) shared.key_norms[h] = key_norm;
  }
  const int place = exists ? place_of(op.least_used + e * n, n, i) : N;
  __syncthreads();
  wait_for_copies();

  // the gradient of the read weights, and through the softmax that of the cosines
#pragma unroll
  for (int h = 0; h < R; ++h) grad[h] += grad_usage;
  if (op.grad_read) {
#pragma unroll 2
    for (int c = 0; c < sizes.chunks(); ++c) {
      const float4 x = rows.own()[c];
#pragma unroll
      for (int h = 0; h < R; ++h) add_products(grad[h], x, load_four(shared.grad_reads + 4 * (c * R + h)));
    }
  }
  float products[R], means[R];
#pragma unroll
  for (int h = 0; h < R; ++h) products[h] = w_r[h] * grad[h];
  float sum = sum_over_lanes(products, lane);
  if (lane < R) shared.totals[warp * kPitch<R> + lane] = sum;
  float *gate_totals = shared.totals + warps * kPitch<4>, *strength_totals = gate_totals + warps * kPitch<4>;
  float *center_totals = strength_totals + warps * kPitch<4>, centers[R];
  if (op.interface.strength) {
#pragma unroll
    for (int h = 0; h < R; ++h) products[h] = w_r[h] * cosine[h];
    sum = sum_over_lanes(products, lane);
    if (lane < R) center_totals[warp * kPitch<R> + lane] = sum;
  }
  __syncthreads();
  add_warps(means, shared.totals, sizes);
  float pull[R], shrink = 0;  // of unit key . X(i); what the gradient of X(i) loses through its own norm
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const float b = op.interface.strength ? op.interface.strength[e * R + h] : 1.0f;
    const float dz = w_r[h] * (grad[h] - means[h]);
    products[h] = dz;
    pull[h] = dz * b * inverse;
    shrink += dz * cosine[h] * b * inverse;
  }
  shrink = norm > kEps<float> ? shrink * inverse : 0.0f;
  if (op.interface.strength) {
    add_warps(centers, center_totals, sizes);  // without them, the rounding of the weights would show in the gradient
#pragma unroll
    for (int h = 0; h < R; ++h) products[h] *= cosine[h] - centers[h];
    sum = sum_over_lanes(products, lane);
    if (lane < R) strength_totals[warp * kPitch<R> + lane] = sum;
  }
  float* weights = shared.weights + warp * kLanes * kPitch<R>;
  store_heads(weights + lane * kPitch<R>, pull);

  // the gradient of the written memory, and its products with the adds
#pragma unroll
  for (int h = 0; h < R; ++h) grad[h] = grad_usage;
#pragma unroll 2
  for (int c = 0; c < sizes.chunks(); ++c) {
    float4 d = grad_rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) {
      add_scaled(d, w_r[h], load_four(shared.grad_reads + 4 * (c * R + h)));
      add_scaled(d, pull[h], load_four(shared.units + 4 * (c * R + h)));
    }
    add_scaled(d, -shrink, rows.own()[c]);
    grad_rows.own()[c] = d;
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(grad[h], d, load_four(shared.adds + 4 * (c * R + h)));
  }
  __syncwarp();

  // sums over slots: of pull times the row, and of the write weights times the row's gradient
  float4 sums[R];
  rows.weighted_sums(sums, weights);
  __syncwarp();
  rows.put_sums(sums, 0);
  store_heads(weights + lane * kPitch<R>, w_w);
  __syncwarp();
  grad_rows.weighted_sums(sums, weights);
  rows.put_sums(sums, 1);
  __syncwarp();
  if (place == 0) grad_rows.clear_own();
  __syncwarp();
  grad_rows.store(op.grad_memory + rows_begin);

  // through the write weights
  float open[R], closed[R];
  load_heads(open, shared.gates);
  load_heads(closed, shared.gates + kPitch<4>);
  int asked = 0;  // h mod n
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const bool least_used = op.options.per_head ? place == asked : place < n;
    grad[h] += outgoing[h];
    products[h] = exists ? grad[h] * (previous[h] - (least_used ? 1.0f : 0.0f)) : 0.0f;
    grad[h] *= open[h];
    asked = asked + 1 == n ? 0 : asked + 1;
  }
  sum = sum_over_lanes(products, lane);
  if (lane < R) gate_totals[warp * kPitch<R> + lane] = sum;
  store_slot(op.grad_read_weights, grad, first, N, exists);
  if (exists) op.grad_usage[e * N + i] = float(op.options.decay) * grad_usage;
  __syncthreads();

  if (i < R) {
    float gate = 0, strength = 0;
    for (int v = 0; v < warps; ++v) {
      gate += gate_totals[v * kPitch<R> + i];
      if (op.interface.strength) strength += strength_totals[v * kPitch<R> + i];
    }
    op.grad_interface.gate[e * R + i] = shared.gates[i] * shared.gates[kPitch<4> + i] * gate;
    if (op.interface.strength) op.grad_interface.strength[e * R + i] = strength;
  }
  store_vector_gradients(op, shared, e, warp, lane);
}

}  // namespace mannkern
