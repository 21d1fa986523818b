// The persistent kernel's backward pass through time: all T steps of 8 episodes in one launch of a cluster of 8 blocks.
//
// A step, from the last to the first, in which blocks wait for each other only through what they give to each other:
//   1. the step of LRUA by the first half of the warps: a block gives the gradient of its episode's interface vector to
//      every block. The other warps compute memories of earlier steps again, one step each time
//   2. the interface's product, then the LSTM, for the block's units and all episodes
//   3. the gates' product: a block gives its part of the gradients of h and r to the blocks that have the units and the
//      memories
// A block gives in part 1 only after it has what all blocks gave in part 3 of the step before, and the other way
// around. So nothing that blocks give is overwritten before it was read.
#pragma once

#include "persistent_saved.h"

namespace mannkern {

// The gradient of number k of r: the parts that blocks gave, and that of the outputs.
__device__ inline float sum_read(const float* shared, int k, const PersistentBackwardLayout& l) {
  float sum = 0;
#pragma unroll
  for (int source = 0; source < kCluster; ++source) sum += shared[l.reads + source * kVector + k];
  return sum;
}

__device__ inline float sum_hidden(const float* shared, const PersistentBackwardLayout& l, const CellPlace& c) {
  float sum = 0;
#pragma unroll
  for (int source = 0; source < kCluster; ++source)
    sum += shared[l.hidden + (source * kEpisodes + c.episode) * l.units + c.unit];
  return sum;
}

// The interface's product: parts of the gradients of h of the block's units.
__device__ inline void multiply_vectors(float* shared, const PersistentBackwardLayout& l) {
  constexpr int kTiles = (kGradInterface + kTileDepth - 1) / kTileDepth;
  for (int job = forget(int(threadIdx.x)) / kLanes; job / l.kInterfaceParts * kTileRows < l.units; job += kWarps) {
    const int row = job / l.kInterfaceParts * kTileRows, part = job % l.kInterfaceParts;
    float sums[4] = {};
    multiply(sums,
             TilePlace(shared + l.interface_weights, l.interface_pitch, row, l.units, shared + l.grad_vectors,
                       l.interface_pitch),
             kTiles * part / l.kInterfaceParts, kTiles * (part + 1) / l.kInterfaceParts);
    store_sums(shared + l.sums + (part * l.units + row) * kSumsPitch, sums, l.units - row);
  }
}

// What a thread reads of the LSTM's step.
struct SavedCell {
  float gates[4], before, after, grad_hidden;
  __device__ void load(const MANNPersistentBackward& op, const PersistentBackwardLayout& l, const CellPlace& c,
                       int unit, int t) {
    if (!c.saved) return;
    const int64_t B = op.sizes.B, at = t * B + c.e;
#pragma unroll
    for (int g = 0; g < 4; ++g) gates[g] = op.gates[(at * 4 + g) * l.D + unit];
    before = t > 0 ? op.cells[(at - B) * l.D + unit] : op.cell[c.e * l.D + unit];
    after = op.cells[at * l.D + unit];
    grad_hidden = op.grad_outputs ? op.grad_outputs[at * l.O + unit] : 0.0f;
  }
};

// Backward of the LSTM's step of a thread's unit. d_cell is in place.
__device__ inline void lstm_step_backward(float& d_cell, float d_hidden, const SavedCell& saved, float* shared,
                                          const MANNPersistentBackward& op, const PersistentBackwardLayout& l,
                                          const CellPlace& c, int unit, int t) {
  if (c.episode >= kEpisodes) return;
  float grads[4] = {};
  if (c.saved) {
#pragma unroll
    for (int part = 0; part < l.kInterfaceParts; ++part)
      d_hidden += shared[l.sums + (part * l.units + c.unit) * kSumsPitch + c.episode];
    d_hidden += saved.grad_hidden;
    const float i = saved.gates[0], f = saved.gates[1], g = saved.gates[2], o = saved.gates[3];
    const float squashed = std::tanh(saved.after);
    const float d = d_cell + d_hidden * o * (1 - squashed * squashed);
    grads[0] = d * g * i * (1 - i), grads[1] = d * saved.before * f * (1 - f);
    grads[2] = d * i * (1 - g * g), grads[3] = d_hidden * squashed * o * (1 - o);
    d_cell = d * f;
  }
  float* place = shared + l.grad_gates + c.episode * l.pitch;
#pragma unroll
  for (int g = 0; g < 4; ++g) place[g * l.units + c.unit] = round_to_22_bits(grads[g]);
  if (!c.saved) return;
  float* grad = op.grad_gates + (t * op.sizes.B + c.e) * 4 * l.D + unit;
#pragma unroll
  for (int g = 0; g < 4; ++g) grad[g * l.D] = grads[g];
}

// The gates' product. Its sums, parts of the gradients of h and r, are given to the blocks that need them.
__device__ inline void give_outputs(float* shared, Inbox* inbox, const PersistentBackwardLayout& l,
                                    const BlockPlace& b) {
  const int lane = forget(int(threadIdx.x)) % kLanes;
  for (int first = forget(int(threadIdx.x)) / kLanes * kTileRows; first < l.outputs; first += kWarps * kTileRows) {
    float sums[4] = {};
    multiply(sums, TilePlace(shared + l.gate_weights, l.pitch, first, l.outputs, shared + l.grad_gates, l.pitch), 0,
             whole_tiles(l.gates) / kTileDepth);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int output = first + lane / 4 * 2 + q / 2, episode = 2 * (lane % 4) + q % 2;
      if (output >= l.outputs) continue;
      if (output < l.hidden_outputs) {
        const int owner = output / l.units, unit = output - owner * l.units;
        give(shared + l.hidden + (b.rank * kEpisodes + episode) * l.units + unit, inbox, owner, sums[q]);
      } else {
        const int k = output - l.hidden_outputs, column = k / l.W * kMostColumns + k % l.W;
        give(shared + l.reads + b.rank * kVector + column, inbox, episode, sums[q]);
      }
    }
  }
}

