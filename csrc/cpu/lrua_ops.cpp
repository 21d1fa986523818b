// The single operations of LRUA on a CPU: they check their inputs, allocate outputs, and run a kernel over the batch.
// Python defines their schemas. Inputs may be strided: they are read through contiguous copies.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "allocate.h"
#include "dispatch.h"

namespace mannkern {

namespace {

Tensor least_used_mask(const Tensor& usage, int64_t n) {
  return by_dtype(usage, "usage", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    check_sizes(usage, "usage", "BN");
    const int64_t B = usage.size(0), N = usage.size(1);
    check_range(n, "n", 1, N);
    const Tensor slots = Call<T>::allocate({B, n}, ScalarType::Long), mask = call.out({B, N});
    over_batch(B, N, kernels<T>().least_used_slots,
               LeastUsedSlots<T>{N, n, call.in(usage, "usage", {B, N}), data<int64_t>(slots)});
    std::fill_n(data<T>(mask), B * N, T(0));
    for (int64_t i = 0; i < B * n; ++i) data<T>(mask)[i / n * N + data<int64_t>(slots)[i]] = T(1);
    return mask;
  });
}

Tensor additive_write(const Tensor& memory, const Tensor& write_weights, const Tensor& add, const Maybe& reset) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, add, "add");
    const int64_t B = memory.size(0);
    const Tensor out = allocate_large<T>({B, s.N, s.W});
    over_batch(
        B, s.N * s.W * s.R, kernels<T>().additive_write,
        AdditiveWrite<T>{s, call.in(memory, "memory", {B, s.N, s.W}),
                         call.in(write_weights, "write_weights", {B, s.R, s.N}), call.in(add, "add", {B, s.R, s.W}),
                         reset ? call.slots(*reset, "reset", {B}, s.N) : nullptr, data<T>(out)});
    return out;
  });
}

std::tuple<Tensor, Tensor, Tensor> additive_write_backward(const Tensor& grad, const Tensor& write_weights,
                                                           const Tensor& add, const Maybe& reset) {
  return by_dtype(grad, "grad", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(grad, add, "add");
    const int64_t B = grad.size(0);
    const Tensor memory = allocate_large<T>({B, s.N, s.W}), weights = call.out({B, s.R, s.N});
    const Tensor grad_add = call.out({B, s.R, s.W});
    over_batch(B, s.N * s.W * s.R, kernels<T>().additive_write_backward,
               AdditiveWriteBackward<T>{
                   s, call.in(grad, "grad", {B, s.N, s.W}), call.in(write_weights, "write_weights", {B, s.R, s.N}),
                   call.in(add, "add", {B, s.R, s.W}), reset ? call.slots(*reset, "reset", {B}, s.N) : nullptr,
                   data<T>(memory), data<T>(weights), data<T>(grad_add)});
    return std::make_tuple(memory, weights, grad_add);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> cosine_read(const Tensor& memory, const Tensor& key, const Maybe& strength) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, key, "key");
    const int64_t B = memory.size(0);
    const Tensor read = call.out({B, s.R, s.W}), weights = call.out({B, s.R, s.N}), cosine = call.out({B, s.R, s.N});
    const Tensor norm = call.out({B, s.N});
    over_batch(B, s.N * s.W * s.R, kernels<T>().cosine_read,
               CosineRead<T>{s, call.in(memory, "memory", {B, s.N, s.W}), call.in(key, "key", {B, s.R, s.W}),
                             call.in(strength, "strength", {B, s.R}), data<T>(read), data<T>(weights), data<T>(cosine),
                             data<T>(norm)});
    return std::make_tuple(read, weights, cosine, norm);
  });
}

