// The kernels of an NTM's episode, between the controller's matrix products: activation of the interface vector, a step
// on a memory in slot blocks, and their backward pass.
#pragma once

#include "ntm_kernels.h"

namespace {

// The S shift weights of a head, softmax(x + b). The softmax of row_math.h cannot serve, because S numbers are not a
// padded row.
template <class T>
void activate_shift(T* s, const T* x, const T* b, int64_t S) {
  T top = x[0] + b[0], sum = 0;
  for (int64_t j = 0; j < S; ++j) s[j] = x[j] + b[j], top = s[j] > top ? s[j] : top;
  for (int64_t j = 0; j < S; ++j) s[j] -= top;
  for_lanes<T>(S, [](T* r) { store(r, exp_nonpositive<T>(load(r))); }, s);
  for (int64_t j = 0; j < S; ++j) sum += s[j];
  for (int64_t j = 0; j < S; ++j) s[j] /= sum;
}

// The interface vector y from the product x and the bias b: tanh of adds, sigmoid of erases and gates, softplus of
// strengths, 1 + softplus of sharpnesses, softmax of shifts; keys stay.
template <class T>
void activate(T* y, const T* x, const T* b, const NTMInterface& layout) {
  const auto [N, W, H, S] = layout.shape;
  const auto part = [&](int64_t from, int64_t to, auto f) {
    for_lanes<T>(
        to - from, [&](const T* p, const T* q, T* r) { store(r, f(load(p) + load(q))); }, x + from, b + from, y + from);
  };
  part(0, layout.adds(), [](Vec<T> v) { return v; });
  part(layout.adds(), layout.erases(), [](Vec<T> v) { return tanh(v); });
  part(layout.erases(), layout.strengths(), [](Vec<T> v) { return mannkern::sigmoid<VectorMath<T>>(v); });
  part(layout.strengths(), layout.shifts(), [](Vec<T> v) { return mannkern::softplus<VectorMath<T>>(v, T(0)); });
  for (int64_t h = 0; h < H; ++h) {
    y[layout.sharpnesses() + h] += 1;
    const int64_t shift = layout.shifts() + h * S;
    activate_shift(y + shift, x + shift, b + shift, S);
  }
}

// Backward of activate, from its result y. d is in place: on entry with respect to y, on exit with respect to x + b.
template <class T>
void activate_backward(T* d, const T* y, const NTMInterface& layout) {
  const auto [N, W, H, S] = layout.shape;
  for (int64_t i = layout.adds(); i < layout.erases(); ++i) d[i] *= 1 - y[i] * y[i];
  for (int64_t i = layout.erases(); i < layout.strengths(); ++i) d[i] *= y[i] * (1 - y[i]);
  for (int64_t h = 0; h < H; ++h) {
    const int64_t b = layout.strengths() + h, sharp = layout.sharpnesses() + h;
    d[b] *= mannkern::softplus_slope<ScalarMath<T>>(-y[b]);
    d[sharp] *= mannkern::softplus_slope<ScalarMath<T>>(1 - y[sharp]);
    const T* s = y + layout.shifts() + h * S;
    T *ds = d + layout.shifts() + h * S, mean = 0;
    for (int64_t j = 0; j < S; ++j) mean += s[j] * ds[j];
    for (int64_t j = 0; j < S; ++j) ds[j] = s[j] * (ds[j] - mean);
  }
}

// The heads from `first` on, in an interface vector.
template <class T>
Heads<T> heads_in(const T* row, const NTMInterface& layout, int64_t first) {
  return {row + first * layout.shape.W, row + layout.strengths() + first, row + layout.gates() + first,
          row + layout.shifts() + first * layout.shape.S, row + layout.sharpnesses() + first};
}
template <class T>
HeadGradients<T> gradients_in(T* row, const NTMInterface& layout, int64_t first) {
  return {row + first * layout.shape.W, row + layout.strengths() + first, row + layout.gates() + first,
          row + layout.shifts() + first * layout.shape.S, row + layout.sharpnesses() + first};
}

template <class T>
void ntm_recompute(const NTMRecompute<T>& op, int64_t begin, int64_t end) {
  const NTMInterface& layout = op.layout;
  const Sizes<T> s(layout.shape.N, layout.shape.W, layout.V);
  const int64_t size = memory_size(s), row_size = (3 * layout.shape.H + 1) * s.Np;
  for (int64_t e = begin; e < end; ++e) {
    const T* before = op.memory + e * size;
    for (int64_t t = 0; t < op.steps; ++t) {
      const int64_t i = t * op.B + e;
      const T* row = op.interface + i * layout.size();
      if (t + 1 < op.steps) {
        prefetch(op.rows + (i + op.B) * row_size, layout.V * s.Np);
        prefetch(op.interface + (i + op.B) * layout.size() + layout.adds(), 2 * layout.V * layout.shape.W);
      }
      T* Y = op.memories + (t * op.episodes + e) * size;
      erase_write(Y, op.restart.at(i) ? op.restart.memory : before, op.rows + i * row_size, row + layout.erases(), row + layout.adds(),
                  s);
      before = Y;
    }
  }
}

template <class T>
void ntm_step(const NTMStep<T>& op, int64_t begin, int64_t end) {
  const NTMInterface& layout = op.layout;
  const auto [N, W, H, S] = layout.shape;
  const Sizes<T> all(N, W, H), writing(N, W, layout.V), reading(N, W, H - layout.V);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(all, team));
  const AddressScratch<T> scratch = take_address_scratch(arena, all, team);
  const int64_t Np = all.Np, first_read = layout.V * Np, row_stride = (3 * H + 1) * Np;
  for (int64_t e = begin; e < end; ++e) {
    const bool anew = op.restart.at(e);
    if (e + 1 < end) {
      prefetch(op.rows + (e + 1) * row_stride, row_stride, true);
      prefetch(op.interface + (e + 1) * layout.size(), layout.size(), true);
    }
    const T* X = anew ? op.restart.memory : op.memory + e * memory_size(all);
    const T* previous = anew ? op.restart.rows : op.previous_rows + e * row_stride;
    T *Y = op.memory_out + e * memory_size(all), *interface = op.interface + e * layout.size();
    T *weights = op.rows + e * row_stride, *contents = weights + H * Np, *cosine = contents + H * Np;
    T* norm = cosine + H * Np;
    activate(interface, op.product + e * layout.size(), op.bias, layout);
    address(weights, contents, cosine, X, previous + 3 * H * Np, previous, heads_in<T>(interface, layout, 0), scratch,
            writing, team, S);
    const T *erase = interface + layout.erases(), *add = interface + layout.adds();
    const Heads<T> readers = heads_in<T>(interface, layout, layout.V);
    T *content = contents + first_read, *dot = cosine + first_read;
    if (layout.V == 1 && reading.R == 1) {
      normalise_keys(scratch.read.unit, scratch.read.key_norm, readers.key, reading);
      erase_write_heads<T, 1, true>(Y, X, weights, erase, add, dot, norm, scratch.read.unit, writing);
      root_norms(norm, static_cast<const T*>(Y), all);
      softmax_cosines(content, dot, norm, readers.strength, reading);
      locate(weights + first_read, content, previous + first_read, readers, scratch, reading, team, S);
    } else {
      erase_write(Y, X, weights, erase, add, writing);
      slot_norms(norm, Y, all);
      address(weights + first_read, content, dot, Y, norm, previous + first_read, readers, scratch, reading, team, S);
    }
    slot_sum(op.read + e * op.output_stride, Y, weights + first_read, reading);
  }
}

