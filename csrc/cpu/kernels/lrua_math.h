// The equations of LRUA on one episode: write weights, write, read and usage, and a step of them. Single operations,
// the scan and MANN's episode share them. docs/equations.md defines them by these names. The first one, least
// used, is in least_used.h.
#pragma once

#include "../../args/lrua.h"
#include "content_math.h"
#include "least_used.h"
#include "row_major_passes.h"

namespace {

using mannkern::InterfaceGradients;
using mannkern::InterfaceVector;
using mannkern::LRUAOptions;

// The padded rows of a step, which its backward pass needs beside the memory.
template <class T>
struct Rows {
  T *read_weights, *write_weights, *cosine;  // (R,Np)
  T* norm;                                   // (Np)
};
template <class T>
int64_t rows_size(const Sizes<T>& s) {
  return (3 * s.R + 1) * s.Np;
}
// These rows in one buffer of rows_size numbers at `at`. P is T or const T.
template <class T, class P>
Rows<P> rows_at(P* at, const Sizes<T>& s) {
  return {at, at + s.R * s.Np, at + 2 * s.R * s.Np, at + 3 * s.R * s.Np};
}

// Write weights: sigmoid(g) w_r + (1 - sigmoid(g)) w_lu, where w_lu is 1 at the least used slots of a head.
template <class T>
void write_weights(T* w, const T* previous, const T* gate, const int64_t* slots, const LRUAOptions& options,
                   const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = w + h * s.Np;
    const T open = mannkern::sigmoid<ScalarMath<T>>(gate[h]), closed = mannkern::sigmoid<ScalarMath<T>>(-gate[h]);
    for (int64_t i = 0; i < s.Np; ++i) row[i] = open * previous[h * s.Np + i];
    if (options.per_head) row[slots[h % options.n]] += closed;
    else
      for (int64_t l = 0; l < options.n; ++l) row[slots[l]] += closed;
  }
}

// Sets slot i to zero.
template <class T, class M>
void clear_slot(M X, int64_t i, const Sizes<T>& s) {
  const auto slot = slot_at(X, i, s);
  for (int64_t j = 0; j < s.W; ++j) slot.at[j * slot.stride] = 0;
}

// Write: slot `reset` is set to zero (-1: none is), then X(i) += sum_h w_w[h](i) a[h].
template <class T, class M>
void write(M X, const T* weights, const T* add, int64_t reset, const Sizes<T>& s) {
  if (reset >= 0) clear_slot(X, reset, s);
  rank_update(X, weights, add, s);
}

// The write of X to Y, in slot blocks. The slot that is set to zero is computed by itself, behind the others.
template <class T>
void write_to(T* Y, const T* X, const T* weights, const T* add, int64_t reset, const Sizes<T>& s) {
  rank_update_to(Y, X, weights, add, s);
  const auto slot = slot_at(Y, reset, s);
  for (int64_t j = 0; j < s.W; ++j) {
    T sum = 0;
    for (int64_t h = 0; h < s.R; ++h) sum += weights[h * s.Np + reset] * add[h * s.W + j];
    slot.at[j * slot.stride] = sum;
  }
}

// Usage: u' = decay u + sum_h w_r[h] + sum_h w_w[h]. The rows of weights are `stride` apart; usage_out may be usage.
template <class T>
__attribute__((always_inline)) inline void update_usage(T* usage_out, const T* usage, const T* read_weights,
                                                        const T* write_weights, T decay, int64_t N, int64_t R,
                                                        int64_t stride) {
  for (int64_t i = 0; i < N; ++i) usage_out[i] = decay * usage[i];
  for (int64_t h = 0; h < R; ++h) {
    const T *w_r = read_weights + h * stride, *w_w = write_weights + h * stride;
    for (int64_t i = 0; i < N; ++i) usage_out[i] += w_r[i] + w_w[i];
  }
}

