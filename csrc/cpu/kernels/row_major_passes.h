// The passes of a step over a row-major memory. Each does what several products do, a part of the slots at a time, so
// that a row comes from memory once, is in the nearest cache for all of them, and goes back once. A memory of
// thousands of slots fits in no cache.
#pragma once

#include "content_math.h"

namespace {

// As begin_at for a memory that rank_update changes, which copies the rows itself.
template <class T>
RowMajor<T> begin_in_update(T* out, const T* memory, T* copy, const Sizes<T>& s) {
  if (s.W < Lanes<T>::L || !memory || memory == out) return begin_at(out, memory, copy, s);
  return {out, memory};
}

// Calls f(first slot, sizes of the part) for parts of about 32 kB. Rows of weights stay Np apart.
template <class T, class F>
void each_slots(const Sizes<T>& s, F f) {
  const int64_t most = padded(32768 / (row_size(s) * int64_t(sizeof(T))) + 1, kBlock<T>);
  Sizes<T> part = s;
  for (int64_t first = 0; first < s.N; first += most) {
    part.N = smaller(most, s.N - first);
    f(first, part);
  }
}

template <class T, class P>
RowMajor<P> slots_from(RowMajor<P> X, int64_t first, const Sizes<T>& s) {
  return {X.at + first * row_size(s), X.from ? X.from + first * row_size(s) : nullptr};
}

// The write, in which slot `reset` is set to zero, and slot_dot of X with unit keys and with itself.
template <class T>
void write_and_dot(RowMajor<T> X, int64_t reset, const T* weights, const T* add, T* dot, T* squares, const T* unit,
                   const Sizes<T>& s) {
  each_slots(s, [&](int64_t first, const Sizes<T>& part) {
    const RowMajor<T> Y = slots_from(X, first, s);
    rank_update(Y, weights + first, add, part);
    if (reset >= first && reset < first + part.N) {  // computed by itself, behind the others
      Sizes<T> one = s;
      one.N = 1;
      const RowMajor<T> slot = {X.at + reset * row_size(s)};
      std::memset(slot.at, 0, row_size(s) * sizeof(T));
      rank_update(slot, weights + reset, add, one);
    }
    slot_dot(dot + first, RowMajor<T>{Y.at}, unit, part, squares + first);
  });
}

// Backward of read and write behind read_backward_cosines: D, the gradients of unit keys and adds, and grad_weights,
// the gradient of the write weights.
template <class T>
void read_and_write_backward(RowMajor<T> D, T* grad_unit, T* grad_add, T* grad_weights, const T* grad_read,
                             RowMajor<const T> X, const T* add, const T* read_weights, const T* write_weights,
                             const T* norm, const ReadScratch<T>& scratch, const Sizes<T>& s) {
  const auto add_slot_sum = [&](T* sum, auto M, const T* weights, const Sizes<T>& part) {
    slot_sum(scratch.part, M, weights, part);
    for (int64_t j = 0; j < s.R * s.W; ++j) sum[j] += scratch.part[j];
  };
  std::memset(grad_unit, 0, s.R * s.W * sizeof(T));
  std::memset(grad_add, 0, s.R * s.W * sizeof(T));
  each_slots(s, [&](int64_t first, const Sizes<T>& part) {
    RowMajor<T> E = slots_from(D, first, s);
    const RowMajor<const T> Y = slots_from(X, first, s);
    T *pull = scratch.pull + first, *shrink = scratch.shrink + first;
    add_slot_sum(grad_unit, Y, pull, part);
    drop_signs(pull, shrink, norm + first, part);
    if (grad_read) rank_update(E, read_weights + first, grad_read, part);
    else if (E.from) std::memcpy(E.at, E.from, part.N * row_size(s) * sizeof(T));
    E.from = nullptr;
    shrink_long_slots(E, Y, norm + first, shrink, part);
    rank_update(E, pull, scratch.unit, part, shrink, Y);
    add_slot_sum(grad_add, E, write_weights + first, part);
    slot_dot(grad_weights + first, E, add, part);
  });
}

}  // namespace
