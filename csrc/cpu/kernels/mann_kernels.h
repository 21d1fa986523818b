// The kernels of a MANN's episode, between the controller's matrix products: activation of the interface vector, a step
// of LRUA on a memory in slot blocks, and their backward pass.
#pragma once

#include "../../args/cell.h"
#include "lrua_kernels.h"

namespace {

// The parts of the interface vector of episode e.
template <class T>
InterfaceVector<T> interface_in(const T* rows, int64_t e, const MANNInterface& layout) {
  const T* row = rows + e * layout.size();
  return {row, row + layout.adds(), row + layout.gates(),
          layout.strengths ? row + layout.gates() + layout.shape.R : nullptr};
}
template <class T>
InterfaceGradients<T> gradients_in(T* rows, int64_t e, const MANNInterface& layout) {
  T* row = rows + e * layout.size();
  return {row, row + layout.adds(), row + layout.gates(),
          layout.strengths ? row + layout.gates() + layout.shape.R : nullptr};
}

// Activation of the parts of an interface vector, from the product x and the bias b: tanh of keys and adds, gates as
// they are, 1 + softplus of strengths.
template <class T>
void activate_vectors(T* y, const T* x, const T* b, int64_t count) {
  for_lanes<T>(
      count, [](const T* p, const T* q, T* r) { store(r, tanh(load(p) + load(q))); }, x, b, y);
}
template <class T>
void activate_gates(T* y, const T* x, const T* b, int64_t count) {
  for (int64_t h = 0; h < count; ++h) y[h] = x[h] + b[h];
}
template <class T>
void activate_strengths(T* y, const T* x, const T* b, int64_t count) {
  for (int64_t h = 0; h < count; ++h) y[h] = mannkern::softplus<ScalarMath<T>>(x[h] + b[h], T(1));
}
// Their slopes, from what they gave.
template <class T>
T vector_slope(T y) {
  return 1 - y * y;
}
template <class T>
T strength_slope(T y) {
  return mannkern::softplus_slope<ScalarMath<T>>(1 - y);
}

// The interface vector from the product and the bias.
template <class T>
void activate(T* row, const T* product, const T* bias, const MANNInterface& layout) {
  const int64_t R = layout.shape.R, gates = layout.gates(), strengths = gates + R;
  activate_vectors(row, product, bias, gates);
  activate_gates(row + gates, product + gates, bias + gates, R);
  if (layout.strengths) activate_strengths(row + strengths, product + strengths, bias + strengths, R);
}

// Backward of activate, from its result. grad is in place: on entry with respect to that result, on exit with respect
// to product + bias.
template <class T>
void activate_backward(T* grad, const T* row, const MANNInterface& layout) {
  for (int64_t j = 0; j < layout.gates(); ++j) grad[j] *= vector_slope(row[j]);
  for (int64_t h = layout.gates() + layout.shape.R; h < layout.size(); ++h) grad[h] *= strength_slope(row[h]);
}

// Numbers of the padded rows that a step saves for backward. Write weights are not saved: the backward pass computes
// them again.
template <class T>
int64_t step_rows_size(const Sizes<T>& s) {
  return (2 * s.R + 1) * s.Np;
}
// The saved rows at `at`, and the write weights in a buffer of their own. P is T or const T.
template <class T, class P>
Rows<P> step_rows(P* at, P* write_weights, const Sizes<T>& s) {
  return {at, write_weights, at + s.R * s.Np, at + 2 * s.R * s.Np};
}

template <class T>
void mann_activate(const MANNActivate<T>& op, int64_t begin, int64_t end) {
  const int64_t R = op.layout.shape.R, RW = op.layout.adds(), adds = op.add ? RW : 0;
  const int64_t I = op.layout.size() - RW + adds;
  const T* b = op.bias;
  for (int64_t e = begin; e < end; ++e) {
    const T* x = op.product + e * I;
    activate_vectors(op.key + e * RW, x, b, RW);
    if (op.add) activate_vectors(op.add + e * RW, x + RW, b + RW, RW);
    activate_gates(op.gate + e * R, x + RW + adds, b + RW + adds, R);
    if (op.strength) activate_strengths(op.strength + e * R, x + RW + adds + R, b + RW + adds + R, R);
  }
}

template <class T>
void mann_activate_backward(const MANNActivateBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.layout.shape.N, op.layout.shape.W, op.layout.shape.R);
  const int64_t R = s.R, RW = R * s.W, adds = op.interface.add == op.interface.key ? 0 : RW;
  const int64_t I = op.layout.size() - RW + adds;
  for (int64_t e = begin; e < end; ++e) {
    const InterfaceVector<T> y = interface_at(op.interface, e, s);
    const InterfaceGradients<T> grad = interface_at(op.grad, e, s);
    T* out = op.grad_product + e * I;
    for (int64_t j = 0; j < RW; ++j) out[j] = (adds ? grad.key[j] : grad.key[j] + grad.add[j]) * vector_slope(y.key[j]);
    for (int64_t j = 0; j < adds; ++j) out[RW + j] = grad.add[j] * vector_slope(y.add[j]);
    std::memcpy(out + RW + adds, grad.gate, R * sizeof(T));
    for (int64_t h = 0; y.strength && h < R; ++h)
      out[RW + adds + R + h] = grad.strength[h] * strength_slope(y.strength[h]);
  }
}

