// The NTM with an LSTM controller over a whole episode: the loop over T, forward and backward through time.
//
// As cpu/mann.cpp: products over many steps are one, and a copy of the memory is kept every `span` steps, between
// which the backward pass writes it anew. Within the episode memories stay in blocks and weights in padded rows, as the
// kernels of one instruction set read them: what the forward pass keeps is for the backward pass of the same.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "episode.h"

namespace mannkern {
namespace {

struct Episode {
  int64_t T, B, F, D, O;  // steps, batch, features, hidden, output D + R W
  Interface layout;
  int64_t I, span, block, Np;  // interface; steps between copies; slots of a block, and padded to blocks

  Episode(const Tensor& input, const Tensor& interface_weight, const Tensor& memory, const Tensor& weights,
          const Tensor& output, int64_t write_heads, int64_t shifts) {
    STD_TORCH_CHECK(input.dim() == 3 && interface_weight.dim() == 2 && output.dim() == 2,
                    "mannkern: wrong rank of an episode's tensors");
    const Shape s = shape_of(memory, weights);
    T = input.size(0), B = input.size(1), F = input.size(2), D = interface_weight.size(1), O = output.size(1);
    layout = {{s.N, s.W, s.R, shifts}, write_heads};
    I = interface_weight.size(0);
    STD_TORCH_CHECK(shifts % 2 == 1, "mannkern: the number of shifts is even");
    STD_TORCH_CHECK(0 < write_heads && write_heads < s.R && I == layout.size() && O == D + (s.R - write_heads) * s.W,
                    "mannkern: heads do not fit the interface or the output");
    span = steps_between_copies(T);
    block = 2 * chosen->bytes / (memory.scalar_type() == ScalarType::Float ? 4 : 8);
    Np = (s.N + block - 1) / block * block;
  }
  int64_t rows() const { return 3 * layout.shape.H + 1; }
  int64_t copies() const { return 1 + (T > 0 ? (T - 1) / span : 0); }
  int64_t work() const { return layout.shape.N * layout.shape.W * layout.shape.H; }
  int64_t memory_size() const { return B * Np * layout.shape.W; }
};

// Of step t: rows t + 1; rows 0 are the state before the episode. Copy t / span is the memory before step t.
template <class T>
struct Saved {
  const Episode& s;
  Tensor outputs, copies, rows, gates, cells, interface;

