// The persistent operations of a MANN's episode on a GPU: all steps in one launch, in float32. Python multiplies with
// the weights of the input before, and computes the gradients of the weights after them.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "gpu.h"
#include "persistent_launch.h"

namespace mannkern {
namespace {

PersistentShape shape_of_episode(const Tensor& projection, const Tensor& interface_weight, const Tensor& memory,
                                 const Tensor& read_weights, int64_t checkpoint_every) {
  check_sizes(projection, "projection", "TBG");
  check_sizes(interface_weight, "interface_weight", "ID");
  check_sizes(memory, "memory", "BNW");
  check_sizes(read_weights, "read_weights", "BRN");
  const int64_t R = read_weights.size(1), W = memory.size(2), I = interface_weight.size(0);
  const bool strengths = I == 2 * R * W + 2 * R;
  if (!strengths && I != 2 * R * W + R)
    refuse("interface_weight", "I = " + std::to_string(I),
           "2 R W + R, or 2 R W + 2 R with strengths, with R = " + std::to_string(R) + ", W = " + std::to_string(W));
  const PersistentShape s = {projection.size(0),  memory.size(0), interface_weight.size(1),
                             {memory.size(1), W, R}, strengths,      checkpoint_every};
  check_range(s.T, "projection.shape[0]", 1, (int64_t(1) << 31) - 1);
  check_range(checkpoint_every, "checkpoint_every", 1, s.T);
  if (const char* reason = persistent_why_not(s)) refuse("memory", reason, "sizes that fit a cluster of 8 blocks");
  return s;
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// projection (T,B,4D) is input times weight + bias; the other inputs are those of mann_episode. Returns outputs
// (T,B,O), memory, read weights, usage and cell after the last step; and, for backward, checkpoints, rows, gates,
// cells, interface vectors and least used slots, as args/persistent.h has them, which are empty without
// `save_for_backward`.
Forward mann_persistent(const Tensor& projection, const Tensor& recurrent_weight, const Tensor& interface_weight,
                        const Tensor& interface_bias, const Tensor& output, const Tensor& cell, const Tensor& memory,
                        const Tensor& read_weights, const Tensor& usage, int64_t n, bool per_head, double decay,
                        int64_t checkpoint_every, bool save_for_backward) {
  using T = float;
  Call<T> call(Device::of(memory));
  const PersistentShape s =
      shape_of_episode(projection, interface_weight, memory, read_weights, checkpoint_every);
  const auto [N, W, R] = s.shape;
  const int64_t B = s.B, D = s.D, I = interface_weight.size(0), O = D + R * W, steps = save_for_backward ? s.T : 0;
  check_range(n, "num_least_used", 1, N);
  check_decay(decay);
  const Tensor outputs = call.out({s.T, B, O}), memory_out = call.out({B, N, W}), weights_out = call.out({B, R, N});
  const Tensor usage_out = call.out({B, N}), cell_out = call.out({B, D});
  const Tensor checkpoints = call.out({save_for_backward ? 1 + (s.T - 1) / checkpoint_every : 0, B, N * W});
  const Tensor rows = call.out({save_for_backward ? s.T + 1 : 0, B, 2 * R + 1, N}), gates = call.out({steps, B, 4 * D});
  const Tensor cells = call.out({steps, B, D}), interface = call.out({steps, B, I});
  const Tensor least_used = Call<T>::allocate({steps, B, n}, ScalarType::Long, call.device());
  const auto saved = [&](const Tensor& t) { return save_for_backward ? data<T>(t) : nullptr; };
  const MANNPersistent op = {s,
                             {n, per_head, decay},
                             call.in(recurrent_weight, "recurrent_weight", {4 * D, O}),
                             call.in(interface_weight, "interface_weight", {I, D}),
                             call.in(interface_bias, "interface_bias", {I}),
                             call.in(output, "output", {B, O}),
                             call.in(cell, "cell", {B, D}),
                             call.in(memory, "memory", {B, N, W}),
                             call.in(read_weights, "read_weights", {B, R, N}),
                             call.in(usage, "usage", {B, N}),
                             call.in(projection, "projection", {s.T, B, 4 * D}),
                             data<T>(outputs),
                             data<T>(memory_out),
                             data<T>(weights_out),
                             data<T>(usage_out),
                             data<T>(cell_out),
                             saved(checkpoints),
                             saved(rows),
                             saved(gates),
                             saved(cells),
                             saved(interface),
                             save_for_backward ? data<int64_t>(least_used) : nullptr};
  Gpu gpu(call.device());
  run_persistent(gpu, op);
  return std::make_tuple(outputs, memory_out, weights_out, usage_out, cell_out, checkpoints, rows, gates, cells,
                         interface, least_used);
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Arguments are the gradients of the outputs and of memory, read weights, usage and cell after the last step (null:
// zero), the inputs, and what mann_persistent saved. Returns the gradients of the projection (T,B,4D), of the interface
// vectors (T,B,I) before activation, and of output, cell, memory, read weights and usage before the first step.
Backward mann_persistent_backward(const Maybe& grad_outputs, const Maybe& grad_memory, const Maybe& grad_read_weights,
                                  const Maybe& grad_usage, const Maybe& grad_cell, const Tensor& recurrent_weight,
                                  const Tensor& interface_weight, const Tensor& cell, const Tensor& memory,
                                  const Tensor& read_weights, const Tensor& checkpoints, const Tensor& rows,
                                  const Tensor& gates, const Tensor& cells, const Tensor& interface,
                                  const Tensor& least_used, bool per_head, double decay, int64_t checkpoint_every) {
  using T = float;
  Call<T> call(Device::of(memory));
  const PersistentShape s = shape_of_episode(gates, interface_weight, memory, read_weights, checkpoint_every);
  const auto [N, W, R] = s.shape;
  const int64_t B = s.B, D = s.D, I = interface_weight.size(0), O = D + R * W;
  check_sizes(least_used, "least_used", "TBn");
  const int64_t n = least_used.size(2);
  check_range(n, "least_used.shape[2]", 1, N);
  check_decay(decay);
  const Tensor d_gates = call.out({s.T, B, 4 * D}), d_interface = call.out({s.T, B, I}), d_output = call.out({B, O});
  const Tensor d_cell = call.out({B, D}), d_memory = call.out({B, N, W}), d_weights = call.out({B, R, N});
  const Tensor d_usage = call.out({B, N});
  const int64_t count = 1 + (s.T - 1) / checkpoint_every;
  Gpu gpu(call.device());
  const MANNPersistentBackward op = {
      s,
      {n, per_head, decay},
      call.in(recurrent_weight, "recurrent_weight", {4 * D, O}),
      call.in(interface_weight, "interface_weight", {I, D}),
      call.in(cell, "cell", {B, D}),
      call.in(gates, "gates", {s.T, B, 4 * D}),
      call.in(checkpoints, "checkpoints", {count, B, N * W}),
      call.in(rows, "rows", {s.T + 1, B, 2 * R + 1, N}),
      call.in(cells, "cells", {s.T, B, D}),
      call.in(interface, "interface", {s.T, B, I}),
      static_cast<const int64_t*>(
          call.hold(least_used, "least_used", {s.T, B, n}, ScalarType::Long).const_data_ptr()),
      call.in(grad_outputs, "grad_outputs", {s.T, B, O}),
      call.in(grad_memory, "grad_memory", {B, N, W}),
      call.in(grad_read_weights, "grad_read_weights", {B, R, N}),
      call.in(grad_usage, "grad_usage", {B, N}),
      call.in(grad_cell, "grad_cell", {B, D}),
      gpu.workspace<T>(persistent_scratch(s)),
      data<T>(d_gates),
      data<T>(d_interface),
      data<T>(d_output),
      data<T>(d_cell),
      data<T>(d_memory),
      data<T>(d_weights),
      data<T>(d_usage)};
  run_persistent(gpu, op);
  return std::make_tuple(d_gates, d_interface, d_output, d_cell, d_memory, d_weights, d_usage);
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CUDA, m) {
  m.impl("mann_persistent", TORCH_BOX(&mannkern::mann_persistent));
  m.impl("mann_persistent_backward", TORCH_BOX(&mannkern::mann_persistent_backward));
}

namespace mannkern {
namespace {

// Whether the library's kernels for a device have a body: PTX of an older GPU, compiled anew for this one, has none.
bool has_persistent_kernels(int device) {
  cudaFuncAttributes kernel = {};
  return find_kernel(device, mann_persistent_kernel, kernel) && kernel.ptxVersion >= 90;
}

}  // namespace
}  // namespace mannkern

// Why mann_persistent cannot take these sizes on a device; null if it can.
extern "C" __attribute__((visibility("default"))) const char* mannkern_persistent_why_not(int device, int64_t D,
                                                                                          int64_t N, int64_t W,
                                                                                          int64_t R) {
  int major = 0, shared = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (major < 9 || shared < mannkern::kMostShared) return "the GPU has no clusters of 8 blocks with 227 KiB each";
  if (!mannkern::has_persistent_kernels(device)) return "the CUDA library was built for no GPU with clusters (9.0)";
  return mannkern::persistent_why_not({1, 1, D, {N, W, R}, true, 1});
}