// A step: least used, write weights, write, read, usage. X becomes the new memory; `previous` (R,Np) are the read
// weights of the step before; usage_out may be usage. A null `read` stands for a step whose read vectors are not
// needed.
template <class T, class M>
void step(M X, const Rows<T>& rows, int64_t* slots, T* usage_out, T* read, const T* previous, const T* usage,
          const InterfaceVector<T>& interface, const LRUAOptions& options, const ReadScratch<T>& scratch,
          const Sizes<T>& s) {
  least_used(slots, usage, options.n, scratch.shrink, s);
  write_weights(rows.write_weights, previous, interface.gate, slots, options, s);
  if constexpr (std::is_same_v<M, T*>) {
    clear_slot(X, slots[0], s);
    update_and_address(X, rows.write_weights, interface.add, rows.read_weights, rows.cosine, rows.norm, scratch.unit,
                       scratch.key_norm, interface.key, interface.strength, s);
  } else {
    normalise_keys(scratch.unit, scratch.key_norm, interface.key, s);
    write_and_dot(X, slots[0], rows.write_weights, interface.add, rows.cosine, rows.norm, scratch.unit, s);
    root_norms(rows.norm, X, s);
    softmax_cosines(rows.read_weights, rows.cosine, rows.norm, interface.strength, s);
  }
  if (read) slot_sum(read, X, rows.read_weights, s);
  update_usage(usage_out, usage, rows.read_weights, rows.write_weights, T(options.decay), s.N, s.R, s.Np);
}

// Backward of step. The gradients of the memory (D), the read weights (grad_w (R,Np)) and the usage (grad_u (Np)) are
// in place: on entry gradients with respect to outputs, on exit with respect to inputs. X is the memory
// after the step. A null grad_read or grad_write_weights (R,N) is zero.
template <class T, class M, class ConstM>
void step_backward(M D, T* grad_w, T* grad_u, const InterfaceGradients<T>& grad, const T* grad_read,
                   const T* grad_write_weights, ConstM X, const Rows<const T>& rows, const int64_t* slots,
                   const T* previous, const InterfaceVector<T>& interface, const LRUAOptions& options,
                   const ReadScratch<T>& scratch, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h)
    for (int64_t i = 0; i < s.Np; ++i) grad_w[h * s.Np + i] += grad_u[i];
  if constexpr (!std::is_same_v<M, T*>) {
    read_backward_cosines(grad.strength, grad_w, grad_read, X, interface.key, interface.strength, rows.read_weights,
                          rows.cosine, rows.norm, scratch, s);
    read_and_write_backward(D, grad.key, grad.add, grad_w, grad_read, X, interface.add, rows.read_weights,
                            rows.write_weights, rows.norm, scratch, s);
    unit_keys_backward(grad.key, scratch, s);
  } else {
    read_backward_keys(grad.key, grad.strength, grad_w, grad_read, X, interface.key, interface.strength,
                       rows.read_weights, rows.cosine, rows.norm, scratch, s);
    shrink_long_slots(D, X, rows.norm, scratch.shrink, s);
    if (grad_read && s.R == kHeads) {
      rank_updates_dot<T, kHeads>(D, rows.read_weights, grad_read, scratch.pull, scratch.unit, scratch.shrink,
                                  static_cast<const T*>(X), grad_w, interface.add, s);
      slot_sum(grad.add, D, rows.write_weights, s);
    } else {
      if (grad_read) rank_update(D, rows.read_weights, grad_read, s);
      rank_update(D, scratch.pull, scratch.unit, s, scratch.shrink, static_cast<const T*>(X));
      slot_sum(grad.add, D, rows.write_weights, s);
      slot_dot(grad_w, D, interface.add, s);
    }
  }
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = grad_w + h * s.Np;
    const T* outgoing = grad_write_weights ? grad_write_weights + h * s.N : nullptr;
    for (int64_t i = 0; i < s.Np; ++i) row[i] += grad_u[i];
    if (outgoing)
      for (int64_t i = 0; i < s.N; ++i) row[i] += outgoing[i];
    const T open = mannkern::sigmoid<ScalarMath<T>>(interface.gate[h]);
    const T closed = mannkern::sigmoid<ScalarMath<T>>(-interface.gate[h]);
    Vec<T> with_previous = {};
    for (int64_t first = 0; first < s.Np; first += kRun<T>) {
      const int64_t end = run_end<T>(first, s.Np);
      Vec<T> sum = {};
      for (int64_t i = first; i < end; i += Lanes<T>::L) sum += load(row + i) * load(previous + h * s.Np + i);
      with_previous += sum;
    }
    T at_least_used = 0;
    if (options.per_head) at_least_used = row[slots[h % options.n]];
    else
      for (int64_t l = 0; l < options.n; ++l) at_least_used += row[slots[l]];
    grad.gate[h] = open * closed * (lane_sum<T>(with_previous) - at_least_used);
    for (int64_t i = 0; i < s.Np; ++i) row[i] *= open;
  }
  for (int64_t i = 0; i < s.Np; ++i) grad_u[i] *= T(options.decay);
  clear_slot(D, slots[0], s);
}

}  // namespace
