// The controller of an episode, an LSTM or one tanh layer, and the linear layer behind it that gives the interface
// vector, step by step.
//
// The product with the input is one for a few steps, and the gradients of the weights are products over a few hundred
// rows, after the loop. So a step has only the recurrent product, the activation and the interface's product, and
// allocates nothing.
#pragma once

#include "weight_gradients.h"

namespace mannkern {

// Inputs of the controller and its interface. Weights are as torch.nn.LSTMCell and torch.nn.Linear have them: rows are
// outputs, and the four gates of an LSTM follow each other.
struct ControllerArgs {
  const Tensor& input;             // (T,B,F)
  const Tensor& input_weight;      // (4D,F + RW), for [x, r]; of a tanh layer (D,F + RW)
  const Tensor& recurrent_weight;  // (4D,D), for h; of a tanh layer (D,0)
  const Tensor& interface_weight;  // (I,D)
  const Tensor& output;            // (B,O): [h, r] before the first step
  const Maybe& cell;               // (B,D): c before the first step; none with a tanh layer

  // Whether the three weights are in bfloat16: then so are products.
  template <class T>
  bool bfloat16() const {
    return is_bfloat16<T>(recurrent_weight);
  }
};

// The forward pass. Each share of the batch has Steps of its own, which threads run side by side.
template <class T>
class ControllerLoop {
 public:
  ControllerLoop(Call<T>& call, const ControllerShape& s, const Batch& batch, const std::vector<Share>& shares,
                 const ControllerArgs& args, const Tensor& bias, const Tensor& interface_bias, bool save_for_backward)
      : outputs(allocate_large<T>({s.T, s.B, s.O})),
        cells(allocate_large<T>({s.lstm ? save_for_backward ? s.T : 1 : 0, s.B, s.D})),
        interface(allocate_large<T>({save_for_backward ? s.T : 1, s.B, s.I})),
        last_cell(call.out({s.lstm ? s.B : 0, s.D})), interface_bias(call.in(interface_bias, "interface_bias", {s.I})),
        s_(s), batch_(batch), save_for_backward_(save_for_backward), saves_gates_(save_for_backward && s.lstm),
        share_(largest(shares)),
        at_once_(std::clamp<int64_t>(64 / std::max<int64_t>(share_, 1), 1, std::max<int64_t>(s.T, 1))),
        gates_(allocate_large<T>({saves_gates_ ? s.T : 0, s.B, s.gates()})),
        scratch_(call.out({workers(shares.size()), scratch_size()})),
        input_weight_(weight(call, args.input_weight, "input_weight", s.gates(), s.inputs())),
        to_gates_(transposed(input_weight_), s.F, s.gates(), args.bfloat16<T>()),
        recurrent_(s.recurrent(), s.gates(),
                   {{transposed(weight(call, args.recurrent_weight, "recurrent_weight", s.gates(), s.hidden())),
                     s.hidden(), s.gates(), 0, 0},
                    {transposed(columns_from(input_weight_, s.F)), s.reads(), s.gates(), s.hidden(), 0}},
                   args.bfloat16<T>()),
        to_interface_(transposed(weight(call, args.interface_weight, "interface_weight", s.I, s.D)), s.D, s.I,
                      args.bfloat16<T>()),
        bias_(call.in(bias, "bias", {s.gates()})), input_(call.in(args.input, "input", {s.T, s.B, s.F})),
        first_output_(call.in(args.output, "output", {s.B, s.O})), first_cell_(call.in(args.cell, "cell", {s.B, s.D})) {}

