// The operation ntm_episode: an NTM's loop over the steps of an episode, forward and backward through time.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "checkpoints.h"
#include "controller_loop.h"

namespace mannkern {
namespace {

NTMInterface interface_of(const ControllerShape& c, const Tensor& memory, const Tensor& weights,
                          int64_t num_write_heads, int64_t num_shifts) {
  const Shape s = shape_of(memory, weights, "weights", "BHN");
  check_range(num_write_heads, "num_write_heads", 1, s.R - 1);
  check_range(num_shifts, "num_shifts", 1, c.I);
  if (num_shifts % 2 == 0) refuse("num_shifts", std::to_string(num_shifts), "an odd number: the middle one stays");
  const NTMInterface layout{{s.N, s.W, s.R, num_shifts}, num_write_heads};
  if (c.I != layout.size())
    refuse("interface_weight", "I = " + std::to_string(c.I),
           std::to_string(layout.size()) + " for these heads and shifts");
  if (c.O != c.D + (s.R - num_write_heads) * s.W)
    refuse("output", "O = " + std::to_string(c.O), "D + R W = " + std::to_string(c.D + (s.R - num_write_heads) * s.W));
  return layout;
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// As mann_episode, but the state is memory (B,N,W) and weights (B,H,N), those of the write heads first.
Forward ntm_episode(const Tensor& input, const Tensor& input_weight, const Tensor& bias, const Tensor& recurrent_weight,
                    const Tensor& interface_weight, const Tensor& interface_bias, const Tensor& output,
                    const Maybe& cell, const Tensor& memory, const Tensor& weights, const Maybe& lengths,
                    const Maybe& reset, const Maybe& initial_memory, int64_t num_write_heads, int64_t num_shifts,
                    bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const NTMInterface layout = interface_of(c, memory, weights, num_write_heads, num_shifts);
    const int64_t N = layout.shape.N, W = layout.shape.W, H = layout.shape.H;
    const EpisodeShape s(input, memory, H, 3 * H + 1, save_for_backward);
    const int64_t B = s.B;
    const Batch batch(call, s.T, B, lengths, reset);
    const FirstState<T> first(call, s, reset, initial_memory, true);
    const T *M0 = call.in(memory, "memory", {B, N, W}), *w0 = call.in(weights, "weights", {B, H, N});
    const std::vector<Share> shares = batch.shares();
    ControllerLoop<T> loop(call, c, batch, shares,
                           {input, input_weight, recurrent_weight, interface_weight, output, cell}, bias, interface_bias,
                           save_for_backward);
    const Checkpoints<T> checkpoints(s);
    const Tensor last_memory = call.out({B, N, W}), last_weights = call.out({B, H, N});
    const Tensor scratch = call.out({workers(shares.size()), largest(shares), s.memory_size()});
    each_task(shares.size(), [&](int64_t i, int64_t worker) {
      const Share& share = shares[i];
      const int64_t b = share.begin();
      T* current = data<T>(scratch) + worker * largest(shares) * s.memory_size();
      T* M = s.checkpoints() ? checkpoints.memory(0, b) : current;
      // the state of episodes [from, to), which have ended, is their last one; their rows are those before step t
      const auto keep_last = [&](int64_t t, int64_t from, int64_t to) {
        over_batch(to - from, N * W, kernels<T>().from_blocks,
                   FromBlocks<T>{s.shape, s.row_stride(), M + from * s.memory_size(), checkpoints.row(t, b + from),
                                 data<T>(last_memory) + (b + from) * N * W,
                                 data<T>(last_weights) + (b + from) * H * N});
      };
      over_batch(share.B, N * W, kernels<T>().to_blocks,
                 ToBlocks<T>{s.shape, s.row_stride(), M0 + b * N * W, w0 + b * H * N, M, checkpoints.row(0, b),
                             checkpoints.row(0, b) + 3 * H * s.Np});
      typename ControllerLoop<T>::Steps steps(loop, share, worker);
      keep_last(0, share.active(0), share.B);
      for (int64_t t = 0; t < s.T; ++t) {
        const int64_t count = share.active(t);
        const bool is_checkpoint = save_for_backward && t + 1 < s.T && (t + 1) % s.checkpoint_every == 0;
        T* after = is_checkpoint ? checkpoints.memory(t + 1, b) : current;
        const T* product = steps.step(t);
        over_batch(count, s.work(), kernels<T>().ntm_step,
                   NTMStep<T>{layout, c.O, product, loop.interface_bias, M, checkpoints.row(t, b), after,
                              steps.interface_at(t), checkpoints.row(t + 1, b), steps.output(t) + c.D,
                              first.restart(batch.reset(b, t))});
        M = after;
        keep_last(t + 1, share.active(t + 1), count);
        share.clear_ended(after, s.memory_size(), t);
        share.clear_ended(checkpoints.row(t + 1, b), s.row_stride(), t);
      }
    });
    return std::make_tuple(loop.outputs, last_memory, last_weights, loop.last_cell, checkpoints.memories,
                           checkpoints.rows, loop.saved_gates(), loop.cells, loop.interface);
  });
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments are the gradients of the outputs and of memory, weights and cell after the last step (null: zero), the
// inputs, and what ntm_episode saved for backward. Returns the gradients of the inputs in their order; that of `input`
// is (0,B,F) without `needs_input_grad`, that of initial_memory (0,W) without resets.
Backward ntm_episode_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_weights,
                              const Maybe& grad_cell, const Tensor& input, const Tensor& input_weight,
                              const Tensor& recurrent_weight, const Tensor& interface_weight, const Tensor& output,
                              const Maybe& cell, const Tensor& memory, const Tensor& weights, const Tensor& outputs,
                              const Tensor& memory_checkpoints, const Tensor& rows, const Tensor& gates,
                              const Tensor& cells, const Tensor& interface, const Maybe& lengths, const Maybe& reset,
                              const Maybe& initial_memory, int64_t num_write_heads, int64_t num_shifts,
                              bool needs_input_grad) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const NTMInterface layout = interface_of(c, memory, weights, num_write_heads, num_shifts);
    const int64_t N = layout.shape.N, W = layout.shape.W, H = layout.shape.H;
    const EpisodeShape s(input, memory, H, 3 * H + 1, true);
    const int64_t B = s.B;
    const Batch batch(call, s.T, B, lengths, reset);
    FirstState<T> first(call, s, reset, initial_memory, true, batch.largest());
    call.check(memory, "memory", {B, N, W});
    call.check(weights, "weights", {B, H, N});
    const Checkpoints<T> checkpoints(call, s, memory_checkpoints, rows);
    const T* interface_rows = call.in(interface, "interface", {s.T, B, c.I});
    const std::vector<Share> all = batch.shares();
    const int64_t share_size = largest(all), memories_size = s.checkpoint_every * share_size * s.memory_size();
    ControllerLoopBackward<T> loop(call, c, batch, all,
                                   {input, input_weight, recurrent_weight, interface_weight, output, cell}, outputs,
                                   gates, cells, grad_outputs, grad_cell, needs_input_grad);
    const T* grad_M = call.in(grad_memory, "grad_memory", {B, N, W});
    const T* grad_w = call.in(grad_weights, "grad_weights", {B, H, N});
    const Tensor d_memory = call.out({B, N, W}), d_weights = call.out({B, H, N});
    const Tensor D_M = call.out({workers(all.size()), share_size, s.memory_size()});
    const Tensor d_rows = call.out({workers(all.size()), share_size, H, s.Np});
    // the memories after each step between two checkpoints
    const Tensor scratch = allocate_large<T>({workers(all.size()), memories_size});
    for (auto chunk = batch.chunks.rbegin(); chunk != batch.chunks.rend(); ++chunk) {
      const std::vector<Share> shares = batch.shares(*chunk);
      each_task(shares.size(), [&](int64_t i, int64_t worker) {
        const Share& share = shares[i];
        const int64_t b = share.begin(), size = share.B * s.memory_size();
        T *D = data<T>(D_M) + worker * share_size * s.memory_size(), *memories = data<T>(scratch) + worker * memories_size;
        T* d_head_weights = data<T>(d_rows) + worker * share_size * H * s.Np;
        typename ControllerLoopBackward<T>::Steps steps(loop, share, worker);
        over_batch(share.B, N * W, kernels<T>().to_blocks,
                   ToBlocks<T>{s.shape, H * s.Np, offset_or_null(grad_M, b * N * W), offset_or_null(grad_w, b * H * N),
                               D, d_head_weights, nullptr});
        for (int64_t t = s.T - 1; t >= 0; --t) {
          const int64_t begin = t / s.checkpoint_every * s.checkpoint_every, count = share.active(t);
          const bool* anew = batch.reset(b, t);
          T* after = memories + (t - begin) * size;
          if (t == s.T - 1 || t % s.checkpoint_every == s.checkpoint_every - 1)
            over_batch(share.active(begin), s.work() * (t + 1 - begin), kernels<T>().ntm_recompute,
                       NTMRecompute<T>{layout, B, share.B, t + 1 - begin, checkpoints.memory(begin, b),
                                       interface_rows + (begin * B + b) * c.I, checkpoints.row(begin + 1, b), memories,
                                       first.restart(batch.reset(b, begin))});
          over_batch(count, s.work(), kernels<T>().ntm_step_backward,
                     NTMStepBackward<T>{layout, c.O, c.D, steps.grad_outputs(t),
                                        t > begin ? after - size : checkpoints.memory(t, b), after,
                                        checkpoints.row(t, b), checkpoints.row(t + 1, b),
                                        interface_rows + (t * B + b) * c.I, steps.grad_output(), D, d_head_weights,
                                        steps.grad_interface(t), first.restart(anew)});
          steps.step(t);
          first.add_gradients(D, d_head_weights, anew, share.first, count);
        }
        over_batch(share.B, N * W, kernels<T>().from_blocks,
                   FromBlocks<T>{s.shape, H * s.Np, D, d_head_weights, data<T>(d_memory) + b * N * W,
                                 data<T>(d_weights) + b * H * N});
      });
      loop.add_weights(*chunk);
      first.end_chunk();
    }
    const WeightGradients<T>& grads = loop.weights;
    return std::make_tuple(loop.input, grads.input_weight(), grads.bias(), grads.recurrent_weight(),
                           grads.interface_weight(), grads.interface_bias(), loop.output, loop.cell, d_memory,
                           d_weights, first.gradient());
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("ntm_episode", TORCH_BOX(&mannkern::ntm_episode));
  m.impl("ntm_episode_backward", TORCH_BOX(&mannkern::ntm_episode_backward));
}
