// The controller of whole episodes, an LSTM or one tanh layer, and the interface behind it, step by step.
//
// The input's product is one over all steps, the weight gradients' are one each for a few hundred rows; of every step are
// the recurrent product, the activation and the interface's product. A step allocates nothing.
#pragma once

#include "weight_gradients.h"

namespace mannkern {

template <class T>
Matrix<T> weight(Call<T>& call, const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  return rows_of(call.in(t, name, {rows, columns}), columns);
}

// What the controller and its interface are given. input (T,B,F); input_weight (4D,F), of a layer (D,F); recurrent_weight
// (4D,O) of [h, r], of a layer (D,R W) of r; output (B,O) before the first step; cell (B,D), null of a layer.
struct Controlled {
  const Tensor &input, &input_weight, &recurrent_weight, &interface_weight, &output;
  const Maybe& cell;
};

template <class T>
class ControllerLoop {
 public:
  ControllerLoop(Call<T>& call, const ControllerShape& s, const Controlled& given, const Tensor& bias,
                 const Tensor& interface_bias, bool keep)
      : outputs(large<T>({s.T, s.B, s.O})),
        cells(large<T>({s.lstm ? keep ? s.T : 1 : 0, s.B, s.D})),
        interface(large<T>({keep ? s.T : 1, s.B, s.I})),
        interface_bias(call.in(interface_bias, "interface_bias", {s.I})),
        s_(s),
        keep_(keep),
        gates_(large<T>({s.T, s.B, s.gates()})),
        recurrent_gates_(call.out({s.B, s.gates()})),
        interface_product_(call.out({s.B, s.I})),
        recurrent_(transposed(weight(call, given.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen())),
                   s.O - s.seen(), s.gates()),
        to_interface_(transposed(weight(call, given.interface_weight, "interface_weight", s.I, s.D)), s.D, s.I),
        bias_(call.in(bias, "bias", {s.gates()})),
        output_(call.in(given.output, "output", {s.B, s.O})),
        cell_(call.in(given.cell, "cell", {s.B, s.D})) {
    const T* x = call.in(given.input, "input", {s.T, s.B, s.F});
    const Factor<T> to_gates(transposed(weight(call, given.input_weight, "input_weight", s.gates(), s.F)), s.F, s.gates());
    to_gates.multiply(rows_of(x, s.F), s.T * s.B, data<T>(gates_), s.gates());
  }

  // Step t, behind t - 1: its hidden state into output(t). Returns the interface's product (B,I), without its bias.
  const T* step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    T *row = data<T>(gates_) + t * B * s_.gates(), *out = output(t), *recurrent = data<T>(recurrent_gates_);
    T* asked = data<T>(interface_product_);
    recurrent_.multiply(rows_of(output_ + s_.seen(), O), B, recurrent, s_.gates());
    if (lstm) {
      T* after = data<T>(cells) + (keep_ ? t : 0) * B * D;
      over_batch(B, 16 * D, kernels<T>().lstm, Lstm<T>{D, O, row, recurrent, bias_, cell_, row, after, out});
      cell_ = after;
    } else {
      over_batch(B, 4 * D, kernels<T>().layer, Layer<T>{D, O, row, recurrent, bias_, out});
    }
    output_ = out;
    to_interface_.multiply(rows_of<T>(out, O), B, asked, I);
    return asked;
  }
  T* output(int64_t t) const { return data<T>(outputs) + t * s_.B * s_.O; }
  T* asked(int64_t t) const { return data<T>(interface) + (keep_ ? t : 0) * s_.B * s_.I; }

  // The activated gates for the backward pass; (0,B,D) of a layer, which has its output.
  Tensor kept_gates() const { return s_.lstm ? gates_ : Call<T>::allocate({0, s_.B, s_.D}, Call<T>::kType); }
  // After the last step; (0,D) of a layer.
  Tensor last_cell() const {
    const int64_t B = s_.lstm ? s_.B : 0;
    const Tensor last = Call<T>::allocate({B, s_.D}, Call<T>::kType);
    std::copy_n(cell_, B * s_.D, data<T>(last));
    return last;
  }

