// What an episode saves for backward of its memory: checkpoints of the memory, and the padded rows of each step.
//
// The memory is one tensor, updated step by step. At every `checkpoint_every`-th step it is copied to a checkpoint;
// backward recomputes the memories between two checkpoints, bit-equal. Memories stay in slot blocks and weights in
// padded rows, in the layout of the instruction set in use, so backward must run with the same one. csrc/README.md
// draws the layouts.
#pragma once

#include <cmath>

#include "allocate.h"
#include "batch.h"

namespace mannkern {

// Steps from one checkpoint to the next: about the square root of T, so that checkpoints and recomputed memories take
// about the same space. mannkern/memories/episode.py has its twin for torch.compile.
inline int64_t checkpoint_every(int64_t T) { return std::max<int64_t>(1, std::ceil(std::sqrt(double(T)))); }

struct EpisodeShape {
  int64_t T, B;
  Shape shape;             // R: all heads
  int64_t rows;            // padded rows of a step
  bool save_for_backward;  // false: no checkpoints, and rows of two steps only
  int64_t checkpoint_every;
  int64_t block, Np;  // slots of a block; N padded to blocks

  EpisodeShape(const Tensor& input, const Tensor& memory, int64_t heads, int64_t rows, bool save_for_backward)
      : T(input.size(0)), B(input.size(1)), shape{memory.size(1), memory.size(2), heads}, rows(rows),
        save_for_backward(save_for_backward), checkpoint_every(mannkern::checkpoint_every(T)),
        block(block_slots(memory.scalar_type() == ScalarType::Float ? 4 : 8)), Np(padded_slots(shape.N, block)) {}
  int64_t checkpoints() const { return save_for_backward ? (T + checkpoint_every - 1) / checkpoint_every : 0; }
  int64_t row_stride() const { return rows * Np; }  // numbers of the rows of an episode's step
  int64_t memory_size() const { return shape.W * Np; }
  int64_t work() const { return shape.N * shape.W * shape.R; }
};

// Checks the sizes of what a forward pass saved, and says which mistake explains others.
inline void check_saved(const Tensor& t, const char* name, Sizes sizes) {
  if (has_shape(t, sizes)) return;
  check_defined(t, name);
  const auto have = t.sizes();
  const bool same_rank = have.size() == sizes.size();
  const char* why = "";
  if (same_rank && have[0] < sizes.begin()[0]) why = ": the forward pass saved nothing for a backward pass";
  else if (same_rank && std::equal(have.begin(), have.begin() + 2, sizes.begin()))
    why = ": another instruction set saves another layout";
  refuse(name, shape_text(t), text(sizes) + why);
}

template <class T>
struct Checkpoints {
  const EpisodeShape& s;
  Tensor memories;  // (checkpoints,B,Np / block,W block): number k is the memory before step k * checkpoint_every
  Tensor rows;      // (T + 1,B,rows,Np): number t + 1 is of step t, number 0 of the state before the episode

  explicit Checkpoints(const EpisodeShape& s)
      : s(s), memories(allocate_large<T>({s.checkpoints(), s.B, s.Np / s.block, s.shape.W * s.block})),
        rows(allocate_large<T>({s.save_for_backward ? s.T + 1 : 2, s.B, s.rows, s.Np})) {}
  // Takes the tensors that a forward pass of this shape saved.
  Checkpoints(Call<T>& call, const EpisodeShape& s, const Tensor& memories, const Tensor& rows)
      : s(s),
        memories(saved(call, memories, "checkpoints", {s.checkpoints(), s.B, s.Np / s.block, s.shape.W * s.block})),
        rows(saved(call, rows, "rows", {s.T + 1, s.B, s.rows, s.Np})) {}
  // The checkpoint at or before step t, of episode b and those behind it.
  T* memory(int64_t t, int64_t b) const {
    return data<T>(memories) + (t / s.checkpoint_every * s.B + b) * s.memory_size();
  }
  // The rows before step t, of episode b and those behind it. Without save_for_backward two steps take turns.
  T* row(int64_t t, int64_t b) const {
    return data<T>(rows) + ((s.save_for_backward ? t : t % 2) * s.B + b) * s.row_stride();
  }

 private:
  static Tensor saved(Call<T>& call, const Tensor& t, const char* name, Sizes sizes) {
    check_saved(t, name, sizes);
    return call.hold(t, name, sizes);
  }
};

// The state that episodes start anew from: the initial memory, and weights that are one-hot at slot 0. Backward sums
// the gradient of that memory in float64, because a chain of float32 would lose digits.
template <class T>
class FirstState {
 public:
  // memory (N,W) is there if and only if reset is. has_norm: whether a step reads the norms of the memory before it,
  // which are the last of its rows. largest: for backward, the episodes of the largest chunk.
  FirstState(Call<T>& call, const EpisodeShape& s, const Maybe& reset, const Maybe& memory, bool has_norm,
             int64_t largest = 0)
      : s_(s) {
    if (reset && !memory) refuse("initial_memory", "None", "a tensor (N, W) for the episodes that start anew");
    if (memory && !reset) refuse("initial_memory", "a tensor", "None where there is no reset");
    if (!reset) return;
    const auto [N, W, R] = s.shape;
    std::vector<T> weights(R * N);
    for (int64_t h = 0; h < R; ++h) weights[h * N] = 1;
    memory_.resize(s.memory_size()), rows_.resize(s.row_stride()), grad_.resize(s.memory_size());
    episodes_.resize(largest * s.memory_size());
    kernels<T>().to_blocks(ToBlocks<T>{s.shape, s.row_stride(), call.in(*memory, "initial_memory", {N, W}),
                                       weights.data(), memory_.data(), rows_.data(),
                                       has_norm ? rows_.data() + (s.rows - 1) * s.Np : nullptr},
                           0, 1);
  }
  Restart<T> restart(const bool* reset) const { return {reset, memory_.data(), rows_.data()}; }

  // Moves the gradient of the memory before a step to that of the initial memory, for each of the `count` episodes
  // behind number `first` of a chunk that start anew at the step; the gradients of its weights (heads,Np) end there.
  // Each episode has a sum of its own, so that threads may call this side by side.
  void add_gradients(T* grad_memory, T* grad_weights, const bool* reset, int64_t first, int64_t count) {
    const int64_t size = s_.memory_size();
    for (int64_t e = 0; reset && e < count; ++e)
      for (int64_t i = 0; reset[e] && i < size; ++i) episodes_[(first + e) * size + i] += grad_memory[e * size + i];
    clear_restarted(grad_memory, size, reset, count);
    clear_restarted(grad_weights, s_.shape.R * s_.Np, reset, count);
  }
  // Adds what the episodes of a chunk have given.
  void end_chunk() {
    for (size_t i = 0; i < episodes_.size(); ++i) grad_[i % grad_.size()] += episodes_[i];
    std::fill(episodes_.begin(), episodes_.end(), 0.);
  }
  // The gradient of the initial memory (N,W); (0,W) without resets.
  Tensor gradient() const {
    const auto [N, W, R] = s_.shape;
    const int64_t block = s_.block;
    const Tensor out = Call<T>::allocate({grad_.empty() ? 0 : N, W}, Call<T>::kType);
    for (int64_t i = 0; i < out.size(0); ++i)
      for (int64_t j = 0; j < W; ++j)
        data<T>(out)[i * W + j] = T(grad_[i / block * block * W + j * block + i % block]);
    return out;
  }

 private:
  const EpisodeShape& s_;
  std::vector<T> memory_, rows_;
  std::vector<double> grad_, episodes_;  // of all chunks; of each episode of a chunk
};

}  // namespace mannkern
