// The single operations of the NTM on any device: they check their inputs, allocate outputs, and run a kernel. Python
// defines their schemas. Inputs may be strided: they are read through contiguous copies.
//
// A Backend has run(device, count, work, op), which runs the kernel of an argument struct on `count` episodes, each of
// that much work.
#pragma once

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "tensors.h"

namespace mannkern {

template <class Backend>
struct NTMOperations {
  static Tensor shift_sharpen(const Tensor& weights, const Tensor& shift, const Tensor& sharpness) {
    return by_dtype(weights, "weights", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(weights));
      const NTMShape s = ntm_shape(weights, shift);
      const int64_t B = weights.size(0);
      const Tensor out = call.out({B, s.H, s.N});
      const ShiftSharpen<T> op = {s.N,
                                  s.S,
                                  call.in(weights, "weights", {B, s.H, s.N}),
                                  call.in(shift, "shift", {B, s.H, s.S}),
                                  call.in(sharpness, "sharpness", {B, s.H}),
                                  data<T>(out)};
      Backend::run(call.device(), B * s.H, 16 * s.N, op);
      return out;
    });
  }

  static std::tuple<Tensor, Tensor, Tensor> shift_sharpen_backward(const Tensor& grad, const Tensor& weights,
                                                                   const Tensor& shift, const Tensor& sharpness,
                                                                   const Tensor& sharpened) {
    return by_dtype(weights, "weights", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(weights));
      const NTMShape s = ntm_shape(weights, shift);
      const int64_t B = weights.size(0);
      const Tensor d_weights = call.out({B, s.H, s.N}), d_shift = call.out({B, s.H, s.S});
      const Tensor d_sharpness = call.out({B, s.H});
      const ShiftSharpenBackward<T> op = {s.N,
                                          s.S,
                                          call.in(grad, "grad", {B, s.H, s.N}),
                                          call.in(weights, "weights", {B, s.H, s.N}),
                                          call.in(shift, "shift", {B, s.H, s.S}),
                                          call.in(sharpness, "sharpness", {B, s.H}),
                                          call.in(sharpened, "sharpened", {B, s.H, s.N}),
                                          data<T>(d_weights),
                                          data<T>(d_shift),
                                          data<T>(d_sharpness)};
      Backend::run(call.device(), B * s.H, 32 * s.N, op);
      return std::make_tuple(d_weights, d_shift, d_sharpness);
    });
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> ntm_address(const Tensor& memory, const Tensor& previous,
                                                                const Tensor& key, const Tensor& strength,
                                                                const Tensor& gate, const Tensor& shift,
                                                                const Tensor& sharpness) {
    return by_dtype(memory, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory));
      const NTMShape s = ntm_shape(memory, key, shift);
      const int64_t B = memory.size(0);
      const Tensor weights = call.out({B, s.H, s.N}), content = call.out({B, s.H, s.N});
      const Tensor cosine = call.out({B, s.H, s.N}), norm = call.out({B, s.N});
      const NTMAddress<T> op = {s,
                                call.in(memory, "memory", {B, s.N, s.W}),
                                call.in(previous, "previous", {B, s.H, s.N}),
                                heads(call, B, s, key, strength, gate, shift, sharpness),
                                data<T>(weights),
                                data<T>(content),
                                data<T>(cosine),
                                data<T>(norm)};
      Backend::run(call.device(), B, s.N * s.W * s.H, op);
      return std::make_tuple(weights, content, cosine, norm);
    });
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> ntm_address_backward(
      const Tensor& grad, const Tensor& memory, const Tensor& previous, const Tensor& key, const Tensor& strength,
      const Tensor& gate, const Tensor& shift, const Tensor& sharpness, const Tensor& weights, const Tensor& content,
      const Tensor& cosine, const Tensor& norm) {
    return by_dtype(memory, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory));
      const NTMShape s = ntm_shape(memory, key, shift);
      const int64_t B = memory.size(0);
      const Tensor d_memory = call.out({B, s.N, s.W}), d_previous = call.out({B, s.H, s.N});
      const Tensor d_key = call.out({B, s.H, s.W}), d_strength = call.out({B, s.H}), d_gate = call.out({B, s.H});
      const Tensor d_shift = call.out({B, s.H, s.S}), d_sharpness = call.out({B, s.H});
      const NTMAddressBackward<T> op = {
          s,
          call.in(grad, "grad", {B, s.H, s.N}),
          call.in(memory, "memory", {B, s.N, s.W}),
          call.in(previous, "previous", {B, s.H, s.N}),
          heads(call, B, s, key, strength, gate, shift, sharpness),
          call.in(weights, "weights", {B, s.H, s.N}),
          call.in(content, "content", {B, s.H, s.N}),
          call.in(cosine, "cosine", {B, s.H, s.N}),
          call.in(norm, "norm", {B, s.N}),
          data<T>(d_memory),
          data<T>(d_previous),
          {data<T>(d_key), data<T>(d_strength), data<T>(d_gate), data<T>(d_shift), data<T>(d_sharpness)}};
      Backend::run(call.device(), B, s.N * s.W * s.H, op);
      return std::make_tuple(d_memory, d_previous, d_key, d_strength, d_gate, d_shift, d_sharpness);
    });
  }

  static Tensor ntm_write(const Tensor& memory, const Tensor& weights, const Tensor& erase, const Tensor& add) {
    return by_dtype(memory, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory));
      const Shape s = shape_of(memory, add, "add", "BHW");
      const int64_t B = memory.size(0);
      const Tensor out = call.out({B, s.N, s.W});
      const NTMWrite<T> op = {{s.N, s.W, s.R, 1},
                              call.in(memory, "memory", {B, s.N, s.W}),
                              call.in(weights, "weights", {B, s.R, s.N}),
                              call.in(erase, "erase", {B, s.R, s.W}),
                              call.in(add, "add", {B, s.R, s.W}),
                              data<T>(out)};
      Backend::run(call.device(), B, s.N * s.W * s.R, op);
      return out;
    });
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor> ntm_write_backward(const Tensor& grad, const Tensor& memory,
                                                                       const Tensor& weights, const Tensor& erase,
                                                                       const Tensor& add) {
    return by_dtype(memory, "memory", [&](auto zero) {
      using T = decltype(zero);
      Call<T> call(Device::of(memory));
      const Shape s = shape_of(memory, add, "add", "BHW");
      const int64_t B = memory.size(0);
      const Tensor d_memory = call.out({B, s.N, s.W}), d_weights = call.out({B, s.R, s.N});
      const Tensor d_erase = call.out({B, s.R, s.W}), d_add = call.out({B, s.R, s.W});
      const NTMWriteBackward<T> op = {{s.N, s.W, s.R, 1},
                                      call.in(grad, "grad", {B, s.N, s.W}),
                                      call.in(memory, "memory", {B, s.N, s.W}),
                                      call.in(weights, "weights", {B, s.R, s.N}),
                                      call.in(erase, "erase", {B, s.R, s.W}),
                                      call.in(add, "add", {B, s.R, s.W}),
                                      data<T>(d_memory),
                                      data<T>(d_weights),
                                      data<T>(d_erase),
                                      data<T>(d_add)};
      Backend::run(call.device(), B, s.N * s.W * s.R, op);
      return std::make_tuple(d_memory, d_weights, d_erase, d_add);
    });
  }

  template <class Library>
  static void add_to(Library& m) {
    m.impl("shift_sharpen", TORCH_BOX(&NTMOperations::shift_sharpen));
    m.impl("shift_sharpen_backward", TORCH_BOX(&NTMOperations::shift_sharpen_backward));
    m.impl("ntm_address", TORCH_BOX(&NTMOperations::ntm_address));
    m.impl("ntm_address_backward", TORCH_BOX(&NTMOperations::ntm_address_backward));
    m.impl("ntm_write", TORCH_BOX(&NTMOperations::ntm_write));
    m.impl("ntm_write_backward", TORCH_BOX(&NTMOperations::ntm_write_backward));
  }

 private:
  template <class T>
  static Heads<T> heads(Call<T>& call, int64_t B, const NTMShape& s, const Tensor& key, const Tensor& strength,
                        const Tensor& gate, const Tensor& shift, const Tensor& sharpness) {
    return {call.in(key, "key", {B, s.H, s.W}), call.in(strength, "strength", {B, s.H}),
            call.in(gate, "gate", {B, s.H}), call.in(shift, "shift", {B, s.H, s.S}),
            call.in(sharpness, "sharpness", {B, s.H})};
  }
};

}  // namespace mannkern
