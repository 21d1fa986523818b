// The controller of whole episodes, an LSTM or one tanh layer, and the interface behind it, step by step.
//
// The input's product is one over all steps, the weight gradients' are one each for a few hundred rows; of every step are
// the recurrent product, the activation and the interface's product.
#pragma once

#include "weight_gradients.h"

namespace mannkern {

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
      : outputs(of_steps<T>({s.T, s.B, s.O})),
        cells(of_steps<T>({s.lstm ? keep ? s.T : 1 : 0, s.B, s.D})),
        interface(of_steps<T>({keep ? s.T : 1, s.B, s.I})),
        interface_bias(call.in(interface_bias, "interface_bias", {s.I})),
        s_(s),
        keep_(keep),
        gates_(input_product(call, s, given)),
        recurrent_(dense(call, given.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen()), s.B, s.T),
        to_interface_(dense(call, given.interface_weight, "interface_weight", s.I, s.D), s.B, s.T),
        bias_(call.in(bias, "bias", {s.gates()})),
        output_(call.in(given.output, "output", {s.B, s.O})),
        cell_(call.in(given.cell, "cell", {s.B, s.D})) {}

  // Step t, behind t - 1: its hidden state into output(t). Returns the interface's product (B,I), without its bias.
  Tensor step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const Tensor recurrent = recurrent_.product(matrix(output_ + s_.seen(), B, O - s_.seen(), O));
    T *row = data<T>(gates_) + t * B * s_.gates(), *out = output(t);
    if (lstm) {
      T* after = data<T>(cells) + (keep_ ? t : 0) * B * D;
      over_batch(B, 16 * D, kernels<T>().lstm, Lstm<T>{D, O, row, data<T>(recurrent), bias_, cell_, row, after, out});
      cell_ = after;
    } else {
      over_batch(B, 4 * D, kernels<T>().layer, Layer<T>{D, O, row, data<T>(recurrent), bias_, out});
    }
    output_ = out;
    return to_interface_.product(matrix(out, B, D, O));
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
  static Tensor dense(Call<T>& call, const Tensor& weight, const char* name, int64_t rows, int64_t columns) {
    return matrix(call.in(weight, name, {rows, columns}), rows, columns, columns);
  }
  static Tensor input_product(Call<T>& call, const ControllerShape& s, const Controlled& given) {
    const Tensor x = matrix(call.in(given.input, "input", {s.T, s.B, s.F}), s.T * s.B, s.F, s.F);
    const Tensor gates = product<T>(x, dense(call, given.input_weight, "input_weight", s.gates(), s.F));
    return torch::stable::view(gates, {s.T, s.B, s.gates()});
  }

  const ControllerShape s_;
  const bool keep_;
  const Tensor gates_;
  const Weights<T> recurrent_, to_interface_;
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
        to_output_(transposed(given.recurrent_weight), s.B, s.T),
        to_hidden_(transposed(given.interface_weight), s.B, s.T),
        input_(call.in(given.input, "input", {s.T, s.B, s.F})),
        input_weight_(call.in(given.input_weight, "input_weight", {s.gates(), s.F})),
        first_(call.in(given.output, "output", {s.B, s.O})),
        first_cell_(call.in(given.cell, "cell", {s.B, s.D})),
        outputs_(call.in(outputs, "outputs", {s.T, s.B, s.O})),
        gates_(s.lstm ? call.in(gates, "gates", {s.T, s.B, s.gates()}) : nullptr),
        cells_(s.lstm ? call.in(cells, "cells", {s.T, s.B, s.D}) : nullptr),
        grad_outputs_(call.in(grad_outputs, "grad_outputs", {s.T, s.B, s.O})) {}

  const T* grad_outputs(int64_t t) const { return at(grad_outputs_, t * s_.B * s_.O); }

  // Step t, before t - 1, from the gradients of its output and of what it asked, which is in weights.asked(t): `output`
  // becomes that of the step before.
  void step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t G = s_.gates();
    T *d_gates = weights.gates(t), *d_output = data<T>(output);
    const Tensor d_hidden = to_hidden_.product(matrix(weights.asked(t), B, I, I));
    if (lstm) {
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, O, d_output, data<T>(d_hidden), gates_ + t * B * G,
                                 t ? cells_ + (t - 1) * B * D : first_cell_, cells_ + t * B * D, data<T>(cell), d_gates});
      output = to_output_.product(matrix(d_gates, B, G, G));
    } else {
      over_batch(B, 4 * D, kernels<T>().layer_backward,
                 LayerBackward<T>{D, O, d_output, data<T>(d_hidden), outputs_ + t * B * O, d_gates});
      const Tensor d_read = to_output_.product(matrix(d_gates, B, G, G));
      for (int64_t e = 0; e < B; ++e) {  // a layer does not see h
        std::fill_n(d_output + e * O, D, T(0));
        std::copy_n(data<T>(d_read) + e * (O - D), O - D, d_output + e * O + D);
      }
    }
    if (t % weights.steps() == 0)
      weights.add(t, std::min(t + weights.steps(), s_.T), input_, input_weight_, first_, outputs_);
  }

  WeightGradients<T> weights;
  Tensor output;      // (B,O), in place
  const Tensor cell;  // (B,D), in place; (0,D) of a layer

 private:
  const ControllerShape s_;
  const Weights<T> to_output_, to_hidden_;
  const T *input_, *input_weight_, *first_, *first_cell_, *outputs_, *gates_, *cells_, *grad_outputs_;
};

}  // namespace mannkern
