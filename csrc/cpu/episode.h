// The memory of whole episodes on its way through the steps.
//
// It is one per episode, updated in place. Every `span` steps (the root of T) a copy is kept; the backward pass writes the
// memories between two copies anew, bit for bit the same. Within the episode memories stay in blocks and weights in padded
// rows, as the kernels of one instruction set read them: what the forward pass keeps is for the backward pass of the same.
#pragma once

#include <cmath>

#include "call.h"

namespace mannkern {

inline int64_t steps_between_copies(int64_t T) { return std::max<int64_t>(1, std::ceil(std::sqrt(double(T)))); }

struct EpisodeShape {
  int64_t T, B;
  Shape shape;              // R: all heads
  int64_t rows;             // of a step
  bool keep;                // for a backward pass
  int64_t span, block, Np;  // steps between copies; slots of a block, and padded to blocks

  EpisodeShape(const Tensor& input, const Tensor& memory, int64_t heads, int64_t rows, bool keep)
      : T(input.size(0)), B(input.size(1)), shape{memory.size(1), memory.size(2), heads}, rows(rows), keep(keep),
        span(steps_between_copies(T)),
        block(2 * chosen->bytes / (memory.scalar_type() == ScalarType::Float ? 4 : 8)),
        Np((shape.N + block - 1) / block * block) {}
  int64_t copies() const { return keep ? 1 + (T > 0 ? (T - 1) / span : 0) : 0; }
  int64_t row_stride() const { return rows * Np; }
  int64_t memory_size() const { return shape.W * Np; }
  int64_t work() const { return shape.N * shape.W * shape.R; }
};

// Copy t / span is the memory before step t. Rows t + 1 are of step t, rows 0 the state before the episode; only the
// last two are there where nothing is kept.
template <class T>
struct Trail {
  const EpisodeShape& s;
  Tensor copies, rows;

  explicit Trail(const EpisodeShape& s)
      : s(s), copies(large<T>({s.copies(), s.B, s.Np / s.block, s.shape.W * s.block})),
        rows(large<T>({s.keep ? s.T + 1 : 2, s.B, s.rows, s.Np})) {}
  // As a forward pass of this shape kept them.
  Trail(const EpisodeShape& s, const Tensor& copies, const Tensor& rows) : s(s), copies(copies), rows(rows) {
    STD_TORCH_CHECK(copies.dim() == 4 && rows.dim() == 4 && copies.is_contiguous() && rows.is_contiguous(),
                    "mannkern: what an episode kept must come back as it was");
    STD_TORCH_CHECK(copies.size(0) == s.copies() && rows.size(0) == s.T + 1,
                    "mannkern: the episode kept nothing for a backward pass");
    STD_TORCH_CHECK(rows.size(2) == s.rows && rows.size(3) == s.Np && copies.size(3) == s.shape.W * s.block,
                    "mannkern: the episode kept this for another instruction set");
  }
  T* copy(int64_t t) const { return data<T>(copies) + t / s.span * s.B * s.memory_size(); }
  T* row(int64_t t) const { return data<T>(rows) + (s.keep ? t : t % 2) * s.B * s.row_stride(); }
};

// A gradient to be updated in place, step by step: a copy of what came, or zeros.
template <class T>
Tensor start(Call<T>& call, const Maybe& grad, std::initializer_list<int64_t> sizes) {
  const Tensor out = call.out(sizes);
  const T* given = call.in(grad, "grad", sizes);
  if (given) std::copy_n(given, out.numel(), data<T>(out));
  else std::fill_n(data<T>(out), out.numel(), T(0));
  return out;
}

}  // namespace mannkern
