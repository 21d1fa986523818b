// The equations of the backward pass of LRUA's step on a block that holds an episode, for the step and the scan.
#pragma once

#include "lrua_equations.h"

namespace mannkern {

// Where a block has its shared memory in a backward pass; every part begins at a multiple of 16 bytes.
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
  __device__ float* gate_totals() const { return totals + sizes.warps() * kPitch<4>; }
  __device__ float* strength_totals() const { return totals + 2 * sizes.warps() * kPitch<4>; }
  __device__ float* center_totals() const { return totals + 3 * sizes.warps() * kPitch<4>; }
  MANNKERN_HOST_TOO int64_t bytes() const { return reinterpret_cast<char*>(end) - reinterpret_cast<char*>(rows); }
};

// What a thread knows of its slot in a step: the read weights before and after it, cosines and norm of the row after it,
// and the slot's place among the n least used ones, or n.
template <int R>
struct SlotOfStep {
  float previous[R], w_r[R], cosine[R], norm;
  int place;
};

// Gradients of a slot. In place: before, those with respect to what a step gives, but that of the read weights with all
// that reaches them; after, those with respect to what the step takes. The rows' gradients are in shared memory.
template <int R>
struct SlotGradients {
  float read_weights[R], usage;
};

// The product of the thread's row with the gradients of the reads, added to the gradient of its read weights.
template <int R, int kN, int kW>
__device__ void add_read_products(float (&grad)[R], const WarpRows<kN, kW>& rows, const float* grad_reads) {
#pragma unroll 2
  for (int c = 0; c < rows.sizes.chunks(); ++c) {
    const float4 x = rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(grad[h], x, load_four(grad_reads + 4 * (c * R + h)));
  }
}

// The backward pass of a step. `rows` and `grad_rows` are the thread's in `shared`; the first are lost. `strength` (R)
// may be null. `written` is the gradient of the write weights but for the rows' part. What store_interface_gradients
// stores is ready after the next barrier.
template <int R, int kN, int kW>
__device__ void step_gradients(SlotGradients<R>& grad, const SlotOfStep<R>& slot, float (&written)[R],
                               const StepBackwardShared<R, kN, kW>& shared, const WarpRows<kN, kW>& rows,
                               const WarpRows<kN, kW>& grad_rows, const float* strength, const LRUAOptions& options,
                               bool exists, int warp, int lane) {
  const StepSizes<kN, kW> sizes = shared.sizes;
  float products[R], means[R];
#pragma unroll
  for (int h = 0; h < R; ++h) products[h] = slot.w_r[h] * grad.read_weights[h];
  float sum = sum_over_lanes(products, lane);
  if (lane < R) shared.totals[warp * kPitch<R> + lane] = sum;
  float *gate_totals = shared.gate_totals(), *strength_totals = shared.strength_totals();
  float *center_totals = shared.center_totals(), centers[R];
  if (strength) {
#pragma unroll
    for (int h = 0; h < R; ++h) products[h] = slot.w_r[h] * slot.cosine[h];
    sum = sum_over_lanes(products, lane);
    if (lane < R) center_totals[warp * kPitch<R> + lane] = sum;
  }
  __syncthreads();
  add_warps(means, shared.totals, sizes);
  const float inverse = inverse_of(slot.norm);
  float pull[R], shrink = 0;  // of unit key . X(i); what the gradient of X(i) loses through its own norm
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const float b = strength ? strength[h] : 1.0f;
    const float dz = slot.w_r[h] * (grad.read_weights[h] - means[h]);
    products[h] = dz;
    pull[h] = dz * b * inverse;
    shrink += dz * slot.cosine[h] * b * inverse;
  }
  shrink = slot.norm > kEps<float> ? shrink * inverse : 0.0f;
  if (strength) {
    add_warps(centers, center_totals, sizes);  // without them, the rounding of the weights would show in the gradient
#pragma unroll
    for (int h = 0; h < R; ++h) products[h] *= slot.cosine[h] - centers[h];
    sum = sum_over_lanes(products, lane);
    if (lane < R) strength_totals[warp * kPitch<R> + lane] = sum;
  }
  float* weights = shared.weights + warp * kLanes * kPitch<R>;
  store_heads(weights + lane * kPitch<R>, pull);

  // the gradient of the written memory, and its products with the adds
