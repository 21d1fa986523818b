// How a block of the persistent kernels fills its shared memory and registers before the first step.
#pragma once

#include "persistent_memory.h"

namespace mannkern {

// Which part of the weights and which episodes a block has.
struct BlockPlace {
  int rank, first_unit, first_row, units, rows;  // `units` hidden units and `rows` rows of the interface from these on
  int64_t first_episode;                         // of the cluster
  __device__ BlockPlace(int D, int I)
      : rank(cluster_rank()), first_unit(rank * divide_up(D, kCluster)), first_row(rank * divide_up(I, kCluster)),
        units(part(D)), rows(part(I)), first_episode(int64_t(blockIdx.x / kCluster) * kEpisodes) {}

 private:
  __device__ int part(int all) const {
    const int most = divide_up(all, kCluster), left = all - rank * most;
    return left < 0 ? 0 : left < most ? left : most;
  }
};

// Gives v to every block of the cluster, at the same place.
__device__ inline void give_to_all(float* place, Inbox* inbox, float v) {
#pragma unroll
  for (int rank = 0; rank < kCluster; ++rank) give(place, inbox, rank, v);
}

// A thread's unit and episode in the LSTM, which the threads without a memory have.
struct CellPlace {
  int unit, episode;
  bool used, saved;  // saved: the unit and the episode exist. The last units of a block may not, and have h = 0
  int64_t e;         // the episode's number
  __device__ CellPlace(int units, const BlockPlace& b, int64_t B) {
    const int thread = int(threadIdx.x) - kMemoryThreads;
    unit = thread < 0 ? 0 : thread % units, episode = thread < 0 ? kEpisodes : thread / units;
    used = episode < kEpisodes, saved = used && unit < b.units && b.first_episode + episode < B;
    e = b.first_episode + episode;
  }
};

// The block's rows of the weights, gate by gate: columns of h, then of r, each filled up with zeros to whole tiles.
__device__ inline void load_gate_weights(float* to, const float* weight, const PersistentLayout& l,
                                         const BlockPlace& b) {
  for (int at = threadIdx.x; at < l.gate_rows * l.pitch; at += kPersistentThreads) {
    const int row = at / l.pitch, k = at % l.pitch, unit = row % l.units;
    const int column = k < l.hidden_columns ? k : k - l.hidden_columns + l.D;
    const bool used = k < l.hidden_columns ? k < l.D : column < l.O;
    const int64_t place = int64_t(row / l.units * l.D + b.first_unit + unit) * l.O + column;
    to[weight_place(row, k, l.pitch)] = used && unit < b.units ? round_to_22_bits(weight[place]) : 0.0f;
  }
}

__device__ inline void load_interface_weights(float* to, const float* weight, const PersistentLayout& l,
                                              const BlockPlace& b) {
  for (int at = threadIdx.x; at < weight_size(l.interface_rows, l.interface_pitch); at += kPersistentThreads) {
    const int row = at / l.interface_pitch, k = at % l.interface_pitch;
    to[weight_place(row, k, l.interface_pitch)] =
        k < l.D && row < b.rows ? round_to_22_bits(weight[int64_t(b.first_row + row) * l.D + k]) : 0.0f;
  }
}

// h and r of the cluster's episodes before the first step, from output (B,O); episodes beyond B get zeros.
__device__ inline void load_output(float* hidden, float* read, const float* output, int64_t B,
                                   const PersistentLayout& l, const BlockPlace& b) {
  for (int at = threadIdx.x; at < kEpisodes * l.hidden_pitch; at += kPersistentThreads) {
    const int64_t e = b.first_episode + at / l.hidden_pitch;
    const int k = at % l.hidden_pitch;
    hidden[at] = e < B && k < l.D ? round_to_22_bits(output[e * l.O + k]) : 0.0f;
  }
  for (int at = threadIdx.x; at < kEpisodes * l.read_pitch; at += kPersistentThreads) {
    const int64_t e = b.first_episode + at / l.read_pitch;
    const int k = at % l.read_pitch;
    read[at] = e < B && k < l.R * l.W ? round_to_22_bits(output[e * l.O + l.D + k]) : 0.0f;
  }
}

// An interface vector of zeros with strengths of 1, which heads and columns that are not used keep.
__device__ inline void clear_vector(float* vector) {
  for (int at = threadIdx.x; at < kInterface; at += kPersistentThreads) vector[at] = at >= kStrengths ? 1.0f : 0.0f;
}

// A thread's part of a memory (N,W); places beyond N and W, and all if it is not `used`, are zero.
__device__ inline void load_memory(float (&to)[kSlotsOfThread][kColumnsOfThread], const float* memory,
                                   const MemoryPlace& p, int N, int W, bool used) {
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const int slot = p.first + i, column = p.column + kColumnLanes * j;
      to[i][j] = used && slot < N && column < W ? memory[slot * W + column] : 0.0f;
    }
}

__device__ inline void store_memory(float* memory, const float (&from)[kSlotsOfThread][kColumnsOfThread],
                                    const MemoryPlace& p, int N, int W) {
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const int slot = p.first + i, column = p.column + kColumnLanes * j;
      if (slot < N && column < W) memory[slot * W + column] = from[i][j];
    }
}

// The two numbers of a thread in rows (R,N); zero as in load_memory.
__device__ inline void load_pair(float (&pair)[2], const float* rows, const MemoryPlace& p, int N, int R, bool used) {
#pragma unroll
  for (int k = 0; k < 2; ++k)
    pair[k] = used && p.slot < N && p.head + k < R ? rows[(p.head + k) * N + p.slot] : 0.0f;
}

__device__ inline void store_pair(float* rows, const float (&pair)[2], const MemoryPlace& p, int N, int R) {
#pragma unroll
  for (int k = 0; k < 2; ++k)
    if (p.slot < N && p.head + k < R) rows[(p.head + k) * N + p.slot] = pair[k];
}

}  // namespace mannkern
