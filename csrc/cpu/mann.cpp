// MANN with an LSTM controller over a whole episode: the loop over T, forward and backward through time.
//
// The input's product is one over all steps, the weight gradients' are one each for a few hundred rows; in the loop are the
// recurrent product, the gates, the interface and the LRUA step. The memory is one per episode, updated in place. Every
// `span` steps (the root of T) a copy is kept; the backward pass writes the memories between two copies anew, bit for
// bit the same.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "episode.h"

namespace mannkern {
namespace {

struct Episode {
  int64_t T, B, F, D, O, I;  // steps, batch, features, hidden, output D + R W, interface
  int64_t span;              // steps between two copies of the memory
  Shape shape;
  bool strengths;

  Episode(const Tensor& input, const Tensor& interface_weight, const Tensor& memory, const Tensor& output) {
    STD_TORCH_CHECK(input.dim() == 3 && interface_weight.dim() == 2 && memory.dim() == 3 && output.dim() == 2,
                    "mannkern: wrong rank of an episode's tensors");
    STD_TORCH_CHECK(memory.size(2) > 0 && output.size(1) > interface_weight.size(1), "mannkern: an empty memory");
    T = input.size(0), B = input.size(1), F = input.size(2);
    D = interface_weight.size(1), I = interface_weight.size(0), O = output.size(1);
    shape = {memory.size(1), memory.size(2), (O - D) / memory.size(2)};
    strengths = I == 2 * shape.R * shape.W + 2 * shape.R;
    STD_TORCH_CHECK(strengths || I == 2 * shape.R * shape.W + shape.R, "mannkern: the interface has the wrong width");
    span = steps_between_copies(T);
  }
  int64_t copies() const { return T > 0 ? (T - 1) / span : 0; }
  int64_t work() const { return shape.N * shape.W * shape.R; }
  int64_t vectors() const { return 2 * shape.R * shape.W; }
  int64_t memory_size() const { return B * shape.N * shape.W; }
};

// What the forward pass keeps: of every step weights, activated gates and interface, cosines, norms and least used
// slots; of every span a memory.
template <class T>
struct Saved {
  const Episode& s;
  int64_t n;
  Tensor outputs, copies, read_weights, write_weights, gates, cells, interface, cosine, norm, least_used;

