// The operations of the NTM on a CPU: checks, allocation and threads over the batch. Their schemas are in
// mannkern/ops/ntm.py. Inputs may be strided; they are read through contiguous copies.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "call.h"

namespace mannkern {
namespace {

Tensor shift_sharpen(const Tensor& weights, const Tensor& shift, const Tensor& sharpness) {
  return by_dtype(weights, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const NtmShape s = ntm_shape(weights, shift);
    const int64_t B = weights.size(0);
    const Tensor out = call.out({B, s.H, s.N});
    over_batch(B * s.H, 16 * s.N, kernels<T>().shift_sharpen,
               ShiftSharpen<T>{s.N, s.S, call.in(weights, "weights", {B, s.H, s.N}),
                               call.in(shift, "shift", {B, s.H, s.S}), call.in(sharpness, "sharpness", {B, s.H}),
                               data<T>(out)});
    return out;
  });
}

std::tuple<Tensor, Tensor, Tensor> shift_sharpen_backward(const Tensor& grad, const Tensor& weights,
                                                          const Tensor& shift, const Tensor& sharpness,
                                                          const Tensor& sharpened) {
  return by_dtype(weights, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const NtmShape s = ntm_shape(weights, shift);
    const int64_t B = weights.size(0);
    const Tensor grad_weights = call.out({B, s.H, s.N}), grad_shift = call.out({B, s.H, s.S});
    const Tensor grad_sharpness = call.out({B, s.H});
    over_batch(B * s.H, 32 * s.N, kernels<T>().shift_sharpen_backward,
               ShiftSharpenBackward<T>{s.N, s.S, call.in(grad, "grad", {B, s.H, s.N}),
                                       call.in(weights, "weights", {B, s.H, s.N}),
                                       call.in(shift, "shift", {B, s.H, s.S}),
                                       call.in(sharpness, "sharpness", {B, s.H}),
                                       call.in(sharpened, "sharpened", {B, s.H, s.N}), data<T>(grad_weights),
                                       data<T>(grad_shift), data<T>(grad_sharpness)});
    return std::make_tuple(grad_weights, grad_shift, grad_sharpness);
  });
}

template <class T>
Heads<T> heads(Call<T>& call, int64_t B, const NtmShape& s, const Tensor& key, const Tensor& strength,
               const Tensor& gate, const Tensor& shift, const Tensor& sharpness) {
  return {call.in(key, "key", {B, s.H, s.W}), call.in(strength, "strength", {B, s.H}),
          call.in(gate, "gate", {B, s.H}), call.in(shift, "shift", {B, s.H, s.S}),
          call.in(sharpness, "sharpness", {B, s.H})};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ntm_address(const Tensor& memory, const Tensor& previous, const Tensor& key,
                                                       const Tensor& strength, const Tensor& gate, const Tensor& shift,
                                                       const Tensor& sharpness) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const NtmShape s = ntm_shape(memory, key, shift);
    const int64_t B = memory.size(0);
    const Tensor weights = call.out({B, s.H, s.N}), content = call.out({B, s.H, s.N}), cosine = call.out({B, s.H, s.N});
    const Tensor norm = call.out({B, s.N});
    over_batch(B, s.N * s.W * s.H, kernels<T>().ntm_address,
               Address<T>{s, call.in(memory, "memory", {B, s.N, s.W}), call.in(previous, "previous", {B, s.H, s.N}),
                          heads(call, B, s, key, strength, gate, shift, sharpness), data<T>(weights), data<T>(content),
                          data<T>(cosine), data<T>(norm)});
    return std::make_tuple(weights, content, cosine, norm);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> ntm_address_backward(
    const Tensor& grad, const Tensor& memory, const Tensor& previous, const Tensor& key, const Tensor& strength,
    const Tensor& gate, const Tensor& shift, const Tensor& sharpness, const Tensor& weights, const Tensor& content,
    const Tensor& cosine, const Tensor& norm) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const NtmShape s = ntm_shape(memory, key, shift);
    const int64_t B = memory.size(0);
    const Tensor d_memory = call.out({B, s.N, s.W}), d_previous = call.out({B, s.H, s.N});
    const Tensor d_key = call.out({B, s.H, s.W}), d_strength = call.out({B, s.H}), d_gate = call.out({B, s.H});
    const Tensor d_shift = call.out({B, s.H, s.S}), d_sharpness = call.out({B, s.H});
    over_batch(B, s.N * s.W * s.H, kernels<T>().ntm_address_backward,
               AddressBackward<T>{s, call.in(grad, "grad", {B, s.H, s.N}), call.in(memory, "memory", {B, s.N, s.W}),
                                  call.in(previous, "previous", {B, s.H, s.N}),
                                  heads(call, B, s, key, strength, gate, shift, sharpness),
                                  call.in(weights, "weights", {B, s.H, s.N}), call.in(content, "content", {B, s.H, s.N}),
                                  call.in(cosine, "cosine", {B, s.H, s.N}), call.in(norm, "norm", {B, s.N}),
                                  data<T>(d_memory), data<T>(d_previous),
                                  {data<T>(d_key), data<T>(d_strength), data<T>(d_gate), data<T>(d_shift),
                                   data<T>(d_sharpness)}});
    return std::make_tuple(d_memory, d_previous, d_key, d_strength, d_gate, d_shift, d_sharpness);
  });
}

