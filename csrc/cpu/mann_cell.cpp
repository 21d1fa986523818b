// The operation mann_cell: a MANNCell's own step, its controller included, forward and backward.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cell.h"

namespace mannkern {
namespace {

// I: rows of the interface weight, which has none for adds where keys are written.
MANNInterface interface_of(const CellShape& c, const Tensor& memory, const Tensor& read, bool write_key) {
  const Shape s = shape_of(memory, read, "read");
  const int64_t adds = write_key ? 0 : s.R * s.W;
  const MANNInterface layout{s, c.I == s.R * s.W + adds + 2 * s.R};
  if (c.I != s.R * s.W + adds + (layout.strengths ? 2 : 1) * s.R)
    refuse("interface_weight", "I = " + std::to_string(c.I),
           (write_key ? "R W" : "2 R W") + std::string(" + R, or + 2 R with strengths, with R = ") +
               std::to_string(s.R) + ", W = " + std::to_string(s.W));
  return layout;
}

// What a step saves for backward behind what its controller does.
template <class T>
struct Saved {
  InterfaceGradients<T> interface;  // not the gradients, but what they are gradients of
  T *write_weights, *cosine, *norm;

  Saved(Pieces<T>& saved, int64_t B, const MANNInterface& layout, bool write_key) {
    const auto [N, W, R] = layout.shape;
    interface.key = saved.take(B * R * W);
    interface.add = write_key ? interface.key : saved.take(B * R * W);
    interface.gate = saved.take(B * R), interface.strength = layout.strengths ? saved.take(B * R) : nullptr;
    write_weights = saved.take(B * R * N), cosine = saved.take(B * R * N), norm = saved.take(B * N);
  }
  static int64_t size(int64_t B, int64_t I, const Shape& s) { return B * (I + 2 * s.R * s.N + s.N); }
  InterfaceVector<T> vector() const { return {interface.key, interface.add, interface.gate, interface.strength}; }
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Inputs are those of CellArgs; bias (G), recurrent_bias (G) of an LSTM; interface_bias (I); memory (B,N,W), read_weights
// (B,R,N) and usage (B,N) before the step. Returns the output [h, r] (B,D + R W), h and c (B,D), memory, read weights,
// usage and r (B,R,W); and, for backward, a buffer of numbers, empty without it, and the least used slots (B,n).
Forward mann_cell(const Tensor& input, const Maybe& hidden, const Maybe& cell, const Tensor& memory,
                  const Tensor& read_weights, const Tensor& usage, const Tensor& read, const Tensor& weight,
                  const Maybe& recurrent_weight, const Tensor& bias, const Maybe& recurrent_bias,
                  const Tensor& interface_weight, const Tensor& interface_bias, int64_t n, bool per_head, double decay,
                  bool write_key, bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const CellArgs args{input, hidden, cell, read, weight, recurrent_weight, interface_weight};
    const CellShape c(args);
    const MANNInterface layout = interface_of(c, memory, read, write_key);
    const auto [N, W, R] = layout.shape;
    const int64_t B = c.B;
    check_range(n, "num_least_used", 1, N);
    check_decay(decay);
    call.check(read, "read", {B, R, W});
    const int64_t saved_size = CellController<T>::saved_size(c) + Saved<T>::size(B, c.I, layout.shape);
    const Tensor saved = call.out({saved_size}), scratch = call.out({CellController<T>::scratch_size(c)});
    Pieces<T> pieces(saved), others(scratch);
    const CellController<T> controller(call, c, args, bias, recurrent_bias, interface_bias, pieces, others);
    const Saved<T> saves(pieces, B, layout, write_key);
    const InterfaceGradients<T>& to = saves.interface;
    const MANNActivate<T> activate{layout, controller.product, controller.interface_bias, to.key,
                                   write_key ? nullptr : to.add, to.gate, to.strength};
    const Tensor memory_out = allocate_large<T>({B, N, W}), read_out = call.out({B, R, W});
    const Tensor weights_out = call.out({B, R, N}), usage_out = call.out({B, N});
    const Tensor slots = Call<T>::allocate({B, n}, ScalarType::Long);
    const LRUAStep<T> step{layout.shape,
                           {n, per_head, decay},
                           call.in(memory, "memory", {B, N, W}),
                           call.in(read_weights, "read_weights", {B, R, N}),
                           call.in(usage, "usage", {B, N}),
                           saves.vector(),
                           data<T>(memory_out),
                           data<T>(read_out),
                           data<T>(weights_out),
                           data<T>(usage_out),
                           saves.write_weights,
                           saves.cosine,
                           saves.norm,
                           data<int64_t>(slots)};
    over_episodes(c, N * W * R, [&](int64_t begin, int64_t end) {
      controller.run(begin, end);
      kernels<T>().mann_activate(activate, begin, end);
      kernels<T>().lrua_step(step, begin, end);
      for (int64_t e = begin; e < end; ++e) controller.put_read(step.read, e);
    });
    return std::make_tuple(controller.output, controller.hidden, controller.cell, memory_out, weights_out, usage_out,
                           read_out, save_for_backward ? saved : call.out({0}), slots);
  });
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments are the gradients of the outputs (null: zero), inputs, outputs and what mann_cell saved. Returns the
// gradients of input, h, c, memory, read weights, usage and r, and the rows of CellShape::row for those of the weights.
Backward mann_cell_backward(const Maybe& grad_output, const Maybe& grad_hidden, const Maybe& grad_cell,
                            const Maybe& grad_memory, const Maybe& grad_read_weights, const Maybe& grad_usage,
                            const Maybe& grad_read, const Tensor& input, const Maybe& hidden, const Maybe& cell,
                            const Tensor& read_weights, const Tensor& read, const Tensor& weight,
                            const Maybe& recurrent_weight, const Tensor& interface_weight, const Tensor& cell_out,
                            const Tensor& memory_out, const Tensor& read_weights_out, const Tensor& saved,
                            const Tensor& least_used, bool per_head, double decay, bool write_key,
                            bool needs_input_grad, bool needs_weight_grad) {
  return by_dtype(memory_out, "memory_out", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const CellArgs args{input, hidden, cell, read, weight, recurrent_weight, interface_weight};
    const CellShape c(args);
    check_sizes(memory_out, "memory_out", "BNW");
    const MANNInterface layout = interface_of(c, memory_out, read, write_key);
    const auto [N, W, R] = layout.shape;
    check_sizes(least_used, "least_used", "Bn");
    const int64_t B = c.B, n = least_used.size(1), RW = R * W;
    check_range(n, "least_used.shape[1]", 1, N);
    check_decay(decay);
    call.check(read, "read", {B, R, W});
    const int64_t saved_size = CellController<T>::saved_size(c) + Saved<T>::size(B, c.I, layout.shape);
    const Tensor scratch = call.out({CellControllerBackward<T>::scratch_size(c) + B * (3 * RW + 2 * R)});
    Pieces<T> pieces(call.hold(saved, "saved", {saved_size})), others(scratch);
    const CellControllerBackward<T> controller(call, c, args, cell_out, grad_output, grad_hidden, grad_cell,
                                               needs_input_grad, needs_weight_grad, pieces, others);
    const Saved<T> saves(pieces, B, layout, write_key);
    const T* d_read = call.in(grad_read, "grad_read", {B, R, W});
    const InterfaceGradients<T> d_interface{others.take(B * RW), others.take(B * RW), others.take(B * R),
                                            layout.strengths ? others.take(B * R) : nullptr};
    T* d_reads = others.take(B * RW);  // in all: as an output, and in the next step's controller
    const Tensor d_memory = allocate_large<T>({B, N, W}), d_weights = call.out({B, R, N}), d_usage = call.out({B, N});
    const LRUAStepBackward<T> step{layout.shape,
                                   {n, per_head, decay},
                                   call.in(grad_memory, "grad_memory", {B, N, W}),
                                   d_reads,
                                   call.in(grad_read_weights, "grad_read_weights", {B, R, N}),
                                   call.in(grad_usage, "grad_usage", {B, N}),
                                   nullptr,
                                   call.in(read_weights, "read_weights", {B, R, N}),
                                   saves.vector(),
                                   call.in(memory_out, "memory_out", {B, N, W}),
                                   call.in(read_weights_out, "read_weights_out", {B, R, N}),
                                   saves.write_weights,
                                   saves.cosine,
                                   saves.norm,
                                   call.slots(least_used, "least_used", {B, n}, N),
                                   data<T>(d_memory),
                                   data<T>(d_weights),
                                   data<T>(d_usage),
                                   d_interface};
    over_episodes(c, N * W * R, [&](int64_t begin, int64_t end) {
      controller.begin(d_read, begin, end);
      for (int64_t e = begin; e < end; ++e)
        std::copy_n(controller.grad_output + e * c.output() + c.D, RW, d_reads + e * RW);
      kernels<T>().lrua_step_backward(step, begin, end);
      kernels<T>().mann_activate_backward({layout, saves.vector(), d_interface, controller.grad_interface}, begin, end);
      controller.run(begin, end);
    });
    return std::make_tuple(controller.input, controller.hidden, controller.cell, d_memory, d_weights, d_usage,
                           controller.read, controller.rows);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_cell", TORCH_BOX(&mannkern::mann_cell));
  m.impl("mann_cell_backward", TORCH_BOX(&mannkern::mann_cell_backward));
}