  T* output(int64_t t) const { return data<T>(outputs) + t * s.B * s.O; }
  T* copy(int64_t t) const { return data<T>(copies) + (t / s.span - 1) * s.memory_size(); }  // M before step t
  T* weights(const Tensor& w, int64_t t) const { return data<T>(w) + t * s.B * s.shape.R * s.shape.N; }
  T* gate(int64_t t) const { return data<T>(gates) + t * s.B * 4 * s.D; }
  T* cell(int64_t t) const { return data<T>(cells) + t * s.B * s.D; }
  T* ask(int64_t t) const { return data<T>(interface) + t * s.B * s.I; }
  T* norm_at(int64_t t) const { return data<T>(norm) + t * s.B * s.shape.N; }
  int64_t* slots(int64_t t) const { return data<int64_t>(least_used) + t * s.B * n; }
  const T* strength(const T* row) const { return s.strengths ? row + s.vectors() + s.shape.R : nullptr; }
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// input (T,B,F); input_weight (4D,F); bias (4D), the sum of both; recurrent_weight (4D,O) and output (B,O) of [h, r],
// O = D + R W. Returns outputs (T,B,O), memory and usage after the last step, and Saved but for its outputs.
Forward mann_lstm(const Tensor& input, const Tensor& input_weight, const Tensor& bias, const Tensor& recurrent_weight,
                  const Tensor& interface_weight, const Tensor& interface_bias, const Tensor& output,
                  const Tensor& cell, const Tensor& memory, const Tensor& read_weights, const Tensor& usage, int64_t n,
                  bool per_head, double decay) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, output);
    const auto [N, W, R] = s.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I;
    STD_TORCH_CHECK(1 <= n && n <= N, "mannkern: num_least_used is out of range");
    const T* w_rec = call.in(recurrent_weight, "recurrent_weight", {4 * D, O});
    const T* w_if = call.in(interface_weight, "interface_weight", {I, D});
    const T *b = call.in(bias, "bias", {4 * D}), *b_if = call.in(interface_bias, "interface_bias", {I});
    const T *out = call.in(output, "output", {B, O}), *c = call.in(cell, "cell", {B, D});
    const T* w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T *M = call.in(memory, "memory", {B, N, W}), *u = call.in(usage, "usage", {B, N});
    const Tensor recurrent = matrix(w_rec, 4 * D, O, O), interface = matrix(w_if, I, D, D);
    const Tensor x = product<T>(matrix(call.in(input, "input", {s.T, B, s.F}), s.T * B, s.F, s.F),
                                matrix(call.in(input_weight, "input_weight", {4 * D, s.F}), 4 * D, s.F, s.F));
    const Tensor last_memory = call.out({B, N, W}), last_usage = call.out({B, N});
    const Saved<T> saved{s, n, call.out({s.T, B, O}), kept<T>({s.copies(), B, N, W}), kept<T>({s.T, B, R, N}),
                         kept<T>({s.T, B, R, N}), torch::stable::view(x, {s.T, B, 4 * D}), call.out({s.T, B, D}),
                         call.out({s.T, B, I}), kept<T>({s.T, B, R, N}), call.out({s.T, B, N}),
                         Call<T>::allocate({s.T, B, n}, ScalarType::Long)};
    for (int64_t t = 0; t < s.T; ++t) {
      T *ask = saved.ask(t), *o = saved.output(t);
      if (t > 0 && t % s.span == 0) std::copy_n(M, s.memory_size(), saved.copy(t));
      const Tensor gates = product<T>(matrix(out, B, O, O), recurrent);
      over_batch(B, 16 * D, kernels<T>().lstm,
                 Lstm<T>{D, O, saved.gate(t), data<T>(gates), b, c, saved.gate(t), saved.cell(t), o});
      const Tensor rows = product<T>(matrix(o, B, D, O), interface);
      over_batch(B, 4 * I, kernels<T>().activate,
                 Activation<T>{s.vectors(), R, s.strengths ? R : 0, data<T>(rows), b_if, ask});
      over_batch(B, s.work(), kernels<T>().step,
                 Step<T>{s.shape, {I, I, O}, n, per_head, T(decay), M, w_r, u, ask, ask + R * W, ask + s.vectors(),
                         saved.strength(ask), data<T>(last_memory), o + D, saved.weights(saved.read_weights, t),
                         data<T>(last_usage), saved.weights(saved.write_weights, t), saved.weights(saved.cosine, t),
                         saved.norm_at(t), saved.slots(t)});
      out = o, c = saved.cell(t), w_r = saved.weights(saved.read_weights, t);
      M = data<T>(last_memory), u = data<T>(last_usage);
    }
    return std::make_tuple(saved.outputs, last_memory, last_usage, saved.copies, saved.read_weights,
                           saved.write_weights, saved.gates, saved.cells, saved.interface, saved.cosine, saved.norm,
                           saved.least_used);
  });
}