// What all threads of a block know.
struct BackwardBlock {
  const MANNPersistentBackward& op;
  const PersistentBackwardLayout& l;
  float* shared;
  BlockPlace b;
  Inbox *vectors, *outputs;  // of the gradients of interface vectors, and of h and r
  int T, every;
  int64_t B, e;  // e: the episode whose memory the block has
  bool used;     // it exists
  __device__ BackwardBlock(const MANNPersistentBackward& op, const PersistentBackwardLayout& l)
      : op(op), l(l), shared(block_memory()), b(l.D, l.I), vectors(reinterpret_cast<Inbox*>(shared + l.inboxes)),
        outputs(vectors + 1), T(int(op.sizes.T)), every(int(op.sizes.checkpoint_every)), B(op.sizes.B),
        e(b.first_episode + b.rank), used(e < B) {}
};

// All steps of a thread that has a part of the memory.
__device__ inline void run_memory_backward(const BackwardBlock& k) {
  const MANNPersistentBackward& op = k.op;
  const PersistentBackwardLayout& l = k.l;
  Inbox *vectors = k.vectors, *outputs = k.outputs;
  float* shared = k.shared;
  const int T = k.T, rank = k.b.rank;
  const int64_t B = k.B, e = k.e;
  const bool used = k.used;
  MemoryPlace p;
  const LeastUsedHeads heads(op.options, l.R);
  const SavedEpisode episode{op, l, p, heads, e, used, k.every};
  const int h = p.thread / kMostColumns, column = p.thread % kMostColumns;
  const bool has_read = h < l.R && column < l.W;
  const int64_t read_place = e * l.O + l.D + h * l.W + column;
  const int vector_bytes = kEpisodes * kGradInterface * int(sizeof(float));
  MemoryGradients d;
  load_memory(d.at, op.grad_memory_out + e * l.N * l.W, p, l.N, l.W, used && op.grad_memory_out);
  load_pair(d.read_weights, op.grad_read_weights_out + e * l.R * l.N, p, l.N, l.R, used && op.grad_read_weights_out);
  d.usage = used && op.grad_usage_out && p.slot < l.N ? op.grad_usage_out[e * l.N + p.slot] : 0.0f;
  VectorNumbers numbers;
  numbers.load(episode, T - 1);
  numbers.store(shared + l.vector, p);
  cluster_barrier();
  SavedStep saved;
  episode.load(saved, T - 1);
  __syncthreads();  // the first step that is computed again may take the place of the last

  Phases phases;
  for (int t = T - 1, turn = 0; t >= 0; --t, ++turn) {
    p = MemoryPlace(forget(p.thread));
    const MemoryBackwardShared s(shared, l);
    if (threadIdx.x == 0) vectors->expect(vector_bytes);
    const float grad = has_read && used && op.grad_outputs ? op.grad_outputs[t * B * l.O + read_place] : 0.0f;
    if (turn > 0) outputs->wait(turn - 1);
    if (threadIdx.x == 0)
      outputs->expect(kCluster * (forget(l.units) * kEpisodes + l.R * l.W) * int(sizeof(float)));
    phases.mark(0);
    if (p.thread < kVector) shared[l.read + p.thread] = has_read ? grad + sum_read(shared, p.thread, l) : 0.0f;
    p.sync();
    memory_step_backward(d, saved, s, p, l.R, l.W, float(op.options.decay), [&](int place, int row, float number) {
      give_to_all(shared + l.grad_vectors + rank * l.interface_pitch + place, vectors, round_to_22_bits(number));
      if (used && row >= 0 && row < l.I) op.grad_interface[(t * B + e) * l.I + row] = number;
    });
    phases.mark(1);
    if (t > 0) episode.load(saved, t - 1), numbers.load(episode, t - 1);
    phases.mark(2);
    vectors->wait(turn);
    phases.mark(3);
    multiply_vectors(shared, l);
    __syncthreads();
    phases.mark(4);
    numbers.store(shared + l.vector, p);
    __syncthreads();
    phases.mark(5);
    give_outputs(shared, outputs, l, k.b);
    phases.mark(6);
  }
  outputs->wait(T - 1);
  if (!used) return;
  if (has_read) op.grad_output[read_place] = sum_read(shared, p.thread, l);
  store_memory(op.grad_memory + e * l.N * l.W, d.at, p, l.N, l.W);
  store_pair(op.grad_read_weights + e * l.R * l.N, d.read_weights, p, l.N, l.R);
  if (p.head == 0 && p.slot < l.N) op.grad_usage[e * l.N + p.slot] = d.usage;
}

