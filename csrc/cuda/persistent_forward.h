// The persistent kernel of a MANN's episode: all T steps of 16 episodes in one launch of a cluster of 8 blocks.
//
// A step, with a barrier of the cluster after each part:
//   1. the gates' product with r, then the LSTM: a block gives h of its units, for all episodes, to every block
//   2. the interface's product: a block gives its rows of an interface vector to the block that has the memory
//   3. the step of LRUA: a block gives r of its episodes to every block
// The gates' product with h needs no r, so it runs for the next step while the blocks wait for each other after part 2;
// the search for the least used slots runs while they wait after part 3.
#pragma once

#include "persistent_loads.h"

namespace mannkern {

// Which sums of the gates a warp computes: one tile of rows, one part of the columns.
struct GateJob {
  int row, part;
  bool used;
  __device__ explicit GateJob(const PersistentLayout& l)
      : row(int(threadIdx.x) / kLanes / l.kGateParts * kTileRows), part(int(threadIdx.x) / kLanes % l.kGateParts),
        used(row < l.gate_rows) {}
};

// The part of a job in the product with the columns [0, columns) of `vectors`; the weights' columns begin at `weights`.
__device__ inline void multiply_part(TileSums& sums, const GateJob& job, const float* weights, const float* vectors,
                                     int vector_pitch, int columns, const PersistentLayout& l) {
  if (!job.used) return;
  const int tiles = columns / kTileDepth;
  multiply(sums, weights + job.row * l.pitch, l.pitch, l.gate_rows - job.row, vectors, vector_pitch,
           tiles * job.part / l.kGateParts, tiles * (job.part + 1) / l.kGateParts);
}

__device__ inline void load_gates(float (&x)[4], const MANNPersistent& op, const PersistentLayout& l,
                                  const BlockPlace& b, const CellPlace& c, int64_t t) {
  const float* gates = op.gates + ((t * op.sizes.B + c.e) * 4) * l.D + b.first_unit + c.unit;
#pragma unroll
  for (int g = 0; g < 4; ++g) x[g] = c.saved ? gates[g * l.D] : 0.0f;
}

// The LSTM's step of a thread's unit: adds the products' parts to the gates x, gives h to every block.
__device__ inline void lstm_step(float& cell, float (&x)[4], float* shared, const MANNPersistent& op,
                                 const PersistentLayout& l, const BlockPlace& b, const CellPlace& c, int64_t t) {
  if (!c.used) return;
  const float* sums = shared + l.scratch + c.unit * kSumsPitch + c.episode;
#pragma unroll
  for (int g = 0; g < 4; ++g)
#pragma unroll
    for (int part = 0; part < l.kGateParts; ++part)
      x[g] += sums[(part * l.gate_rows + g * l.units) * kSumsPitch];
  const float i = sigmoid<DeviceMath>(x[0]), f = sigmoid<DeviceMath>(x[1]);
  const float g = std::tanh(x[2]), o = sigmoid<DeviceMath>(x[3]);
  cell = f * cell + i * g;
  const float h = o * std::tanh(cell);
  float* place = shared + l.hidden + c.episode * l.hidden_pitch + b.first_unit + c.unit;
#pragma unroll
  for (int rank = 0; rank < kCluster; ++rank) store_at(place, rank, h);
  if (!c.saved) return;
  const int64_t at = t * op.sizes.B + c.e;
  const int unit = b.first_unit + c.unit;
  op.outputs[at * l.O + unit] = h;
  if (!op.cells) return;
  float* gates = op.gates + at * 4 * l.D + unit;
  gates[0] = i, gates[l.D] = f, gates[2 * l.D] = g, gates[3 * l.D] = o;
  op.cells[at * l.D + unit] = cell;
}

// The parts of the interface's product.
__device__ inline void multiply_interface(float* shared, const PersistentLayout& l) {
  const int tiles = l.hidden_columns / kTileDepth;
  for (int job = threadIdx.x / kLanes; job / l.kInterfaceParts * kTileRows < l.interface_rows; job += kWarps) {
    const int row = job / l.kInterfaceParts * kTileRows, part = job % l.kInterfaceParts;
    TileSums sums;
    multiply(sums, shared + l.interface_weights + row * l.interface_pitch, l.interface_pitch, l.interface_rows - row,
             shared + l.hidden, l.hidden_pitch, tiles * part / l.kInterfaceParts,
             tiles * (part + 1) / l.kInterfaceParts);
    store_sums(shared + l.scratch + (part * l.interface_rows + row) * kSumsPitch, sums, l.interface_rows - row);
  }
}

// The place of row `row` of the interface vector in shared memory.
__device__ inline int place_in_vector(int row, const PersistentLayout& l) {
  const int size = l.R * l.W;
  if (row < 2 * size) return (row < size ? kKeys : kAdds) + row % size / l.W * kMostColumns + row % l.W;
  row -= 2 * size;
  return row < l.R ? kGates + row : kStrengths + row - l.R;
}

// Activates the block's rows of all interface vectors, and gives them to the blocks that have the memories.
__device__ inline void give_interface(float* shared, const MANNPersistent& op, const PersistentLayout& l,
                                      const BlockPlace& b, int64_t t) {
  for (int at = threadIdx.x; at < b.rows * kEpisodes; at += kPersistentThreads) {
    const int r = at % b.rows, episode = at / b.rows, row = b.first_row + r;
    float x = op.interface_bias[row];
#pragma unroll
    for (int part = 0; part < l.kInterfaceParts; ++part)
      x += shared[l.scratch + (part * l.interface_rows + r) * kSumsPitch + episode];
    const int place = place_in_vector(row, l);
    if (place < kGates) x = std::tanh(x);
    else if (place >= kStrengths) x = softplus<DeviceMath>(x, 1.0f);
    store_at(shared + l.vectors + episode % kMemories * kInterface + place, episode / kMemories, x);
    const int64_t e = b.first_episode + episode;
    if (op.interface && e < op.sizes.B) op.interface[(t * op.sizes.B + e) * l.I + row] = x;
  }
}

// Copies the read weights, cosines and norms of a step to rows (2R+1,N).
__device__ inline void save_rows(float* rows, const MemoryRegisters& m, const MemoryPlace& p,
                                 const PersistentLayout& l) {
  store_pair(rows, m.read_weights, p, l.N, l.R);
  store_pair(rows + l.R * l.N, m.cosine, p, l.N, l.R);
  if (p.head == 0 && p.slot < l.N) rows[2 * l.R * l.N + p.slot] = m.norm;
}

__global__ void __launch_bounds__(kPersistentThreads, 1) mann_persistent_kernel(MANNPersistent op) {
  const PersistentLayout l(op.sizes);
  float* shared = block_memory();
  const BlockPlace b(l.D, l.I);
  const MemoryPlace p;
  const int64_t T = op.sizes.T, B = op.sizes.B;
  const CellPlace c(l.units, b, B);
  const GateJob job(l);
  const MemoryShared s(shared, l, p.memory);
  const int episode = b.rank * kMemories + p.memory;
  const int64_t e = b.first_episode + episode, row_size = (2 * l.R + 1) * l.N;
  const bool saved = e < B, selects = p.warp == p.memory;

  load_gate_weights(shared + l.gate_weights, op.recurrent_weight, l, b);
  load_interface_weights(shared + l.interface_weights, op.interface_weight, l, b);
  load_output(shared + l.hidden, shared + l.read, op.output, B, l, b);
  clear_vectors(shared + l.vectors);
  MemoryRegisters m;
  load_memory(m.at, op.memory + e * l.N * l.W, p, l.N, l.W, saved);
  load_pair(m.read_weights, op.read_weights + e * l.R * l.N, p, l.N, l.R, saved);
  m.usage = saved && p.slot < l.N ? op.usage[e * l.N + p.slot] : 0.0f;
  if (p.head == 0) s.usage[p.slot] = m.usage;
  if (op.rows && saved) store_pair(op.rows + e * row_size, m.read_weights, p, l.N, l.R);
  float cell = c.saved ? op.cell[c.e * l.D + b.first_unit + c.unit] : 0.0f, x[4] = {};
  if (c.used) load_gates(x, op, l, b, c, 0);
  cluster_arrive(), cluster_wait();

  const int64_t n = op.options.n;
  int64_t* const least_used = op.least_used && saved ? op.least_used + e * n : nullptr;
  if (selects) select_least_used(s, op.options, l.N, l.R, least_used);
  TileSums sums;
  multiply_part(sums, job, shared + l.gate_weights, shared + l.hidden, l.hidden_pitch, l.hidden_columns, l);
  Phases phases;
  for (int64_t t = 0; t < T; ++t) {
    multiply_part(sums, job, shared + l.gate_weights + l.hidden_columns, shared + l.read, l.read_pitch, l.read_columns,
                  l);
    phases.mark(0);
    if (job.used)
      store_sums(shared + l.scratch + (job.part * l.gate_rows + job.row) * kSumsPitch, sums, l.gate_rows - job.row);
    __syncthreads();
    phases.mark(1);
    lstm_step(cell, x, shared, op, l, b, c, t);
    cluster_arrive();
    phases.mark(2);
    if (c.used && t + 1 < T) load_gates(x, op, l, b, c, t + 1);
    cluster_wait();
    phases.mark(3);

    multiply_interface(shared, l);
    phases.mark(4);
    __syncthreads();
    phases.mark(5);
    give_interface(shared, op, l, b, t);
    cluster_arrive();
    phases.mark(6);
    if (op.checkpoints && saved && t % op.sizes.checkpoint_every == 0)
      store_memory(op.checkpoints + (t / op.sizes.checkpoint_every * B + e) * l.N * l.W, m.at, p, l.N, l.W);
    sums = TileSums();
    if (t + 1 < T)
      multiply_part(sums, job, shared + l.gate_weights, shared + l.hidden, l.hidden_pitch, l.hidden_columns, l);
    phases.mark(7);
    cluster_wait();
    phases.mark(8);

    const int64_t at = t * B + e;
    memory_step(m, s, p, l.N, l.R, float(op.options.decay), [&](int h, int column, float r) {
      if (h >= l.R || column >= l.W) return;
      const int k = h * l.W + column;
      float* place = shared + l.read + episode * l.read_pitch + k;
#pragma unroll
      for (int rank = 0; rank < kCluster; ++rank) store_at(place, rank, r);
      if (saved) op.outputs[at * l.O + l.D + k] = r;
    });
    cluster_arrive();
    phases.mark(9);
    if (op.rows && saved) save_rows(op.rows + (at + B) * row_size, m, p, l);
    p.sync();
    phases.mark(10);
    if (selects && t + 1 < T)
      select_least_used(s, op.options, l.N, l.R, least_used ? least_used + (t + 1) * B * n : nullptr);
    phases.mark(11);
    cluster_wait();
    phases.mark(12);
  }

  if (saved) {
    store_memory(op.memory_out + e * l.N * l.W, m.at, p, l.N, l.W);
    store_pair(op.read_weights_out + e * l.R * l.N, m.read_weights, p, l.N, l.R);
    if (p.head == 0 && p.slot < l.N) op.usage_out[e * l.N + p.slot] = m.usage;
  }
  if (c.saved) op.cell_out[c.e * l.D + b.first_unit + c.unit] = cell;
}

}  // namespace mannkern
