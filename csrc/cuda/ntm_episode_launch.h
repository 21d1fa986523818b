// Which kernel a step of an NTM's episode launches, and which sizes they take. A Gpu is as in launch.h; these kernels
// borrow no device memory.
#pragma once

#include "launch.h"
#include "ntm_step_backward.h"

namespace mannkern {

template <class Group, class T>
bool step_fits(const NTMInterface& layout) {
  const int64_t forward = step_numbers<Group, T>(layout), backward = step_backward_numbers<Group, T>(layout);
  return (forward > backward ? forward : backward) * int64_t(sizeof(T)) <= kBlockBytes;
}

// Whether the rows of an episode's heads fit into the shared memory of a block.
template <class T>
bool episode_takes(const NTMInterface& layout) {
  return layout.shape.N <= kMostOfWarp ? step_fits<Warp<T>, T>(layout) : step_fits<SmallBlock<T>, T>(layout);
}

template <template <class> class Group, class Gpu, class T>
void launch_step(Gpu& gpu, int64_t B, const NTMEpisodeStep<T>& op) {
  gpu.launch("ntm_step", ntm_step_kernel<Group, T>, least(B, kMostBlocks), Group<T>::kThreads,
             step_numbers<Group<T>, T>(op.layout) * int64_t(sizeof(T)), op, B);
}

template <template <class> class Group, class Gpu, class T>
void launch_step(Gpu& gpu, int64_t B, const NTMEpisodeStepBackward<T>& op) {
  gpu.launch("ntm_step_backward", ntm_step_backward_kernel<Group, T>, least(B, kMostBlocks), Group<T>::kThreads,
             step_backward_numbers<Group<T>, T>(op.layout) * int64_t(sizeof(T)), op, B);
}

template <class Gpu, class Op>
void run_step(Gpu& gpu, int64_t B, const Op& op) {
  if (B == 0) return;
  if (op.layout.shape.N <= kMostOfWarp) launch_step<Warp>(gpu, B, op);
  else launch_step<SmallBlock>(gpu, B, op);
}

template <class Gpu, class T>
void run(Gpu& gpu, int64_t B, const NTMEpisodeStep<T>& op) {
  run_step(gpu, B, op);
}

template <class Gpu, class T>
void run(Gpu& gpu, int64_t B, const NTMEpisodeStepBackward<T>& op) {
  run_step(gpu, B, op);
}

template <class Gpu, class T>
void run(Gpu& gpu, int64_t B, const NTMEpisodeRecompute<T>& op) {
  if (B == 0 || op.steps == 0) return;
  const int64_t parts = (op.layout.shape.N + kWriteSlots - 1) / kWriteSlots;
  gpu.launch("ntm_recompute", ntm_recompute_kernel<T>, least(B * parts, kMostBlocks), kWriteThreads, 0, op, B);
}

}  // namespace mannkern
