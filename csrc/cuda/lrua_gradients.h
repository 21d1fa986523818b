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
    const int warps = sizes.warps(), slots = warps * sizes.kOfWarp, vectors = R * kGap<kW>;
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

// What a thread knows of its slots in a step: the read weights before and after it, cosines and norms of the rows after
// it, and the slots' places among the n least used ones, or n.
template <int S, int R>
struct SlotsOfStep {
  float previous[S][R], w_r[S][R], cosine[S][R], norm[S];
  int place[S];
};

// Gradients of a thread's slots. In place: before, those with respect to what a step gives; after, those with respect
// to what the step takes. The rows' gradients are in shared memory.
template <int S, int R>
struct SlotGradients {
  float read_weights[S][R], usage[S];
};

// Adds to the gradients of the read weights what reaches them through usage and reads.
template <int R, int kN, int kW>
__device__ void add_read_products(SlotGradients<kOwn<kN>, R>& grad, const WarpRows<kN, kW>& rows,
                                  const float* grad_reads) {
  constexpr int S = kOwn<kN>;
#pragma unroll
  for (int s = 0; s < S; ++s)
#pragma unroll
    for (int h = 0; h < R; ++h) grad.read_weights[s][h] += grad.usage[s];
#pragma unroll 2
  for (int c = 0; c < rows.sizes.chunks(); ++c) {
    float4 x[S];
#pragma unroll
    for (int s = 0; s < S; ++s) x[s] = rows.own(s)[c];
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float4 g = load_four(grad_reads + h * kGap<kW> + 4 * c);
#pragma unroll
      for (int s = 0; s < S; ++s) add_products(grad.read_weights[s][h], x[s], g);
    }
  }
}

// The backward pass of a step behind add_read_products. `rows` and `grad_rows` are the thread's in `shared`; the first
// are lost. `strength` (R) may be null. `written` is the gradient of the write weights but for what reaches them
// through usage and rows. What store_interface_gradients stores is ready after the next barrier.
template <int R, int kN, int kW>
__device__ void step_gradients(SlotGradients<kOwn<kN>, R>& grad, const SlotsOfStep<kOwn<kN>, R>& slots,
                               float (&written)[kOwn<kN>][R], const StepBackwardShared<R, kN, kW>& shared,
                               const WarpRows<kN, kW>& rows, const WarpRows<kN, kW>& grad_rows, const float* strength,
                               const LRUAOptions& options, int warp) {
  constexpr int S = kOwn<kN>;
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int lane = rows.lane;
  float products[S][R], means[R], centers[R];
  const auto put_total = [&](float* totals) {
    const float sum = sum_over_warp(products, lane);
    if (lane < R) totals[warp * kPitch<R> + lane] = sum;
  };
#pragma unroll
  for (int s = 0; s < S; ++s)
#pragma unroll
    for (int h = 0; h < R; ++h) products[s][h] = slots.w_r[s][h] * grad.read_weights[s][h];
  put_total(shared.totals);
  if (strength) {
#pragma unroll
    for (int s = 0; s < S; ++s)
#pragma unroll
      for (int h = 0; h < R; ++h) products[s][h] = slots.w_r[s][h] * slots.cosine[s][h];
    put_total(shared.center_totals());
  }
  __syncthreads();
  add_warps(means, shared.totals, sizes);
  float pull[S][R], shrink[S];  // of unit key . X(i); what the gradient of X(i) loses through its own norm
#pragma unroll
  for (int s = 0; s < S; ++s) {
    const float inverse = inverse_of(slots.norm[s]);
    shrink[s] = 0;
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float b = strength ? bounded(strength[h]) : 1.0f;
      const float dz = slots.w_r[s][h] * (grad.read_weights[s][h] - means[h]);
      products[s][h] = dz;
      pull[s][h] = dz * b * inverse;
      shrink[s] += dz * slots.cosine[s][h] * b * inverse;
    }
    if (slots.norm[s] > kLongNorm<float>) {
#pragma unroll 1
      for (int c = 0; c < sizes.chunks(); ++c) {
        float4 unit = {};
        add_scaled(unit, inverse, rows.own(s)[c]);
        add_scaled(grad_rows.own(s)[c], -shrink[s], unit);
      }
      shrink[s] = 0;
    }
    shrink[s] = slots.norm[s] > kEps<float> ? shrink[s] * inverse : 0.0f;
  }
  if (strength) {
    add_warps(centers, shared.center_totals(), sizes);  // without them, the rounding of the weights would show
#pragma unroll
    for (int s = 0; s < S; ++s)
#pragma unroll
      for (int h = 0; h < R; ++h) products[s][h] *= slots.cosine[s][h] - centers[h];
    put_total(shared.strength_totals());
  }
  float* weights = shared.weights + rows.first * kPitch<R>;
  put_weights(weights, pull, lane);

  // the gradient of the written memory, and its products with the adds
