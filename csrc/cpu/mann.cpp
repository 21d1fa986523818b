// MANN with an LSTM controller over a whole episode: the loop over T, forward and backward through time.
//
// The products of the input come in, and those of the weight gradients go out, as one each over all steps (in Python).
// Inside the loop are the recurrent product, the gates, the interface and the LRUA step. Products are PyTorch's own.

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "call.h"

namespace mannkern {
namespace {

// A matrix (rows, columns) over memory of somebody else: rows `stride` apart, or transposed.
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns, stride;
  bool transposed = false;

  Matrix t() const { return {data, columns, rows, stride, !transposed}; }
  Tensor view() const {
    const int64_t sizes[] = {rows, columns}, strides[] = {transposed ? 1 : stride, transposed ? stride : 1};
    AtenTensorHandle handle;
    TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(
        const_cast<void*>(static_cast<const void*>(data)), 2, sizes, strides, 0,
        sizeof(T) == 4 ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64(), aoti_torch_device_type_cpu(), 0,
        &handle));
    return Tensor(handle);
  }
};

// out = a b
template <class T>
void multiply(const Matrix<T>& out, const Matrix<const T>& a, const Matrix<const T>& b) {
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.view().get(), a.view().get(), b.view().get()));
}

// out = c + a b
template <class T>
void multiply_add(const Matrix<T>& out, const Matrix<const T>& c, const Matrix<const T>& a, const Matrix<const T>& b) {
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_cpu_addmm_out(out.view().get(), c.view().get(), a.view().get(), b.view().get(), 1, 1));
}

struct EpisodeSizes {
  int64_t T, B, D, O, I;  // steps, batch, hidden, output D + R W, interface
  Shape shape;
  bool strengths;

  EpisodeSizes(const Tensor& input_gates, const Tensor& interface_weight, const Tensor& memory, const Tensor& output) {
    STD_TORCH_CHECK(input_gates.dim() == 3 && interface_weight.dim() == 2 && memory.dim() == 3 && output.dim() == 2,
                    "mannkern: wrong rank of an episode's tensors");
    T = input_gates.size(0), B = input_gates.size(1), D = input_gates.size(2) / 4;
    O = output.size(1), I = interface_weight.size(0);
    shape = {memory.size(1), memory.size(2), (O - D) / memory.size(2)};
    strengths = I == 2 * shape.R * shape.W + 2 * shape.R;
    STD_TORCH_CHECK(strengths || I == 2 * shape.R * shape.W + shape.R, "mannkern: the interface has the wrong width");
  }
  int64_t work() const { return shape.N * shape.W * shape.R; }
  int64_t vectors() const { return 2 * shape.R * shape.W; }
};

// Of every step t: memory, weights, activated gates and interface, and what the backward pass of lrua_step needs.
template <class T>
struct Saved {
  const EpisodeSizes& s;
  int64_t n;
  Tensor outputs, memory, read_weights, write_weights, gates, cells, interface, cosine, norm, least_used;

  T* output(int64_t t) const { return data<T>(outputs) + t * s.B * s.O; }
  T* memory_at(int64_t t) const { return data<T>(memory) + t * s.B * s.shape.N * s.shape.W; }
  T* weights(const Tensor& w, int64_t t) const { return data<T>(w) + t * s.B * s.shape.R * s.shape.N; }
  T* gate(int64_t t) const { return data<T>(gates) + t * s.B * 4 * s.D; }
  T* cell(int64_t t) const { return data<T>(cells) + t * s.B * s.D; }
  T* ask(int64_t t) const { return data<T>(interface) + t * s.B * s.I; }
  T* norm_at(int64_t t) const { return data<T>(norm) + t * s.B * s.shape.N; }
  int64_t* slots(int64_t t) const { return data<int64_t>(least_used) + t * s.B * n; }
  const T* strength(const T* row) const { return s.strengths ? row + s.vectors() + s.shape.R : nullptr; }
};

