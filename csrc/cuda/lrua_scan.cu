// The operation lrua_scan on a GPU, as the overload "cosines", and its backward operation. Python defines their schemas
// and the shapes of what is saved.

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>

#include "lrua_inputs.h"

namespace mannkern {
namespace {

using T = float;

Shape scan_shape(const Tensor& memory, const Tensor& keys) {
  check_sizes(memory, "memory", "BNW");
  check_sizes(keys, "keys", "TBRW");
  if (keys.size(0) == 0) refuse("keys", shape_text(keys), "(T, B, R, W) with T at least 1");
  const Shape s = {memory.size(1), memory.size(2), keys.size(2)};
  check_taken(memory, s, memory.scalar_type());
  return s;
}

// Steps from one checkpoint of the memory to the next. Python's twin is checkpoint_every in
// mannkern/memories/episode.py.
int64_t checkpoint_every(int64_t steps) { return int64_t(std::ceil(std::sqrt(double(steps)))); }

InterfaceVector<T> interface_vectors(Call<T>& call, int64_t steps, int64_t B, const Shape& s, const Tensor& keys,
                                     const Tensor& adds, const Tensor& gates, const Maybe& strengths) {
  return {call.in(keys, "keys", {steps, B, s.R, s.W}), call.in(adds, "adds", {steps, B, s.R, s.W}),
          call.in(gates, "gates", {steps, B, s.R}), call.in(strengths, "strengths", {steps, B, s.R})};
}

// The numbers of a tensor of bytes.
int8_t* marks_of(const Tensor& t) { return static_cast<int8_t*>(t.mutable_data_ptr()); }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_scan(
    const Tensor& memory, const Tensor& read_weights, const Tensor& usage, const Tensor& keys, const Tensor& adds,
    const Tensor& gates, const Maybe& strengths, int64_t n, bool per_head, double decay, bool save_for_backward) {
  Call<T> call(Device::of(memory));
  const Shape s = scan_shape(memory, keys);
  const int64_t B = memory.size(0), steps = keys.size(0), every = checkpoint_every(steps);
  check_range(n, "num_least_used", 1, s.N);
  check_decay(decay);
  const int64_t saved = save_for_backward ? steps : 0, count = save_for_backward ? (steps - 1) / every : 0;
  const Tensor reads = call.out({steps, B, s.R, s.W}), memory_out = call.out({B, s.N, s.W});
  const Tensor weights_out = call.out({B, s.R, s.N}), usage_out = call.out({B, s.N});
  const Tensor marks = Call<T>::allocate({saved, B, s.N}, ScalarType::Char, call.device());
  const Tensor checkpoints = call.out({count, B, s.N, s.W}), cosines = call.out({saved, B, s.R, s.N + 2});
  const LRUAScanCosines<T> op = {s,
                                 {n, per_head, decay},
                                 B,
                                 steps,
                                 every,
                                 aligned(call, memory, "memory", {B, s.N, s.W}),
                                 call.in(read_weights, "read_weights", {B, s.R, s.N}),
                                 call.in(usage, "usage", {B, s.N}),
                                 interface_vectors(call, steps, B, s, keys, adds, gates, strengths),
                                 data<T>(reads),
                                 data<T>(memory_out),
                                 data<T>(weights_out),
                                 data<T>(usage_out),
                                 save_for_backward ? marks_of(marks) : nullptr,
                                 data<T>(checkpoints),
                                 data<T>(cosines)};
  Gpu gpu(call.device());
  run_step(gpu, B, op);
  return std::make_tuple(reads, memory_out, weights_out, usage_out, marks, checkpoints, cosines);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_scan_backward(
    const Maybe& grad_reads, const Maybe& grad_memory_out, const Maybe& grad_read_weights_out,
    const Maybe& grad_usage_out, const Tensor& memory, const Tensor& read_weights, const Tensor& keys,
    const Tensor& adds, const Tensor& gates, const Maybe& strengths, const Tensor& marks, const Tensor& checkpoints,
    const Tensor& cosines, int64_t n, bool per_head, double decay) {
  Call<T> call(Device::of(memory));
  const Shape s = scan_shape(memory, keys);
  const int64_t B = memory.size(0), steps = keys.size(0), every = checkpoint_every(steps);
  check_range(n, "num_least_used", 1, s.N);
  check_decay(decay);
  const Tensor grad_memory = call.out({B, s.N, s.W}), w_r = call.out({B, s.R, s.N}), grad_usage = call.out({B, s.N});
  const Tensor grad_keys = call.out({steps, B, s.R, s.W}), grad_adds = call.out({steps, B, s.R, s.W});
  const Tensor grad_gates = call.out({steps, B, s.R}), grad_strengths = call.out({steps, B, strengths ? s.R : 0});
  const LRUAScanCosinesBackward<T> op = {
      s,
      {n, per_head, decay},
      B,
      steps,
      every,
      call.in(grad_reads, "grad_reads", {steps, B, s.R, s.W}),
      aligned(call, grad_memory_out, "grad_memory", {B, s.N, s.W}),
      call.in(grad_read_weights_out, "grad_read_weights", {B, s.R, s.N}),
      call.in(grad_usage_out, "grad_usage", {B, s.N}),
      aligned(call, memory, "memory", {B, s.N, s.W}),
      call.in(read_weights, "read_weights", {B, s.R, s.N}),
      interface_vectors(call, steps, B, s, keys, adds, gates, strengths),
      marks_of(call.hold(marks, "marks", {steps, B, s.N}, ScalarType::Char)),
      aligned(call, checkpoints, "checkpoints", {(steps - 1) / every, B, s.N, s.W}),
      call.in(cosines, "cosines", {steps, B, s.R, s.N + 2}),
      data<T>(grad_memory),
      data<T>(w_r),
      data<T>(grad_usage),
      {data<T>(grad_keys), data<T>(grad_adds), data<T>(grad_gates), strengths ? data<T>(grad_strengths) : nullptr}};
  Gpu gpu(call.device());
  run_step(gpu, B, op);
  return std::make_tuple(grad_memory, w_r, grad_usage, grad_keys, grad_adds, grad_gates, grad_strengths);
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CUDA, m) {
  m.impl("lrua_scan.cosines", TORCH_BOX(&mannkern::lrua_scan));
  m.impl("lrua_scan_backward.cosines", TORCH_BOX(&mannkern::lrua_scan_backward));
}