  // A share of the batch on its way through the steps.
  class Steps {
   public:
    // worker: who runs it, as each_task counts them.
    Steps(const ControllerLoop& loop, const Share& share, int64_t worker)
        : loop_(loop), share_(share), output_(loop.first_output_ + share.begin() * loop.s_.O),
          cell_(offset_or_null(loop.first_cell_, share.begin() * loop.s_.D)) {
      const ControllerShape& s = loop.s_;
      recurrent_ = data<T>(loop.scratch_) + worker * loop.scratch_size();
      product_ = recurrent_ + loop.share_ * s.gates(), restarted_cell_ = product_ + loop.share_ * s.I;
      gates_ = restarted_cell_ + loop.share_ * s.D;
      keep_last_cell(0, share.B);
    }

    // Step t, which must follow step t - 1. Writes h into output(t) and returns the interface's product (active,I),
    // without its bias.
    const T* step(int64_t t) {
      const auto [T_, B, F, D, O, I, lstm] = loop_.s_;
      const int64_t b = share_.begin(), count = share_.active(t), G = loop_.s_.gates();
      const bool* reset = loop_.batch_.reset(b, t);
      if (t % loop_.at_once_ == 0) multiply_input(t);
      T *row = gates(t), *out = output(t);
      loop_.recurrent_.multiply(rows_of(output_ + loop_.s_.seen(), O), count, recurrent_, G);
      clear_restarted(recurrent_, G, reset, count);  // [h, r] starts at zero
      if (lstm) {
        T* after = data<T>(loop_.cells) + ((loop_.save_for_backward_ ? t : 0) * B + b) * D;
        over_batch(count, 16 * D, kernels<T>().lstm,
                   LSTM<T>{D, O, row, recurrent_, loop_.bias_, restarted(cell_, reset, count, D, restarted_cell_), row,
                           after, out});
        cell_ = after;
        if (loop_.saves_gates_) share_.clear_ended(row, G, t);
        keep_last_cell(share_.active(t + 1), count);
        share_.clear_ended(after, D, t);
      } else {
        over_batch(count, 4 * D, kernels<T>().tanh_layer, TanhLayer<T>{D, O, row, recurrent_, loop_.bias_, out});
      }
      output_ = out;
      loop_.to_interface_.multiply(rows_of<T>(out, O), count, product_, I);
      share_.clear_ended(out, O, t);
      share_.clear_ended(interface_at(t), I, t);
      return product_;
    }
    // Of the share's first episode and those behind it.
    T* output(int64_t t) const { return data<T>(loop_.outputs) + (t * loop_.s_.B + share_.begin()) * loop_.s_.O; }
    T* interface_at(int64_t t) const {
      const int64_t step = loop_.save_for_backward_ ? t : 0;
      return data<T>(loop_.interface) + (step * loop_.s_.B + share_.begin()) * loop_.s_.I;
    }

   private:
    // The gates of step t: in what is saved, or in the scratch for as many steps as are computed at once.
    T* gates(int64_t t) const {
      const int64_t G = loop_.s_.gates();
      if (loop_.saves_gates_) return data<T>(loop_.gates_) + (t * loop_.s_.B + share_.begin()) * G;
      return gates_ + t % loop_.at_once_ * share_.B * G;
    }
    // The product with the input of step t and those behind it that are computed at once.
    void multiply_input(int64_t t) const {
      const auto [T_, B, F, D, O, I, lstm] = loop_.s_;
      const int64_t steps = std::min(loop_.at_once_, T_ - t), G = loop_.s_.gates();
      const Matrix<T> x = rows_of(loop_.input_ + (t * B + share_.begin()) * F, F);
      if (share_.B == B) return loop_.to_gates_.multiply(x, steps * B, gates(t), G);
      loop_.to_gates_.multiply(x, share_.active(t), gates(t), G, steps, B * F,
                               (loop_.saves_gates_ ? B : share_.B) * G);
    }
    // The cells of episodes [begin, end) of the share, which have ended, are the last ones.
    void keep_last_cell(int64_t begin, int64_t end) const {
      const int64_t D = loop_.s_.D;
      if (cell_) std::copy(cell_ + begin * D, cell_ + end * D, data<T>(loop_.last_cell) + (share_.begin() + begin) * D);
    }

