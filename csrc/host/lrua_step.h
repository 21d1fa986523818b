// The operations lrua_step and lrua_step_backward on any device: they check their inputs, allocate outputs, and run a
// kernel. Python defines their schemas. Inputs may be strided: they are read through contiguous copies.
//
// A Backend has
//   check(memory, shape, zero)                 refuses sizes, and the dtype of `zero`, that its kernels do not take
//   allocate_memory(call, sizes)               a tensor as large as the memory
//   memory(call, tensor, name, sizes)          the numbers of an input as large as the memory
//   slots(call, tensor, name, sizes, N)        those of least used slots
//   run(device, B, work, op)                   runs the kernel of an argument struct on B episodes
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "../args/lrua.h"
#include "tensors.h"

namespace mannkern {

template <class Backend>
struct LRUAStepOperations {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_step(
      const Tensor& memory, const Tensor& read_weights, const Tensor& usage, const Tensor& key, const Tensor& add,
      const Tensor& gate, const Maybe& strength, int64_t n, bool per_head, double decay) {
    return by_dtype(memory, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory));
      const Shape s = shape_of(memory, key, "key");
      const int64_t B = memory.size(0);
      check_range(n, "num_least_used", 1, s.N);
      check_decay(decay);
      Backend::check(memory, s, zero);
      const LRUAOptions options{n, per_head, decay};
      const Tensor memory_out = Backend::allocate_memory(call, {B, s.N, s.W}), read = call.out({B, s.R, s.W});
      const Tensor w_r = call.out({B, s.R, s.N}), usage_out = call.out({B, s.N}), w_w = call.out({B, s.R, s.N});
      const Tensor cosine = call.out({B, s.R, s.N}), norm = call.out({B, s.N});
      const Tensor slots = Call<T>::allocate({B, n}, ScalarType::Long, call.device());
      const LRUAStep<T> op = {s,
                              options,
                              Backend::memory(call, memory, "memory", {B, s.N, s.W}),
                              call.in(read_weights, "read_weights", {B, s.R, s.N}),
                              call.in(usage, "usage", {B, s.N}),
                              interface_vector(call, B, s, key, add, gate, strength),
                              data<T>(memory_out),
                              data<T>(read),
                              data<T>(w_r),
                              data<T>(usage_out),
                              data<T>(w_w),
                              data<T>(cosine),
                              data<T>(norm),
                              data<int64_t>(slots)};
      Backend::run(call.device(), B, s.N * s.W * s.R, op);
      return std::make_tuple(memory_out, read, w_r, usage_out, w_w, cosine, norm, slots);
    });
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_step_backward(
      const Maybe& grad_memory_out, const Maybe& grad_read, const Maybe& grad_read_weights_out,
      const Maybe& grad_usage_out, const Maybe& grad_write_weights, const Tensor& read_weights, const Tensor& key,
      const Tensor& add, const Tensor& gate, const Maybe& strength, const Tensor& memory_out,
      const Tensor& read_weights_out, const Tensor& write_weights, const Tensor& cosine, const Tensor& norm,
      const Tensor& slots, bool per_head, double decay) {
    return by_dtype(memory_out, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory_out));
      const Shape s = shape_of(memory_out, key, "key");
      check_sizes(slots, "least_used", "Bn");
      const int64_t B = memory_out.size(0), n = slots.size(1);
      check_range(n, "least_used.shape[1]", 1, s.N);
      check_decay(decay);
      Backend::check(memory_out, s, zero);
      const LRUAOptions options{n, per_head, decay};
      const Tensor memory = Backend::allocate_memory(call, {B, s.N, s.W}), w_r = call.out({B, s.R, s.N});
      const Tensor usage = call.out({B, s.N});
      const Tensor grad_key = call.out({B, s.R, s.W}), grad_add = call.out({B, s.R, s.W});
      const Tensor grad_gate = call.out({B, s.R}), grad_strength = call.out({B, strength ? s.R : 0});
      const LRUAStepBackward<T> op = {s,
                                      options,
                                      Backend::memory(call, grad_memory_out, "grad_memory", {B, s.N, s.W}),
                                      call.in(grad_read, "grad_read", {B, s.R, s.W}),
                                      call.in(grad_read_weights_out, "grad_read_weights", {B, s.R, s.N}),
                                      call.in(grad_usage_out, "grad_usage", {B, s.N}),
                                      call.in(grad_write_weights, "grad_write_weights", {B, s.R, s.N}),
                                      call.in(read_weights, "previous_read_weights", {B, s.R, s.N}),
                                      interface_vector(call, B, s, key, add, gate, strength),
                                      Backend::memory(call, memory_out, "memory", {B, s.N, s.W}),
                                      call.in(read_weights_out, "read_weights", {B, s.R, s.N}),
                                      call.in(write_weights, "write_weights", {B, s.R, s.N}),
                                      call.in(cosine, "cosine", {B, s.R, s.N}),
                                      call.in(norm, "norm", {B, s.N}),
                                      Backend::slots(call, slots, "least_used", {B, n}, s.N),
                                      data<T>(memory),
                                      data<T>(w_r),
                                      data<T>(usage),
                                      {data<T>(grad_key), data<T>(grad_add), data<T>(grad_gate),
                                       strength ? data<T>(grad_strength) : nullptr}};
      Backend::run(call.device(), B, s.N * s.W * s.R, op);
      return std::make_tuple(memory, w_r, usage, grad_key, grad_add, grad_gate, grad_strength);
    });
  }

  template <class Library>
  static void add_to(Library& m) {
    m.impl("lrua_step", TORCH_BOX(&LRUAStepOperations::lrua_step));
    m.impl("lrua_step_backward", TORCH_BOX(&LRUAStepOperations::lrua_step_backward));
  }

 private:
  template <class T>
  static InterfaceVector<T> interface_vector(Call<T>& call, int64_t B, const Shape& s, const Tensor& key,
                                             const Tensor& add, const Tensor& gate, const Maybe& strength) {
    return {call.in(key, "key", {B, s.R, s.W}), call.in(add, "add", {B, s.R, s.W}), call.in(gate, "gate", {B, s.R}),
            call.in(strength, "strength", {B, s.R})};
  }
};

}  // namespace mannkern
