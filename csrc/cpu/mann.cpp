// MANN with an LSTM controller over a whole episode: the loop over T, forward and backward through time.
//
// The input's product is one over all steps, the weight gradients' are one each for a few hundred rows; in the loop are the
// recurrent product, the gates, the interface and the LRUA step. The memory is one per episode, updated in place. Every
// `span` steps (the root of T) a copy is kept; the backward pass writes the memories between two copies anew, bit for
// bit the same. Within the episode memories stay in blocks and weights in padded rows, as the kernels of one instruction
// set read them: what the forward pass keeps is for the backward pass of the same.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "episode.h"

namespace mannkern {
namespace {

struct Episode {
  int64_t T, B, F, D, O, I;  // steps, batch, features, hidden, output D + R W, interface
  MannInterface layout;
  int64_t span, block, Np;  // steps between copies; slots of a block, and padded to blocks

  Episode(const Tensor& input, const Tensor& interface_weight, const Tensor& memory, const Tensor& output) {
    STD_TORCH_CHECK(input.dim() == 3 && interface_weight.dim() == 2 && memory.dim() == 3 && output.dim() == 2,
                    "mannkern: wrong rank of an episode's tensors");
    STD_TORCH_CHECK(memory.size(2) > 0 && output.size(1) > interface_weight.size(1), "mannkern: an empty memory");
    T = input.size(0), B = input.size(1), F = input.size(2);
    D = interface_weight.size(1), I = interface_weight.size(0), O = output.size(1);
    const int64_t W = memory.size(2), R = (O - D) / W;
    layout = {{memory.size(1), W, R}, I == 2 * R * W + 2 * R};
    STD_TORCH_CHECK(I == layout.size() && O == D + R * W, "mannkern: the interface or the output has the wrong width");
    span = steps_between_copies(T);
    block = 2 * chosen->bytes / (memory.scalar_type() == ScalarType::Float ? 4 : 8);
    Np = (layout.shape.N + block - 1) / block * block;
  }
  int64_t rows() const { return 3 * layout.shape.R + 1; }
  int64_t copies() const { return 1 + (T > 0 ? (T - 1) / span : 0); }
  int64_t work() const { return layout.shape.N * layout.shape.W * layout.shape.R; }
  int64_t memory_size() const { return B * Np * layout.shape.W; }
};

// Of step t: rows t + 1; rows 0 are the state before the episode. Copy t / span is the memory before step t.
template <class T>
struct Saved {
  const Episode& s;
  int64_t n;
  Tensor outputs, copies, rows, gates, cells, interface, least_used;

