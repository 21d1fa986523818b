// The persistent kernel's backward pass through time: all T steps of 16 episodes in one launch of a cluster of 8 blocks.
//
// A step, from the last to the first, with a barrier of the cluster after each part:
//   1. the step of LRUA: a block gives the gradients of its episodes' interface vectors to every block
//   2. the interface's product, then the LSTM, for the block's units and all episodes; then the gates' product: a block
//      gives its part of the gradients of h and r to the blocks that have the units and the memories
// The memories after each step are computed again from a checkpoint, checkpoint_every steps at once. Each thread writes
// its part to device memory and reads it back, so these need no barrier.
#pragma once

#include "persistent_loads.h"
#include "persistent_memory_backward.h"

namespace mannkern {

// The block's gates of the recurrent weight, transposed: units of all blocks, then r, by gates of the block.
__device__ inline void load_transposed_gates(float* to, const float* weight, const PersistentBackwardLayout& l,
                                             const BlockPlace& b) {
  for (int at = threadIdx.x; at < l.outputs * l.pitch; at += kPersistentThreads) {
    const int gate = at / l.outputs, output = at % l.outputs, unit = gate % l.units;
    const int column = output < l.hidden_outputs ? output : output - l.hidden_outputs + l.D;
    const bool used = (output < l.hidden_outputs ? output < l.D : column < l.O) && gate < l.gates && unit < b.units;
    to[output * l.pitch + gate] =
        used ? weight[int64_t(gate / l.units * l.D + b.first_unit + unit) * l.O + column] : 0.0f;
  }
}

// The block's units of the interface's weight, transposed: units by places of the interface vector.
__device__ inline void load_transposed_interface(float* to, const float* weight, const PersistentBackwardLayout& l,
                                                 const BlockPlace& b) {
  for (int at = threadIdx.x; at < l.units * l.interface_pitch; at += kPersistentThreads) {
    const int place = at / l.units, unit = at % l.units;
    const int row = place < kInterface ? row_of_place(place, l.R, l.W, l.I) : -1;
    to[unit * l.interface_pitch + place] =
        row >= 0 && unit < b.units ? weight[int64_t(row) * l.D + b.first_unit + unit] : 0.0f;
  }
}

// Which of the least used slots of a step a thread's slot is, and the first of them.
__device__ inline void load_least_used(SavedStep& saved, const int64_t* slots, const LRUAOptions& options,
                                       const MemoryPlace& p) {
  saved.mark = 0, saved.reset = int(slots[0]);
  for (int k = 0; k < int(options.n); ++k) {
    if (slots[k] != p.slot) continue;
    for (int h = 0; h < kHeads; ++h) saved.mark |= int(!options.per_head || h % options.n == k) << h;
  }
}

// One episode's place in what the forward pass saved.
struct SavedEpisode {
  const MANNPersistentBackward& op;
  const PersistentBackwardLayout& l;
  const MemoryPlace& p;
  int64_t e;
  bool used;  // the episode exists

  __device__ const float* rows(int64_t t) const {
    return op.rows + (t * op.sizes.B + e) * (2 * l.R + 1) * l.N;
  }
  __device__ const float* interface(int64_t t) const { return op.interface + (t * op.sizes.B + e) * l.I; }
  __device__ const int64_t* slots(int64_t t) const { return op.least_used + (t * op.sizes.B + e) * op.options.n; }
  // A thread's numbers of the memory after step t, side by side with those of other threads.
  __device__ float* memory(int64_t t) const {
    const int64_t clusters = (op.sizes.B + kEpisodes - 1) / kEpisodes, step = t % op.sizes.checkpoint_every;
    return op.memories + (step * clusters * kEpisodes + e) * kMostSlots * kMostColumns + p.thread;
  }

