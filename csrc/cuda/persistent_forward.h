// The persistent kernel of a MANN's episode: all T steps of 8 episodes in one launch of a cluster of 8 blocks.
//
// A step, in which blocks wait for each other only through what they give to each other:
//   1. the gates' product with r, then the LSTM: a block gives h of its units, for all episodes, to every block. One
//      warp searches the least used slots meanwhile
//   2. the interface's product: a block gives its rows of an interface vector to the block that has the memory
//   3. the step of LRUA by the first half of the warps: a block gives r of its episode to every block. The other warps
//      compute the gates' product with h for the next step
// A block gives h only after it has r of the step before from every block, and r only after it has read h itself for
// the last time. So nothing that blocks give is overwritten before it was read.
#pragma once

#include "persistent_interface.h"

namespace mannkern {

// A warp's tile of the gates' product with the tiles [first, last) of `vectors`, which belong to the weights' columns
// from `column` on; it is stored as part `part` of the sums.
__device__ inline void multiply_gates(float* shared, int row, int part, int column, const float* vectors,
                                      int vector_pitch, int first, int last, const PersistentLayout& l) {
  if (row >= l.gate_rows) return;
  float sums[4] = {};
  multiply(sums,
           TilePlace(shared + l.gate_weights + 2 * column, l.pitch, row, l.gate_rows, vectors, vector_pitch), first,
           last);
  store_sums(shared + l.gate_sums + (part * l.gate_rows + row) * kSumsPitch, sums, l.gate_rows - row);
}

__device__ inline void multiply_reads(float* shared, const PersistentLayout& l) {
  const int warp = threadIdx.x / kLanes, part = warp % l.kReadParts, tiles = l.read_columns / kTileDepth;
  multiply_gates(shared, warp / l.kReadParts * kTileRows, part, l.hidden_columns, shared + l.read, l.read_pitch,
                 tiles * part / l.kReadParts, tiles * (part + 1) / l.kReadParts, l);
}

// By half of the warps, numbered from 0.
__device__ inline void multiply_hidden(float* shared, int warp, const PersistentLayout& l) {
  multiply_gates(shared, warp * kTileRows, l.kReadParts, 0, shared + l.hidden, l.hidden_pitch, 0,
                 l.hidden_columns / kTileDepth, l);
}

__device__ inline void load_projection(float (&x)[4], const float* from, const CellPlace& c, int D) {
#pragma unroll
  for (int g = 0; g < 4; ++g) x[g] = c.saved ? from[g * D] : 0.0f;
}

// The LSTM's step of a thread's unit: adds the products to x, the input's projection, and gives h to every block. Then
// x is that of the next step.
__device__ inline void lstm_step(float& cell, float (&x)[4], float* shared, const Inboxes& inboxes,
                                 const MANNPersistent& op, const PersistentLayout& l, const BlockPlace& b,
                                 const CellPlace& c, int64_t t) {
  if (!c.used) return;
  const float* sums = shared + l.gate_sums + c.unit * kSumsPitch + c.episode;
#pragma unroll
  for (int g = 0; g < 4; ++g)
#pragma unroll
    for (int part = 0; part < l.kGateParts; ++part) x[g] += sums[(part * l.gate_rows + g * l.units) * kSumsPitch];
  const float i = fast_sigmoid(x[0]), f = fast_sigmoid(x[1]), g = std::tanh(x[2]), o = fast_sigmoid(x[3]);
  cell = f * cell + i * g;
  const float h = o * std::tanh(cell);
  const int unit = b.first_unit + c.unit;
  give_to_all(shared + l.hidden + c.episode * l.hidden_pitch + unit, inboxes.hidden, round_to_22_bits(h));
  if (!c.saved) return;
  const int64_t at = t * op.sizes.B + c.e;
  op.outputs[at * l.O + unit] = h;
  if (op.cells) {
    float* gates = op.gates + at * 4 * l.D + unit;
    gates[0] = i, gates[l.D] = f, gates[2 * l.D] = g, gates[3 * l.D] = o;
    op.cells[at * l.D + unit] = cell;
  }
  if (t + 1 < op.sizes.T) load_projection(x, op.projection + (at + op.sizes.B) * 4 * l.D + unit, c, l.D);
}

// Copies the read weights, cosines and norms of a step to rows (2R+1,N).
__device__ inline void save_rows(float* rows, const MemoryRegisters& m, const MemoryPlace& p,
                                 const PersistentLayout& l) {
  store_pair(rows, m.read_weights, p, l.N, l.R);
  store_pair(rows + l.R * l.N, m.cosine, p, l.N, l.R);
  if (p.head == 0 && p.slot < l.N) rows[2 * l.R * l.N + p.slot] = m.norm;
}

// What all threads of a block know.
struct ForwardBlock {
  const MANNPersistent& op;
  const PersistentLayout& l;
  float* shared;
  BlockPlace b;
  InterfacePlace place;
  Inboxes inboxes;
  int T;
  int64_t B, e;  // e: the episode whose memory the block has
  bool saved;    // it exists
  __device__ ForwardBlock(const MANNPersistent& op, const PersistentLayout& l)
      : op(op), l(l), shared(block_memory()), b(l.D, l.I), place(l, b, op), inboxes(shared, l), T(int(op.sizes.T)),
        B(op.sizes.B), e(b.first_episode + b.rank), saved(e < B) {}
};

// All steps of a thread that has a part of the memory.
__device__ inline void run_memory(const ForwardBlock& k) {
  const MANNPersistent& op = k.op;
  const PersistentLayout& l = k.l;
  const Inboxes& inboxes = k.inboxes;
  float* shared = k.shared;
  const int T = k.T, rank = k.b.rank;
  const int64_t B = k.B, e = k.e;
  const bool saved = k.saved;
  const MemoryPlace p;
  const MemoryShared s(shared, l);
  const LeastUsedHeads heads(op.options, l.R);
  const int64_t row_size = (2 * l.R + 1) * l.N;
  MemoryRegisters m;
  load_memory(m.at, op.memory + e * l.N * l.W, p, l.N, l.W, saved);
  load_pair(m.read_weights, op.read_weights + e * l.R * l.N, p, l.N, l.R, saved);
  m.usage = saved && p.slot < l.N ? op.usage[e * l.N + p.slot] : 0.0f;
  if (p.head == 0) s.usage[p.slot] = m.usage;
  if (op.rows && saved) store_pair(op.rows + e * row_size, m.read_weights, p, l.N, l.R);
  cluster_barrier();

  Phases phases;
  const int every = int(op.sizes.checkpoint_every);
  for (int t = 0, next_checkpoint = 0; t < T; ++t) {
    inboxes.expect();
    multiply_reads(shared, l);
    phases.mark(0);
    __syncthreads();
    phases.mark(1);
    if (p.warp == 0)
      select_least_used(s, heads, l.N, op.least_used && saved ? op.least_used + (t * B + e) * heads.n : nullptr);
    phases.mark(2);
    inboxes.hidden->wait(t);
    phases.mark(3);
    multiply_interface(shared, l);
    phases.mark(4);
    __syncthreads();
    phases.mark(5);
    give_interface(shared, inboxes, op, l, k.b, k.place, t);
    phases.mark(6);
    if (op.checkpoints && t == next_checkpoint) {
      if (saved) store_memory(op.checkpoints + (t / every * B + e) * l.N * l.W, m.at, p, l.N, l.W);
      next_checkpoint += every;
    }
    inboxes.interface->wait(t);
    phases.mark(7);
    const int64_t at = t * B + e;
    memory_step(m, s, p, l.N, l.R, float(op.options.decay), [&](int h, int column, float r) {
      if (h >= l.R || column >= l.W) return;
      const int i = h * l.W + column;
      give_to_all(shared + l.read + rank * l.read_pitch + i, inboxes.read, round_to_22_bits(r));
      if (saved) op.outputs[at * l.O + l.D + i] = r;
    });
    phases.mark(8);
    if (op.rows && saved) save_rows(op.rows + (at + B) * row_size, m, p, l);
    phases.mark(9);
    inboxes.read->wait(t);
    phases.mark(10);
  }
  if (!saved) return;
  store_memory(op.memory_out + e * l.N * l.W, m.at, p, l.N, l.W);
  store_pair(op.read_weights_out + e * l.R * l.N, m.read_weights, p, l.N, l.R);
  if (p.head == 0 && p.slot < l.N) op.usage_out[e * l.N + p.slot] = m.usage;
}

// All steps of a thread that has a unit of the LSTM.
__device__ inline void run_cells(const ForwardBlock& k) {
  const auto& [op, l, shared, b, place, inboxes, T, B, e, saved] = k;
  const CellPlace c(l.units, b, B);
  const int unit = b.first_unit + c.unit, warp = int(threadIdx.x) / kLanes - kMemoryWarps;
  float cell = c.saved ? op.cell[c.e * l.D + unit] : 0.0f, x[4] = {};
  if (c.used) load_projection(x, op.projection + c.e * 4 * l.D + unit, c, l.D);
  multiply_hidden(shared, warp, l);  // before the barrier, because other blocks give h from then on
  cluster_barrier();
  for (int t = 0; t < T; ++t) {
    multiply_reads(shared, l);
    __syncthreads();
    lstm_step(cell, x, shared, inboxes, op, l, b, c, t);
    inboxes.hidden->wait(t);
    multiply_interface(shared, l);
    __syncthreads();
    give_interface(shared, inboxes, op, l, b, place, t);
    if (t + 1 < T) multiply_hidden(shared, warp, l);
    MemoryPlace::arrive();
    inboxes.read->wait(t);
  }
  if (c.saved) op.cell_out[c.e * l.D + unit] = cell;
}

__global__ void __launch_bounds__(kPersistentThreads, 1) mann_persistent_kernel(MANNPersistent op) {
#if MANNKERN_HAS_CLUSTERS
  const PersistentLayout l(op.sizes);
  const ForwardBlock block(op, l);
  load_gate_weights(block.shared + l.gate_weights, op.recurrent_weight, l, block.b);
  load_interface_weights(block.shared + l.interface_weights, op.interface_weight, l, block.b);
  load_output(block.shared + l.hidden, block.shared + l.read, op.output, block.B, l, block.b);
  clear_vector(block.shared + l.vector);
  block.inboxes.init();
  __syncthreads();
  if (threadIdx.x < kMemoryThreads) run_memory(block);
  else run_cells(block);
  cluster_barrier();  // a block must be there as long as others give to it
#endif
}

}  // namespace mannkern