using Forward =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// input_gates (T,B,4D): the input's product with its weights, and both biases. recurrent_weight (4D,O) and output (B,O)
// are of [h, r], O = D + R W. Returns outputs (T,B,O), the last usage (B,N), and Saved, each with T in front.
Forward mann_lstm(const Tensor& input_gates, const Tensor& recurrent_weight, const Tensor& interface_weight,
                  const Tensor& interface_bias, const Tensor& output, const Tensor& cell, const Tensor& memory,
                  const Tensor& read_weights, const Tensor& usage, int64_t n, bool per_head, double decay) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const EpisodeSizes s(input_gates, interface_weight, memory, output);
    const auto [N, W, R] = s.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I;
    STD_TORCH_CHECK(1 <= n && n <= N, "mannkern: num_least_used is out of range");
    const T* x = call.in(input_gates, "input_gates", {s.T, B, 4 * D});
    const Matrix<const T> recurrent{call.in(recurrent_weight, "recurrent_weight", {4 * D, O}), 4 * D, O, O};
    const Matrix<const T> interface{call.in(interface_weight, "interface_weight", {I, D}), I, D, D};
    const Matrix<const T> bias{call.in(interface_bias, "interface_bias", {I}), B, I, 0};
    const T *out = call.in(output, "output", {B, O}), *c = call.in(cell, "cell", {B, D});
    const T *M = call.in(memory, "memory", {B, N, W}), *w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T* u = call.in(usage, "usage", {B, N});
    const Tensor last_usage = call.out({B, N});
    const Saved<T> saved{s, n, call.out({s.T, B, O}), call.out({s.T, B, N, W}), call.out({s.T, B, R, N}),
                         call.out({s.T, B, R, N}), call.out({s.T, B, 4 * D}), call.out({s.T, B, D}),
                         call.out({s.T, B, I}), call.out({s.T, B, R, N}), call.out({s.T, B, N}),
                         Call<T>::allocate({s.T, B, n}, ScalarType::Long)};
    for (int64_t t = 0; t < s.T; ++t) {
      T *gate = saved.gate(t), *ask = saved.ask(t), *o = saved.output(t);
      multiply<T>({gate, B, 4 * D, 4 * D}, {out, B, O, O}, recurrent.t());
      over_batch(B, 16 * D, kernels<T>().lstm, Lstm<T>{D, O, x + t * B * 4 * D, c, gate, saved.cell(t), o});
      multiply_add<T>({ask, B, I, I}, bias, {o, B, D, O}, interface.t());
      over_batch(B, 4 * I, kernels<T>().activate, Activation<T>{s.vectors(), R, s.strengths ? R : 0, ask});
      over_batch(B, s.work(), kernels<T>().step,
                 Step<T>{s.shape, {I, I, O}, n, per_head, T(decay), M, w_r, u, ask, ask + R * W, ask + s.vectors(),
                         saved.strength(ask), saved.memory_at(t), o + D, saved.weights(saved.read_weights, t),
                         data<T>(last_usage), saved.weights(saved.write_weights, t), saved.weights(saved.cosine, t),
                         saved.norm_at(t), saved.slots(t)});
      out = o, c = saved.cell(t), M = saved.memory_at(t), w_r = saved.weights(saved.read_weights, t);
      u = data<T>(last_usage);
    }
    return std::make_tuple(saved.outputs, last_usage, saved.memory, saved.read_weights, saved.write_weights,
                           saved.gates, saved.cells, saved.interface, saved.cosine, saved.norm, saved.least_used);
  });
}

// A gradient to be updated in place, step by step: a copy of what came, or zeros.
template <class T>
Tensor start(Call<T>& call, const Maybe& grad, std::initializer_list<int64_t> sizes) {
  const Tensor out = call.out(sizes);
  const T* given = call.in(grad, "grad", sizes);
  if (given) std::copy_n(given, out.numel(), data<T>(out));
  else std::fill_n(data<T>(out), out.numel(), T(0));
  return out;
}