  __device__ void load_rows(SavedStep& saved, int64_t t) const {
    load_pair(saved.previous, rows(t), p, l.N, l.R, used);
    load_pair(saved.read_weights, rows(t + 1), p, l.N, l.R, used);
    load_pair(saved.cosine, rows(t + 1) + l.R * l.N, p, l.N, l.R, used);
    saved.norm = used && p.slot < l.N ? rows(t + 1)[2 * l.R * l.N + p.slot] : 1.0f;
    saved.mark = saved.reset = 0;
    if (used) load_least_used(saved, slots(t), op.options, p);
  }
  __device__ void load_memory_after(float (&x)[kSlotsOfThread][kColumnsOfThread], int64_t t) const {
    const float* from = memory(t);
#pragma unroll
    for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
      for (int j = 0; j < kColumnsOfThread; ++j)
        x[i][j] = used ? from[(i * kColumnsOfThread + j) * kMemoryThreads] : 0.0f;
  }
  // Computes the memories after the steps from the last checkpoint to `last` again, bit by bit as the forward pass.
  __device__ void recompute(int64_t last, float* weights) const {
    if (!used) return;
    const int64_t every = op.sizes.checkpoint_every, first = last / every * every;
    MemoryRegisters m;
    load_memory(m.at, op.checkpoints + (first / every * op.sizes.B + e) * l.N * l.W, p, l.N, l.W, true);
    for (int64_t t = first; t <= last; ++t) {
      const float *vector = interface(t), *add = vector + l.R * l.W, *gates = add + l.R * l.W;
      HeadColumns adds;
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
#pragma unroll
        for (int j = 0; j < kColumnsOfThread; ++j) {
          const int column = p.column + kColumnLanes * j;
          adds[h][j] = h < l.R && column < l.W ? add[h * l.W + column] : 0.0f;
        }
      float previous[2], gate[2], written[2];
      load_pair(previous, rows(t), p, l.N, l.R, true);
#pragma unroll
      for (int k = 0; k < 2; ++k) gate[k] = p.head + k < l.R ? gates[p.head + k] : 0.0f;
      SavedStep saved;
      load_least_used(saved, slots(t), op.options, p);
      write_weights(written, previous, gate, saved.mark, p);
      write(m, written, adds, saved.reset, weights, p);
      float* to = memory(t);
#pragma unroll
      for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
        for (int j = 0; j < kColumnsOfThread; ++j) to[(i * kColumnsOfThread + j) * kMemoryThreads] = m.at[i][j];
    }
  }
};

// Loads the interface vectors of the block's memories; unused places get 0, strengths 1.
__device__ inline void load_vectors(float* shared, const MANNPersistentBackward& op, const PersistentBackwardLayout& l,
                                    const BlockPlace& b, int64_t t) {
  for (int at = threadIdx.x; at < kMemories * kInterface; at += kPersistentThreads) {
    const int episode = b.rank * kMemories + at / kInterface, place = at % kInterface;
    const int row = row_of_place(place, l.R, l.W, l.I);
    const int64_t e = b.first_episode + episode;
    shared[l.vectors + episode * l.interface_pitch + place] =
        row >= 0 && e < op.sizes.B ? op.interface[(t * op.sizes.B + e) * l.I + row] : place < kStrengths ? 0.0f : 1.0f;
  }
}

// The gradient of r, all parts that were given and that of the outputs, is stored in shared memory; also to
// `grad_output` (B,O) if it is not null.
__device__ inline void sum_reads(float* shared, const float* grad_outputs, float* grad_output,
                                 const PersistentBackwardLayout& l, const BlockPlace& b, int64_t B) {
  for (int at = threadIdx.x; at < kMemories * kVector; at += kPersistentThreads) {
    const int h = at % kVector / kMostColumns, j = at % kMostColumns;
    const int64_t e = b.first_episode + b.rank * kMemories + at / kVector;
    const bool used = h < l.R && j < l.W && e < B;
    const int64_t column = e * l.O + l.D + h * l.W + j;
    float sum = used && grad_outputs ? grad_outputs[column] : 0.0f;
#pragma unroll
    for (int source = 0; source < kCluster; ++source) sum += shared[l.reads + source * kMemories * kVector + at];
    shared[l.read + at] = used ? sum : 0.0f;
    if (grad_output && used) grad_output[column] = sum;
  }
}

__device__ inline float sum_hidden(const float* shared, const PersistentBackwardLayout& l, const CellPlace& c) {
  if (!c.used) return 0;
  float sum = 0;
#pragma unroll
  for (int source = 0; source < kCluster; ++source)
    sum += shared[l.hidden + (source * kEpisodes + c.episode) * l.units + c.unit];
  return sum;
}

// The interface's product: parts of the gradients of h of the block's units. They take the place of the vectors.
__device__ inline void multiply_vectors(float* shared, const PersistentBackwardLayout& l) {
  constexpr int kTiles = (kInterface + kTileDepth - 1) / kTileDepth;
  const int warp = threadIdx.x / kLanes, part = warp % l.kInterfaceParts, row = warp / l.kInterfaceParts * kTileRows;
  TileSums sums;
  if (row < l.units)
    multiply(sums, shared + l.interface_weights + row * l.interface_pitch, l.interface_pitch, l.units - row,
             shared + l.vectors, l.interface_pitch, kTiles * part / l.kInterfaceParts,
             kTiles * (part + 1) / l.kInterfaceParts);
  __syncthreads();
  if (row < l.units) store_sums(shared + l.sums + (part * l.units + row) * kSumsPitch, sums, l.units - row);
  __syncthreads();
}

// Backward of the LSTM's step of a thread's unit. d_cell is in place.
__device__ inline void lstm_step_backward(float& d_cell, float d_hidden, float* shared,
                                          const MANNPersistentBackward& op, const PersistentBackwardLayout& l,
                                          const BlockPlace& b, const CellPlace& c, int64_t t) {
  float grads[4] = {};
  if (c.saved) {
#pragma unroll
    for (int part = 0; part < l.kInterfaceParts; ++part)
      d_hidden += shared[l.sums + (part * l.units + c.unit) * kSumsPitch + c.episode];
    const int unit = b.first_unit + c.unit;
    const int64_t B = op.sizes.B, at = t * B + c.e, D = l.D;
    if (op.grad_outputs) d_hidden += op.grad_outputs[at * l.O + unit];
    const float* gates = op.gates + at * 4 * D + unit;
    const float i = gates[0], f = gates[D], g = gates[2 * D], o = gates[3 * D];
    const float before = t > 0 ? op.cells[(at - B) * D + unit] : op.cell[c.e * D + unit];
    const float squashed = std::tanh(op.cells[at * D + unit]);
    const float d = d_cell + d_hidden * o * (1 - squashed * squashed);
    grads[0] = d * g * i * (1 - i), grads[1] = d * before * f * (1 - f);
    grads[2] = d * i * (1 - g * g), grads[3] = d_hidden * squashed * o * (1 - o);
    d_cell = d * f;
    float* grad = op.grad_gates + at * 4 * D + unit;
    grad[0] = grads[0], grad[D] = grads[1], grad[2 * D] = grads[2], grad[3 * D] = grads[3];
  }
  // the columns behind the last gate fill up a tile
  if (c.episode < kEpisodes) {
    float* place = shared + l.grad_gates + c.episode * l.pitch;
#pragma unroll
    for (int g = 0; g < 4; ++g) place[g * l.units + c.unit] = grads[g];
    for (int k = l.gates + c.unit; k < whole_tiles(l.gates); k += l.units) place[k] = 0;
  }
  __syncthreads();
}

// The gates' product. Its sums, parts of the gradients of h and r, are given to the blocks that need them.
__device__ inline void give_outputs(float* shared, const PersistentBackwardLayout& l, const BlockPlace& b) {
  const int lane = threadIdx.x % kLanes;
  for (int first = threadIdx.x / kLanes * kTileRows; first < l.outputs; first += kWarps * kTileRows) {
    TileSums sums;
    multiply(sums, shared + l.gate_weights + first * l.pitch, l.pitch, l.outputs - first, shared + l.grad_gates,
             l.pitch, 0, whole_tiles(l.gates) / kTileDepth);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const int output = first + lane / 4 + 8 * (q / 2), episode = 8 * n + 2 * (lane % 4) + q % 2;
        if (output >= l.outputs) continue;
        if (output < l.hidden_outputs) {
          const int place = (b.rank * kEpisodes + episode) * l.units + output % l.units;
          store_at(shared + l.hidden + place, output / l.units, sums.at[n][q]);
        } else {
          const int k = output - l.hidden_outputs, column = k / l.W * kMostColumns + k % l.W;
          const int place = (b.rank * kMemories + episode % kMemories) * kVector + column;
          store_at(shared + l.reads + place, episode / kMemories, sums.at[n][q]);
        }
      }
  }
}

