// The operation ntm_cell: an NTMCell's own step, its controller included, forward and backward. The memory is taken into
// slot blocks for the step and back, by the kernels of an episode.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cell.h"

namespace mannkern {
namespace {

NTMInterface interface_of(const CellShape& c, const Tensor& memory, const Tensor& read_weights,
                          const Tensor& write_weights, int64_t num_shifts) {
  const Shape s = shape_of(memory, read_weights, "read_weights", "BRN");
  check_sizes(write_weights, "write_weights", "BVN");
  check_range(num_shifts, "num_shifts", 1, c.I);
  if (num_shifts % 2 == 0) refuse("num_shifts", std::to_string(num_shifts), "an odd number: the middle one stays");
  const int64_t V = write_weights.size(1);
  const NTMInterface layout{{s.N, s.W, s.R + V, num_shifts}, V};
  if (c.I != layout.size())
    refuse("interface_weight", "I = " + std::to_string(c.I),
           std::to_string(layout.size()) + " for these heads and shifts");
  return layout;
}

// A memory in slot blocks, and the padded rows of a step.
template <class T>
struct Blocks {
  int64_t N, W, H, V, Np, row_stride;
  Blocks(const NTMInterface& layout)
      : N(layout.shape.N), W(layout.shape.W), H(layout.shape.H), V(layout.V),
        Np(padded_slots(N, block_slots(sizeof(T)))), row_stride((3 * H + 1) * Np) {}
  int64_t memory() const { return W * Np; }
  Shape shape() const { return {N, W, H}; }
};

// Weights (V,N) of write heads and (R,N) of read heads of an episode <-> those of all heads (H,N); null: zeros.
template <class T>
void join(T* all, const T* write, const T* read, const Blocks<T>& s) {
  const int64_t V = s.V * s.N, R = (s.H - s.V) * s.N;
  if (write) std::copy_n(write, V, all);
  else std::fill_n(all, V, T(0));
  if (read) std::copy_n(read, R, all + V);
  else std::fill_n(all + V, R, T(0));
}
template <class T>
void split(T* write, T* read, const T* all, const Blocks<T>& s) {
  std::copy_n(all, s.V * s.N, write);
  std::copy_n(all + s.V * s.N, (s.H - s.V) * s.N, read);
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// As mann_cell, but the state is memory (B,N,W), read_weights (B,R,N), write_weights (B,V,N) and r (B,R,W).
Forward ntm_cell(const Tensor& input, const Maybe& hidden, const Maybe& cell, const Tensor& memory,
                 const Tensor& read_weights, const Tensor& write_weights, const Tensor& read, const Tensor& weight,
                 const Maybe& recurrent_weight, const Tensor& bias, const Maybe& recurrent_bias,
                 const Tensor& interface_weight, const Tensor& interface_bias, int64_t num_shifts,
                 bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const CellArgs args{input, hidden, cell, read, weight, recurrent_weight, interface_weight};
    const CellShape c(args);
    const NTMInterface layout = interface_of(c, memory, read_weights, write_weights, num_shifts);
    const Blocks<T> s(layout);
    const int64_t N = layout.shape.N, W = layout.shape.W, H = layout.shape.H;
    const int64_t B = c.B, V = s.V, R = H - V;
    const T *M = call.in(memory, "memory", {B, N, W}), *w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T* w_w = call.in(write_weights, "write_weights", {B, V, N});
    const Tensor saved = call.out({CellController<T>::saved_size(c) + B * (c.I + s.row_stride)});
    const Tensor scratch = call.out({CellController<T>::scratch_size(c) + B * (H * N + s.row_stride + s.memory())});
    call.check(read, "read", {B, R, W});
    Pieces<T> pieces(saved), others(scratch);
    const CellController<T> controller(call, c, args, bias, recurrent_bias, interface_bias, pieces, others);
    T *interface = pieces.take(B * c.I), *rows = pieces.take(B * s.row_stride);
    T *weights = others.take(B * H * N), *previous = others.take(B * s.row_stride);
    T* blocks = others.take(B * s.memory());
    const Tensor memory_out = allocate_large<T>({B, N, W}), read_out = call.out({B, R, W});
    const Tensor read_weights_out = call.out({B, R, N}), write_weights_out = call.out({B, V, N});
    const Kernels<T>& k = kernels<T>();
    over_episodes(c, N * W * H, [&](int64_t begin, int64_t end) {
      controller.run(begin, end);
      for (int64_t e = begin; e < end; ++e)
        join(weights + e * H * N, w_w + e * V * N, w_r + e * R * N, s);
      k.to_blocks({s.shape(), s.row_stride, M, weights, blocks, previous, previous + 3 * H * s.Np}, begin, end);
      k.ntm_step({layout, R * W, controller.product, controller.interface_bias, blocks, previous, blocks, interface,
                  rows, data<T>(read_out), {}},
                 begin, end);
      k.from_blocks({s.shape(), s.row_stride, blocks, rows, data<T>(memory_out), weights}, begin, end);
      for (int64_t e = begin; e < end; ++e) {
        split(data<T>(write_weights_out) + e * V * N, data<T>(read_weights_out) + e * R * N, weights + e * H * N, s);
        controller.put_read(data<T>(read_out), e);
      }
    });
    return std::make_tuple(controller.output, controller.hidden, controller.cell, memory_out, read_weights_out,
                           write_weights_out, read_out, save_for_backward ? saved : call.out({0}));
  });
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// As mann_cell_backward: the gradients of input, h, c, memory, read weights, write weights and r, and the rows.
Backward ntm_cell_backward(const Maybe& grad_output, const Maybe& grad_hidden, const Maybe& grad_cell,
                           const Maybe& grad_memory, const Maybe& grad_read_weights, const Maybe& grad_write_weights,
                           const Maybe& grad_read, const Tensor& input, const Maybe& hidden, const Maybe& cell,
                           const Tensor& memory, const Tensor& read_weights, const Tensor& write_weights,
                           const Tensor& read, const Tensor& weight, const Maybe& recurrent_weight,
                           const Tensor& interface_weight, const Tensor& cell_out, const Tensor& memory_out,
                           const Tensor& saved, int64_t num_shifts, bool needs_input_grad, bool needs_weight_grad) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const CellArgs args{input, hidden, cell, read, weight, recurrent_weight, interface_weight};
    const CellShape c(args);
    const NTMInterface layout = interface_of(c, memory, read_weights, write_weights, num_shifts);
    const Blocks<T> s(layout);
    const int64_t N = layout.shape.N, W = layout.shape.W, H = layout.shape.H;
    const int64_t B = c.B, V = s.V, R = H - V;
    call.check(read, "read", {B, R, W});
    const T *M = call.in(memory, "memory", {B, N, W}), *w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T *w_w = call.in(write_weights, "write_weights", {B, V, N}), *M_out = call.in(memory_out, "memory_out", {B, N, W});
    const T* d_M = call.in(grad_memory, "grad_memory", {B, N, W});
    const T* d_w_r = call.in(grad_read_weights, "grad_read_weights", {B, R, N});
    const T* d_w_w = call.in(grad_write_weights, "grad_write_weights", {B, V, N});
    const T* d_read = call.in(grad_read, "grad_read", {B, R, W});
    const int64_t saved_size = CellController<T>::saved_size(c) + B * (c.I + s.row_stride);
    const Tensor scratch = call.out({CellControllerBackward<T>::scratch_size(c) +
                                     B * (H * N + s.row_stride + H * s.Np + 3 * s.memory())});
    Pieces<T> pieces(call.hold(saved, "saved", {saved_size})), others(scratch);
    const CellControllerBackward<T> controller(call, c, args, cell_out, grad_output, grad_hidden, grad_cell,
                                               needs_input_grad, needs_weight_grad, pieces, others);
    const T *interface = pieces.take(B * c.I), *rows = pieces.take(B * s.row_stride);
    T *weights = others.take(B * H * N), *previous = others.take(B * s.row_stride), *d_rows = others.take(B * H * s.Np);
    T *before = others.take(B * s.memory()), *after = others.take(B * s.memory()), *D = others.take(B * s.memory());
    const Tensor d_memory = allocate_large<T>({B, N, W});
    const Tensor d_read_weights = call.out({B, R, N}), d_write_weights = call.out({B, V, N});
    const Kernels<T>& k = kernels<T>();
    over_episodes(c, 2 * N * W * H, [&](int64_t begin, int64_t end) {
      controller.begin(d_read, begin, end);
      k.to_blocks({s.shape(), H * s.Np, M_out, nullptr, after, d_rows, nullptr}, begin, end);
      for (int64_t e = begin; e < end; ++e)
        join(weights + e * H * N, w_w + e * V * N, w_r + e * R * N, s);
      k.to_blocks({s.shape(), s.row_stride, M, weights, before, previous, previous + 3 * H * s.Np}, begin, end);
      for (int64_t e = begin; e < end; ++e)
        join(weights + e * H * N, offset_or_null(d_w_w, e * V * N), offset_or_null(d_w_r, e * R * N), s);
      k.to_blocks({s.shape(), H * s.Np, d_M, weights, D, d_rows, nullptr}, begin, end);
      k.ntm_step_backward({layout, c.output(), c.D, nullptr, before, after, previous, rows, interface,
                           controller.grad_output, D, d_rows, controller.grad_interface, {}},
                          begin, end);
      k.from_blocks({s.shape(), H * s.Np, D, d_rows, data<T>(d_memory), weights}, begin, end);
      for (int64_t e = begin; e < end; ++e)
        split(data<T>(d_write_weights) + e * V * N, data<T>(d_read_weights) + e * R * N, weights + e * H * N, s);
      controller.run(begin, end);
    });
    return std::make_tuple(controller.input, controller.hidden, controller.cell, d_memory, d_read_weights,
                           d_write_weights, controller.read, controller.rows);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("ntm_cell", TORCH_BOX(&mannkern::ntm_cell));
  m.impl("ntm_cell_backward", TORCH_BOX(&mannkern::ntm_cell_backward));
}
