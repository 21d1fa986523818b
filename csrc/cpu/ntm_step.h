// The kernels of an episode of the NTM: activation of what the controller asks, and the memory step in blocks.
#pragma once

#include "mann_step.h"
#include "ntm_kernels.h"

namespace {

// log(1 + e) for e in [0,1], to the last bits of a small e too.
template <class T>
Vec<T> log_above_one(Vec<T> e) {
  const Vec<T> above = 1 + e, kept = above - 1;
  return kept > 0 ? logarithm<T>(above) * (e / kept) : e;
}

template <class T>
void activate(T* y, const T* x, const T* b, const Interface& at) {
  const auto [N, W, H, S] = at.shape;
  const auto given = [](const T* x, const T* b) { return load(x) + load(b); };
  const auto part = [&](int64_t from, int64_t to, auto f) {
    for_lanes<T>(to - from, [&](const T* p, const T* q, T* r) { store(r, f(given(p, q))); }, x + from, b + from, y + from);
  };
  part(0, at.adds(), [](Vec<T> v) { return v; });
  part(at.adds(), at.erases(), [](Vec<T> v) { return tanh(v); });
  part(at.erases(), at.strengths(), [](Vec<T> v) { return sigmoid<T>(v); });
  part(at.strengths(), at.shifts(), [](Vec<T> v) {
    return (v > 0 ? v : Vec<T>{}) + log_above_one<T>(exp_nonpositive<T>(v > 0 ? -v : v));
  });
  for (int64_t h = 0; h < H; ++h) {
    y[at.sharpnesses() + h] += 1;
    T* s = y + at.shifts() + h * S;
    const T *p = x + at.shifts() + h * S, *q = b + at.shifts() + h * S;
    T top = p[0] + q[0], sum = 0;
    for (int64_t j = 0; j < S; ++j) s[j] = p[j] + q[j], top = s[j] > top ? s[j] : top;
    for (int64_t j = 0; j < S; ++j) s[j] -= top;
    for_lanes<T>(S, [](T* r) { store(r, exp_nonpositive<T>(load(r))); }, s);
    for (int64_t j = 0; j < S; ++j) sum += s[j];
    for (int64_t j = 0; j < S; ++j) s[j] /= sum;
  }
}

// Of the activated row y; d in place.
template <class T>
void activate_backward(T* d, const T* y, const Interface& at) {
  const auto [N, W, H, S] = at.shape;
  for (int64_t i = at.adds(); i < at.erases(); ++i) d[i] *= 1 - y[i] * y[i];
  for (int64_t i = at.erases(); i < at.strengths(); ++i) d[i] *= y[i] * (1 - y[i]);
  for (int64_t h = 0; h < H; ++h) {  // softplus: its slope is 1 - exp(-softplus)
    const int64_t b = at.strengths() + h, sharp = at.sharpnesses() + h;
    d[b] *= -T(__builtin_expm1(-y[b]));
    d[sharp] *= -T(__builtin_expm1(1 - y[sharp]));
    const T* s = y + at.shifts() + h * S;
    T *ds = d + at.shifts() + h * S, mean = 0;
    for (int64_t j = 0; j < S; ++j) mean += s[j] * ds[j];
    for (int64_t j = 0; j < S; ++j) ds[j] = s[j] * (ds[j] - mean);
  }
}

// What heads from `first` on ask, in a row of the interface.
template <class T>
Heads<T> heads_in(const T* row, const Interface& at, int64_t first) {
  return {row + first * at.shape.W, row + at.strengths() + first, row + at.gates() + first,
          row + at.shifts() + first * at.shape.S, row + at.sharpnesses() + first};
}
template <class T>
HeadGradients<T> gradients_in(T* row, const Interface& at, int64_t first) {
  return {row + first * at.shape.W, row + at.strengths() + first, row + at.gates() + first,
          row + at.shifts() + first * at.shape.S, row + at.sharpnesses() + first};
}

template <class T>
void ntm_writes(const NtmWrites<T>& op, int64_t begin, int64_t end) {
  const Interface& at = op.layout;
  const Sizes<T> s(at.shape.N, at.shape.W, at.V);
  const int64_t size = memory_size(s), row_size = (3 * at.shape.H + 1) * s.Np;
  for (int64_t e = begin; e < end; ++e) {
    const T* before = op.memory + e * size;
    for (int64_t i = e; i < op.steps * op.B; i += op.B) {
      const T* row = op.asked + i * at.size();
      erase_write(op.memories + i * size, before, op.rows + i * row_size, row + at.erases(), row + at.adds(), s);
      before = op.memories + i * size;
    }
  }
}

template <class T>
void ntm_step(const NtmStep<T>& op, int64_t begin, int64_t end) {
  const Interface& at = op.layout;
  const auto [N, W, H, S] = at.shape;
  const Sizes<T> all(N, W, H), writing(N, W, at.V), reading(N, W, H - at.V);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(all, team));
  const AddressScratch<T> scratch = take_address_scratch(arena, all, team);
  const int64_t Np = all.Np, first_read = at.V * Np, row_stride = (3 * H + 1) * Np;
  for (int64_t e = begin; e < end; ++e) {
    const T *X = op.memory + e * memory_size(all), *before = op.before + e * row_stride;
    T *Y = op.memory_out + e * memory_size(all), *asked = op.asked + e * at.size(), *weights = op.rows + e * row_stride;
    T *contents = weights + H * Np, *cosine = contents + H * Np, *norm = cosine + H * Np;
    activate(asked, op.product + e * at.size(), op.bias, at);
    locate(weights, contents, cosine, X, before + 3 * H * Np, before, heads_in<T>(asked, at, 0), scratch, writing, team, S);
    erase_write(Y, X, weights, asked + at.erases(), asked + at.adds(), writing);
    slot_norms(norm, Y, all);
    locate(weights + first_read, contents + first_read, cosine + first_read, Y, norm, before + first_read,
           heads_in<T>(asked, at, at.V), scratch, reading, team, S);
    slot_sum(op.read + e * op.output_stride, Y, weights + first_read, scratch.read.lanes, reading);
  }
}