using Backward =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Gradients of outputs, memory, usage, read weights and cell after the last step (null: zero), the inputs, what
// mann_lstm saved -> gradients of its inputs, in order; of `input` only where wanted, else (0,B,F).
Backward mann_lstm_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_usage,
                            const Maybe& grad_read_weights, const Maybe& grad_cell, const Tensor& input,
                            const Tensor& input_weight, const Tensor& recurrent_weight, const Tensor& interface_weight,
                            const Tensor& output, const Tensor& cell, const Tensor& memory, const Tensor& read_weights,
                            const Tensor& outputs, const Tensor& copies, const Tensor& reads, const Tensor& writes,
                            const Tensor& gates, const Tensor& cells, const Tensor& asks, const Tensor& cosines,
                            const Tensor& norms, const Tensor& least_used, bool per_head, double decay,
                            bool wants_input) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Episode s(input, interface_weight, memory, output);
    const auto [N, W, R] = s.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I, n = least_used.size(2);
    for (const Tensor* t : {&outputs, &copies, &reads, &writes, &gates, &cells, &asks, &cosines, &norms, &least_used})
      STD_TORCH_CHECK(t->is_contiguous(), "mannkern: what mann_lstm saved must come back as it was");
    const Saved<T> saved{s, n, outputs, copies, reads, writes, gates, cells, asks, cosines, norms, least_used};
    const T *x = call.in(input, "input", {s.T, B, s.F}), *first = call.in(output, "output", {B, O});
    const T *M0 = call.in(memory, "memory", {B, N, W}), *c0 = call.in(cell, "cell", {B, D});
    const T *w_r0 = call.in(read_weights, "read_weights", {B, R, N});
    const T* d_outputs = call.in(grad_outputs, "grad_outputs", {s.T, B, O});
    const Tensor to_output = torch::stable::contiguous(transposed(recurrent_weight));
    const Tensor to_hidden = torch::stable::contiguous(transposed(interface_weight));
    const T* W_in = call.in(input_weight, "input_weight", {4 * D, s.F});
    WeightGradients<T> grads(s.T, B, s.F, D, O, I, wants_input);
    const Tensor d_M = start(call, grad_memory, {B, N, W}), d_w_r = start(call, grad_read_weights, {B, R, N});
    const Tensor d_u = start(call, grad_usage, {B, N}), d_c = start(call, grad_cell, {B, D});
    const Tensor memories = kept<T>({std::min(s.span, s.T), B, N, W});
    Tensor d_o = start(call, std::nullopt, {B, O});
    for (int64_t t = s.T - 1; t >= 0; --t) {
      const int64_t begin = t / s.span * s.span;
      if (t == s.T - 1 || t % s.span == s.span - 1) {
        for (int64_t past = begin; past <= t; ++past) {
          T* out = data<T>(memories) + (past - begin) * s.memory_size();
          const T* from = past > begin ? out - s.memory_size() : begin ? saved.copy(begin) : M0;
          over_batch(B, s.work(), kernels<T>().write,
                     Write<T>{s.shape, I, n, from, saved.weights(writes, past), saved.ask(past) + R * W,
                              saved.slots(past), out});
        }
      }
      T *d_gate = grads.gates(t), *d_ask = grads.asked(t), *d_out = data<T>(d_o);
      const T *ask = saved.ask(t), *M = data<T>(memories) + t % s.span * s.memory_size();
      if (d_outputs)
        for (int64_t i = 0; i < B * O; ++i) d_out[i] += d_outputs[t * B * O + i];
      T* d_strength = s.strengths ? d_ask + s.vectors() + R : nullptr;
      over_batch(B, s.work(), kernels<T>().step_backward,
                 StepBackward<T>{s.shape, {I, I, O}, n, per_head, T(decay), data<T>(d_M), d_out + D, data<T>(d_w_r),
                                 data<T>(d_u), nullptr, t ? saved.weights(reads, t - 1) : w_r0, ask, ask + R * W,
                                 ask + s.vectors(), saved.strength(ask), M, saved.weights(reads, t),
                                 saved.weights(writes, t), saved.weights(cosines, t), saved.norm_at(t), saved.slots(t),
                                 data<T>(d_M), data<T>(d_w_r), data<T>(d_u), d_ask, d_ask + R * W, d_ask + s.vectors(),
                                 d_strength});
      over_batch(B, 4 * I, kernels<T>().activate_backward,
                 ActivationBackward<T>{s.vectors(), R, s.strengths ? R : 0, ask, d_ask});
      const Tensor d_hidden = product<T>(matrix(d_ask, B, I, I), to_hidden);
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, O, d_out, data<T>(d_hidden), saved.gate(t), t ? saved.cell(t - 1) : c0,
                                 saved.cell(t), data<T>(d_c), d_gate});
      d_o = product<T>(matrix(d_gate, B, 4 * D, 4 * D), to_output);
      if (t % grads.steps() == 0) grads.add(t, std::min(t + grads.steps(), s.T), x, W_in, first, saved.output(0));
    }
    return std::make_tuple(grads.input, grads.input_weight, grads.bias, grads.recurrent_weight, grads.interface_weight,
                           grads.interface_bias, d_o, d_c, d_M, d_w_r, d_u);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_lstm", TORCH_BOX(&mannkern::mann_lstm));
  m.impl("mann_lstm_backward", TORCH_BOX(&mannkern::mann_lstm_backward));
}