  T* output(int64_t t) const { return data<T>(outputs) + t * s.B * s.O; }
  T* copy(int64_t t) const { return data<T>(copies) + t / s.span * s.memory_size(); }
  T* row(int64_t t) const { return data<T>(rows) + t * s.B * s.rows() * s.Np; }
  T* gate(int64_t t) const { return data<T>(gates) + t * s.B * 4 * s.D; }
  T* cell(int64_t t) const { return data<T>(cells) + t * s.B * s.D; }
  T* asked(int64_t t) const { return data<T>(interface) + t * s.B * s.I; }
  int64_t* slots(int64_t t) const { return data<int64_t>(least_used) + t * s.B * n; }
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// input (T,B,F); input_weight (4D,F); bias (4D), the sum of both; recurrent_weight (4D,O) and output (B,O) of [h, r],
// O = D + R W. Returns outputs (T,B,O), memory, read weights and usage after the last step, and Saved but for its outputs.
Forward mann_lstm(const Tensor& input, const Tensor& input_weight, const Tensor& bias, const Tensor& recurrent_weight,
                  const Tensor& interface_weight, const Tensor& interface_bias, const Tensor& output,
                  const Tensor& cell, const Tensor& memory, const Tensor& read_weights, const Tensor& usage, int64_t n,
                  bool per_head, double decay) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, output);
    const auto [N, W, R] = s.layout.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I;
    STD_TORCH_CHECK(1 <= n && n <= N, "mannkern: num_least_used is out of range");
    const T* w_rec = call.in(recurrent_weight, "recurrent_weight", {4 * D, O});
    const T* w_if = call.in(interface_weight, "interface_weight", {I, D});
    const T *b = call.in(bias, "bias", {4 * D}), *b_if = call.in(interface_bias, "interface_bias", {I});
    const T *out = call.in(output, "output", {B, O}), *c = call.in(cell, "cell", {B, D});
    const T *w_r = call.in(read_weights, "read_weights", {B, R, N}), *u = call.in(usage, "usage", {B, N});
    const T* M0 = call.in(memory, "memory", {B, N, W});
    const Weights<T> recurrent(matrix(w_rec, 4 * D, O, O), B, s.T), interface(matrix(w_if, I, D, D), B, s.T);
    const Tensor x = product<T>(matrix(call.in(input, "input", {s.T, B, s.F}), s.T * B, s.F, s.F),
                                matrix(call.in(input_weight, "input_weight", {4 * D, s.F}), 4 * D, s.F, s.F));
    const Saved<T> saved{s, n, call.out({s.T, B, O}), kept<T>({s.copies(), B, s.Np / s.block, W * s.block}),
                         kept<T>({s.T + 1, B, s.rows(), s.Np}), torch::stable::view(x, {s.T, B, 4 * D}),
                         call.out({s.T, B, D}), call.out({s.T, B, I}), Call<T>::allocate({s.T, B, n}, ScalarType::Long)};
    const Tensor last_memory = call.out({B, N, W}), last_weights = call.out({B, R, N}), last_usage = call.out({B, N});
    const Tensor current = call.out({B, s.Np * W});
    const int64_t row_stride = s.rows() * s.Np;
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{s.layout.shape, row_stride, M0, w_r, data<T>(current), saved.row(0), nullptr});
    std::copy_n(u, B * N, data<T>(last_usage));
    for (int64_t t = 0; t < s.T; ++t) {
      T* o = saved.output(t);
      const Tensor gates = recurrent.product(matrix(out, B, O, O));
      over_batch(B, 16 * D, kernels<T>().lstm,
                 Lstm<T>{D, O, saved.gate(t), data<T>(gates), b, c, saved.gate(t), saved.cell(t), o});
      const Tensor rows = interface.product(matrix(o, B, D, O));
      over_batch(B, s.work(), kernels<T>().mann_step,
                 MannStep<T>{s.layout, {n, per_head, decay}, O, data<T>(rows), b_if, saved.row(t), data<T>(current),
                             data<T>(last_usage), t % s.span ? nullptr : saved.copy(t), saved.asked(t),
                             saved.row(t + 1), o + D, saved.slots(t)});
      out = o, c = saved.cell(t);
    }
    over_batch(B, N * W, kernels<T>().from_blocks,
               FromBlocks<T>{s.layout.shape, row_stride, data<T>(current), saved.row(s.T), data<T>(last_memory),
                             data<T>(last_weights)});
    return std::make_tuple(saved.outputs, last_memory, last_weights, last_usage, saved.copies, saved.rows, saved.gates,
                           saved.cells, saved.interface, saved.least_used);
  });
}