std::tuple<Tensor, Tensor, Tensor> cosine_read_backward(const Maybe& grad_read, const Maybe& grad_weights,
                                                        const Tensor& memory, const Tensor& key, const Maybe& strength,
                                                        const Tensor& read_weights, const Tensor& cosine,
                                                        const Tensor& norm) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, key, "key");
    const int64_t B = memory.size(0);
    const Tensor grad_memory = allocate_large<T>({B, s.N, s.W}), grad_key = call.out({B, s.R, s.W});
    const Tensor grad_strength = call.out({B, strength ? s.R : 0});
    over_batch(B, s.N * s.W * s.R, kernels<T>().cosine_read_backward,
               CosineReadBackward<T>{
                   s, call.in(grad_read, "grad_read", {B, s.R, s.W}),
                   call.in(grad_weights, "grad_read_weights", {B, s.R, s.N}), call.in(memory, "memory", {B, s.N, s.W}),
                   call.in(key, "key", {B, s.R, s.W}), call.in(strength, "strength", {B, s.R}),
                   call.in(read_weights, "read_weights", {B, s.R, s.N}), call.in(cosine, "cosine", {B, s.R, s.N}),
                   call.in(norm, "norm", {B, s.N}), data<T>(grad_memory), data<T>(grad_key),
                   strength ? data<T>(grad_strength) : nullptr});
    return std::make_tuple(grad_memory, grad_key, grad_strength);
  });
}

template <class T>
InterfaceVector<T> interface_vector(Call<T>& call, int64_t B, const Shape& s, const Tensor& key, const Tensor& add,
                                    const Tensor& gate, const Maybe& strength) {
  return {call.in(key, "key", {B, s.R, s.W}), call.in(add, "add", {B, s.R, s.W}), call.in(gate, "gate", {B, s.R}),
          call.in(strength, "strength", {B, s.R})};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_step(
    const Tensor& memory, const Tensor& read_weights, const Tensor& usage, const Tensor& key, const Tensor& add,
    const Tensor& gate, const Maybe& strength, int64_t n, bool per_head, double decay) {
  return by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, key, "key");
    const int64_t B = memory.size(0);
    check_range(n, "num_least_used", 1, s.N);
    const LRUAOptions options{n, per_head, decay};
    const Tensor memory_out = allocate_large<T>({B, s.N, s.W}), read = call.out({B, s.R, s.W});
    const Tensor w_r = call.out({B, s.R, s.N}), usage_out = call.out({B, s.N}), w_w = call.out({B, s.R, s.N});
    const Tensor cosine = call.out({B, s.R, s.N}), norm = call.out({B, s.N});
    const Tensor slots = Call<T>::allocate({B, n}, ScalarType::Long);
    over_batch(B, s.N * s.W * s.R, kernels<T>().lrua_step,
               LRUAStep<T>{s, options, call.in(memory, "memory", {B, s.N, s.W}),
                           call.in(read_weights, "read_weights", {B, s.R, s.N}), call.in(usage, "usage", {B, s.N}),
                           interface_vector(call, B, s, key, add, gate, strength), data<T>(memory_out), data<T>(read),
                           data<T>(w_r), data<T>(usage_out), data<T>(w_w), data<T>(cosine), data<T>(norm),
                           data<int64_t>(slots)});
    return std::make_tuple(memory_out, read, w_r, usage_out, w_w, cosine, norm, slots);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> lrua_step_backward(
    const Maybe& grad_memory_out, const Maybe& grad_read, const Maybe& grad_read_weights_out,
    const Maybe& grad_usage_out, const Maybe& grad_write_weights, const Tensor& read_weights, const Tensor& key,
    const Tensor& add, const Tensor& gate, const Maybe& strength, const Tensor& memory_out,
    const Tensor& read_weights_out, const Tensor& write_weights, const Tensor& cosine, const Tensor& norm,
    const Tensor& slots, bool per_head, double decay) {
  return by_dtype(memory_out, "memory_out", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory_out, key, "key");
    check_sizes(slots, "least_used", "Bn");
    const int64_t B = memory_out.size(0), n = slots.size(1);
    check_range(n, "least_used.shape[1]", 1, s.N);
    const LRUAOptions options{n, per_head, decay};
    const Tensor memory = allocate_large<T>({B, s.N, s.W}), w_r = call.out({B, s.R, s.N}), usage = call.out({B, s.N});
    const Tensor grad_key = call.out({B, s.R, s.W}), grad_add = call.out({B, s.R, s.W});
    const Tensor grad_gate = call.out({B, s.R}), grad_strength = call.out({B, strength ? s.R : 0});
    over_batch(B, s.N * s.W * s.R, kernels<T>().lrua_step_backward,
               LRUAStepBackward<T>{s,
                                   options,
                                   call.in(grad_memory_out, "grad_memory", {B, s.N, s.W}),
                                   call.in(grad_read, "grad_read", {B, s.R, s.W}),
                                   call.in(grad_read_weights_out, "grad_read_weights", {B, s.R, s.N}),
                                   call.in(grad_usage_out, "grad_usage", {B, s.N}),
                                   call.in(grad_write_weights, "grad_write_weights", {B, s.R, s.N}),
                                   call.in(read_weights, "previous_read_weights", {B, s.R, s.N}),
                                   interface_vector(call, B, s, key, add, gate, strength),
                                   call.in(memory_out, "memory", {B, s.N, s.W}),
                                   call.in(read_weights_out, "read_weights", {B, s.R, s.N}),
                                   call.in(write_weights, "write_weights", {B, s.R, s.N}),
                                   call.in(cosine, "cosine", {B, s.R, s.N}),
                                   call.in(norm, "norm", {B, s.N}),
                                   call.slots(slots, "least_used", {B, n}, s.N),
                                   data<T>(memory),
                                   data<T>(w_r),
                                   data<T>(usage),
                                   {data<T>(grad_key), data<T>(grad_add), data<T>(grad_gate),
                                    strength ? data<T>(grad_strength) : nullptr}});
    return std::make_tuple(memory, w_r, usage, grad_key, grad_add, grad_gate, grad_strength);
  });
}