template <class T>
void ntm_step_backward(const NtmStepBackward<T>& op, int64_t begin, int64_t end) {
  const Interface& layout = op.layout;
  const auto [N, W, H, S] = layout.shape;
  const Sizes<T> all(N, W, H), writing(N, W, layout.V), reading(N, W, H - layout.V);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(all, team));
  const AddressScratch<T> scratch = take_address_scratch(arena, all, team);
  T *grad = arena.take(H * all.Np), *lanes = arena.take(2 * layout.V * W * Lanes<T>::L);
  T* factors = arena.take(2 * layout.V * Lanes<T>::L);
  const int64_t Np = all.Np, first_read = layout.V * Np, row_stride = (3 * H + 1) * Np;
  for (int64_t e = begin; e < end; ++e) {
    const T *X = op.memory + e * memory_size(all), *Y = op.memory_out + e * memory_size(all);
    const T *before = op.before + e * row_stride, *weights = op.rows + e * row_stride;
    const T *contents = weights + H * Np, *cosine = contents + H * Np, *norm = cosine + H * Np;
    const T *asked = op.asked + e * layout.size(), *given = at(op.grad_outputs, e * op.output_stride);
    T *d_output = op.grad_output + e * op.output_stride, *d_read = d_output + op.D;
    if (given) for (int64_t i = 0; i < op.output_stride; ++i) d_output[i] += given[i];
    T *D = op.grad_memory + e * memory_size(all), *d_weights = op.grad_weights + e * H * Np;
    T* d_asked = op.grad_asked + e * layout.size();
    slot_dot(grad + first_read, Y, d_read, reading);
    for (int64_t i = first_read; i < H * Np; ++i) grad[i] += d_weights[i];
    rank_update(D, weights + first_read, d_read, reading);
    locate_backward(D, d_weights + first_read, gradients_in(d_asked, layout, layout.V), grad + first_read, Y, norm,
                    before + first_read, heads_in(asked, layout, layout.V), weights + first_read, contents + first_read,
                    cosine + first_read, scratch, reading, team, S);
    std::memcpy(grad, d_weights, first_read * sizeof(T));
    erase_write_backward(D, grad, d_asked + layout.erases(), d_asked + layout.adds(), X, weights, asked + layout.erases(),
                         asked + layout.adds(), lanes, factors, writing);
    locate_backward(D, d_weights, gradients_in(d_asked, layout, 0), grad, X, before + 3 * H * Np, before,
                    heads_in(asked, layout, 0), weights, contents, cosine, scratch, writing, team, S);
    activate_backward(d_asked, asked, layout);
  }
}

}  // namespace
