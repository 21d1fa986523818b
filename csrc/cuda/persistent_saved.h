// What the persistent backward kernel reads of an episode's forward pass, and the memories that it computes again.
#pragma once

#include "persistent_loads.h"
#include "persistent_memory_backward.h"

namespace mannkern {

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