Tensor ntm_write(const Tensor& memory, const Tensor& weights, const Tensor& erase, const Tensor& add) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, add);
    const int64_t B = memory.size(0);
    const Tensor out = call.out({B, s.N, s.W});
    over_batch(B, s.N * s.W * s.R, kernels<T>().ntm_write,
               EraseWrite<T>{{s.N, s.W, s.R, 1}, call.in(memory, "memory", {B, s.N, s.W}),
                             call.in(weights, "weights", {B, s.R, s.N}), call.in(erase, "erase", {B, s.R, s.W}),
                             call.in(add, "add", {B, s.R, s.W}), data<T>(out)});
    return out;
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ntm_write_backward(const Tensor& grad, const Tensor& memory,
                                                              const Tensor& weights, const Tensor& erase,
                                                              const Tensor& add) {
  return by_dtype(memory, [&](auto zero) {
    using T = decltype(zero);
    Call<T> call;
    const Shape s = shape_of(memory, add);
    const int64_t B = memory.size(0);
    const Tensor d_memory = call.out({B, s.N, s.W}), d_weights = call.out({B, s.R, s.N});
    const Tensor d_erase = call.out({B, s.R, s.W}), d_add = call.out({B, s.R, s.W});
    over_batch(B, s.N * s.W * s.R, kernels<T>().ntm_write_backward,
               EraseWriteBackward<T>{{s.N, s.W, s.R, 1}, call.in(grad, "grad", {B, s.N, s.W}),
                                     call.in(memory, "memory", {B, s.N, s.W}),
                                     call.in(weights, "weights", {B, s.R, s.N}), call.in(erase, "erase", {B, s.R, s.W}),
                                     call.in(add, "add", {B, s.R, s.W}), data<T>(d_memory), data<T>(d_weights),
                                     data<T>(d_erase), data<T>(d_add)});
    return std::make_tuple(d_memory, d_weights, d_erase, d_add);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) {
  m.impl("shift_sharpen", TORCH_BOX(&mannkern::shift_sharpen));
  m.impl("shift_sharpen_backward", TORCH_BOX(&mannkern::shift_sharpen_backward));
  m.impl("ntm_address", TORCH_BOX(&mannkern::ntm_address));
  m.impl("ntm_address_backward", TORCH_BOX(&mannkern::ntm_address_backward));
  m.impl("ntm_write", TORCH_BOX(&mannkern::ntm_write));
  m.impl("ntm_write_backward", TORCH_BOX(&mannkern::ntm_write_backward));
}
