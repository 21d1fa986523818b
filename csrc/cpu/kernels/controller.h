// The pointwise kernels of a controller, an LSTM or one tanh layer, between its matrix products.
#pragma once

#include "../../args/controller.h"
#include "row_math.h"
#include "vector_math.h"

namespace {

using namespace mannkern;

template <class T>
void lstm(const LSTM<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e) {
    T* gates = op.gates + e * 4 * D;
    for_lanes<T>(
        4 * D, [](const T* x, const T* h, const T* b, T* sum) { store(sum, load(x) + load(h) + load(b)); },
        op.input_gates + e * 4 * D, op.recurrent_gates + e * 4 * D, op.bias, gates);
    for_lanes<T>(
        D,
        [](T* pi, T* pf, T* pg, T* po, const T* c, T* c_out, T* h) {
          const Vec<T> i = sigmoid<VectorMath<T>>(load(pi)), f = sigmoid<VectorMath<T>>(load(pf));
          const Vec<T> g = tanh(load(pg)), o = sigmoid<VectorMath<T>>(load(po));
          const Vec<T> cell = f * load(c) + i * g;
          store(pi, i), store(pf, f), store(pg, g), store(po, o);
          store(c_out, cell), store(h, o * tanh(cell));
        },
        gates, gates + D, gates + 2 * D, gates + 3 * D, op.cell + e * D, op.cell_out + e * D,
        op.hidden + e * op.output_stride);
  }
}

template <class T>
void lstm_backward(const LSTMBackward<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e) {
    const T* gates = op.gates + e * 4 * D;
    T* grad = op.grad_gates + e * 4 * D;
    for_lanes<T>(
        D,
        [](const T* pi, const T* pf, const T* pg, const T* po, T* di, T* df, T* dg, T* dout, const T* grad_output,
           const T* grad_hidden, const T* c, const T* c_out, T* dc) {
          const Vec<T> i = load(pi), f = load(pf), g = load(pg), o = load(po), squashed = tanh(load(c_out));
          const Vec<T> dh = load(grad_output) + load(grad_hidden);
          const Vec<T> d = load(dc) + dh * o * (1 - squashed * squashed);
          store(dout, dh * squashed * o * (1 - o));
          store(di, d * g * i * (1 - i));
          store(df, d * load(c) * f * (1 - f));
          store(dg, d * i * (1 - g * g));
          store(dc, d * f);
        },
        gates, gates + D, gates + 2 * D, gates + 3 * D, grad, grad + D, grad + 2 * D, grad + 3 * D,
        op.grad_output + e * op.output_stride, op.grad_hidden + e * D, op.cell + e * D, op.cell_out + e * D,
        op.grad_cell + e * D);
  }
}

template <class T>
void tanh_layer(const TanhLayer<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e)
    for_lanes<T>(
        D, [](const T* x, const T* r, const T* b, T* h) { store(h, tanh(load(x) + load(r) + load(b))); },
        op.input + e * D, op.recurrent + e * D, op.bias, op.hidden + e * op.output_stride);
}

template <class T>
void tanh_layer_backward(const TanhLayerBackward<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e)
    for_lanes<T>(
        D,
        [](const T* grad_output, const T* grad_hidden, const T* ph, T* grad) {
          const Vec<T> h = load(ph);
          store(grad, (load(grad_output) + load(grad_hidden)) * (1 - h * h));
        },
        op.grad_output + e * op.output_stride, op.grad_hidden + e * D, op.hidden + e * op.output_stride,
        op.grad_input + e * D);
}

}  // namespace
