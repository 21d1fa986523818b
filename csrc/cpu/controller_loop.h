// The controller of an episode, an LSTM or one tanh layer, and the linear layer behind it that gives the interface
// vector, step by step.
//
// The product with the input is one for all steps, and the gradients of the weights are products over a few hundred
// rows. So a step has only the recurrent product, the activation and the interface's product, and allocates nothing.
#pragma once

#include "weight_gradients.h"

namespace mannkern {

template <class T>
Matrix<T> weight(Call<T>& call, const Tensor& t, const char* name, int64_t rows, int64_t columns) {
  return rows_of(call.in(t, name, {rows, columns}), columns);
}

// Inputs of the controller and its interface. Weights are packed as torch.nn.LSTMCell and torch.nn.Linear have them:
// rows are outputs, and the four gates of an LSTM follow each other.
struct ControllerArgs {
  const Tensor& input;             // (T,B,F)
  const Tensor& input_weight;      // (4D,F); of a tanh layer (D,F)
  const Tensor& recurrent_weight;  // (4D,O), for [h, r]; of a tanh layer (D,O - D), for r
  const Tensor& interface_weight;  // (I,D)
  const Tensor& output;            // (B,O): [h, r] before the first step
  const Maybe& cell;               // (B,D): c before the first step; none with a tanh layer
};

template <class T>
class ControllerLoop {
 public:
  ControllerLoop(Call<T>& call, const ControllerShape& s, const ControllerArgs& args, const Tensor& bias,
                 const Tensor& interface_bias, bool save_for_backward)
      : outputs(allocate_large<T>({s.T, s.B, s.O})),
        cells(allocate_large<T>({s.lstm ? save_for_backward ? s.T : 1 : 0, s.B, s.D})),
        interface(allocate_large<T>({save_for_backward ? s.T : 1, s.B, s.I})),
        interface_bias(call.in(interface_bias, "interface_bias", {s.I})), s_(s), save_for_backward_(save_for_backward),
        gates_(allocate_large<T>({s.T, s.B, s.gates()})), recurrent_gates_(call.out({s.B, s.gates()})),
        interface_product_(call.out({s.B, s.I})),
        recurrent_(transposed(weight(call, args.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen())),
                   s.O - s.seen(), s.gates()),
        to_interface_(transposed(weight(call, args.interface_weight, "interface_weight", s.I, s.D)), s.D, s.I),
        bias_(call.in(bias, "bias", {s.gates()})), output_(call.in(args.output, "output", {s.B, s.O})),
        cell_(call.in(args.cell, "cell", {s.B, s.D})) {
    const T* x = call.in(args.input, "input", {s.T, s.B, s.F});
    const PackedMatrix<T> to_gates(transposed(weight(call, args.input_weight, "input_weight", s.gates(), s.F)), s.F,
                                   s.gates());
    to_gates.multiply(rows_of(x, s.F), s.T * s.B, data<T>(gates_), s.gates());
  }

  // Step t, which must follow step t - 1. Writes h into output(t) and returns the interface's product (B,I), without
  // its bias.
  const T* step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    T *row = data<T>(gates_) + t * B * s_.gates(), *out = output(t), *recurrent = data<T>(recurrent_gates_);
    T* product = data<T>(interface_product_);
    recurrent_.multiply(rows_of(output_ + s_.seen(), O), B, recurrent, s_.gates());
    if (lstm) {
      T* after = data<T>(cells) + (save_for_backward_ ? t : 0) * B * D;
      over_batch(B, 16 * D, kernels<T>().lstm, LSTM<T>{D, O, row, recurrent, bias_, cell_, row, after, out});
      cell_ = after;
    } else {
      over_batch(B, 4 * D, kernels<T>().tanh_layer, TanhLayer<T>{D, O, row, recurrent, bias_, out});
    }
    output_ = out;
    to_interface_.multiply(rows_of<T>(out, O), B, product, I);
    return product;
  }
  T* output(int64_t t) const { return data<T>(outputs) + t * s_.B * s_.O; }
  T* interface_at(int64_t t) const { return data<T>(interface) + (save_for_backward_ ? t : 0) * s_.B * s_.I; }

  // The activated gates, for backward; (0,B,D) with a tanh layer, whose output is enough.
  Tensor saved_gates() const { return s_.lstm ? gates_ : Call<T>::allocate({0, s_.B, s_.D}, Call<T>::kType); }
  // The cell after the last step; (0,D) with a tanh layer.
  Tensor last_cell() const {
    const int64_t B = s_.lstm ? s_.B : 0;
    const Tensor last = Call<T>::allocate({B, s_.D}, Call<T>::kType);
    std::copy_n(cell_, B * s_.D, data<T>(last));
    return last;
  }

