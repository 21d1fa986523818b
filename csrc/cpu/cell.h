// The controller of a cell's own step, forward and backward, on weights as torch.nn.LSTMCell and torch.nn.Linear have
// them. A thread takes its share of the episodes through the whole step, without a barrier.
//
// The gradients of the weights are not computed here: a step gives the rows that they are products of, and
// cell_weight_gradients multiplies those of many steps at once.
#pragma once

#include "allocate.h"
#include "dispatch.h"

namespace mannkern {

// The controller's arguments of an operation.
struct CellArgs {
  const Tensor& input;             // (B,F)
  const Maybe& hidden;             // (B,D), before the step; none with a tanh layer, as the next
  const Maybe& cell;               // (B,D)
  const Tensor& read;              // (B,R,W), before the step
  const Tensor& weight;            // (G,F + R W): an LSTM's gates, G = 4 D, or a tanh layer, G = D
  const Maybe& recurrent_weight;   // (G,D); none with a tanh layer
  const Tensor& interface_weight;  // (I,D)
};

struct CellShape {
  int64_t B, F, D, G, I, RW;
  bool lstm;

  explicit CellShape(const CellArgs& args) : lstm(args.recurrent_weight.has_value()) {
    check_sizes(args.input, "input", "BF");
    check_sizes(args.interface_weight, "interface_weight", "ID");
    check_sizes(args.read, "read", "BRW");
    B = args.input.size(0), F = args.input.size(1), D = args.interface_weight.size(1);
    I = args.interface_weight.size(0), G = lstm ? 4 * D : D, RW = args.read.size(1) * args.read.size(2);
    check_state(args.hidden, "hidden"), check_state(args.cell, "cell");
  }
  // An LSTM, which has a recurrent weight, has both h and c; a tanh layer has neither.
  void check_state(const Maybe& t, const char* name) const {
    if (t.has_value() != lstm)
      refuse(name, t ? "a tensor" : "None", lstm ? "a tensor, for an LSTM" : "None where recurrent_weight is None");
  }
  int64_t output() const { return D + RW; }
  // Numbers that a step multiplies for an episode, in the units of over_batch, and those of its memory.
  int64_t work(int64_t memory) const { return memory + (G * (F + RW + (lstm ? D : 0)) + I * D) / 16; }
  // Numbers of a row of a step: its gates' and interface vector's gradients, x, r and h before it, and h after it.
  int64_t row() const { return G + I + F + RW + (lstm ? D : 0) + D; }
};

// Cuts one buffer into pieces.
template <class T>
class Pieces {
 public:
  explicit Pieces(const Tensor& buffer) : next_(data<T>(buffer)) {}
  T* take(int64_t count) { return std::exchange(next_, next_ + count); }

 private:
  T* next_;
};

// Runs f(begin, end) on shares of the episodes, one a thread.
template <class F>
void over_episodes(const CellShape& s, int64_t memory, F f) {
  parallel(s.B, 65536 / s.work(memory) + 1, f);
}

template <class T>
class CellController {
 public:
  // saved: G B numbers, the activated gates of an LSTM, and D B, h after the step. scratch: size(s) numbers.
  CellController(Call<T>& call, const CellShape& s, const CellArgs& args, const Tensor& bias, const Maybe& recurrent_bias,
                 const Tensor& interface_bias, Pieces<T>& saved, Pieces<T>& scratch)
      : output(call.out({s.B, s.output()})), hidden(call.out({s.lstm ? s.B : 0, s.D})),
        cell(call.out({s.lstm ? s.B : 0, s.D})), product(scratch.take(s.B * s.I)),
        interface_bias(call.in(interface_bias, "interface_bias", {s.I})), s_(s), gates_(saved.take(s.B * s.G)),
        h_(saved.take(s.B * s.D)), recurrent_gates_(scratch.take(s.B * s.G)), bias_(scratch.take(s.G)),
        first_cell_(call.in(args.cell, "cell", {s.B, s.D})) {
    const T* x = call.in(args.input, "input", {s.B, s.F});
    const T* h = call.in(args.hidden, "hidden", {s.B, s.D});
    const T* r = call.in(args.read, "read", {s.B, args.read.size(1), args.read.size(2)});
    const T* w = call.in(args.weight, "weight", {s.G, s.F + s.RW});
    const T* u = call.in(args.recurrent_weight, "recurrent_weight", {s.G, s.D});
    const T* interface_weight = call.in(args.interface_weight, "interface_weight", {s.I, s.D});
    const T *b = call.in(bias, "bias", {s.G}), *c = call.in(recurrent_bias, "recurrent_bias", {s.G});
    if (s.lstm && !c) refuse("recurrent_bias", "None", "a tensor, for an LSTM");
    for (int64_t i = 0; i < s.G; ++i) bias_[i] = s.lstm ? b[i] + c[i] : b[i];
    const int64_t O = s.output(), width = s.F + s.RW;
    by_input_ = {s.G, {{s.F, x, s.F, w, width}, {}}, gates_};
    by_state_ = {s.G, {{s.RW, r, s.RW, w + s.F, width}, {s.lstm ? s.D : 0, h, s.D, u, s.D}}, recurrent_gates_};
    to_interface_ = {s.I, {{s.D, data<T>(output), O, interface_weight, s.D}, {}}, product};
  }

