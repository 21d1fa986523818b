// The pointwise part of a controller, rows at a time.
#pragma once

#include <type_traits>

#include "../lrua.h"
#include "vector.h"

namespace {

using namespace mannkern;

template <class T>
Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> e = exp_nonpositive<T>(x > 0 ? -x : x);
  return (x > 0 ? Vec<T>{} + T(1) : e) / (1 + e);
}

inline Vec<float> tanh(Vec<float> x) {
  const Vec<float> e = exp_nonpositive<float>(x > 0 ? -2 * x : 2 * x), far = (1 - e) / (1 + e), s = x * x;
  // near 0 the quotient would cancel: Taylor, whose remainder at 1/4 is 1e-8 of the value
  const Vec<float> near = x * (1 + s * (-1 / 3.f + s * (2 / 15.f + s * (-17 / 315.f + s * (62 / 2835.f)))));
  return s < 0.0625f ? near : (x > 0 ? far : -far);
}

inline Vec<double> tanh(Vec<double> x) {
  for (int e = 0; e < Lanes<double>::L; ++e) x[e] = __builtin_tanh(x[e]);
  return x;
}

// The last, partial vector of a row: a copy in front of f, and back behind it where the row is written.
template <class T, class P>
struct Tail {
  P row;
  int64_t count;
  T lane[Lanes<T>::L];
  // all lanes with a condition, which become masked moves; a memcpy of few numbers is a call
  Tail(P p, int64_t n) : row(p), count(n) {
    for (int e = 0; e < Lanes<T>::L; ++e) lane[e] = e < count ? row[e] : T(0);
  }
  void write_back() {
    if constexpr (!std::is_const_v<std::remove_pointer_t<P>>)
      for (int e = 0; e < Lanes<T>::L; ++e)
        if (e < count) row[e] = lane[e];
  }
};

// f of vectors of `count` numbers from each pointer.
template <class T, class F, class... P>
void for_lanes(int64_t count, F f, P... rows) {
  constexpr int L = Lanes<T>::L;
  int64_t i = 0;
  for (; i + L <= count; i += L) f((rows + i)...);
  if (i == count) return;
  [&](auto... tails) {
    f(tails.lane...);
    (tails.write_back(), ...);
  }(Tail<T, P>(rows + i, count - i)...);
}

template <class T>
void lstm(const Lstm<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e) {
    T* gates = op.gates + e * 4 * D;
    for_lanes<T>(
        4 * D, [](const T* x, const T* h, const T* b, T* sum) { store(sum, load(x) + load(h) + load(b)); },
        op.input_gates + e * 4 * D, op.recurrent_gates + e * 4 * D, op.bias, gates);
    for_lanes<T>(
        D,
        [](T* pi, T* pf, T* pg, T* po, const T* c, T* c_out, T* h) {
          const Vec<T> i = sigmoid<T>(load(pi)), f = sigmoid<T>(load(pf)), g = tanh(load(pg)), o = sigmoid<T>(load(po));
          const Vec<T> cell = f * load(c) + i * g;
          store(pi, i), store(pf, f), store(pg, g), store(po, o);
          store(c_out, cell), store(h, o * tanh(cell));
        },
        gates, gates + D, gates + 2 * D, gates + 3 * D, op.cell + e * D, op.cell_out + e * D,
        op.hidden + e * op.output_stride);
  }
}

template <class T>
void lstm_backward(const LstmBackward<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e) {
    const T* gates = op.gates + e * 4 * D;
    T* grad = op.grad_gates + e * 4 * D;
    for_lanes<T>(
        D,
        [](const T* pi, const T* pf, const T* pg, const T* po, T* di, T* df, T* dg, T* dout, const T* from_output,
           const T* from_interface, const T* c, const T* c_out, T* dc) {
          const Vec<T> i = load(pi), f = load(pf), g = load(pg), o = load(po), squashed = tanh(load(c_out));
          const Vec<T> dh = load(from_output) + load(from_interface);
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
void layer(const Layer<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e)
    for_lanes<T>(
        D, [](const T* x, const T* r, const T* b, T* h) { store(h, tanh(load(x) + load(r) + load(b))); },
        op.input + e * D, op.recurrent + e * D, op.bias, op.hidden + e * op.output_stride);
}

template <class T>
void layer_backward(const LayerBackward<T>& op, int64_t begin, int64_t end) {
  const int64_t D = op.D;
  for (int64_t e = begin; e < end; ++e)
    for_lanes<T>(
        D,
        [](const T* from_output, const T* from_interface, const T* ph, T* grad) {
          const Vec<T> h = load(ph);
          store(grad, (load(from_output) + load(from_interface)) * (1 - h * h));
        },
        op.grad_output + e * op.output_stride, op.grad_hidden + e * D, op.hidden + e * op.output_stride,
        op.grad_input + e * D);
}

}  // namespace