// Gradients of what mann_lstm returns for use (null: zero), its weights, its first state, what it saved -> gradients of
// gates before activation (T,B,4D) and of interface rows before activation (T,B,I), whose products with the outputs are
// the weight gradients; and of the first output (B,O), cell, memory, read weights and usage.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> mann_lstm_backward(
    const Maybe& grad_outputs, const Maybe& grad_usage, const Maybe& grad_memory, const Maybe& grad_read_weights,
    const Maybe& grad_cell, const Tensor& recurrent_weight, const Tensor& interface_weight, const Tensor& cell,
    const Tensor& read_weights, const Tensor& outputs, const Tensor& memories, const Tensor& reads,
    const Tensor& writes, const Tensor& gates, const Tensor& cells, const Tensor& asks, const Tensor& cosines,
    const Tensor& norms, const Tensor& least_used, bool per_head, double decay) {
  return by_dtype(memories, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    STD_TORCH_CHECK(outputs.dim() == 3 && memories.dim() == 4 && least_used.dim() == 3, "mannkern: wrong rank");
    const EpisodeSizes s(gates, interface_weight, torch::stable::select(memories, 0, 0),
                         torch::stable::select(outputs, 0, 0));
    const auto [N, W, R] = s.shape;
    const int64_t B = s.B, D = s.D, O = s.O, I = s.I, n = least_used.size(2);
    for (const Tensor* t : {&outputs, &memories, &reads, &writes, &gates, &cells, &asks, &cosines, &norms, &least_used})
      STD_TORCH_CHECK(t->is_contiguous(), "mannkern: what mann_lstm saved must come back as it was");
    const Saved<T> saved{s, n, outputs, memories, reads, writes, gates, cells, asks, cosines, norms, least_used};
    const Matrix<const T> recurrent{call.in(recurrent_weight, "recurrent_weight", {4 * D, O}), 4 * D, O, O};
    const Matrix<const T> interface{call.in(interface_weight, "interface_weight", {I, D}), I, D, D};
    const T *d_outputs = call.in(grad_outputs, "grad_outputs", {s.T, B, O}), *c0 = call.in(cell, "cell", {B, D});
    const T* w_r0 = call.in(read_weights, "read_weights", {B, R, N});
    const Tensor d_gates = call.out({s.T, B, 4 * D}), d_asks = call.out({s.T, B, I}), d_first = call.out({B, O});
    const Tensor d_M = start(call, grad_memory, {B, N, W}), d_w_r = start(call, grad_read_weights, {B, R, N});
    const Tensor d_u = start(call, grad_usage, {B, N}), d_c = start(call, grad_cell, {B, D}), d_hidden = call.out({B, D});
    T *d_o = data<T>(d_first), *d_h = data<T>(d_hidden);
    std::fill_n(d_o, B * O, T(0));
    for (int64_t t = s.T - 1; t >= 0; --t) {
      T *d_gate = data<T>(d_gates) + t * B * 4 * D, *d_ask = data<T>(d_asks) + t * B * I;
      const T* ask = saved.ask(t);
      if (d_outputs)
        for (int64_t i = 0; i < B * O; ++i) d_o[i] += d_outputs[t * B * O + i];
      T* d_strength = s.strengths ? d_ask + s.vectors() + R : nullptr;
      over_batch(B, s.work(), kernels<T>().step_backward,
                 StepBackward<T>{s.shape, {I, I, O}, n, per_head, T(decay), data<T>(d_M), d_o + D, data<T>(d_w_r),
                                 data<T>(d_u), nullptr, t ? saved.weights(reads, t - 1) : w_r0, ask, ask + R * W,
                                 ask + s.vectors(), saved.strength(ask), saved.memory_at(t), saved.weights(reads, t),
                                 saved.weights(writes, t), saved.weights(cosines, t), saved.norm_at(t), saved.slots(t),
                                 data<T>(d_M), data<T>(d_w_r), data<T>(d_u), d_ask, d_ask + R * W,
                                 d_ask + s.vectors(), d_strength});
      over_batch(B, 4 * I, kernels<T>().activate_backward,
                 ActivationBackward<T>{s.vectors(), R, s.strengths ? R : 0, ask, d_ask});
      multiply_add<T>({d_h, B, D, D}, {d_o, B, D, O}, {d_ask, B, I, I}, interface);
      over_batch(B, 16 * D, kernels<T>().lstm_backward,
                 LstmBackward<T>{D, d_h, saved.gate(t), t ? saved.cell(t - 1) : c0, saved.cell(t), data<T>(d_c), d_gate});
      multiply<T>({d_o, B, O, O}, {d_gate, B, 4 * D, 4 * D}, recurrent);
    }
    return std::make_tuple(d_gates, d_asks, d_first, d_c, d_M, d_w_r, d_u);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_lstm", TORCH_BOX(&mannkern::mann_lstm));
  m.impl("mann_lstm_backward", TORCH_BOX(&mannkern::mann_lstm_backward));
}
