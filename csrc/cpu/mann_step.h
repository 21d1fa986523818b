// The kernels of whole episodes: memories in and out of blocks, MANN's step between products, the scan.
#pragma once

#include "lrua_kernels.h"

namespace {

// Numbers of a memory in blocks, without what load_blocks spills.
template <class T>
int64_t memory_size(const Sizes<T>& s) {
  return s.Np * s.W;
}

template <class T>
void to_blocks(const ToBlocks<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, R] = op.shape;
  const Sizes<T> s(N, W, R);
  Arena<T> arena(scratch_size(s));
  T* X = arena.take(blocks_size(s));
  for (int64_t e = begin; e < end; ++e) {
    T *blocks = op.blocks + e * memory_size(s), *rows = op.rows + e * op.row_stride;
    std::memset(rows, 0, op.row_stride * sizeof(T));
    load_rows(rows, at(op.weights, e * R * N), R, s);
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

// What episode e asks, in its row of the interface.
template <class T>
Asked<T> asked_in(const T* rows, int64_t e, const MannInterface& at) {
  const T* row = rows + e * at.size();
  return {row, row + at.adds(), row + at.gates(), at.strengths ? row + at.gates() + at.shape.R : nullptr};
}
template <class T>
AskedGradients<T> gradients_in(T* rows, int64_t e, const MannInterface& at) {
  T* row = rows + e * at.size();
  return {row, row + at.adds(), row + at.gates(), at.strengths ? row + at.gates() + at.shape.R : nullptr};
}

// A row of the interface from the controller's: tanh of keys and adds, gates as they are, 1 + softplus of strengths.
template <class T>
void activate(T* row, const T* product, const T* bias, const MannInterface& at) {
  for_lanes<T>(
      at.gates(), [](const T* x, const T* b, T* y) { store(y, tanh(load(x) + load(b))); }, product, bias, row);
  for (int64_t h = at.gates(); h < at.size(); ++h) {
    const T x = product[h] + bias[h];
    const bool strength = h >= at.gates() + at.shape.R;
    row[h] = strength ? 1 + (x > 0 ? x : T(0)) + T(__builtin_log1p(__builtin_exp(x > 0 ? -x : x))) : x;
  }
}

// Of the activated row; grad in place.
template <class T>
void activate_backward(T* grad, const T* row, const MannInterface& at) {
  for (int64_t j = 0; j < at.gates(); ++j) grad[j] *= 1 - row[j] * row[j];
  // b = 1 + softplus(x): db/dx = 1 - exp(1 - b)
  for (int64_t h = at.gates() + at.shape.R; h < at.size(); ++h) grad[h] *= -T(__builtin_expm1(1 - row[h]));
}

// What a step keeps, behind each other; its write weights are made anew where they are needed.
template <class T>
int64_t kept_size(const Sizes<T>& s) {
  return (2 * s.R + 1) * s.Np;
}
template <class T, class P>  // P: T or const T
Rows<P> kept_rows(P* at, P* write_weights, const Sizes<T>& s) {
  return {at, write_weights, at + s.R * s.Np, at + 2 * s.R * s.Np};
}

template <class T>
void mann_writes(const MannWrites<T>& op, int64_t begin, int64_t end) {
  const MannInterface& at = op.layout;
  const Sizes<T> s(at.shape.N, at.shape.W, at.shape.R);
  const int64_t size = memory_size(s);
  Arena<T> arena(scratch_size(s));
  T* w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    const T* before = op.memory + e * size;
    for (int64_t i = e; i < op.steps * op.B; i += op.B) {
      T* X = op.memories + i * size;
      std::memcpy(X, before, size * sizeof(T));
      const Asked<T> asked = asked_in(op.asked, i, at);
      const int64_t* slots = op.slots + i * op.rule.n;
      write_weights(w, op.before + i * kept_size(s), asked.gate, slots, op.rule, s);
      write(X, w, asked.add, slots[0], s);
      before = X;
    }
  }
}

template <class T>
void mann_step(const MannStep<T>& op, int64_t begin, int64_t end) {
  const MannInterface& at = op.layout;
  const Sizes<T> s(at.shape.N, at.shape.W, at.shape.R);
  const int64_t size = memory_size(s), row_size = kept_size(s);
  Arena<T> arena(scratch_size(s));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T* w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    T *X = op.memory + e * size, *usage = op.usage + e * s.N;
    if (op.copy) std::memcpy(op.copy + e * size, X, size * sizeof(T));
    activate(op.asked + e * at.size(), op.product + e * at.size(), op.bias, at);
    step(X, kept_rows(op.rows + e * row_size, w, s), op.slots + e * op.rule.n, usage, op.read + e * op.output_stride,
         op.before + e * row_size, usage, asked_in<T>(op.asked, e, at), op.rule, scratch, s);
  }
}

template <class T>
void mann_step_backward(const MannStepBackward<T>& op, int64_t begin, int64_t end) {
  const MannInterface& at = op.layout;
  const Sizes<T> s(at.shape.N, at.shape.W, at.shape.R);
  const int64_t size = memory_size(s), row_size = kept_size(s);
  Arena<T> arena(scratch_size(s));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T *grad_usage = arena.take(s.Np), *w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    T *grad_output = op.grad_output + e * op.output_stride, *grad_asked = op.grad_asked + e * at.size();
    if (op.grad_outputs)
      for (int64_t i = 0; i < op.output_stride; ++i) grad_output[i] += op.grad_outputs[e * op.output_stride + i];
    const T* before = op.before + e * row_size;
    const int64_t* slots = op.slots + e * op.rule.n;
    const Asked<T> asked = asked_in(op.asked, e, at);
    write_weights(w, before, asked.gate, slots, op.rule, s);
    load_rows(grad_usage, op.grad_usage + e * s.N, 1, s);
    step_backward(op.grad_memory + e * size, op.grad_weights + e * s.R * s.Np, grad_usage,
                  gradients_in(op.grad_asked, e, at), grad_output + op.D, static_cast<const T*>(nullptr),
                  op.memory + e * size, kept_rows(op.rows + e * row_size, static_cast<const T*>(w), s), slots, before,
                  asked, op.rule, scratch, s);
    activate_backward(grad_asked, op.asked + e * at.size(), at);
    store_rows(op.grad_usage + e * s.N, grad_usage, 1, s);
  }
}

}  // namespace
