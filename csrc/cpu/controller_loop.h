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
  ControllerLoop(Call<T>& call, const ControllerShape& s, const Batch& batch, const ControllerArgs& args,
                 const Tensor& bias, const Tensor& interface_bias, bool save_for_backward)
      : outputs(allocate_large<T>({s.T, s.B, s.O})),
        cells(allocate_large<T>({s.lstm ? save_for_backward ? s.T : 1 : 0, s.B, s.D})),
        interface(allocate_large<T>({save_for_backward ? s.T : 1, s.B, s.I})),
        last_cell(call.out({s.lstm ? s.B : 0, s.D})), interface_bias(call.in(interface_bias, "interface_bias", {s.I})),
        s_(s), batch_(batch), save_for_backward_(save_for_backward), at_once_(batch.chunks.size() == 1),
        has_all_gates_(at_once_ || (save_for_backward && s.lstm)),
        gates_(allocate_large<T>({has_all_gates_ ? s.T : 1, s.B, s.gates()})),
        recurrent_gates_(call.out({batch.largest(), s.gates()})), interface_product_(call.out({batch.largest(), s.I})),
        restarted_cell_(call.out({batch.largest(), s.D})),
        to_gates_(transposed(weight(call, args.input_weight, "input_weight", s.gates(), s.F)), s.F, s.gates()),
        recurrent_(transposed(weight(call, args.recurrent_weight, "recurrent_weight", s.gates(), s.O - s.seen())),
                   s.O - s.seen(), s.gates()),
        to_interface_(transposed(weight(call, args.interface_weight, "interface_weight", s.I, s.D)), s.D, s.I),
        bias_(call.in(bias, "bias", {s.gates()})), input_(call.in(args.input, "input", {s.T, s.B, s.F})),
        first_output_(call.in(args.output, "output", {s.B, s.O})), first_cell_(call.in(args.cell, "cell", {s.B, s.D})) {
    if (at_once_) to_gates_.multiply(rows_of(input_, s.F), s.T * s.B, data<T>(gates_), s.gates());
  }

  void begin(const Chunk& chunk) {
    chunk_ = &chunk;
    output_ = first_output_ + chunk.begin * s_.O, cell_ = offset_or_null(first_cell_, chunk.begin * s_.D);
    keep_last_cell(0, chunk.B);
  }

  // Step t of the chunk, which must follow step t - 1. Writes h into output(t) and returns the interface's product
  // (active,I), without its bias.
  const T* step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t b = chunk_->begin, count = chunk_->active[t], G = s_.gates();
    T *row = data<T>(gates_) + ((has_all_gates_ ? t : 0) * B + b) * G, *out = output(t);
    T *recurrent = data<T>(recurrent_gates_), *product = data<T>(interface_product_);
    const bool* reset = batch_.reset(*chunk_, t);
    if (!at_once_) to_gates_.multiply(rows_of(input_ + (t * B + b) * F, F), count, row, G);
    recurrent_.multiply(rows_of(output_ + s_.seen(), O), count, recurrent, G);
    clear_restarted(recurrent, G, reset, count);  // [h, r] starts at zero
    if (lstm) {
      T* after = data<T>(cells) + ((save_for_backward_ ? t : 0) * B + b) * D;
      over_batch(count, 16 * D, kernels<T>().lstm,
                 LSTM<T>{D, O, row, recurrent, bias_, restarted(cell_, reset, count, D, data<T>(restarted_cell_)), row,
                         after, out});
      cell_ = after;
      chunk_->clear_ended(row, G, t);
      keep_last_cell(chunk_->active[t + 1], count);
      chunk_->clear_ended(after, D, t);
    } else {
      over_batch(count, 4 * D, kernels<T>().tanh_layer, TanhLayer<T>{D, O, row, recurrent, bias_, out});
    }
    output_ = out;
    to_interface_.multiply(rows_of<T>(out, O), count, product, I);
    chunk_->clear_ended(out, O, t);
    chunk_->clear_ended(interface_at(t), I, t);
    return product;
  }
  // Of the chunk's first episode and those behind it.
  T* output(int64_t t) const { return data<T>(outputs) + (t * s_.B + chunk_->begin) * s_.O; }
  T* interface_at(int64_t t) const {
    return data<T>(interface) + ((save_for_backward_ ? t : 0) * s_.B + chunk_->begin) * s_.I;
  }

  // The activated gates, for backward: (0,B,gates) without it and with a tanh layer, whose output is enough.
  Tensor saved_gates() const {
    if (s_.lstm && save_for_backward_) return gates_;
    return Call<T>::allocate({0, s_.B, s_.gates()}, Call<T>::kType);
  }

  const Tensor outputs;    // (T,B,O)
  const Tensor cells;      // (T,B,D), or (1,B,D) where nothing is saved for backward; (0,B,D) with a tanh layer
  const Tensor interface;  // (T,B,I), or (1,B,I) where nothing is saved for backward
  const Tensor last_cell;  // (B,D), after the last step of each episode; (0,D) with a tanh layer
  const T* const interface_bias;

 private:
  // The cells of episodes [begin, end) of the chunk, which have ended, are the last ones.
  void keep_last_cell(int64_t begin, int64_t end) {
    const int64_t D = s_.D;
    if (cell_) std::copy(cell_ + begin * D, cell_ + end * D, data<T>(last_cell) + (chunk_->begin + begin) * D);
  }

  const ControllerShape s_;
  const Batch& batch_;
  const bool save_for_backward_, at_once_;  // at once: one product with the input for all steps of one chunk
  const bool has_all_gates_;
  const Tensor gates_;  // (T,B,gates), of all steps; (1,B,gates) where they are not saved and the batch is in chunks
  const Tensor recurrent_gates_, interface_product_, restarted_cell_;  // of one step of a chunk
  const PackedMatrix<T> to_gates_, recurrent_, to_interface_;
  const T *bias_, *input_, *first_output_, *first_cell_;
  const Chunk* chunk_ = nullptr;
  const T *output_ = nullptr, *cell_ = nullptr;  // those of the step before
};