__global__ void __launch_bounds__(kPersistentThreads, 1)
    mann_persistent_backward_kernel(MANNPersistentBackward op) {
  const PersistentBackwardLayout l(op.sizes);
  float* shared = block_memory();
  const BlockPlace b(l.D, l.I);
  const MemoryPlace p;
  const int64_t T = op.sizes.T, B = op.sizes.B;
  const CellPlace c(l.units, b, B);
  const int episode = b.rank * kMemories + p.memory;
  const int64_t e = b.first_episode + episode;
  const bool used = e < B;
  const MemoryBackwardShared s(shared, l, p.memory, episode);
  const SavedEpisode saved_episode{op, l, p, e, used};

  load_transposed_gates(shared + l.gate_weights, op.recurrent_weight, l, b);
  load_transposed_interface(shared + l.interface_weights, op.interface_weight, l, b);
  for (int at = l.hidden + threadIdx.x; at < l.weights; at += kPersistentThreads) shared[at] = 0;
  for (int at = l.vectors + threadIdx.x; at < l.hidden; at += kPersistentThreads) shared[at] = 0;
  MemoryGradients d;
  load_memory(d.at, op.grad_memory_out + e * l.N * l.W, p, l.N, l.W, used && op.grad_memory_out);
  load_pair(d.read_weights, op.grad_read_weights_out + e * l.R * l.N, p, l.N, l.R, used && op.grad_read_weights_out);
  d.usage = used && op.grad_usage_out && p.slot < l.N ? op.grad_usage_out[e * l.N + p.slot] : 0.0f;
  const int unit = b.first_unit + c.unit;
  float d_cell = c.saved && op.grad_cell_out ? op.grad_cell_out[c.e * l.D + unit] : 0.0f;
  cluster_arrive(), cluster_wait();

  Phases phases;
  for (int64_t t = T - 1; t >= 0; --t) {
    if (t == T - 1 || (t + 1) % op.sizes.checkpoint_every == 0) saved_episode.recompute(t, s.weights);
    phases.mark(0);
    MemoryRegisters x;
    SavedStep saved;
    saved_episode.load_memory_after(x.at, t);
    saved_episode.load_rows(saved, t);
    float d_hidden = sum_hidden(shared, l, c);
    sum_reads(shared, op.grad_outputs ? op.grad_outputs + t * B * l.O : nullptr, nullptr, l, b, B);
    load_vectors(shared, op, l, b, t);
    __syncthreads();
    phases.mark(1);
    memory_step_backward(d, x, saved, s, p, l.R, l.W, float(op.options.decay), [&](int place, float grad) {
      float* to = shared + l.vectors + episode * l.interface_pitch + place;
#pragma unroll
      for (int rank = 0; rank < kCluster; ++rank) store_at(to, rank, grad);
      const int row = row_of_place(place, l.R, l.W, l.I);
      if (used && row >= 0) op.grad_interface[(t * B + e) * l.I + row] = grad;
    });
    cluster_arrive();
    phases.mark(2);
    cluster_wait();
    phases.mark(3);
    multiply_vectors(shared, l);
    phases.mark(4);
    lstm_step_backward(d_cell, d_hidden, shared, op, l, b, c, t);
    phases.mark(5);
    give_outputs(shared, l, b);
    cluster_arrive();
    phases.mark(6);
    cluster_wait();
    phases.mark(7);
  }

  const float d_hidden = sum_hidden(shared, l, c);
  sum_reads(shared, nullptr, op.grad_output, l, b, B);
  if (c.saved) {
    op.grad_output[c.e * l.O + unit] = d_hidden;
    op.grad_cell[c.e * l.D + unit] = d_cell;
  }
  if (used) {
    store_memory(op.grad_memory + e * l.N * l.W, d.at, p, l.N, l.W);
    store_pair(op.grad_read_weights + e * l.R * l.N, d.read_weights, p, l.N, l.R);
    if (p.head == 0 && p.slot < l.N) op.grad_usage[e * l.N + p.slot] = d.usage;
  }
}

}  // namespace mannkern