  const Tensor outputs;    // (T,B,O)
  const Tensor cells;      // (T,B,D), or (1,B,D) where nothing is saved for backward; (0,B,D) with a tanh layer
  const Tensor interface;  // (T,B,I), or (1,B,I) where nothing is saved for backward
  const T* const interface_bias;

 private:
  const ControllerShape s_;
  const bool save_for_backward_;
  const Tensor gates_, recurrent_gates_, interface_product_;  // gates of all steps; the others of one step
  const PackedMatrix<T> recurrent_, to_interface_;
  const T *bias_, *output_, *cell_;  // output and cell are those of the step before
};

template <class T>
class ControllerLoopBackward {
 public:
  // outputs, gates and cells are those that ControllerLoop saved.
  ControllerLoopBackward(Call<T>& call, const ControllerShape& s, const ControllerArgs& args, const Tensor& outputs,
                         const Tensor& gates, const Tensor& cells, const Maybe& grad_outputs, const Maybe& grad_cell,
                         bool needs_input_grad)
      : weights(s, needs_input_grad), output(copy_or_zeros(call, std::nullopt, "output", {s.B, s.O})),
        cell(copy_or_zeros(call, grad_cell, "grad_cell", {s.lstm ? s.B : 0, s.D})), s_(s),
        grad_hidden_(call.out({s.B, s.D})),
        to_output_(weight(call, args.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen()), s.gates(),
                   s.O - s.seen()),
        to_hidden_(weight(call, args.interface_weight, "interface_weight", s.I, s.D), s.I, s.D),
        input_(call.in(args.input, "input", {s.T, s.B, s.F})), first_(call.in(args.output, "output", {s.B, s.O})),
        first_cell_(call.in(args.cell, "cell", {s.B, s.D})), outputs_(call.in(outputs, "outputs", {s.T, s.B, s.O})),
        gates_(call.in(gates, "gates", {s.lstm ? s.T : 0, s.B, s.gates()})),
        cells_(call.in(cells, "cells", {s.lstm ? s.T : 0, s.B, s.D})),
        grad_outputs_(call.in(grad_outputs, "grad_outputs", {s.T, s.B, s.O})) {
    call.check(args.input_weight, "input_weight", {s.gates(), s.F});
    if (needs_input_grad)
      to_input_.emplace(weight(call, args.input_weight, "input_weight", s.gates(), s.F), s.gates(), s.F);
  }

  const T* grad_outputs(int64_t t) const { return offset_or_null(grad_outputs_, t * s_.B * s_.O); }

  // Backward of step t, which must follow that of step t + 1. The gradient of the step's output is in `output`, and the
  // memory's kernel has written that of its interface vector to weights.grad_interface(t). On exit, `output` is the
  // gradient with respect to the output of step t - 1.
  void step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t G = s_.gates();
    T *d_gates = weights.grad_gates(t), *d_output = data<T>(output), *d_hidden = data<T>(grad_hidden_);
    to_hidden_.multiply(rows_of<T>(weights.grad_interface(t), I), B, d_hidden, D);
    if (lstm)
      over_batch(
          B, 16 * D, kernels<T>().lstm_backward,
          LSTMBackward<T>{D, O, d_output, d_hidden, gates_ + t * B * G, t ? cells_ + (t - 1) * B * D : first_cell_,
                          cells_ + t * B * D, data<T>(cell), d_gates});
    else
      over_batch(B, 4 * D, kernels<T>().tanh_layer_backward,
                 TanhLayerBackward<T>{D, O, d_output, d_hidden, outputs_ + t * B * O, d_gates});
    to_output_.multiply(rows_of<T>(d_gates, G), B, d_output + s_.seen(), O);
    if (!lstm)  // a tanh layer does not see h
      for (int64_t e = 0; e < B; ++e) std::fill_n(d_output + e * O, D, T(0));
    if (t % weights.steps() == 0)
      weights.add(t, std::min(t + weights.steps(), s_.T), input_, to_input_ ? &*to_input_ : nullptr, first_, outputs_);
  }

  WeightGradients<T> weights;
  // In place: on entry gradients with respect to a step's outputs, on exit with respect to its inputs.
  const Tensor output, cell;  // (B,O), (B,D); cell is (0,D) with a tanh layer

 private:
  const ControllerShape s_;
  const Tensor grad_hidden_;
  const PackedMatrix<T> to_output_, to_hidden_;
  std::optional<PackedMatrix<T>> to_input_;  // only where the input needs a gradient
  const T *input_, *first_, *first_cell_, *outputs_, *gates_, *cells_, *grad_outputs_;
};

}  // namespace mannkern
