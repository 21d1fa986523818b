// The backward pass of a step of LRUA on a memory in registers.
#pragma once

#include "persistent_backward_layout.h"
#include "persistent_memory.h"

namespace mannkern {

// Gradients of a thread's part of a memory, of its two read weights and of the usage of its slot. In place: before a
// step those with respect to its outputs, after it those with respect to its inputs.
struct MemoryGradients {
  float at[kSlotsOfThread][kColumnsOfThread];
  float read_weights[2], usage;
};

// What a thread reads of a step: the memory and the rows after it, and the read weights and least used slots before it.
struct SavedStep {
  float at[kSlotsOfThread][kColumnsOfThread];
  float read_weights[2], cosine[2], norm, previous[2];
  int mark, reset;
};

// The parts of shared memory that belong to the memory in the backward pass.
struct MemoryBackwardShared {
  const float *key, *add, *open, *closed, *strength, *read;  // read: the gradient of the read vectors
  float *parts, *weights, *statistics;
  __device__ MemoryBackwardShared(float* shared, const PersistentBackwardLayout& l) {
    const float* vector = shared + l.vector;
    key = vector + kKeys, add = vector + kAdds, open = vector + kOpen, closed = vector + kClosed;
    strength = vector + kStrengths;
    read = shared + l.read, parts = shared + l.parts;
    weights = shared + l.weights, statistics = shared + l.statistics;
  }
};

// The sum over a thread's columns, and the seven lanes beside it, of a memory's slots times four vectors; v[k] becomes
// that of slot `own` and the k-th head of the lane.
__device__ inline void dots(float (&v)[16], const float (&x)[kSlotsOfThread][kColumnsOfThread],
                            const HeadColumns& vectors) {
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float dot = 0;
#pragma unroll
      for (int j = 0; j < kColumnsOfThread; ++j) dot = std::fma(x[i][j], vectors[h][j], dot);
      v[4 * i + h] = dot;
    }
  scatter_sum<16, 4>(v), scatter_sum<8, 2>(v), scatter_sum<4, 1>(v);
}

__device__ inline float warp_sum(float v) {
  for (int o = kLanes / 2; o > 0; o /= 2) v = add(v, __shfl_xor_sync(kAll, v, o));
  return v;
}

__device__ inline float sum_of_warps(const float* numbers) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kMemoryWarps; ++w) sum += numbers[w];
  return sum;
}

// The warp's sum of two numbers of each lane, one for each of its heads, stored as a statistic.
__device__ inline void store_statistic(float* to, float first, float second, const MemoryPlace& p) {
  const int lane = threadIdx.x % kLanes;
  const float sum = combine_pairs(first, second, Sum());
  if (lane < kHeads) to[(2 * (lane % 2) + lane / 2 % 2) * kMemoryWarps + p.warp] = sum;
}

