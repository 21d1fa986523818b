// The operation mann_episode: a MANN's loop over the steps of an episode, forward and backward through time.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "checkpoints.h"
#include "controller_loop.h"

namespace mannkern {
namespace {

MANNInterface interface_of(const ControllerShape& c, const Tensor& memory) {
  check_sizes(memory, "memory", "BNW");
  const int64_t W = memory.size(2), R = (c.O - c.D) / W;
  const MANNInterface layout{{memory.size(1), W, R}, c.I == 2 * R * W + 2 * R};
  if (R == 0 || c.O != c.D + R * W)
    refuse("output", "O = " + std::to_string(c.O),
           "D + R W with D = " + std::to_string(c.D) + ", W = " + std::to_string(W));
  if (c.I != layout.size())
    refuse("interface_weight", "I = " + std::to_string(c.I),
           "2 R W + R, or 2 R W + 2 R with strengths, with R = " + std::to_string(R) + ", W = " + std::to_string(W));
  return layout;
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Inputs are those of ControllerArgs; bias (4D), the sum of an LSTM's two, or (D); interface_bias (I); memory (B,N,W),
// read_weights (B,R,N) and usage (B,N) before the first step. Returns outputs (T,B,O); memory, read weights, usage and
// cell after the last step; and, for backward, checkpoints, padded rows, gates, cells, interface vectors and least used
// slots.
Forward mann_episode(const Tensor& input, const Tensor& input_weight, const Tensor& bias,
                     const Tensor& recurrent_weight, const Tensor& interface_weight, const Tensor& interface_bias,
                     const Tensor& output, const Maybe& cell, const Tensor& memory, const Tensor& read_weights,
                     const Tensor& usage, int64_t n, bool per_head, double decay, bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const MANNInterface layout = interface_of(c, memory);
    const auto [N, W, R] = layout.shape;
    const EpisodeShape s(input, memory, R, 2 * R + 1, save_for_backward);
    const int64_t B = s.B;
    check_range(n, "num_least_used", 1, N);
    const LRUAOptions options{n, per_head, decay};
    const T *M0 = call.in(memory, "memory", {B, N, W}), *w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T* u = call.in(usage, "usage", {B, N});
    ControllerLoop<T> loop(call, c, {input, input_weight, recurrent_weight, interface_weight, output, cell}, bias,
                           interface_bias, save_for_backward);
    const Checkpoints<T> checkpoints(s);
    const Tensor least_used = Call<T>::allocate({save_for_backward ? s.T : 1, B, n}, ScalarType::Long);
    const Tensor last_memory = call.out({B, N, W}), last_weights = call.out({B, R, N}), last_usage = call.out({B, N});
    const Tensor current = call.out({B, s.memory_size()});
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{layout.shape, s.row_stride(), M0, w_r, data<T>(current), checkpoints.row(0), nullptr});
    std::copy_n(u, B * N, data<T>(last_usage));
    for (int64_t t = 0; t < s.T; ++t) {
      const T* product = loop.step(t);
      over_batch(B, s.work(), kernels<T>().mann_step,
                 MANNStep<T>{layout, options, c.O, product, loop.interface_bias, checkpoints.row(t), data<T>(current),
                             data<T>(last_usage),
                             save_for_backward && t % s.checkpoint_every == 0 ? checkpoints.memory(t) : nullptr,
                             loop.interface_at(t), checkpoints.row(t + 1), loop.output(t) + c.D,
                             data<int64_t>(least_used) + (save_for_backward ? t : 0) * B * n});
    }
    over_batch(B, N * W, kernels<T>().from_blocks,
               FromBlocks<T>{layout.shape, s.row_stride(), data<T>(current), checkpoints.row(s.T), data<T>(last_memory),
                             data<T>(last_weights)});
    return std::make_tuple(loop.outputs, last_memory, last_weights, last_usage, loop.last_cell(), checkpoints.memories,
                           checkpoints.rows, loop.saved_gates(), loop.cells, loop.interface, least_used);
  });
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments are the gradients of the outputs and of memory, read weights, usage and cell after the last step (null:
// zero), the inputs, and what mann_episode saved for backward. Returns the gradients of the inputs in their order; that
// of `input` is (0,B,F) without `needs_input_grad`.
Backward mann_episode_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_read_weights,
                               const Maybe& grad_usage, const Maybe& grad_cell, const Tensor& input,
                               const Tensor& input_weight, const Tensor& recurrent_weight,
                               const Tensor& interface_weight, const Tensor& output, const Maybe& cell,
                               const Tensor& memory, const Tensor& outputs, const Tensor& memory_checkpoints,
                               const Tensor& rows, const Tensor& gates, const Tensor& cells, const Tensor& interface,
                               const Tensor& least_used, bool per_head, double decay, bool needs_input_grad) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const MANNInterface layout = interface_of(c, memory);
    const auto [N, W, R] = layout.shape;
    const EpisodeShape s(input, memory, R, 2 * R + 1, true);
    check_sizes(least_used, "least_used", "TBn");
    const int64_t B = s.B, n = least_used.size(2);
    check_range(n, "least_used.shape[2]", 1, N);
    const LRUAOptions options{n, per_head, decay};
    call.check(memory, "memory", {B, N, W});
    const Checkpoints<T> checkpoints(call, s, memory_checkpoints, rows);
    const T* interface_rows = call.in(interface, "interface", {s.T, B, c.I});
    const int64_t* slots = call.slots(least_used, "least_used", {s.T, B, n}, N);
    ControllerLoopBackward<T> loop(call, c, {input, input_weight, recurrent_weight, interface_weight, output, cell},
                                   outputs, gates, cells, grad_outputs, grad_cell, needs_input_grad);
    const Tensor D_M = call.out({B, s.memory_size()}), d_rows = call.out({B, R, s.Np});
    over_batch(B, N * W, kernels<T>().to_blocks,
               ToBlocks<T>{layout.shape, R * s.Np, call.in(grad_memory, "grad_memory", {B, N, W}),
                           call.in(grad_read_weights, "grad_read_weights", {B, R, N}), data<T>(D_M), data<T>(d_rows),
                           nullptr});
    const Tensor d_u = copy_or_zeros(call, grad_usage, "grad_usage", {B, N});
    // the memories after each step from one checkpoint to the next
    const Tensor memories = allocate_large<T>({s.checkpoint_every, B, s.memory_size()});
    for (int64_t t = s.T - 1; t >= 0; --t) {
      const int64_t begin = t / s.checkpoint_every * s.checkpoint_every;
      if (t == s.T - 1 || t % s.checkpoint_every == s.checkpoint_every - 1)
        over_batch(B, s.work() * (t + 1 - begin), kernels<T>().mann_recompute,
                   MANNRecompute<T>{layout, options, B, t + 1 - begin, checkpoints.memory(begin),
                                    interface_rows + begin * B * c.I, checkpoints.row(begin), slots + begin * B * n,
                                    data<T>(memories)});
      over_batch(B, s.work(), kernels<T>().mann_step_backward,
                 MANNStepBackward<T>{layout, options, c.O, c.D, loop.grad_outputs(t),
                                     data<T>(memories) + (t - begin) * B * s.memory_size(), checkpoints.row(t),
                                     checkpoints.row(t + 1), interface_rows + t * B * c.I, slots + t * B * n,
                                     data<T>(loop.output), data<T>(D_M), data<T>(d_rows), data<T>(d_u),
                                     loop.weights.grad_interface(t)});
      loop.step(t);
    }
    const Tensor d_memory = call.out({B, N, W}), d_weights = call.out({B, R, N});
    over_batch(
        B, N * W, kernels<T>().from_blocks,
        FromBlocks<T>{layout.shape, R * s.Np, data<T>(D_M), data<T>(d_rows), data<T>(d_memory), data<T>(d_weights)});
    const WeightGradients<T>& grads = loop.weights;
    return std::make_tuple(grads.input, grads.input_weight, grads.bias, grads.recurrent_weight, grads.interface_weight,
                           grads.interface_bias, loop.output, loop.cell, d_memory, d_weights, d_u);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_episode", TORCH_BOX(&mannkern::mann_episode));
  m.impl("mann_episode_backward", TORCH_BOX(&mannkern::mann_episode_backward));
}
