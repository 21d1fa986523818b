// The kernels that take an episode's memory and weights into slot blocks and padded rows, and back.
#pragma once

#include "../../args/blocks.h"
#include "lrua_kernels.h"

namespace {

template <class T>
void to_blocks(const ToBlocks<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, R] = op.shape;
  const Sizes<T> s(N, W, R);
  Arena<T> arena(scratch_size(s));
  T* X = arena.take(blocks_size(s));
  for (int64_t e = begin; e < end; ++e) {
    T *blocks = op.blocks + e * memory_size(s), *rows = op.rows + e * op.row_stride;
    std::memset(rows, 0, op.row_stride * sizeof(T));
    load_rows(rows, offset_or_null(op.weights, e * R * N), R, s);
    if (!op.memory) {
      std::memset(blocks, 0, memory_size(s) * sizeof(T));
      continue;
    }
    load_blocks(X, op.memory + e * N * W, s);
    std::memcpy(blocks, X, memory_size(s) * sizeof(T));
    if (op.norm) slot_norms(op.norm + e * op.row_stride, X, s);
  }
}

template <class T>
void from_blocks(const FromBlocks<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, R] = op.shape;
  const Sizes<T> s(N, W, R);
  for (int64_t e = begin; e < end; ++e) {
    store_blocks(op.memory + e * N * W, op.blocks + e * memory_size(s), s);
    store_rows(op.weights + e * R * N, op.rows + e * op.row_stride, R, s);
  }
}

}  // namespace