Tensor usage_update(const Tensor& usage, const Tensor& read_weights, const Tensor& write_weights, double decay) {
  return by_dtype(usage, "usage", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    check_sizes(usage, "usage", "BN");
    check_sizes(read_weights, "read_weights", "BRN");
    const int64_t B = usage.size(0), N = usage.size(1), R = read_weights.size(1);
    const Tensor out = call.out({B, N});
    over_batch(
        B, R * N, kernels<T>().usage_update,
        UsageUpdate<T>{N, R, decay, call.in(usage, "usage", {B, N}), call.in(read_weights, "read_weights", {B, R, N}),
                       call.in(write_weights, "write_weights", {B, R, N}), data<T>(out)});
    return out;
  });
}

std::tuple<Tensor, Tensor, Tensor> usage_update_backward(const Tensor& grad, int64_t R, double decay) {
  return by_dtype(grad, "grad", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    check_sizes(grad, "grad", "BN");
    check_range(R, "num_heads", 1, (int64_t(1) << 31) - 1);
    const int64_t B = grad.size(0), N = grad.size(1);
    const T* g = call.in(grad, "grad", {B, N});
    const Tensor usage = call.out({B, N}), read_weights = call.out({B, R, N}), write_weights = call.out({B, R, N});
    T *u = data<T>(usage), *w_r = data<T>(read_weights), *w_w = data<T>(write_weights);
    for (int64_t i = 0; i < B * N; ++i) u[i] = T(decay) * g[i];
    for (int64_t h = 0; h < B * R; ++h)
      for (T* w : {w_r, w_w}) std::copy_n(g + h / R * N, N, w + h * N);
    return std::make_tuple(usage, read_weights, write_weights);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("least_used_mask", TORCH_BOX(&mannkern::least_used_mask));
  m.impl("additive_write", TORCH_BOX(&mannkern::additive_write));
  m.impl("additive_write_backward", TORCH_BOX(&mannkern::additive_write_backward));
  m.impl("cosine_read", TORCH_BOX(&mannkern::cosine_read));
  m.impl("cosine_read_backward", TORCH_BOX(&mannkern::cosine_read_backward));
  m.impl("usage_update", TORCH_BOX(&mannkern::usage_update));
  m.impl("usage_update_backward", TORCH_BOX(&mannkern::usage_update_backward));
  m.impl("lrua_step", TORCH_BOX(&mannkern::lrua_step));
  m.impl("lrua_step_backward", TORCH_BOX(&mannkern::lrua_step_backward));
}
