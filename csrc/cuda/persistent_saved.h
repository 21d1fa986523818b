// What the persistent backward kernel loads: weights, what an episode's forward pass saved, and the memories that it
// computes again.
#pragma once

#include "persistent_loads.h"
#include "persistent_memory_backward.h"

namespace mannkern {

// The block's gates of the recurrent weight, transposed: units of all blocks, then r, by gates of the block.
__device__ inline void load_transposed_gates(float* to, const float* weight, const PersistentBackwardLayout& l,
                                             const BlockPlace& b) {
  for (int at = threadIdx.x; at < weight_size(l.outputs, l.pitch); at += kPersistentThreads) {
    const int outputs = l.outputs + l.outputs % 2, gate = at / outputs, output = at % outputs, unit = gate % l.units;
    const int column = output < l.hidden_outputs ? output : output - l.hidden_outputs + l.D;
    const bool used = (output < l.hidden_outputs ? output < l.D : column < l.O) && gate < l.gates && unit < b.units;
    const int64_t place = int64_t(gate / l.units * l.D + b.first_unit + unit) * l.O + column;
    to[weight_place(output, gate, l.pitch)] = used ? round_to_22_bits(weight[place]) : 0.0f;
  }
}

// The block's units of the interface's weight, transposed: units by places of kGradInterface.
__device__ inline void load_transposed_interface(float* to, const float* weight, const PersistentBackwardLayout& l,
                                                 const BlockPlace& b) {
  for (int at = threadIdx.x; at < weight_size(l.units, l.interface_pitch); at += kPersistentThreads) {
    const int units = l.units + l.units % 2, place = at / units, unit = at % units;
    const int row = place < kGradInterface ? row_of_place(place, l.R, l.W, l.I) : -1;
    to[weight_place(unit, place, l.interface_pitch)] =
        row >= 0 && unit < b.units ? round_to_22_bits(weight[int64_t(row) * l.D + b.first_unit + unit]) : 0.0f;
  }
}

// One episode's place in what the forward pass saved, as a thread sees it.
struct SavedEpisode {
  const MANNPersistentBackward& op;
  const PersistentBackwardLayout& l;
  const MemoryPlace& p;
  const LeastUsedHeads& heads;
  int64_t e;
  bool used;  // the episode exists
  int every;  // checkpoint_every

  __device__ const float* rows(int t) const { return op.rows + (t * op.sizes.B + e) * (2 * l.R + 1) * l.N; }
  __device__ const float* interface(int t) const { return op.interface + (t * op.sizes.B + e) * l.I; }
  // A thread's numbers of the memory after step t, side by side with those of other threads. Two segments of steps
  // between checkpoints have room.
  __device__ float* memory(int t) const {
    const int64_t episodes = (op.sizes.B + kEpisodes - 1) / kEpisodes * kEpisodes, step = t % (2 * every);
    return op.memories + (step * episodes + e) * kMostSlots * kMostColumns + p.thread;
  }
  __device__ void load_least_used(int& mark, int& reset, int t) const {
    const int64_t* slots = op.least_used + (t * op.sizes.B + e) * heads.n;
    mark = 0, reset = int(slots[0]);
    for (int k = 0; k < heads.n; ++k)
      if (slots[k] == p.slot) mark |= heads.mark(k);
  }
  // All of step t.
  __device__ void load(SavedStep& saved, int t) const {
    const float* from = memory(t);
#pragma unroll
    for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
      for (int j = 0; j < kColumnsOfThread; ++j)
        saved.at[i][j] = used ? from[(i * kColumnsOfThread + j) * kMemoryThreads] : 0.0f;
    load_pair(saved.previous, rows(t), p, l.N, l.R, used);
    load_pair(saved.read_weights, rows(t + 1), p, l.N, l.R, used);
    load_pair(saved.cosine, rows(t + 1) + l.R * l.N, p, l.N, l.R, used);
    saved.norm = used && p.slot < l.N ? rows(t + 1)[2 * l.R * l.N + p.slot] : 1.0f;
    saved.mark = saved.reset = 0;
    if (used) load_least_used(saved.mark, saved.reset, t);
  }
};

// A thread's two numbers of an episode's interface vector, from device to shared memory in two parts.
struct VectorNumbers {
  float number[2];
  __device__ void load(const SavedEpisode& episode, int t) {
    const auto& l = episode.l;
    const float* from = episode.interface(t);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int place = episode.p.thread + kMemoryThreads * k;
      const int row = place < kGradInterface ? row_of_place(place, l.R, l.W, l.I) : -1;
      number[k] = row >= 0 && episode.used ? from[row] : 0.0f;
      if (place >= kGradStrengths && !(row >= 0 && episode.used)) number[k] = 1;
    }
  }
  __device__ void store(float* vector, const MemoryPlace& p) const {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int place = p.thread + kMemoryThreads * k;
      if (place < kGradGates) vector[place] = number[k];
      else if (place < kGradStrengths) {
        vector[kOpen + place - kGradGates] = fast_sigmoid(number[k]);
        vector[kClosed + place - kGradGates] = fast_sigmoid(-number[k]);
      } else if (place < kGradInterface) {
        vector[kStrengths + place - kGradStrengths] = number[k];
      }
    }
  }
};

// Computes the memories after each step again, bit by bit as the forward pass: segment by segment between checkpoints,
// from the last segment to the first, and forward within each. A thread keeps its part in registers and stores it.
struct Recomputation {
  MemoryRegisters m;
  int next, end;  // the next step, and the end of its segment

  __device__ Recomputation(int T, int every) : next((T - 1) / every * every), end(T) {}

  __device__ void advance(const SavedEpisode& episode, float* weights) {
    const auto& [op, l, p, heads, e, used, every] = episode;
    if (next < 0) return;
    if (used) {
      if (next % every == 0)
        load_memory(m.at, op.checkpoints + (next / every * op.sizes.B + e) * l.N * l.W, p, l.N, l.W, true);
      const float *vector = episode.interface(next), *add = vector + l.R * l.W, *gates = add + l.R * l.W;
      HeadColumns adds;
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
#pragma unroll
        for (int j = 0; j < kColumnsOfThread; ++j) {
          const int column = p.column + kColumnLanes * j;
          adds[h][j] = h < l.R && column < l.W ? add[h * l.W + column] : 0.0f;
        }
      float previous[2], written[2];
      load_pair(previous, episode.rows(next), p, l.N, l.R, true);
      int mark, reset;
      episode.load_least_used(mark, reset, next);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const float gate = p.head + k < l.R ? gates[p.head + k] : 0.0f;
        written[k] = write_weight(fast_sigmoid(gate), fast_sigmoid(-gate), previous[k], mark >> (p.head + k) & 1);
      }
      write(m, written, adds, reset, weights, p);
      float* to = episode.memory(next);
#pragma unroll
      for (int i = 0; i < kSlotsOfThread; ++i)
#pragma unroll
        for (int j = 0; j < kColumnsOfThread; ++j) to[(i * kColumnsOfThread + j) * kMemoryThreads] = m.at[i][j];
    }
    if (++next == end) end = (end - 1) / every * every, next = end - every;
  }
};

}  // namespace mannkern
