// How a block of the persistent kernels fills its shared memory and registers before the first step.
#pragma once

#include "persistent_memory.h"

namespace mannkern {

// Which part of the weights and which episodes a block has.
struct BlockPlace {
  int rank, first_unit, first_row, units, rows;  // `units` hidden units and `rows` of the interface vector from these on
  int64_t first_episode;                         // of the cluster
  __device__ explicit BlockPlace(const PersistentLayout& l)
      : rank(cluster_rank()), first_unit(rank * l.units), first_row(rank * l.interface_rows),
        units(part(l.D, l.units)), rows(part(l.I, l.interface_rows)),
        first_episode(int64_t(blockIdx.x / kCluster) * kEpisodes) {}

 private:
  __device__ int part(int all, int most) const {
    const int left = all - rank * most;
    return left < 0 ? 0 : left < most ? left : most;
  }
};

// The block's rows of the weights, gate by gate: columns of h, then of r, each filled up with zeros to whole tiles.
__device__ inline void load_gate_weights(float* to, const float* weight, const PersistentLayout& l,
                                         const BlockPlace& b) {
  for (int at = threadIdx.x; at < l.gate_rows * l.pitch; at += kPersistentThreads) {
    const int row = at / l.pitch, k = at % l.pitch, unit = row % l.units;
    const int column = k < l.hidden_columns ? k : k - l.hidden_columns + l.D;
    const bool used = k < l.hidden_columns ? k < l.D : column < l.O;
    to[at] = used && unit < b.units ? weight[int64_t(row / l.units * l.D + b.first_unit + unit) * l.O + column] : 0.0f;
  }
}

__device__ inline void load_interface_weights(float* to, const float* weight, const PersistentLayout& l,
                                              const BlockPlace& b) {
  for (int at = threadIdx.x; at < l.interface_rows * l.interface_pitch; at += kPersistentThreads) {
    const int row = at / l.interface_pitch, k = at % l.interface_pitch;
    to[at] = k < l.D && row < b.rows ? weight[int64_t(b.first_row + row) * l.D + k] : 0.0f;
  }
}

// h and r of the cluster's episodes before the first step, from output (B,O); episodes beyond B get zeros.
__device__ inline void load_output(float* hidden, float* read, const float* output, int64_t B,
                                   const PersistentLayout& l, const BlockPlace& b) {
  for (int at = threadIdx.x; at < kEpisodes * l.hidden_pitch; at += kPersistentThreads) {
    const int64_t e = b.first_episode + at / l.hidden_pitch;
    const int k = at % l.hidden_pitch;
    hidden[at] = e < B && k < l.D ? output[e * l.O + k] : 0.0f;
  }
  for (int at = threadIdx.x; at < kEpisodes * l.read_pitch; at += kPersistentThreads) {
    const int64_t e = b.first_episode + at / l.read_pitch;
    const int k = at % l.read_pitch;
    read[at] = e < B && k < l.R * l.W ? output[e * l.O + l.D + k] : 0.0f;
  }
}

// Interface vectors of zeros with strengths of 1, which heads and columns that are not used keep.
__device__ inline void clear_vectors(float* vectors) {
  for (int at = threadIdx.x; at < kMemories * kInterface; at += kPersistentThreads)
    vectors[at] = at % kInterface >= kStrengths ? 1.0f : 0.0f;
}

// A thread's part of a memory (N,W); places beyond N and W, and episodes beyond B (`used` is false), are zero.
__device__ inline void load_memory(MemoryRegisters& m, const float* memory, const MemoryPlace& p,
                                   const PersistentLayout& l, bool used) {
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const int slot = p.first + i, column = p.column + kColumnLanes * j;
      m.at[i][j] = used && slot < l.N && column < l.W ? memory[slot * l.W + column] : 0.0f;
    }
}

__device__ inline void store_memory(float* memory, const MemoryRegisters& m, const MemoryPlace& p,
                                    const PersistentLayout& l) {
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const int slot = p.first + i, column = p.column + kColumnLanes * j;
      if (slot < l.N && column < l.W) memory[slot * l.W + column] = m.at[i][j];
    }
}

// The two numbers of a thread in rows (R,N).
__device__ inline void load_pair(float (&pair)[2], const float* rows, const MemoryPlace& p, const PersistentLayout& l,
                                 bool used) {
#pragma unroll
  for (int k = 0; k < 2; ++k)
    pair[k] = used && p.slot < l.N && p.head + k < l.R ? rows[(p.head + k) * l.N + p.slot] : 0.0f;
}

__device__ inline void store_pair(float* rows, const float (&pair)[2], const MemoryPlace& p,
                                  const PersistentLayout& l) {
#pragma unroll
  for (int k = 0; k < 2; ++k)
    if (p.slot < l.N && p.head + k < l.R) rows[(p.head + k) * l.N + p.slot] = pair[k];
}

}  // namespace mannkern