  const Tensor outputs, cells, interface;
  const T* const interface_bias;

 private:
  const ControllerShape s_;
  const bool keep_;
  const Tensor gates_, recurrent_gates_, interface_product_;  // of all steps; of one
  const Factor<T> recurrent_, to_interface_;
  const T *bias_, *output_, *cell_;  // the latter two of the step before
};

template <class T>
class ControllerLoopBackward {
 public:
  // outputs, gates and cells are those of the ControllerLoop.
  ControllerLoopBackward(Call<T>& call, const ControllerShape& s, const Controlled& given, const Tensor& outputs,
                         const Tensor& gates, const Tensor& cells, const Maybe& grad_outputs, const Maybe& grad_cell,
                         bool wants_input)
      : weights(s, wants_input),
        output(start(call, std::nullopt, {s.B, s.O})),
        cell(start(call, grad_cell, {s.lstm ? s.B : 0, s.D})),
        s_(s),
        grad_hidden_(call.out({s.B, s.D})),
        to_output_(weight(call, given.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen()), s.gates(),
                   s.O - s.seen()),
        to_hidden_(weight(call, given.interface_weight, "interface_weight", s.I, s.D), s.I, s.D),
        input_(call.in(given.input, "input", {s.T, s.B, s.F})),
        first_(call.in(given.output, "output", {s.B, s.O})),
        first_cell_(call.in(given.cell, "cell", {s.B, s.D})),
        outputs_(call.in(outputs, "outputs", {s.T, s.B, s.O})),
        gates_(s.lstm ? call.in(gates, "gates", {s.T, s.B, s.gates()}) : nullptr),
        cells_(s.lstm ? call.in(cells, "cells", {s.T, s.B, s.D}) : nullptr),
        grad_outputs_(call.in(grad_outputs, "grad_outputs", {s.T, s.B, s.O})) {
    if (wants_input)
      to_input_.emplace(weight(call, given.input_weight, "input_weight", s.gates(), s.F), s.gates(), s.F);
  }

  const T* grad_outputs(int64_t t) const { return at(grad_outputs_, t * s_.B * s_.O); }

  // Step t, before t - 1, from the gradients of its output and of what it asked, which is in weights.asked(t): `output`
  // becomes that of the step before.
  void step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t G = s_.gates();
    T *d_gates = weights.gates(t), *d_output = data<T>(output), *d_hidden = data<T>(grad_hidden_);
    to_hidden_.multiply(rows_of<T>(weights.asked(t), I), B, d_hidden, D);
    if (lstm)
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, O, d_output, d_hidden, gates_ + t * B * G,
                                 t ? cells_ + (t - 1) * B * D : first_cell_, cells_ + t * B * D, data<T>(cell), d_gates});
    else
      over_batch(B, 4 * D, kernels<T>().layer_backward,
                 LayerBackward<T>{D, O, d_output, d_hidden, outputs_ + t * B * O, d_gates});
    to_output_.multiply(rows_of<T>(d_gates, G), B, d_output + s_.seen(), O);
    if (!lstm)  // does not see h
      for (int64_t e = 0; e < B; ++e) std::fill_n(d_output + e * O, D, T(0));
    if (t % weights.steps() == 0)
      weights.add(t, std::min(t + weights.steps(), s_.T), input_, to_input_ ? &*to_input_ : nullptr, first_, outputs_);
  }

  WeightGradients<T> weights;
  const Tensor output, cell;  // (B,O) and (B,D), in place; cell (0,D) of a layer

 private:
  const ControllerShape s_;
  const Tensor grad_hidden_;
  const Factor<T> to_output_, to_hidden_;
  std::optional<Factor<T>> to_input_;  // where the input's gradient is wanted
  const T *input_, *first_, *first_cell_, *outputs_, *gates_, *cells_, *grad_outputs_;
};

}  // namespace mannkern
