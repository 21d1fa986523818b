// The memory's part of an NTM's episode on a GPU, in place: mannkern/triton/launch/ntm_episode.py launches it between the
// kernels of the controller, and allocates all buffers before the loop.

#include <torch/csrc/stable/library.h>

#include "gpu.h"
#include "ntm_episode_launch.h"

namespace mannkern {
namespace {

// What the operations share: sizes, and phases (steps,B).
template <class T>
struct Episode {
  Call<T> call;
  int64_t B;
  NTMInterface layout;

  Episode(const Tensor& memory, const Tensor& weights, int64_t num_write_heads, int64_t num_shifts)
      : call(Device::of(memory)) {
    const Shape s = shape_of(memory, weights, "weights", "BHN");
    check_range(num_write_heads, "num_write_heads", 1, s.R - 1);
    check_range(num_shifts, "num_shifts", 1, int64_t(1) << 31);
    if (num_shifts % 2 == 0) refuse("num_shifts", std::to_string(num_shifts), "an odd number: the middle one stays");
    B = memory.size(0);
    layout = {{s.N, s.W, s.R, num_shifts}, num_write_heads};
    if (s.N * s.W >= int64_t(1) << 31) refuse("memory", shape_text(memory), "N W under 2^31");
    if (!episode_takes<T>(layout))
      refuse("memory", shape_text(memory), "N up to 1024 in float32 and 512 in float64");
  }
  int64_t heads() const { return layout.shape.H; }
  int64_t reads() const { return (layout.shape.H - layout.V) * layout.shape.W; }

  // A tensor that the kernel writes, in place.
  T* out(const Tensor& t, const char* name, Sizes sizes) {
    if (!t.is_contiguous()) refuse(name, "strides", "a contiguous tensor");
    return const_cast<T*>(call.in(t, name, sizes));
  }
  Phases<T> phases(const Maybe& phase, const Maybe& first_memory, const Maybe& first_weights, Sizes sizes) {
    if (first_memory && !phase) refuse("phase", "None", "a tensor beside first_memory");
    return {phase ? static_cast<const int32_t*>(call.hold(*phase, "phase", sizes, ScalarType::Int).const_data_ptr())
                  : nullptr,
            call.in(first_memory, "first_memory", {layout.shape.N, layout.shape.W}),
            call.in(first_weights, "first_weights", {heads(), layout.shape.N})};
  }
};

void ntm_step(const Tensor& memory, const Tensor& previous, const Maybe& phase, const Maybe& first_memory,
              const Maybe& first_weights, const Tensor& interface, const Tensor& memory_out, const Tensor& weights,
              const Tensor& rows, const Tensor& output, int64_t num_write_heads, int64_t num_shifts) {
  by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Episode<T> e(memory, previous, num_write_heads, num_shifts);
    const auto [N, W, H, S] = e.layout.shape;
    check_sizes(output, "output", "BO");
    const int64_t O = output.size(1), B = e.B;
    check_range(O, "output.shape[1]", e.reads(), int64_t(1) << 31);
    const NTMEpisodeStep<T> op = {e.layout,
                                  O,
                                  e.call.in(memory, "memory", {B, N, W}),
                                  e.call.in(previous, "previous", {B, H, N}),
                                  e.phases(phase, first_memory, first_weights, {B}),
                                  e.out(interface, "interface", {B, e.layout.size()}),
                                  e.out(memory_out, "memory_out", {B, N, W}),
                                  e.out(weights, "weights", {B, H, N}),
                                  e.out(rows, "rows", {B, 2 * H + 2, N}),
                                  e.out(output, "output", {B, O}) + O - e.reads()};
    Gpu gpu(e.call.device());
    run(gpu, B, op);
  });
}

void ntm_step_backward(const Tensor& grad_output, const Tensor& memory, const Tensor& memory_out,
                       const Tensor& previous, const Tensor& weights, const Tensor& rows, const Tensor& interface,
                       const Maybe& phase, const Maybe& first_memory, const Maybe& first_weights,
                       const Tensor& grad_memory, const Tensor& grad_weights, const Tensor& grad_interface,
                       const Maybe& grad_first, int64_t num_write_heads, int64_t num_shifts) {
  by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    Episode<T> e(memory, previous, num_write_heads, num_shifts);
    const auto [N, W, H, S] = e.layout.shape;
    check_sizes(grad_output, "grad_output", "BO");
    const int64_t O = grad_output.size(1), B = e.B, I = e.layout.size();
    check_range(O, "grad_output.shape[1]", e.reads(), int64_t(1) << 31);
    if (first_memory && !grad_first) refuse("grad_first", "None", "a tensor beside first_memory");
    const NTMEpisodeStepBackward<T> op = {e.layout,
                                          O,
                                          e.call.in(grad_output, "grad_output", {B, O}) + O - e.reads(),
                                          e.call.in(memory, "memory", {B, N, W}),
                                          e.call.in(memory_out, "memory_out", {B, N, W}),
                                          e.call.in(previous, "previous", {B, H, N}),
                                          e.call.in(weights, "weights", {B, H, N}),
                                          e.call.in(rows, "rows", {B, 2 * H + 2, N}),
                                          e.call.in(interface, "interface", {B, I}),
                                          e.phases(phase, first_memory, first_weights, {B}),
                                          e.out(grad_memory, "grad_memory", {B, N, W}),
                                          e.out(grad_weights, "grad_weights", {B, H, N}),
                                          e.out(grad_interface, "grad_interface", {B, I}),
                                          grad_first ? e.out(*grad_first, "grad_first", {B, N, W}) : nullptr};
    Gpu gpu(e.call.device());
    run(gpu, B, op);
  });
}

void ntm_recompute(const Tensor& memory, const Tensor& interface, const Tensor& weights, const Maybe& phase,
                   const Maybe& first_memory, const Maybe& first_weights, const Tensor& memories,
                   int64_t num_write_heads, int64_t num_shifts) {
  by_dtype(memory, "memory", [&](auto zero) {
    using T = decltype(zero);
    check_sizes(weights, "weights", "TBHN");
    const int64_t steps = weights.size(0);
    Episode<T> e(memory, torch::stable::select(weights, 0, 0), num_write_heads, num_shifts);
    const auto [N, W, H, S] = e.layout.shape;
    const int64_t B = e.B;
    const NTMEpisodeRecompute<T> op = {e.layout,
                                       steps,
                                       e.call.in(memory, "memory", {B, N, W}),
                                       e.call.in(interface, "interface", {steps, B, e.layout.size()}),
                                       e.call.in(weights, "weights", {steps, B, H, N}),
                                       e.phases(phase, first_memory, first_weights, {steps, B}),
                                       e.out(memories, "memories", {steps, B, N, W})};
    Gpu gpu(e.call.device());
    run(gpu, B, op);
  });
}

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CUDA, m) {
  m.impl("ntm_step", TORCH_BOX(&mannkern::ntm_step));
  m.impl("ntm_step_backward", TORCH_BOX(&mannkern::ntm_step_backward));
  m.impl("ntm_recompute", TORCH_BOX(&mannkern::ntm_recompute));
}
