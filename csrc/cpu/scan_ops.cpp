// The operation lrua_scan on a CPU: one kernel runs all steps of an episode.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "checkpoints.h"

namespace mannkern {
namespace {

// The interface vectors of all steps: keys and adds (T,B,R,W), gates and strengths (T,B,R).
template <class T>
InterfaceVector<T> interface_vectors(Call<T>& call, int64_t steps, int64_t B, const Shape& s, const Tensor& keys,
                                     const Tensor& adds, const Tensor& gates, const Maybe& strengths) {
  return {call.in(keys, "keys", {steps, B, s.R, s.W}), call.in(adds, "adds", {steps, B, s.R, s.W}),
          call.in(gates, "gates", {steps, B, s.R}), call.in(strengths, "strengths", {steps, B, s.R})};
}

Shape scan_shape(const Tensor& memory, const Tensor& keys) {
  check_sizes(memory, "memory", "BNW");
  check_sizes(keys, "keys", "TBRW");
  if (keys.size(0) == 0) refuse("keys", shape_text(keys), "(T, B, R, W) with T at least 1");
  return {memory.size(1), memory.size(2), keys.size(2)};
}

// Steps from one checkpoint of the state to the next. There are at most seven checkpoints, so their space does not grow
// with T; backward recomputes the steps between two of them, one episode at a time. Short scans take about the square
// root of T, which needs the least space for both. Python's twin, for shapes under torch.compile: checkpoint_every in
// mannkern/memories/lrua/ops/scan.py.
int64_t scan_checkpoint_every(int64_t T) { return std::max(checkpoint_every(std::min<int64_t>(T, 64)), (T + 7) / 8); }

// A checkpoint: memory, read weights and usage of an episode, in the blocks of the instruction set in use. These are
// their number, and the numbers of one.
template <class T>
int64_t blocks(const Shape& s) {
  return padded_slots(s.N, block_slots(sizeof(T))) / block_slots(sizeof(T));
}
template <class T>
int64_t block_numbers(const Shape& s) {
  return block_slots(sizeof(T)) * (s.W + s.R + 1);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> lrua_scan(const Tensor& memory, const Tensor& read_weights,
                                                             const Tensor& usage, const Tensor& keys,
                                                             const Tensor& adds, const Tensor& gates,
                                                             const Maybe& strengths, int64_t n, bool per_head,
                                                             double decay, bool save_for_backward) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = scan_shape(memory, keys);
    const int64_t B = memory.size(0), steps = keys.size(0), every = scan_checkpoint_every(steps);
    const LRUAOptions options{n, per_head, decay};
    check_range(n, "num_least_used", 1, s.N);
    check_decay(decay);
    const Tensor reads = allocate_large<T>({steps, B, s.R, s.W}), memory_out = call.out({B, s.N, s.W});
    const Tensor weights_out = call.out({B, s.R, s.N}), usage_out = call.out({B, s.N});
    const int64_t count = save_for_backward ? (steps - 1) / every : 0;
    const Tensor checkpoints = allocate_large<T>({count, B, blocks<T>(s), block_numbers<T>(s)});
    over_episodes(B, steps * s.N * s.W * s.R, kernels<T>().lrua_scan,
                  LRUAScan<T>{s, options, B, steps, every, call.in(memory, "memory", {B, s.N, s.W}),
                              call.in(read_weights, "read_weights", {B, s.R, s.N}), call.in(usage, "usage", {B, s.N}),
                              interface_vectors(call, steps, B, s, keys, adds, gates, strengths), data<T>(reads),
                              data<T>(memory_out), data<T>(weights_out), data<T>(usage_out),
                              save_for_backward ? data<T>(checkpoints) : nullptr});
    return std::make_tuple(reads, memory_out, weights_out, usage_out, checkpoints);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_scan_backward(
    const Maybe& grad_reads, const Maybe& grad_memory_out, const Maybe& grad_read_weights_out,
    const Maybe& grad_usage_out, const Tensor& memory, const Tensor& read_weights, const Tensor& usage,
    const Tensor& keys, const Tensor& adds, const Tensor& gates, const Maybe& strengths, const Tensor& checkpoints,
    int64_t n, bool per_head, double decay) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = scan_shape(memory, keys);
    const int64_t B = memory.size(0), steps = keys.size(0), every = scan_checkpoint_every(steps);
    const LRUAOptions options{n, per_head, decay};
    check_range(n, "num_least_used", 1, s.N);
    check_decay(decay);
    const int64_t count = (steps - 1) / every;
    check_saved(checkpoints, "checkpoints", {count, B, blocks<T>(s), block_numbers<T>(s)});
    const Tensor grad_memory = call.out({B, s.N, s.W}), w_r = call.out({B, s.R, s.N}), grad_usage = call.out({B, s.N});
    const Tensor grad_keys = allocate_large<T>({steps, B, s.R, s.W}),
                 grad_adds = allocate_large<T>({steps, B, s.R, s.W});
    const Tensor grad_gates = call.out({steps, B, s.R}), grad_strengths = call.out({steps, B, strengths ? s.R : 0});
    over_episodes(B, steps * s.N * s.W * s.R, kernels<T>().lrua_scan_backward,
               LRUAScanBackward<T>{s,
                                   options,
                                   B,
                                   steps,
                                   every,
                                   call.in(grad_reads, "grad_reads", {steps, B, s.R, s.W}),
                                   call.in(grad_memory_out, "grad_memory", {B, s.N, s.W}),
                                   call.in(grad_read_weights_out, "grad_read_weights", {B, s.R, s.N}),
                                   call.in(grad_usage_out, "grad_usage", {B, s.N}),
                                   call.in(memory, "memory", {B, s.N, s.W}),
                                   call.in(read_weights, "read_weights", {B, s.R, s.N}),
                                   call.in(usage, "usage", {B, s.N}),
                                   interface_vectors(call, steps, B, s, keys, adds, gates, strengths),
                                   call.in(checkpoints, "checkpoints", {count, B, blocks<T>(s), block_numbers<T>(s)}),
                                   data<T>(grad_memory),
                                   data<T>(w_r),
                                   data<T>(grad_usage),
                                   {data<T>(grad_keys), data<T>(grad_adds), data<T>(grad_gates),
                                    strengths ? data<T>(grad_strengths) : nullptr}});
    return std::make_tuple(grad_memory, w_r, grad_usage, grad_keys, grad_adds, grad_gates, grad_strengths);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("lrua_scan", TORCH_BOX(&mannkern::lrua_scan));
  m.impl("lrua_scan_backward", TORCH_BOX(&mannkern::lrua_scan_backward));
}