template <class T>
class ControllerLoopBackward {
 public:
  // outputs, gates and cells are those that ControllerLoop saved.
  ControllerLoopBackward(Call<T>& call, const ControllerShape& s, const Batch& batch, const ControllerArgs& args,
                         const Tensor& outputs, const Tensor& gates, const Tensor& cells, const Maybe& grad_outputs,
                         const Maybe& grad_cell, bool needs_input_grad)
      : weights(s, batch, needs_input_grad), output(copy_or_zeros(call, std::nullopt, "output", {s.B, s.O})),
        cell(copy_or_zeros(call, grad_cell, "grad_cell", {s.lstm ? s.B : 0, s.D})), s_(s), batch_(batch),
        grad_hidden_(call.out({batch.largest(), s.D})), restarted_cell_(call.out({batch.largest(), s.D})),
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

  void begin(const Chunk& chunk) {
    chunk_ = &chunk;
    weights.begin(chunk);
  }

  // The gradients of a step's outputs, null where there are none; with those of grad_output() they are all.
  const T* grad_outputs(int64_t t) const { return offset_or_null(grad_outputs_, (t * s_.B + chunk_->begin) * s_.O); }
  T* grad_output() const { return data<T>(output) + chunk_->begin * s_.O; }

  // Backward of step t of the chunk, which must follow that of step t + 1. The gradient of the step's output is in
  // `output`, and the memory's kernel has written that of its interface vector to weights.grad_interface(t). On exit,
  // `output` is the gradient with respect to the output of step t - 1.
  void step(int64_t t) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t b = chunk_->begin, count = chunk_->active[t], G = s_.gates();
    const bool* reset = batch_.reset(*chunk_, t);
    T *d_gates = weights.grad_gates(t), *d_output = grad_output(), *d_hidden = data<T>(grad_hidden_);
    to_hidden_.multiply(rows_of<T>(weights.grad_interface(t), I), count, d_hidden, D);
    if (lstm) {
      const T* before = (t ? cells_ + (t - 1) * B * D : first_cell_) + b * D;
      T* d_cell = data<T>(cell) + b * D;
      over_batch(count, 16 * D, kernels<T>().lstm_backward,
                 LSTMBackward<T>{D, O, d_output, d_hidden, gates_ + (t * B + b) * G,
                                 restarted(before, reset, count, D, data<T>(restarted_cell_)),
                                 cells_ + (t * B + b) * D, d_cell, d_gates});
      clear_restarted(d_cell, D, reset, count);
    } else {
      over_batch(count, 4 * D, kernels<T>().tanh_layer_backward,
                 TanhLayerBackward<T>{D, O, d_output, d_hidden, outputs_ + (t * B + b) * O, d_gates});
    }
    to_output_.multiply(rows_of<T>(d_gates, G), count, d_output + s_.seen(), O);
    if (!lstm)  // a tanh layer does not see h
      for (int64_t e = 0; e < count; ++e) std::fill_n(d_output + e * O, D, T(0));
    clear_restarted(d_output, O, reset, count);
    weights.add(t, input_, to_input_ ? &*to_input_ : nullptr, first_, outputs_);
  }

  WeightGradients<T> weights;
  // In place: on entry gradients with respect to a step's outputs, on exit with respect to its inputs.
  const Tensor output, cell;  // (B,O), (B,D); cell is (0,D) with a tanh layer

 private:
  const ControllerShape s_;
  const Batch& batch_;
  const Tensor grad_hidden_, restarted_cell_;  // of one step of a chunk
  const PackedMatrix<T> to_output_, to_hidden_;
  std::optional<PackedMatrix<T>> to_input_;  // only where the input needs a gradient
  const T *input_, *first_, *first_cell_, *outputs_, *gates_, *cells_, *grad_outputs_;
  const Chunk* chunk_ = nullptr;
};

}  // namespace mannkern