// Backward of the step. Gradients of the interface's product, before activation, are given to `give(place, row,
// number)`, after the block's other threads have come to MemoryPlace::arrive. `place` is one of kGradInterface and
// `row` that of the interface vector; with no head or column there the number is 0 and the row -1.
template <class Give>
__device__ void memory_step_backward(MemoryGradients& d, const SavedStep& saved, const MemoryBackwardShared& s,
                                     const MemoryPlace& p, int R, int W, float decay, Give give) {
  using Layout = PersistentBackwardLayout;
  const int lane = threadIdx.x % kLanes;
  float v[16], sums[kHeads * kColumnsOfThread];
  HeadColumns vectors;

  // read, and the usage's sum of read weights
  load_columns(vectors, s.read, p);
  dots(v, saved.at, vectors);
  float grad_weights[2], pull[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) grad_weights[k] = d.read_weights[k] + d.usage + v[k];
  set_weights(s.weights, p, saved.read_weights[0], saved.read_weights[1]);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) add_weighted(d.at[i], weights_of(s.weights, p.first + i), vectors);

  // content weights: means over all slots, then the gradients of the dot products of slots and unit keys
  const float *w = saved.read_weights, *cosine = saved.cosine;
  store_statistic(s.statistics + Layout::kMeans, grad_weights[0] * w[0], grad_weights[1] * w[1], p);
  store_statistic(s.statistics + Layout::kCenters, cosine[0] * w[0], cosine[1] * w[1], p);
  if (p.warp < kHeads) {
    const float *key = s.key + p.warp * kMostColumns, second = lane + kLanes < kMostColumns ? key[lane + kLanes] : 0;
    const float root = std::sqrt(warp_sum(std::fma(key[lane], key[lane], second * second)));
    const float norm = root > kEps<float> ? root : kEps<float>;
    if (lane == 0) s.statistics[Layout::kKeyNorms + p.warp] = norm;
    if (lane == 0) s.statistics[Layout::kKeyInverses + p.warp] = reciprocal(norm);
  }
  p.sync();
  float through = 0, grad_strength[2];
  const float inverse = inverse_norm(saved.norm);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float mean = sum_of_warps(s.statistics + Layout::kMeans + (p.head + k) * kMemoryWarps);
    const float center = sum_of_warps(s.statistics + Layout::kCenters + (p.head + k) * kMemoryWarps);
    const float slope = w[k] * (grad_weights[k] - mean);
    grad_strength[k] = slope * (cosine[k] - center);
    pull[k] = slope * s.strength[p.head + k] * inverse;
    through = std::fma(pull[k], cosine[k], through);
  }
  through = add(through, __shfl_xor_sync(kAll, through, 1));
  const bool is_long = saved.norm > kLongNorm<float> && W > 1;
  float shrink = saved.norm > kEps<float> && !is_long ? through * inverse : 0.0f;
  store_statistic(s.statistics + Layout::kStrengthSums, grad_strength[0], grad_strength[1], p);
  __syncwarp();
  set_weights(s.weights, p, pull[0], pull[1]);
  __syncwarp();
  sum_slots(sums, saved.at, s.weights, p);
  store_part(s.parts, sums, p);
  if (W == 1 && saved.norm > kEps<float>) {
    // a cosine of one column is a sign, whose gradient is 0; the difference would leave rounding errors
    pull[0] = pull[1] = shrink = 0;
  }
  if (W == 1) {
    __syncwarp();
    set_weights(s.weights, p, pull[0], pull[1]);
    __syncwarp();
  }
  load_columns(vectors, s.key, p);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float of_key = s.statistics[Layout::kKeyInverses + h];
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) vectors[h][j] *= of_key;
  }
  const int octet = lane / kColumnLanes * kColumnLanes;
  if (__any_sync(kAll, is_long)) {
#pragma unroll
    for (int i = 0; i < kSlotsOfThread; ++i) {
      const float of_slot = __shfl_sync(kAll, is_long ? through : 0.0f, octet + 2 * i);
      const float of_norm = __shfl_sync(kAll, inverse, octet + 2 * i);
#pragma unroll
      for (int j = 0; j < kColumnsOfThread; ++j)
        d.at[i][j] = std::fma(-of_slot, saved.at[i][j] * of_norm, d.at[i][j]);
    }
  }
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
    const float of_slot = __shfl_sync(kAll, shrink, octet + 2 * i);
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) d.at[i][j] = std::fma(-of_slot, saved.at[i][j], d.at[i][j]);
    add_weighted(d.at[i], weights_of(s.weights, p.first + i), vectors);
  }

  // write and write weights
  load_columns(vectors, s.add, p);
  dots(v, d.at, vectors);
  float written[2], grad_gate[2];
  write_weights(written, saved.previous, s.open, s.closed, saved.mark, p);
  __syncwarp();
  set_weights(s.weights, p, written[0], written[1]);
  __syncwarp();
  sum_slots(sums, d.at, s.weights, p);
  store_part(s.parts + kMemoryWarps * kVector, sums, p);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float grad = v[k] + d.usage, least_used = saved.mark >> (p.head + k) & 1 ? 1.0f : 0.0f;
    grad_gate[k] = grad * (saved.previous[k] - least_used);
    d.read_weights[k] = s.open[p.head + k] * grad;
  }
  store_statistic(s.statistics + Layout::kGateSums, grad_gate[0], grad_gate[1], p);
  d.usage *= decay;
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j)
      if (p.first + i == saved.reset) d.at[i][j] = 0;
  p.sync_with_others();

  // a warp for the key of each head, and one for the add
  const int h = p.warp % kHeads;
  const bool is_key = p.warp < kHeads;
  const float* parts = s.parts + (is_key ? 0 : kMemoryWarps * kVector) + h * kMostColumns;
  const float norm = s.statistics[Layout::kKeyNorms + h], inverse_norm = s.statistics[Layout::kKeyInverses + h];
  float grad[2] = {}, activated[2] = {}, along = 0;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int j = lane + kLanes * k;
    if (j >= kMostColumns) continue;
    activated[k] = (is_key ? s.key : s.add)[h * kMostColumns + j];
#pragma unroll
    for (int w = 0; w < kMemoryWarps; ++w) grad[k] += parts[w * kVector + j];
    along = std::fma(grad[k], activated[k] * inverse_norm, along);
  }
  along = warp_sum(along);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const int j = lane + kLanes * k;
    if (j >= kMostColumns) continue;
    float g = grad[k];
    if (is_key) g = (norm > kEps<float> ? g - along * (activated[k] * inverse_norm) : g) * inverse_norm;
    const bool used = h < R && j < W;
    give((is_key ? kKeys : kAdds) + h * kMostColumns + j, used ? ((is_key ? 0 : R) + h) * W + j : -1,
         used ? g * (1 - activated[k] * activated[k]) : 0.0f);
  }
  if (!is_key && lane == kLanes - 1) {
    const float sum = sum_of_warps(s.statistics + Layout::kGateSums + h * kMemoryWarps);
    give(kGradGates + h, h < R ? 2 * R * W + h : -1, h < R ? s.open[h] * s.closed[h] * sum : 0.0f);
  }
  if (!is_key && lane == kLanes - 2) {
    const float slope = softplus_slope<DeviceMath>(1 - s.strength[h]);
    const float sum = sum_of_warps(s.statistics + Layout::kStrengthSums + h * kMemoryWarps);
    give(kGradStrengths + h, h < R ? (2 * W + 1) * R + h : -1, h < R ? slope * sum : 0.0f);
  }
}

}  // namespace mannkern