template <class T>
void mann_recompute(const MANNRecompute<T>& op, int64_t begin, int64_t end) {
  const MANNInterface& layout = op.layout;
  const Sizes<T> s(layout.shape.N, layout.shape.W, layout.shape.R);
  const int64_t size = memory_size(s);
  Arena<T> arena(scratch_size(s));
  T* w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    const T* before = op.memory + e * size;
    for (int64_t t = 0; t < op.steps; ++t) {
      const int64_t i = t * op.B + e;
      const bool anew = op.restart.at(i);
      if (t + 1 < op.steps) {
        const int64_t next = i + op.B;
        prefetch(op.previous_rows + next * step_rows_size(s), s.R * s.Np);
        prefetch(op.interface + next * layout.size(), layout.size());
      }
      T* X = op.memories + (t * op.episodes + e) * size;
      const InterfaceVector<T> interface = interface_in(op.interface, i, layout);
      const int64_t* slots = op.slots + i * op.options.n;
      const T* previous = anew ? op.restart.rows : op.previous_rows + i * step_rows_size(s);
      write_weights(w, previous, interface.gate, slots, op.options, s);
      write_to(X, anew ? op.restart.memory : before, w, interface.add, slots[0], s);
      before = X;
    }
  }
}

template <class T>
void mann_step(const MANNStep<T>& op, int64_t begin, int64_t end) {
  const MANNInterface& layout = op.layout;
  const Sizes<T> s(layout.shape.N, layout.shape.W, layout.shape.R);
  const int64_t size = memory_size(s), row_size = step_rows_size(s);
  Arena<T> arena(scratch_size(s));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T* w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    T *X = op.memory + e * size, *usage = op.usage + e * s.N;
    const bool anew = op.restart.at(e);
    const T* previous = anew ? op.restart.rows : op.previous_rows + e * row_size;
    if (anew) std::memcpy(X, op.restart.memory, size * sizeof(T));
    if (op.checkpoint) std::memcpy(op.checkpoint + e * size, X, size * sizeof(T));
    activate(op.interface + e * layout.size(), op.product + e * layout.size(), op.bias, layout);
    step(X, step_rows(op.rows + e * row_size, w, s), op.slots + e * op.options.n, usage, op.read + e * op.output_stride,
         previous, usage, interface_in<T>(op.interface, e, layout), op.options, scratch, s);
  }
}

template <class T>
void mann_step_backward(const MANNStepBackward<T>& op, int64_t begin, int64_t end) {
  const MANNInterface& layout = op.layout;
  const Sizes<T> s(layout.shape.N, layout.shape.W, layout.shape.R);
  const int64_t size = memory_size(s), row_size = step_rows_size(s);
  Arena<T> arena(scratch_size(s));
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  T *grad_usage = arena.take(s.Np), *w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    T *grad_output = op.grad_output + e * op.output_stride, *grad_interface = op.grad_interface + e * layout.size();
    if (op.grad_outputs && e + 1 < end) prefetch(op.grad_outputs + (e + 1) * op.output_stride, op.output_stride);
    if (op.grad_outputs)
      for (int64_t i = 0; i < op.output_stride; ++i) grad_output[i] += op.grad_outputs[e * op.output_stride + i];
    const T* previous = op.restart.at(e) ? op.restart.rows : op.previous_rows + e * row_size;
    const int64_t* slots = op.slots + e * op.options.n;
    const InterfaceVector<T> interface = interface_in(op.interface, e, layout);
    write_weights(w, previous, interface.gate, slots, op.options, s);
    load_rows(grad_usage, op.grad_usage + e * s.N, 1, s);
    step_backward(op.grad_memory + e * size, op.grad_weights + e * s.R * s.Np, grad_usage,
                  gradients_in(op.grad_interface, e, layout), grad_output + op.D, static_cast<const T*>(nullptr),
                  op.memory + e * size, step_rows(op.rows + e * row_size, static_cast<const T*>(w), s), slots, previous,
                  interface, op.options, scratch, s);
    activate_backward(grad_interface, op.interface + e * layout.size(), layout);
    store_rows(op.grad_usage + e * s.N, grad_usage, 1, s);
  }
}

}  // namespace
