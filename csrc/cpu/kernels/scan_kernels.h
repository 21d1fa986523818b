// The kernels of lrua_scan: each episode goes from its first step to its last, with its memory in slot blocks
// throughout.
#pragma once

#include "lrua_kernels.h"

namespace {

// The state between steps, which is also what a checkpoint holds: memory in slot blocks, read weights (R,Np) and usage
// (Np), behind each other.
template <class T>
struct State {
  T *memory, *read_weights, *usage;

  State(T* at, const Sizes<T>& s) : memory(at), read_weights(at + s.W * s.Np), usage(at + (s.W + s.R) * s.Np) {}
  static int64_t size(const Sizes<T>& s) { return (s.W + s.R + 1) * s.Np; }
};

// Loads the state of an episode; a null tensor stands for zeros. `blocks` is scratch for blocks_size numbers.
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

// Prefetches the interface vector of a step. Those of an episode's steps are B rows apart, on different pages.
template <class T>
__attribute__((always_inline)) inline void prefetch_interface(const InterfaceVector<T>& interface, const Sizes<T>& s) {
  prefetch(interface.key, s.R * s.W), prefetch(interface.add, s.R * s.W);
  prefetch(interface.gate, s.R), prefetch(interface.strength, s.R);
}

template <class T>
void lrua_scan(const LRUAScan<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W, size = State<T>::size(s);
  Arena<T> arena(scratch_size(s) + size + op.options.n * 2);
  const State<T> state(arena.take(size), s);
  const Rows<T> rows = rows_at(arena.take(rows_size(s)), s);
  auto* slots = reinterpret_cast<int64_t*>(arena.take(op.options.n * 2));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T* blocks = arena.take(blocks_size(s));
  for (int64_t e = begin; e < end; ++e) {
    load_state(state, blocks, op.memory + e * NW, op.read_weights + e * RN, op.usage + e * s.N, s);
    for (int64_t t = 0; t < op.steps; ++t) {
      const int64_t i = t * op.B + e;
      if (t + 1 < op.steps) {
        prefetch_interface(interface_at(op.interface, i + op.B, s), s);
        prefetch(op.reads + (i + op.B) * RW, RW, true);
      }
      if (op.checkpoints && t > 0 && t % op.checkpoint_every == 0)
        std::memcpy(op.checkpoints + ((t / op.checkpoint_every - 1) * op.B + e) * size, state.memory, size * sizeof(T));
      step(state.memory, rows, slots, state.usage, op.reads + i * RW, state.read_weights, state.usage,
           interface_at(op.interface, i, s), op.options, scratch, s);
      std::memcpy(state.read_weights, rows.read_weights, s.R * s.Np * sizeof(T));
    }
    store_state(op.memory_out + e * NW, op.read_weights_out + e * RN, op.usage_out + e * s.N, state, s);
  }
}

// For each checkpoint, the last one first, it computes the steps up to the next checkpoint again, saves their memories
// and rows, and goes back through them.
template <class T>
void lrua_scan_backward(const LRUAScanBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W, size = State<T>::size(s), X_size = memory_size(s);
  const int64_t every = smaller(op.checkpoint_every, op.steps), n = op.options.n;
  Arena<T> arena(scratch_size(s) + 2 * size + every * (X_size + rows_size(s) + 2 * n));
  const State<T> state(arena.take(size), s), grad(arena.take(size), s);
  T *memories = arena.take(every * X_size), *saved_rows = arena.take(every * rows_size(s));
  T* blocks = arena.take(blocks_size(s));
  auto* slots = reinterpret_cast<int64_t*>(arena.take(every * n * 2));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  for (int64_t e = begin; e < end; ++e) {
    load_state(grad, blocks, offset_or_null(op.grad_memory_out, e * NW),
               offset_or_null(op.grad_read_weights_out, e * RN), offset_or_null(op.grad_usage_out, e * s.N), s);
    for (int64_t first = (op.steps - 1) / every * every; first >= 0; first -= every) {
      const int64_t steps = smaller(every, op.steps - first);
      if (first) std::memcpy(state.memory, op.checkpoints + ((first / every - 1) * op.B + e) * size, size * sizeof(T));
      else load_state(state, blocks, op.memory + e * NW, op.read_weights + e * RN, op.usage + e * s.N, s);
      const auto rows = [&](int64_t k) { return rows_at(saved_rows + k * rows_size(s), s); };
      const auto previous = [&](int64_t k) { return k ? rows(k - 1).read_weights : state.read_weights; };
      for (int64_t k = 0; k < steps; ++k) {
        T* X = memories + k * X_size;
        if (k + 1 < steps) prefetch_interface(interface_at(op.interface, (first + k + 1) * op.B + e, s), s);
        std::memcpy(X, k ? X - X_size : state.memory, X_size * sizeof(T));
        step(X, rows(k), slots + k * n, state.usage, static_cast<T*>(nullptr), previous(k), state.usage,
             interface_at(op.interface, (first + k) * op.B + e, s), op.options, scratch, s);
      }
      for (int64_t k = steps - 1; k >= 0; --k) {
        const int64_t i = (first + k) * op.B + e;
        if (i >= op.B) {  // of the step before
          const InterfaceGradients<T> next = interface_at(op.grad_interface, i - op.B, s);
          prefetch(offset_or_null(op.grad_reads, (i - op.B) * RW), RW);
          prefetch(next.key, RW, true), prefetch(next.add, RW, true);
        }
        step_backward(grad.memory, grad.read_weights, grad.usage, interface_at(op.grad_interface, i, s),
                      offset_or_null(op.grad_reads, i * RW), static_cast<const T*>(nullptr), memories + k * X_size,
                      rows_at<T, const T>(rows(k).read_weights, s), slots + k * n, previous(k),
                      interface_at(op.interface, i, s), op.options, scratch, s);
      }
    }
    store_state(op.grad_memory + e * NW, op.grad_read_weights + e * RN, op.grad_usage + e * s.N, grad, s);
  }
}

}  // namespace