  // h of the episodes [begin, end) and, in `product`, their interface vectors before bias and activation.
  void run(int64_t begin, int64_t end) const {
    const int64_t D = s_.D, O = s_.output();
    const Kernels<T>& k = kernels<T>();
    k.linear(by_input_, begin, end), k.linear(by_state_, begin, end);
    if (s_.lstm)
      k.lstm({D, O, gates_, recurrent_gates_, bias_, first_cell_, gates_, data<T>(cell), data<T>(output)}, begin, end);
    else k.tanh_layer({D, O, gates_, recurrent_gates_, bias_, data<T>(output)}, begin, end);
    for (int64_t e = begin; e < end; ++e) {
      const T* h = data<T>(output) + e * O;
      std::copy_n(h, D, h_ + e * D);
      if (s_.lstm) std::copy_n(h, D, data<T>(hidden) + e * D);
    }
    k.linear(to_interface_, begin, end);
  }
  // Copies r (B,R,W) of an episode into its output.
  void put_read(const T* read, int64_t e) const {
    std::copy_n(read + e * s_.RW, s_.RW, data<T>(output) + e * s_.output() + s_.D);
  }

  static int64_t saved_size(const CellShape& s) { return s.B * (s.G + s.D); }
  static int64_t scratch_size(const CellShape& s) { return s.B * (s.I + s.G) + s.G; }

  const Tensor output, hidden, cell;  // (B,D + R W); (B,D), of a tanh layer (0,D)
  T* const product;                   // (B,I)
  const T* const interface_bias;

 private:
  const CellShape s_;
  T *gates_, *h_, *recurrent_gates_, *bias_;
  const T* first_cell_;
  Linear<T> by_input_, by_state_, to_interface_;
};

template <class T>
class CellControllerBackward {
 public:
  // saved: as CellController filled it. scratch: scratch_size(s) numbers.
  CellControllerBackward(Call<T>& call, const CellShape& s, const CellArgs& args, const Tensor& cell_out,
                         const Maybe& grad_output, const Maybe& grad_hidden, const Maybe& grad_cell,
                         bool needs_input_grad, bool needs_weight_grad, Pieces<T>& saved, Pieces<T>& scratch)
      : input(call.out({needs_input_grad ? s.B : 0, s.F})), hidden(call.out({s.lstm ? s.B : 0, s.D})),
        cell(copy_or_zeros(call, grad_cell, "grad_cell", {s.lstm ? s.B : 0, s.D})),
        read(call.out({s.B, args.read.size(1), args.read.size(2)})),
        rows(call.out({needs_weight_grad ? s.B : 0, s.row()})), grad_output(scratch.take(s.B * s.output())),
        grad_interface(scratch.take(s.B * s.I)), s_(s), needs_input_grad_(needs_input_grad),
        needs_weight_grad_(needs_weight_grad), gates_(saved.take(s.B * s.G)), h_(saved.take(s.B * s.D)),
        grad_h_(scratch.take(s.B * s.D)), grad_gates_(scratch.take(s.B * s.G)),
        x_(call.in(args.input, "input", {s.B, s.F})), first_h_(call.in(args.hidden, "hidden", {s.B, s.D})),
        r_(call.in(args.read, "read", {s.B, args.read.size(1), args.read.size(2)})),
        first_cell_(call.in(args.cell, "cell", {s.B, s.D})),
        cell_(call.in(cell_out, "cell_out", {s.lstm ? s.B : 0, s.D})),
        weight_(call.in(args.weight, "weight", {s.G, s.F + s.RW})),
        recurrent_weight_(call.in(args.recurrent_weight, "recurrent_weight", {s.G, s.D})),
        interface_weight_(call.in(args.interface_weight, "interface_weight", {s.I, s.D})),
        outgoing_(call.in(grad_output, "grad_output", {s.B, s.output()})),
        outgoing_h_(call.in(grad_hidden, "grad_hidden", {s.lstm ? s.B : 0, s.D})) {}

