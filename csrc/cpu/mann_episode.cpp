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
// read_weights (B,R,N) and usage (B,N) before the first step; lengths and reset as batch.h has them; initial_memory (N,W),
// from which episodes start anew. Returns outputs (T,B,O); memory, read weights, usage and
// cell after the last step; and, for backward, checkpoints, padded rows, gates, cells, interface vectors and least used
// slots.
Forward mann_episode(const Tensor& input, const Tensor& input_weight, const Tensor& bias,
                     const Tensor& recurrent_weight, const Tensor& interface_weight, const Tensor& interface_bias,
                     const Tensor& output, const Maybe& cell, const Tensor& memory, const Tensor& read_weights,
                     const Tensor& usage, const Maybe& lengths, const Maybe& reset, const Maybe& initial_memory, int64_t n,
                     bool per_head, double decay, bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const MANNInterface layout = interface_of(c, memory);
    const int64_t N = layout.shape.N, W = layout.shape.W, R = layout.shape.R;
    const EpisodeShape s(input, memory, R, 2 * R + 1, save_for_backward);
    const int64_t B = s.B;
    const Batch batch(call, s.T, B, lengths, reset);
    const FirstState<T> first(call, s, reset, initial_memory, false);
    check_range(n, "num_least_used", 1, N);
    check_decay(decay);
    const LRUAOptions options{n, per_head, decay};
    const T *M0 = call.in(memory, "memory", {B, N, W}), *w_r = call.in(read_weights, "read_weights", {B, R, N});
    const T* u = call.in(usage, "usage", {B, N});
    const std::vector<Share> shares = batch.shares();
    ControllerLoop<T> loop(call, c, batch, shares,
                           {input, input_weight, recurrent_weight, interface_weight, output, cell}, bias, interface_bias,
                           save_for_backward);
    const Checkpoints<T> checkpoints(s);
    const Tensor least_used = Call<T>::allocate({save_for_backward ? s.T : 1, B, n}, ScalarType::Long);
    const Tensor last_memory = call.out({B, N, W}), last_weights = call.out({B, R, N}), last_usage = call.out({B, N});
    const Tensor scratch = call.out({workers(shares.size()), largest(shares), s.memory_size()});
    each_task(shares.size(), [&](int64_t i, int64_t worker) {
      const Share& share = shares[i];
      const int64_t b = share.begin();
      T *current = data<T>(scratch) + worker * largest(shares) * s.memory_size(), *usage_now = data<T>(last_usage) + b * N;
      std::copy_n(u + b * N, share.B * N, usage_now);
      // the state of episodes [from, to), which have ended, is their last one; their rows are those before step t
      const auto keep_last = [&](int64_t t, int64_t from, int64_t to) {
        over_batch(to - from, N * W, kernels<T>().from_blocks,
                   FromBlocks<T>{layout.shape, s.row_stride(), current + from * s.memory_size(),
                                 checkpoints.row(t, b + from), data<T>(last_memory) + (b + from) * N * W,
                                 data<T>(last_weights) + (b + from) * R * N});
      };
      over_batch(share.B, N * W, kernels<T>().to_blocks,
                 ToBlocks<T>{layout.shape, s.row_stride(), M0 + b * N * W, w_r + b * R * N, current,
                             checkpoints.row(0, b), nullptr});
      typename ControllerLoop<T>::Steps steps(loop, share, worker);
      keep_last(0, share.active(0), share.B);
      for (int64_t t = 0; t < s.T; ++t) {
        const int64_t count = share.active(t);
        const bool* anew = batch.reset(b, t);
        T* checkpoint = save_for_backward && t % s.checkpoint_every == 0 ? checkpoints.memory(t, b) : nullptr;
        int64_t* slots = data<int64_t>(least_used) + ((save_for_backward ? t : 0) * B + b) * n;
        clear_restarted(usage_now, N, anew, count);
        for (int64_t e = 0; anew && e < count; ++e)
          if (anew[e]) usage_now[e * N] = 1;
        const T* product = steps.step(t);
        over_batch(count, s.work(), kernels<T>().mann_step,
                   MANNStep<T>{layout, options, c.O, product, loop.interface_bias, checkpoints.row(t, b), current,
                               usage_now, checkpoint, steps.interface_at(t), checkpoints.row(t + 1, b),
                               steps.output(t) + c.D, slots, first.restart(anew)});
        keep_last(t + 1, share.active(t + 1), count);
        share.clear_ended(checkpoint, s.memory_size(), t);
        share.clear_ended(checkpoints.row(t + 1, b), s.row_stride(), t);
        share.clear_ended(slots, n, t);
      }
    });
    return std::make_tuple(loop.outputs, last_memory, last_weights, last_usage, loop.last_cell, checkpoints.memories,
                           checkpoints.rows, loop.saved_gates(), loop.cells, loop.interface, least_used);
  });
}