using Backward =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Gradients of outputs, memory, read weights, usage and cell after the last step (null: zero), the inputs, what
// mann_lstm saved -> gradients of its inputs, in order; of `input` only where wanted, else (0,B,F).
Backward mann_lstm_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_read_weights,
                            const Maybe& grad_usage, const Maybe& grad_cell, const Tensor& input,
                            const Tensor& input_weight, const Tensor& recurrent_weight, const Tensor& interface_weight,
                            const Tensor& output, const Tensor& cell, const Tensor& memory,
                            const Tensor& outputs, const Tensor& copies, const Tensor& rows,
                            const Tensor& gates, const Tensor& cells, const Tensor& interface,
                            const Tensor& least_used, bool per_head, double decay, bool wants_input) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, output);
    const auto [N, W, R] = s.layout.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I, n = least_used.size(2);
    for (const Tensor* t : {&outputs, &copies, &rows, &gates, &cells, &interface, &least_used})
      STD_TORCH_CHECK(t->is_contiguous(), "mannkern: what mann_lstm saved must come back as it was");
    STD_TORCH_CHECK(rows.dim() == 4 && rows.size(3) == s.Np && copies.size(3) == W * s.block,
                    "mannkern: mann_lstm saved this for another instruction set");
    const Saved<T> saved{s, n, outputs, copies, rows, gates, cells, interface, least_used};
    const T *x = call.in(input, "input", {s.T, B, s.F}), *first = call.in(output, "output", {B, O});
    const T *c0 = call.in(cell, "cell", {B, D}), *d_outputs = call.in(grad_outputs, "grad_outputs", {s.T, B, O});
    const Weights<T> to_output(transposed(recurrent_weight), B, s.T), to_hidden(transposed(interface_weight), B, s.T);
    const T* W_in = call.in(input_weight, "input_weight", {4 * D, s.F});
    WeightGradients<T> grads(s.T, B, s.F, D, O, I, wants_input);
    const Tensor D_M = call.out({B, s.Np * W}), d_rows = call.out({B, R, s.Np});
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{s.layout.shape, R * s.Np, call.in(grad_memory, "grad_memory", {B, N, W}),
                           call.in(grad_read_weights, "grad_read_weights", {B, R, N}), data<T>(D_M), data<T>(d_rows),
                           nullptr});
    const Tensor d_u = start(call, grad_usage, {B, N}), d_c = start(call, grad_cell, {B, D});
    const Tensor memories = kept<T>({s.span, B, s.Np * W});  // after the steps of a span
    Tensor d_o = start(call, std::nullopt, {B, O});
    for (int64_t t = s.T - 1; t >= 0; --t) {
      const int64_t begin = t / s.span * s.span;
      if (t == s.T - 1 || t % s.span == s.span - 1)
        over_batch(B, s.work() * (t + 1 - begin), kernels<T>().mann_writes,
                   MannWrites<T>{s.layout, n, B, t + 1 - begin, saved.copy(begin), saved.asked(begin),
                                 saved.row(begin + 1), saved.slots(begin), data<T>(memories)});
      T *d_gate = grads.gates(t), *d_ask = grads.asked(t), *d_out = data<T>(d_o);
      over_batch(B, s.work(), kernels<T>().mann_step_backward,
                 MannStepBackward<T>{s.layout, {n, per_head, decay}, O, D, at(d_outputs, t * B * O),
                                     data<T>(memories) + (t - begin) * s.memory_size(), saved.row(t), saved.row(t + 1),
                                     saved.asked(t), saved.slots(t), d_out, data<T>(D_M), data<T>(d_rows),
                                     data<T>(d_u), d_ask});
      const Tensor d_hidden = to_hidden.product(matrix(d_ask, B, I, I));
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, O, d_out, data<T>(d_hidden), saved.gate(t), t ? saved.cell(t - 1) : c0,
                                 saved.cell(t), data<T>(d_c), d_gate});
      d_o = to_output.product(matrix(d_gate, B, 4 * D, 4 * D));
      if (t % grads.steps() == 0) grads.add(t, std::min(t + grads.steps(), s.T), x, W_in, first, saved.output(0));
    }
    const Tensor d_memory = call.out({B, N, W}), d_weights = call.out({B, R, N});
    over_batch(B, N * W, kernels<T>().from_blocks,
               FromBlocks<T>{s.layout.shape, R * s.Np, data<T>(D_M), data<T>(d_rows), data<T>(d_memory), data<T>(d_weights)});
    return std::make_tuple(grads.input, grads.input_weight, grads.bias, grads.recurrent_weight, grads.interface_weight,
                           grads.interface_bias, d_o, d_c, d_memory, d_weights, d_u);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_lstm", TORCH_BOX(&mannkern::mann_lstm));
  m.impl("mann_lstm_backward", TORCH_BOX(&mannkern::mann_lstm_backward));
}