  // Writes grad_output, the gradient of [h, r], for the episodes [begin, end); grad_read (B,R,W) may be null.
  void begin(const T* grad_read, int64_t begin, int64_t end) const {
    const int64_t D = s_.D, O = s_.output(), RW = s_.RW;
    for (int64_t e = begin; e < end; ++e) {
      T* d = grad_output + e * O;
      if (outgoing_) std::copy_n(outgoing_ + e * O, O, d);
      else std::fill_n(d, O, T(0));
      for (int64_t i = 0; s_.lstm && outgoing_h_ && i < D; ++i) d[i] += outgoing_h_[e * D + i];
      for (int64_t i = 0; grad_read && i < RW; ++i) d[D + i] += grad_read[e * RW + i];
    }
  }
  // From grad_output and grad_interface, the gradient of an interface vector before activation.
  void run(int64_t begin, int64_t end) const {
    const auto [B, F, D, G, I, RW, lstm] = s_;
    const int64_t O = s_.output(), width = F + RW;
    const Kernels<T>& k = kernels<T>();
    k.linear_backward({I, D, grad_interface, interface_weight_, D, grad_h_, false}, begin, end);
    if (lstm)
      k.lstm_backward({D, O, grad_output, grad_h_, gates_, first_cell_, cell_, data<T>(cell), grad_gates_}, begin, end);
    else
      for (int64_t e = begin; e < end; ++e)
        k.tanh_layer_backward({D, D, grad_output + e * O, grad_h_ + e * D, h_ + e * D, grad_gates_ + e * D}, 0, 1);
    if (needs_input_grad_) k.linear_backward({G, F, grad_gates_, weight_, width, data<T>(input), false}, begin, end);
    k.linear_backward({G, RW, grad_gates_, weight_ + F, width, data<T>(read), false}, begin, end);
    if (lstm) k.linear_backward({G, D, grad_gates_, recurrent_weight_, D, data<T>(hidden), false}, begin, end);
    for (int64_t e = begin; needs_weight_grad_ && e < end; ++e) {
      T* row = data<T>(rows) + e * s_.row();
      row = std::copy_n(grad_gates_ + e * G, G, row);
      row = std::copy_n(grad_interface + e * I, I, row);
      row = std::copy_n(x_ + e * F, F, row);
      row = std::copy_n(r_ + e * RW, RW, row);
      if (lstm) row = std::copy_n(first_h_ + e * D, D, row);
      std::copy_n(h_ + e * D, D, row);
    }
  }

  static int64_t scratch_size(const CellShape& s) { return s.B * (s.output() + s.I + s.D + s.G); }

  const Tensor input, hidden, cell, read;  // gradients; (0,F) where none is needed, (0,D) with a tanh layer
  const Tensor rows;                       // (B,row()), for the gradients of the weights; (0,row()) without
  T *const grad_output, *const grad_interface;  // (B,D + R W), (B,I)

 private:
  const CellShape s_;
  const bool needs_input_grad_, needs_weight_grad_;
  T *gates_, *h_, *grad_h_, *grad_gates_;
  const T *x_, *first_h_, *r_, *first_cell_, *cell_, *weight_, *recurrent_weight_, *interface_weight_;
  const T *outgoing_, *outgoing_h_;
};

}  // namespace mannkern