    const ControllerLoop& loop_;
    const Share& share_;
    T *recurrent_, *product_, *restarted_cell_, *gates_;
    const T *output_, *cell_;  // those of the step before
  };

  // The activated gates, for backward: (0,B,gates) without it and with a tanh layer, whose output is enough.
  Tensor saved_gates() const { return gates_; }

  const Tensor outputs;    // (T,B,O)
  const Tensor cells;      // (T,B,D), or (1,B,D) where nothing is saved for backward; (0,B,D) with a tanh layer
  const Tensor interface;  // (T,B,I), or (1,B,I) where nothing is saved for backward
  const Tensor last_cell;  // (B,D), after the last step of each episode; (0,D) with a tanh layer
  const T* const interface_bias;

 private:
  int64_t scratch_size() const {
    return share_ * ((saves_gates_ ? 1 : 1 + at_once_) * s_.gates() + s_.I + s_.D);
  }

  const ControllerShape s_;
  const Batch& batch_;
  const bool save_for_backward_, saves_gates_;
  const int64_t share_;    // the most episodes of a share
  const int64_t at_once_;  // steps whose product with the input is computed at once, so that it has 64 rows
  const Tensor gates_, scratch_;
  const Matrix<T> input_weight_;
  const PackedMatrix<T> to_gates_, recurrent_, to_interface_;
  const T *bias_, *input_, *first_output_, *first_cell_;
};

// The backward pass, with Steps for each share too.
template <class T>
class ControllerLoopBackward {
 public:
  ControllerLoopBackward(Call<T>& call, const ControllerShape& s, const Batch& batch, const std::vector<Share>& shares,
                         const ControllerArgs& args, const Tensor& outputs, const Tensor& gates, const Tensor& cells,
                         const Maybe& grad_outputs, const Maybe& grad_cell, bool needs_input_grad)
      : weights(s, batch, args.bfloat16<T>()), input(allocate_large<T>({needs_input_grad ? s.T : 0, s.B, s.F})),
        output(copy_or_zeros(call, std::nullopt, "output", {s.B, s.O})),
        cell(copy_or_zeros(call, grad_cell, "grad_cell", {s.lstm ? s.B : 0, s.D})), s_(s), batch_(batch),
        share_(largest(shares)), scratch_(call.out({workers(shares.size()), 2 * share_, s.D})),
        input_weight_(weight(call, args.input_weight, "input_weight", s.gates(), s.inputs())),
        to_output_(s.gates(), s.recurrent(),
                   {{weight(call, args.recurrent_weight, "recurrent_weight", s.gates(), s.hidden()), s.gates(),
                     s.hidden(), 0, 0},
                    {columns_from(input_weight_, s.F), s.gates(), s.reads(), 0, s.hidden()}},
                   args.bfloat16<T>()),
        to_hidden_(weight(call, args.interface_weight, "interface_weight", s.I, s.D), s.I, s.D, args.bfloat16<T>()),
        input_(call.in(args.input, "input", {s.T, s.B, s.F})), first_(call.in(args.output, "output", {s.B, s.O})),
        first_cell_(call.in(args.cell, "cell", {s.B, s.D})), outputs_(call.in(outputs, "outputs", {s.T, s.B, s.O})),
        gates_(call.in(gates, "gates", {s.lstm ? s.T : 0, s.B, s.gates()})),
        cells_(call.in(cells, "cells", {s.lstm ? s.T : 0, s.B, s.D})),
        grad_outputs_(call.in(grad_outputs, "grad_outputs", {s.T, s.B, s.O})) {
    if (needs_input_grad) to_input_.emplace(input_weight_, s.gates(), s.F, args.bfloat16<T>());
  }

  class Steps {
   public:
    Steps(const ControllerLoopBackward& loop, const Share& share, int64_t worker)
        : loop_(loop), share_(share), grad_hidden_(data<T>(loop.scratch_) + worker * 2 * loop.share_ * loop.s_.D),
          restarted_cell_(grad_hidden_ + loop.share_ * loop.s_.D) {}