template <class T>
void ntm_step_backward(const NTMStepBackward<T>& op, int64_t begin, int64_t end) {
  const NTMInterface& layout = op.layout;
  const auto [N, W, H, S] = layout.shape;
  const Sizes<T> all(N, W, H), writing(N, W, layout.V), reading(N, W, H - layout.V);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(all, team));
  const AddressScratch<T> scratch = take_address_scratch(arena, all, team);
  T *grad = arena.take(H * all.Np), *lanes = arena.take(2 * layout.V * W * Lanes<T>::L);
  T* factors = arena.take(3 * layout.V * Lanes<T>::L);
  const int64_t Np = all.Np, first_read = layout.V * Np, row_stride = (3 * H + 1) * Np;
  for (int64_t e = begin; e < end; ++e) {
    const bool anew = op.restart.at(e);
    if (e + 1 < end) {
      prefetch(op.rows + (e + 1) * row_stride, row_stride);
      prefetch(op.interface + (e + 1) * layout.size(), layout.size());
      prefetch(op.grad_interface + (e + 1) * layout.size(), layout.size(), true);
      prefetch(offset_or_null(op.grad_outputs, (e + 1) * op.output_stride), op.output_stride);
    }
    const T *X = anew ? op.restart.memory : op.memory + e * memory_size(all), *Y = op.memory_out + e * memory_size(all);
    const T* previous = anew ? op.restart.rows : op.previous_rows + e * row_stride;
    const T* weights = op.rows + e * row_stride;
    const T *contents = weights + H * Np, *cosine = contents + H * Np, *norm = cosine + H * Np;
    const T* interface = op.interface + e * layout.size();
    const T* outgoing = offset_or_null(op.grad_outputs, e * op.output_stride);
    T *d_output = op.grad_output + e * op.output_stride, *d_read = d_output + op.D;
    if (outgoing)
      for (int64_t i = 0; i < op.output_stride; ++i) d_output[i] += outgoing[i];
    T *D = op.grad_memory + e * memory_size(all), *d_weights = op.grad_weights + e * H * Np;
    T* d_interface = op.grad_interface + e * layout.size();
    slot_dot(grad + first_read, Y, d_read, reading);
    for (int64_t i = first_read; i < H * Np; ++i) grad[i] += d_weights[i];
    address_backward(d_weights + first_read, gradients_in(d_interface, layout, layout.V), grad + first_read, Y, norm,
                     previous + first_read, heads_in(interface, layout, layout.V), weights + first_read,
                     contents + first_read, cosine + first_read, scratch, reading, team, S);
    shrink_long_slots(D, Y, norm, scratch.read.shrink, reading);
    rank_updates(D, weights + first_read, d_read, scratch.read.pull, scratch.read.unit, scratch.read.shrink, Y, reading);
    std::memcpy(grad, d_weights, first_read * sizeof(T));
    erase_write_backward(D, grad, d_interface + layout.erases(), d_interface + layout.adds(), X, weights,
                         interface + layout.erases(), interface + layout.adds(), lanes, factors, writing);
    address_backward(d_weights, gradients_in(d_interface, layout, 0), grad, X, previous + 3 * H * Np, previous,
                     heads_in(interface, layout, 0), weights, contents, cosine, scratch, writing, team, S);
    shrink_long_slots(D, X, previous + 3 * H * Np, scratch.read.shrink, writing);
    rank_update(D, scratch.read.pull, scratch.read.unit, writing, scratch.read.shrink, X);
    activate_backward(d_interface, interface, layout);
  }
}

}  // namespace
