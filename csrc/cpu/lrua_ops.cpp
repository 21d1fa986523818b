// The single operations of LRUA on a CPU: they check their inputs, allocate outputs, and run a kernel over the batch.
// Python defines their schemas. Inputs may be strided: they are read through contiguous copies.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "../host/lrua_step.h"
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
    check_sizes(grad, "grad", "BNW");
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

struct Cpu {
  template <class T>
  static void check(const Tensor&, const Shape&, T) {}
  template <class T>
  static Tensor allocate_memory(Call<T>&, Sizes sizes) {
    return allocate_large<T>(sizes);
  }
  template <class T, class MaybeTensor>
  static const T* memory(Call<T>& call, const MaybeTensor& t, const char* name, Sizes sizes) {
    return call.in(t, name, sizes);
  }
  // Slots, which must be in [0, N): any other would be written outside the memory.
  template <class T>
  static const int64_t* slots(Call<T>& call, const Tensor& t, const char* name, Sizes sizes, int64_t N) {
    return call.slots(t, name, sizes, N);
  }
  template <class T>
  static void run(Device, int64_t B, int64_t work, const LRUAStep<T>& op) {
    over_batch(B, work, kernels<T>().lrua_step, op);
  }
  template <class T>
  static void run(Device, int64_t B, int64_t work, const LRUAStepBackward<T>& op) {
    over_batch(B, work, kernels<T>().lrua_step_backward, op);
  }
};

Tensor usage_update(const Tensor& usage, const Tensor& read_weights, const Tensor& write_weights, double decay) {
  return by_dtype(usage, "usage", [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    check_sizes(usage, "usage", "BN");
    check_sizes(read_weights, "read_weights", "BRN");
    check_decay(decay);
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
    check_decay(decay);
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
  mannkern::LRUAStepOperations<mannkern::Cpu>::add_to(m);
}