using Backward =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments are the gradients of the outputs and of memory, read weights, usage and cell after the last step (null:
// zero), the inputs, and what mann_episode saved for backward. Returns the gradients of the inputs in their order; that
// of `input` is (0,B,F) without `needs_input_grad`, that of initial_memory (0,W) without resets.
Backward mann_episode_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_read_weights,
                               const Maybe& grad_usage, const Maybe& grad_cell, const Tensor& input,
                               const Tensor& input_weight, const Tensor& recurrent_weight,
                               const Tensor& interface_weight, const Tensor& output, const Maybe& cell,
                               const Tensor& memory, const Tensor& outputs, const Tensor& memory_checkpoints,
                               const Tensor& rows, const Tensor& gates, const Tensor& cells, const Tensor& interface,
                               const Tensor& least_used, const Maybe& lengths, const Maybe& reset,
                               const Maybe& initial_memory, bool per_head, double decay, bool needs_input_grad) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const ControllerShape c(input, interface_weight, output, cell.has_value());
    const MANNInterface layout = interface_of(c, memory);
    const int64_t N = layout.shape.N, W = layout.shape.W, R = layout.shape.R;
    const EpisodeShape s(input, memory, R, 2 * R + 1, true);
    const Batch batch(call, s.T, s.B, lengths, reset);
    FirstState<T> first(call, s, reset, initial_memory, false, batch.largest());
    check_sizes(least_used, "least_used", "TBn");
    const int64_t B = s.B, n = least_used.size(2);
    check_range(n, "least_used.shape[2]", 1, N);
    check_decay(decay);
    const LRUAOptions options{n, per_head, decay};
    call.check(memory, "memory", {B, N, W});
    const Checkpoints<T> checkpoints(call, s, memory_checkpoints, rows);
    const T* interface_rows = call.in(interface, "interface", {s.T, B, c.I});
    const int64_t* slots = call.slots(least_used, "least_used", {s.T, B, n}, N);
    const std::vector<Share> all = batch.shares();
    const int64_t share_size = largest(all), memories_size = s.checkpoint_every * share_size * s.memory_size();
    ControllerLoopBackward<T> loop(call, c, batch, all,
                                   {input, input_weight, recurrent_weight, interface_weight, output, cell}, outputs,
                                   gates, cells, grad_outputs, grad_cell, needs_input_grad);
    const T* grad_M = call.in(grad_memory, "grad_memory", {B, N, W});
    const T* grad_w = call.in(grad_read_weights, "grad_read_weights", {B, R, N});
    const Tensor d_u = copy_or_zeros(call, grad_usage, "grad_usage", {B, N});
    const Tensor d_memory = call.out({B, N, W}), d_weights = call.out({B, R, N});
    const Tensor D_M = call.out({workers(all.size()), share_size, s.memory_size()});
    const Tensor d_rows = call.out({workers(all.size()), share_size, R, s.Np});
    // the memories after each step from one checkpoint to the next
    const Tensor scratch = allocate_large<T>({workers(all.size()), memories_size});
    for (auto chunk = batch.chunks.rbegin(); chunk != batch.chunks.rend(); ++chunk) {
      const std::vector<Share> shares = batch.shares(*chunk);
      each_task(shares.size(), [&](int64_t i, int64_t worker) {
        const Share& share = shares[i];
        const int64_t b = share.begin();
        T *D = data<T>(D_M) + worker * share_size * s.memory_size(), *memories = data<T>(scratch) + worker * memories_size;
        T* d_read_weights = data<T>(d_rows) + worker * share_size * R * s.Np;
        typename ControllerLoopBackward<T>::Steps steps(loop, share, worker);
        over_batch(share.B, N * W, kernels<T>().to_blocks,
                   ToBlocks<T>{layout.shape, R * s.Np, offset_or_null(grad_M, b * N * W),
                               offset_or_null(grad_w, b * R * N), D, d_read_weights, nullptr});
        for (int64_t t = s.T - 1; t >= 0; --t) {
          const int64_t begin = t / s.checkpoint_every * s.checkpoint_every, count = share.active(t);
          const bool* anew = batch.reset(b, t);
          if (t == s.T - 1 || t % s.checkpoint_every == s.checkpoint_every - 1)
            over_batch(share.active(begin), s.work() * (t + 1 - begin), kernels<T>().mann_recompute,
                       MANNRecompute<T>{layout, options, B, share.B, t + 1 - begin, checkpoints.memory(begin, b),
                                        interface_rows + (begin * B + b) * c.I, checkpoints.row(begin, b),
                                        slots + (begin * B + b) * n, memories, first.restart(batch.reset(b, begin))});
          over_batch(count, s.work(), kernels<T>().mann_step_backward,
                     MANNStepBackward<T>{layout, options, c.O, c.D, steps.grad_outputs(t),
                                         memories + (t - begin) * share.B * s.memory_size(), checkpoints.row(t, b),
                                         checkpoints.row(t + 1, b), interface_rows + (t * B + b) * c.I,
                                         slots + (t * B + b) * n, steps.grad_output(), D, d_read_weights,
                                         data<T>(d_u) + b * N, steps.grad_interface(t), first.restart(anew)});
          steps.step(t);
          first.add_gradients(D, d_read_weights, anew, share.first, count);
          clear_restarted(data<T>(d_u) + b * N, N, anew, count);
        }
        over_batch(share.B, N * W, kernels<T>().from_blocks,
                   FromBlocks<T>{layout.shape, R * s.Np, D, d_read_weights, data<T>(d_memory) + b * N * W,
                                 data<T>(d_weights) + b * R * N});
      });
      loop.add_weights(*chunk);
      first.end_chunk();
    }
    const WeightGradients<T>& grads = loop.weights;
    return std::make_tuple(loop.input, grads.input_weight(), grads.bias(), grads.recurrent_weight(),
                           grads.interface_weight(), grads.interface_bias(), loop.output, loop.cell, d_memory,
                           d_weights, d_u, first.gradient());
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("mann_episode", TORCH_BOX(&mannkern::mann_episode));
  m.impl("mann_episode_backward", TORCH_BOX(&mannkern::mann_episode_backward));
}