#pragma unroll 2
  for (int c = 0; c < sizes.chunks(); ++c) {
    float4 d = grad_rows.own()[c];
#pragma unroll
    for (int h = 0; h < R; ++h) {
      add_scaled(d, slot.w_r[h], load_four(shared.grad_reads + 4 * (c * R + h)));
      add_scaled(d, pull[h], load_four(shared.units + 4 * (c * R + h)));
    }
    add_scaled(d, -shrink, rows.own()[c]);
    grad_rows.own()[c] = d;
#pragma unroll
    for (int h = 0; h < R; ++h) add_products(written[h], d, load_four(shared.adds + 4 * (c * R + h)));
  }
  __syncwarp();

  // sums over slots: of pull times the row, and of the write weights times the row's gradient
  float4 sums[R];
  rows.weighted_sums(sums, weights);
  __syncwarp();
  rows.put_sums(sums, rows.at);
  float w_w[R];
#pragma unroll
  for (int h = 0; h < R; ++h) w_w[h] = slot.previous[h];
  write_weights(w_w, shared.gates, slot.place, options);
  store_heads(weights + lane * kPitch<R>, w_w);
  __syncwarp();
  grad_rows.weighted_sums(sums, weights);
  rows.put_sums(sums, rows.at + sizes.template sums<R>());
  __syncwarp();
  if (slot.place == 0) grad_rows.clear_own();

  // through the write weights
  const int n = int(options.n);
  float open[R];
  load_heads(open, shared.gates);
  int asked = 0;  // h mod n
#pragma unroll
  for (int h = 0; h < R; ++h) {
    const bool least_used = options.per_head ? slot.place == asked : slot.place < n;
    products[h] = exists ? written[h] * (slot.previous[h] - (least_used ? 1.0f : 0.0f)) : 0.0f;
    grad.read_weights[h] = written[h] * open[h];
    asked = asked + 1 == n ? 0 : asked + 1;
  }
  sum = sum_over_lanes(products, lane);
  if (lane < R) gate_totals[warp * kPitch<R> + lane] = sum;
  grad.usage *= float(options.decay);
}

// Stores the gradients of an episode's interface vector, whose heads begin with number `head`.
template <int R, int kN, int kW>
__device__ void store_interface_gradients(const InterfaceGradients<float>& to, int64_t head,
                                          const StepBackwardShared<R, kN, kW>& shared, int warp, int lane) {
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int W = sizes.columns(), warps = sizes.warps(), gap = kLanes * sizes.pitch(), i = threadIdx.x;
  if (i < R) {
    float gate = 0, strength = 0;
    for (int v = 0; v < warps; ++v) {
      gate += shared.gate_totals()[v * kPitch<R> + i];
      if (to.strength) strength += shared.strength_totals()[v * kPitch<R> + i];
    }
    to.gate[head + i] = shared.gates[i] * shared.gates[kPitch<4> + i] * gate;
    if (to.strength) to.strength[head + i] = strength;
  }
  const float* of_adds = shared.rows + sizes.template sums<R>();
  for (int h = warp; h < R; h += warps) {
    float *grad_key = to.key + (head + h) * W, *grad_add = to.add + (head + h) * W;
    const float key_norm = shared.key_norms[h];
    float g[kOfVector], along = 0;
#pragma unroll
    for (int k = 0; k < kOfVector; ++k) {
      const int j = k * kLanes + lane;
      g[k] = 0;
      if (j >= W) continue;
      g[k] = total_at<R>(shared.rows, gap, sizes, h, j);
      along += g[k] * shared.units[place_in_vectors<R>(h, j)];
      grad_add[j] = total_at<R>(of_adds, gap, sizes, h, j);
    }
    along = sum_of_lanes(along);
    if (!(key_norm > kEps<float>)) along = 0;
    const float inverse = inverse_of(key_norm);
#pragma unroll
    for (int k = 0; k < kOfVector; ++k) {
      const int j = k * kLanes + lane;
      if (j < W) grad_key[j] = (g[k] - along * shared.units[place_in_vectors<R>(h, j)]) * inverse;
    }
  }
}

}  // namespace mannkern