#pragma unroll
  for (int s = 0; s < S; ++s)
#pragma unroll
    for (int h = 0; h < R; ++h) written[s][h] += grad.usage[s];
#pragma unroll(kN ? 1 : 2)
  for (int c = 0; c < sizes.chunks(); ++c) {
    float4 d[S];
#pragma unroll
    for (int s = 0; s < S; ++s) d[s] = grad_rows.own(s)[c];
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float4 g = load_four(shared.grad_reads + h * kGap<kW> + 4 * c);
      const float4 unit = load_four(shared.units + h * kGap<kW> + 4 * c);
#pragma unroll
      for (int s = 0; s < S; ++s) {
        add_scaled(d[s], slots.w_r[s][h], g);
        add_scaled(d[s], pull[s][h], unit);
      }
    }
#pragma unroll
    for (int s = 0; s < S; ++s) {
      add_scaled(d[s], -shrink[s], rows.own(s)[c]);
      grad_rows.own(s)[c] = d[s];
    }
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const float4 a = load_four(shared.adds + h * kGap<kW> + 4 * c);
#pragma unroll
      for (int s = 0; s < S; ++s) add_products(written[s][h], d[s], a);
    }
  }
  __syncwarp();

  // sums over slots: of pull times the row, and of the write weights times the row's gradient
  float4 sums[R];
  rows.weighted_sums(sums, weights);
  __syncwarp();
  rows.put_sums(sums, rows.at);
#pragma unroll
  for (int s = 0; s < S; ++s) {
#pragma unroll
    for (int h = 0; h < R; ++h) pull[s][h] = slots.previous[s][h];
    write_weights(pull[s], shared.gates, slots.place[s], options);
  }
  put_weights(weights, pull, lane);
  __syncwarp();
  grad_rows.weighted_sums(sums, weights);
  rows.put_sums(sums, rows.at + sizes.template sums<R>());
  __syncwarp();

  // through the write weights
  const int n = int(options.n);
  float open[R];
  load_heads(open, shared.gates);
#pragma unroll
  for (int s = 0; s < S; ++s) {
    if (slots.place[s] == 0) grad_rows.clear_own(s);
    int asked = 0;  // h mod n
#pragma unroll
    for (int h = 0; h < R; ++h) {
      const bool least_used = options.per_head ? slots.place[s] == asked : slots.place[s] < n;
      products[s][h] = rows.has(s) ? written[s][h] * (slots.previous[s][h] - (least_used ? 1.0f : 0.0f)) : 0.0f;
      grad.read_weights[s][h] = written[s][h] * open[h];
      asked = asked + 1 == n ? 0 : asked + 1;
    }
    grad.usage[s] *= float(options.decay);
  }
  put_total(shared.gate_totals());
}

// Stores the gradients of an episode's interface vector, whose heads begin with number `head`.
template <int R, int kN, int kW>
__device__ void store_interface_gradients(const InterfaceGradients<float>& to, int64_t head,
                                          const StepBackwardShared<R, kN, kW>& shared, int warp, int lane) {
  const StepSizes<kN, kW> sizes = shared.sizes;
  const int W = sizes.columns(), warps = sizes.warps(), gap = sizes.kOfWarp * sizes.pitch(), i = threadIdx.x;
  if (i < R) {
    to.gate[head + i] = shared.gates[i] * shared.gates[kPitch<4> + i] * sum_of<R>(shared.gate_totals(), i, warps);
    if (to.strength) to.strength[head + i] = sum_of<R>(shared.strength_totals(), i, warps);
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
      along += g[k] * shared.units[h * kGap<kW> + j];
      grad_add[j] = total_at<R>(of_adds, gap, sizes, h, j);
    }
    along = sum_of_lanes(along);
    if (!(key_norm > kEps<float>)) along = 0;
    const float inverse = inverse_of(key_norm);
#pragma unroll
    for (int k = 0; k < kOfVector; ++k) {
      const int j = k * kLanes + lane;
      if (j < W) grad_key[j] = (g[k] - along * shared.units[h * kGap<kW> + j]) * inverse;
    }
  }
}

}  // namespace mannkern