  T* output(int64_t t) const { return data<T>(outputs) + t * s.B * s.O; }
  T* copy(int64_t t) const { return data<T>(copies) + t / s.span * s.memory_size(); }
  T* row(int64_t t) const { return data<T>(rows) + t * s.B * s.rows() * s.Np; }
  T* gate(int64_t t) const { return data<T>(gates) + t * s.B * 4 * s.D; }
  T* cell(int64_t t) const { return data<T>(cells) + t * s.B * s.D; }
  T* asked(int64_t t) const { return data<T>(interface) + t * s.B * s.I; }
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// As mann_lstm, with the weights (B,H,N) of the write heads and then of the read heads.
Forward ntm_lstm(const Tensor& input, const Tensor& input_weight, const Tensor& bias, const Tensor& recurrent_weight,
                 const Tensor& interface_weight, const Tensor& interface_bias, const Tensor& output, const Tensor& cell,
                 const Tensor& memory, const Tensor& weights, int64_t write_heads, int64_t shifts) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, weights, output, write_heads, shifts);
    const auto [N, W, H, S] = s.layout.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I;
    const T* w_rec = call.in(recurrent_weight, "recurrent_weight", {4 * D, O});
    const T* w_if = call.in(interface_weight, "interface_weight", {I, D});
    const T *b = call.in(bias, "bias", {4 * D}), *b_if = call.in(interface_bias, "interface_bias", {I});
    const T *out = call.in(output, "output", {B, O}), *c = call.in(cell, "cell", {B, D});
    const T *M0 = call.in(memory, "memory", {B, N, W}), *w0 = call.in(weights, "weights", {B, H, N});
    const Weights<T> recurrent(matrix(w_rec, 4 * D, O, O), B, s.T), interface(matrix(w_if, I, D, D), B, s.T);
    const Tensor x = product<T>(matrix(call.in(input, "input", {s.T, B, s.F}), s.T * B, s.F, s.F),
                                matrix(call.in(input_weight, "input_weight", {4 * D, s.F}), 4 * D, s.F, s.F));
    const Saved<T> saved{s, call.out({s.T, B, O}), kept<T>({s.copies(), B, s.Np / s.block, W * s.block}),
                         kept<T>({s.T + 1, B, s.rows(), s.Np}), torch::stable::view(x, {s.T, B, 4 * D}),
                         call.out({s.T, B, D}), call.out({s.T, B, I})};
    const Tensor last_memory = call.out({B, N, W}), last_weights = call.out({B, H, N});
    const Tensor current = call.out({B, s.Np * W});
    const int64_t row_stride = s.rows() * s.Np;
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{{N, W, H}, row_stride, M0, w0, saved.copy(0), saved.row(0), saved.row(0) + 3 * H * s.Np});
    const T* M = saved.copy(0);
    for (int64_t t = 0; t < s.T; ++t) {
      const bool copied = t + 1 < s.T && (t + 1) % s.span == 0;
      T *o = saved.output(t), *after = copied ? saved.copy(t + 1) : data<T>(current);
      const Tensor gates = recurrent.product(matrix(out, B, O, O));
      over_batch(B, 16 * D, kernels<T>().lstm,
                 Lstm<T>{D, O, saved.gate(t), data<T>(gates), b, c, saved.gate(t), saved.cell(t), o});
      const Tensor rows = interface.product(matrix(o, B, D, O));
      over_batch(B, s.work(), kernels<T>().ntm_step,
                 NtmStep<T>{s.layout, O, data<T>(rows), b_if, M, saved.row(t), after, saved.asked(t), saved.row(t + 1),
                            o + D});
      out = o, c = saved.cell(t), M = after;
    }
    over_batch(B, N * W, kernels<T>().from_blocks,
               FromBlocks<T>{{N, W, H}, row_stride, M, saved.row(s.T), data<T>(last_memory), data<T>(last_weights)});
    return std::make_tuple(saved.outputs, last_memory, last_weights, saved.copies, saved.rows, saved.gates, saved.cells,
                           saved.interface);
  });
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Gradients of outputs, memory, weights and cell after the last step (null: zero), the inputs, what ntm_lstm saved ->
// gradients of its inputs, in order; of `input` only where wanted, else (0,B,F).
Backward ntm_lstm_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_weights,
                           const Maybe& grad_cell, const Tensor& input, const Tensor& input_weight,
                           const Tensor& recurrent_weight, const Tensor& interface_weight, const Tensor& output,
                           const Tensor& cell, const Tensor& memory, const Tensor& weights, const Tensor& outputs,
                           const Tensor& copies, const Tensor& rows, const Tensor& gates, const Tensor& cells,
                           const Tensor& interface, int64_t write_heads, int64_t shifts, bool wants_input) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, weights, output, write_heads, shifts);
    const auto [N, W, H, S] = s.layout.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I;
    for (const Tensor* t : {&outputs, &copies, &rows, &gates, &cells, &interface})
      STD_TORCH_CHECK(t->is_contiguous(), "mannkern: what ntm_lstm saved must come back as it was");
    STD_TORCH_CHECK(rows.dim() == 4 && rows.size(3) == s.Np && copies.size(3) == W * s.block,
                    "mannkern: ntm_lstm saved this for another instruction set");
    const Saved<T> saved{s, outputs, copies, rows, gates, cells, interface};
    const T *x = call.in(input, "input", {s.T, B, s.F}), *first = call.in(output, "output", {B, O});
    const T *c0 = call.in(cell, "cell", {B, D}), *d_outputs = call.in(grad_outputs, "grad_outputs", {s.T, B, O});
    const Weights<T> to_output(transposed(recurrent_weight), B, s.T), to_hidden(transposed(interface_weight), B, s.T);
    const T* W_in = call.in(input_weight, "input_weight", {4 * D, s.F});
    WeightGradients<T> grads(s.T, B, s.F, D, O, I, wants_input);
    const Tensor D_M = call.out({B, s.Np * W}), d_rows = call.out({B, H, s.Np});
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{{N, W, H}, H * s.Np, call.in(grad_memory, "grad_memory", {B, N, W}),
                       call.in(grad_weights, "grad_weights", {B, H, N}), data<T>(D_M), data<T>(d_rows), nullptr});
    const Tensor d_c = start(call, grad_cell, {B, D});
    const Tensor memories = kept<T>({s.span, B, s.Np * W});  // after the steps of a span
    Tensor d_o = start(call, std::nullopt, {B, O});
    for (int64_t t = s.T - 1; t >= 0; --t) {
      const int64_t begin = t / s.span * s.span;
      const int64_t size = s.memory_size();
      T* after = data<T>(memories) + (t - begin) * size;
      if (t == s.T - 1 || t % s.span == s.span - 1)
        over_batch(B, s.work() * (t + 1 - begin), kernels<T>().ntm_writes,
                   NtmWrites<T>{s.layout, B, t + 1 - begin, saved.copy(begin), saved.asked(begin), saved.row(begin + 1),
                                data<T>(memories)});
      T *d_gate = grads.gates(t), *d_ask = grads.asked(t), *d_out = data<T>(d_o);
      over_batch(B, s.work(), kernels<T>().ntm_step_backward,
                 NtmStepBackward<T>{s.layout, O, D, at(d_outputs, t * B * O), t > begin ? after - size : saved.copy(t),
                                    after, saved.row(t), saved.row(t + 1), saved.asked(t), d_out, data<T>(D_M),
                                    data<T>(d_rows), d_ask});
      const Tensor d_hidden = to_hidden.product(matrix(d_ask, B, I, I));
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, O, d_out, data<T>(d_hidden), saved.gate(t), t ? saved.cell(t - 1) : c0,
                                 saved.cell(t), data<T>(d_c), d_gate});
      d_o = to_output.product(matrix(d_gate, B, 4 * D, 4 * D));
      if (t % grads.steps() == 0) grads.add(t, std::min(t + grads.steps(), s.T), x, W_in, first, saved.output(0));
    }
    const Tensor d_memory = call.out({B, N, W}), d_weights = call.out({B, H, N});
    over_batch(B, N * W, kernels<T>().from_blocks,
               FromBlocks<T>{{N, W, H}, H * s.Np, data<T>(D_M), data<T>(d_rows), data<T>(d_memory), data<T>(d_weights)});
    return std::make_tuple(grads.input, grads.input_weight, grads.bias, grads.recurrent_weight, grads.interface_weight,
                           grads.interface_bias, d_o, d_c, d_memory, d_weights);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("ntm_lstm", TORCH_BOX(&mannkern::ntm_lstm));
  m.impl("ntm_lstm_backward", TORCH_BOX(&mannkern::ntm_lstm_backward));
}