    // The gradients of a step's outputs, null where there are none; with those of grad_output() they are all.
    const T* grad_outputs(int64_t t) const {
      return offset_or_null(loop_.grad_outputs_, (t * loop_.s_.B + share_.begin()) * loop_.s_.O);
    }
    T* grad_output() const { return data<T>(loop_.output) + share_.begin() * loop_.s_.O; }
    T* grad_interface(int64_t t) const { return loop_.weights.grad_interface(share_, t); }

    // Backward of step t, which must follow that of step t + 1. The gradient of the step's output is in `output`, and
    // the memory's kernel has written that of its interface vector to grad_interface(t). On exit, `output` is the
    // gradient with respect to the output of step t - 1.
    void step(int64_t t) {
      const auto [T_, B, F, D, O, I, lstm] = loop_.s_;
      const int64_t b = share_.begin(), count = share_.active(t), G = loop_.s_.gates();
      const bool* reset = loop_.batch_.reset(b, t);
      T *d_gates = loop_.weights.grad_gates(share_, t), *d_output = grad_output();
      loop_.to_hidden_.multiply(rows_of<T>(grad_interface(t), I), count, grad_hidden_, D);
      if (lstm) {
        const T* before = (t ? loop_.cells_ + (t - 1) * B * D : loop_.first_cell_) + b * D;
        T* d_cell = data<T>(loop_.cell) + b * D;
        over_batch(count, 16 * D, kernels<T>().lstm_backward,
                   LSTMBackward<T>{D, O, d_output, grad_hidden_, loop_.gates_ + (t * B + b) * G,
                                   restarted(before, reset, count, D, restarted_cell_), loop_.cells_ + (t * B + b) * D,
                                   d_cell, d_gates});
        clear_restarted(d_cell, D, reset, count);
      } else {
        over_batch(count, 4 * D, kernels<T>().tanh_layer_backward,
                   TanhLayerBackward<T>{D, O, d_output, grad_hidden_, loop_.outputs_ + (t * B + b) * O, d_gates});
      }
      loop_.to_output_.multiply(rows_of<T>(d_gates, G), count, d_output + loop_.s_.seen(), O);
      if (!lstm)  // a tanh layer does not see h
        for (int64_t e = 0; e < count; ++e) std::fill_n(d_output + e * O, D, T(0));
      clear_restarted(d_output, O, reset, count);
      if (!loop_.to_input_) return;
      T* d_input = data<T>(loop_.input) + (t * B + b) * F;
      loop_.to_input_->multiply(rows_of<T>(d_gates, G), count, d_input, F);
      share_.clear_ended(d_input, F, t);
    }

   private:
    const ControllerLoopBackward& loop_;
    const Share& share_;
    T *grad_hidden_, *restarted_cell_;
  };

  // Adds the gradients of the weights that a chunk gives, all of whose shares are done.
  void add_weights(const Chunk& chunk) { weights.add(chunk, input_, first_, outputs_); }

  WeightGradients<T> weights;
  const Tensor input;  // (T,B,F); (0,B,F) where it needs no gradient
  // In place: on entry gradients with respect to a step's outputs, on exit with respect to its inputs.
  const Tensor output, cell;  // (B,O), (B,D); cell is (0,D) with a tanh layer

 private:
  const ControllerShape s_;
  const Batch& batch_;
  const int64_t share_;  // the most episodes of a share
  const Tensor scratch_;
  const Matrix<T> input_weight_;
  const PackedMatrix<T> to_output_, to_hidden_;
  std::optional<PackedMatrix<T>> to_input_;  // only where the input needs a gradient
  const T *input_, *first_, *first_cell_, *outputs_, *gates_, *cells_, *grad_outputs_;
};

}  // namespace mannkern