// All steps of a thread that has a unit of the LSTM. It computes memories again, of an earlier step in each step.
__device__ inline void run_cells_backward(const BackwardBlock& k) {
  const auto& [op, l, shared, b, vectors, outputs, T, every, B, e, used] = k;
  MemoryPlace p;
  const LeastUsedHeads heads(op.options, l.R);
  const SavedEpisode episode{op, l, p, heads, e, used, every};
  const CellPlace c(l.units, b, B);
  const int unit = b.first_unit + c.unit;
  float d_cell = c.saved && op.grad_cell_out ? op.grad_cell_out[c.e * l.D + unit] : 0.0f;
  Recomputation recomputation(T, every);
  for (int i = 0; i <= every; ++i) recomputation.advance(episode, shared + l.other_weights);
  cluster_barrier();
  __syncthreads();
  SavedCell saved;
  for (int t = T - 1, turn = 0; t >= 0; --t, ++turn) {
    p = MemoryPlace(forget(p.thread));
    saved.load(op, l, c, unit, t);
    recomputation.advance(episode, shared + l.other_weights);
    if (turn > 0) outputs->wait(turn - 1);
    const float d_hidden = turn > 0 && c.used ? sum_hidden(shared, l, c) : 0.0f;
    MemoryPlace::arrive();
    vectors->wait(turn);
    multiply_vectors(shared, l);
    __syncthreads();
    lstm_step_backward(d_cell, d_hidden, saved, shared, op, l, c, unit, t);
    __syncthreads();
    give_outputs(shared, outputs, l, b);
  }
  outputs->wait(T - 1);
  if (c.saved) op.grad_output[c.e * l.O + unit] = sum_hidden(shared, l, c), op.grad_cell[c.e * l.D + unit] = d_cell;
}

__global__ void __launch_bounds__(kPersistentThreads, 1) mann_persistent_backward_kernel(MANNPersistentBackward op) {
#if MANNKERN_HAS_CLUSTERS
  const PersistentBackwardLayout l(op.sizes);
  const BackwardBlock block(op, l);
  load_transposed_gates(block.shared + l.gate_weights, op.recurrent_weight, l, block.b);
  load_transposed_interface(block.shared + l.interface_weights, op.interface_weight, l, block.b);
  for (int at = threadIdx.x; at < l.end; at += kPersistentThreads)
    if (at < l.gate_weights || at >= l.grad_gates) block.shared[at] = 0;
  __syncthreads();
  if (threadIdx.x == 0) block.vectors->init(), block.outputs->init();
  if (threadIdx.x < kMemoryThreads) run_memory_backward(block);
  else run_cells_backward(block);
  cluster_barrier();  // a block must be there as long as others give to it
#endif
}

}  // namespace mannkern
