// The kernels of lrua_scan: an episode from its first step to its last, its memory in blocks throughout.
#pragma once

#include "lrua_kernels.h"

namespace {

// The state between steps: memory in blocks, read weights (R,Np) and usage (Np), behind each other.
template <class T>
struct State {
  T *memory, *read_weights, *usage;

  State(T* at, const Sizes<T>& s)
      : memory(at), read_weights(at + s.W * s.Np), usage(at + (s.W + s.R) * s.Np) {}
  static int64_t size(const Sizes<T>& s) { return (s.W + s.R + 1) * s.Np; }
};

// Null: zeros. `blocks` is scratch of blocks_size.
template <class T>
void load_state(const State<T>& state, T* blocks, const T* memory, const T* read_weights, const T* usage,
                const Sizes<T>& s) {
  if (memory) load_blocks(blocks, memory, s);
  else std::memset(blocks, 0, s.W * s.Np * sizeof(T));
  std::memcpy(state.memory, blocks, s.W * s.Np * sizeof(T));
  load_rows(state.read_weights, read_weights, s.R, s);
  load_rows(state.usage, usage, 1, s);
}

template <class T>
void store_state(T* memory, T* read_weights, T* usage, const State<T>& state, const Sizes<T>& s) {
  store_blocks(memory, state.memory, s);
  store_rows(read_weights, state.read_weights, s.R, s);
  store_rows(usage, state.usage, 1, s);
}

// The steps of an episode are B rows apart: each is on other pages.
template <class T>
__attribute__((always_inline)) inline void fetch_asked(const Asked<T>& asked, const Sizes<T>& s) {
  fetch(asked.key, s.R * s.W), fetch(asked.add, s.R * s.W), fetch(asked.gate, s.R), fetch(asked.strength, s.R);
}

template <class T>
void scan(const Scan<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W, size = State<T>::size(s);
  Arena<T> arena(scratch_size(s) + size + op.rule.n * 2);
  const State<T> state(arena.take(size), s);
  const Rows<T> rows = rows_at(arena.take(rows_size(s)), s);
  auto* slots = reinterpret_cast<int64_t*>(arena.take(op.rule.n * 2));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T* blocks = arena.take(blocks_size(s));
  for (int64_t e = begin; e < end; ++e) {
    load_state(state, blocks, op.memory + e * NW, op.read_weights + e * RN, op.usage + e * s.N, s);
    for (int64_t t = 0; t < op.steps; ++t) {
      const int64_t i = t * op.B + e;
      if (t + 1 < op.steps) {
        fetch_asked(asked_at(op.asked, i + op.B, s), s);
        fetch(op.reads + (i + op.B) * RW, RW, true);
      }
      if (op.copies && t > 0 && t % op.span == 0)
        std::memcpy(op.copies + ((t / op.span - 1) * op.B + e) * size, state.memory, size * sizeof(T));
      step(state.memory, rows, slots, state.usage, op.reads + i * RW, state.read_weights, state.usage,
           asked_at(op.asked, i, s), op.rule, scratch, s);
      std::memcpy(state.read_weights, rows.read_weights, s.R * s.Np * sizeof(T));
    }
    store_state(op.memory_out + e * NW, op.read_weights_out + e * RN, op.usage_out + e * s.N, state, s);
  }
}

// The steps of a span are done anew from its copy, their memories and rows kept while it lasts.
template <class T>
void scan_backward(const ScanBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W, size = State<T>::size(s), kept = s.W * s.Np;
  const int64_t span = smaller(op.span, op.steps), n = op.rule.n;
  Arena<T> arena(scratch_size(s) + 2 * size + span * (kept + rows_size(s) + 2 * n));
  const State<T> state(arena.take(size), s), grad(arena.take(size), s);
  T *memories = arena.take(span * kept), *trail = arena.take(span * rows_size(s)), *blocks = arena.take(blocks_size(s));
  auto* slots = reinterpret_cast<int64_t*>(arena.take(span * n * 2));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  for (int64_t e = begin; e < end; ++e) {
    load_state(grad, blocks, at(op.grad_memory_out, e * NW), at(op.grad_read_weights_out, e * RN),
               at(op.grad_usage_out, e * s.N), s);
    for (int64_t first = (op.steps - 1) / span * span; first >= 0; first -= span) {
      const int64_t steps = smaller(span, op.steps - first);
      if (first) std::memcpy(state.memory, op.copies + ((first / span - 1) * op.B + e) * size, size * sizeof(T));
      else load_state(state, blocks, op.memory + e * NW, op.read_weights + e * RN, op.usage + e * s.N, s);
      const auto rows = [&](int64_t k) { return rows_at(trail + k * rows_size(s), s); };
      const auto previous = [&](int64_t k) { return k ? rows(k - 1).read_weights : state.read_weights; };
      for (int64_t k = 0; k < steps; ++k) {
        T* X = memories + k * kept;
        if (k + 1 < steps) fetch_asked(asked_at(op.asked, (first + k + 1) * op.B + e, s), s);
        std::memcpy(X, k ? X - kept : state.memory, kept * sizeof(T));
        step(X, rows(k), slots + k * n, state.usage, static_cast<T*>(nullptr), previous(k), state.usage,
             asked_at(op.asked, (first + k) * op.B + e, s), op.rule, scratch, s);
      }
      for (int64_t k = steps - 1; k >= 0; --k) {
        const int64_t i = (first + k) * op.B + e;
        if (i >= op.B) {  // of the step before
          const AskedGradients<T> next = asked_at(op.grad_asked, i - op.B, s);
          fetch(at(op.grad_reads, (i - op.B) * RW), RW);
          fetch(next.key, RW, true), fetch(next.add, RW, true);
        }
        step_backward(grad.memory, grad.read_weights, grad.usage, asked_at(op.grad_asked, i, s),
                      at(op.grad_reads, i * RW), static_cast<const T*>(nullptr), memories + k * kept,
                      rows_at<T, const T>(rows(k).read_weights, s), slots + k * n, previous(k),
                      asked_at(op.asked, i, s), op.rule, scratch, s);
      }
    }
    store_state(op.grad_memory + e * NW, op.grad_read_weights + e * RN, op.grad_usage + e * s.N, grad, s);
  }
}

}  // namespace
