// Which kernel an operation of LRUA launches, with how much shared memory. A Gpu is as in launch.h, and has
//   reserve(name, kernel, the most bytes of shared memory that a block of any call has)
//   at_once(name, kernel, threads, bytes of shared memory)   how many such blocks run side by side
#pragma once

#include "lrua_scan.h"
#include "lrua_scan_backward.h"
#include "lrua_step.h"
#include "lrua_step_backward.h"

namespace mannkern {

constexpr int64_t kStepBytes = 99 * 1024;  // shared memory that every GPU gives a block that asks for it

// Whether the kernels take these sizes. Python's twin is in mannkern/backends/cuda.py.
inline bool step_takes(const Shape& s) {
  const int64_t slots = (s.N + kLanes - 1) / kLanes * kLanes;
  return s.R <= 4 && s.W % 4 == 0 && s.W <= kStepWidth && s.N <= kStepSlots && slots * s.W <= kStepNumbers;
}

template <class Gpu, class Op>
void launch_step(Gpu& gpu, const char* name, void (*kernel)(Op), int64_t B, int warps, int64_t bytes, const Op& op) {
  gpu.reserve(name, kernel, kStepBytes);
  gpu.launch(name, kernel, int(B), warps * kLanes, bytes, op);
}
template <int R, int kN, int kW, class Gpu>
void launch_step(Gpu& gpu, int64_t B, const LRUAStep<float>& op) {
  const StepShared<R, kN, kW> shared(op.shape, op.options.n, nullptr);
  launch_step(gpu, "lrua_step", lrua_step_kernel<R, kN, kW>, B, shared.sizes.warps(), shared.bytes(), op);
}
template <int R, int kN, int kW, class Gpu>
void launch_step(Gpu& gpu, int64_t B, const LRUAStepBackward<float>& op) {
  const StepBackwardShared<R, kN, kW> shared(op.shape, nullptr);
  const auto kernel = lrua_step_backward_kernel<R, kN, kW>;
  launch_step(gpu, "lrua_step_backward", kernel, B, shared.sizes.warps(), shared.bytes(), op);
}

template <int R, int kN, int kW, class Gpu>
void launch_step(Gpu& gpu, int64_t B, const LRUAScanCosines<float>& op) {
  const ScanShared<R, kN, kW> shared(op.shape, op.options.n, nullptr);
  launch_step(gpu, "lrua_scan", lrua_scan_kernel<R, kN, kW>, B, shared.sizes.warps(), shared.bytes(), op);
}
template <int R, int kN, int kW, class Gpu>
void launch_step(Gpu& gpu, int64_t B, const LRUAScanCosinesBackward<float>& op) {
  const StepBackwardShared<R, kN, kW> shared(op.shape, nullptr);
  const auto kernel = lrua_scan_backward_kernel<R, kN, kW>;
  const char* name = "lrua_scan_backward";
  const int threads = shared.sizes.warps() * kLanes;
  gpu.reserve(name, kernel, kStepBytes);
  const int blocks = least(B, gpu.at_once(name, kernel, threads, shared.bytes()));
  const int64_t numbers = int64_t(op.shape.W) * kOwn<kN> * threads;  // of a memory
  auto* scratch = gpu.template workspace<float>(blocks * (op.checkpoint_every - 1) * numbers);
  gpu.launch(name, kernel, blocks, threads, shared.bytes(), op, reinterpret_cast<float4*>(scratch));
}

template <int R, class Gpu, class Op>
void launch_step_of_heads(Gpu& gpu, int64_t B, const Op& op) {
  if (op.shape.N == 128 && op.shape.W == 40) launch_step<R, 128, 40>(gpu, B, op);  // the paper's
  else launch_step<R, 0, 0>(gpu, B, op);
}

template <class Gpu, class Op>
void run_step(Gpu& gpu, int64_t B, const Op& op) {
  if (B == 0) return;
  if (op.shape.R == 1) launch_step_of_heads<1>(gpu, B, op);
  else if (op.shape.R == 2) launch_step_of_heads<2>(gpu, B, op);
  else if (op.shape.R == 3) launch_step_of_heads<3>(gpu, B, op);
  else launch_step_of_heads<4>(gpu, B, op);
}

}  // namespace mannkern
