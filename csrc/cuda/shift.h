// The kernels of shift_sharpen: each team works on one row of N weights.
#pragma once

#include "tiles.h"

namespace mannkern {

// Rows of N numbers that a team works in: w_s; backward also its gradient.
constexpr int kShiftRows = 1, kShiftBackwardRows = 2;

template <class Group, class T>
__device__ T* rows_of_team(T* workspace, int rows, int N) {
  T* block = rows_of_block<Group>(shared_memory<T>() + kLanes, workspace, rows, N);
  return block + Group{nullptr}.index() * rows * N;
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, Group<T>::kBlocks)
    shift_sharpen_kernel(ShiftSharpen<T> op, int64_t count, T* workspace) {
  const Group<T> group{shared_memory<T>()};
  const int N = int(op.N);
  const Row<T, Group<T>> team(group, N);
  T* w = rows_of_team<Group<T>>(workspace, kShiftRows, N);
  for (int64_t r = int64_t(blockIdx.x) * Group<T>::kPerBlock + group.index(); r < count;
       r += int64_t(gridDim.x) * Group<T>::kPerBlock) {
    shift(team, w, op.weights + r * N, op.shift + r * op.S, op.S);
    sharpen(team, w, w, op.sharpness[r]);
    team.each([&](int i) { op.sharpened[r * N + i] = w[i]; });
  }
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, Group<T>::kBlocks)
    shift_sharpen_backward_kernel(ShiftSharpenBackward<T> op, int64_t count, T* workspace) {
  const Group<T> group{shared_memory<T>()};
  const int N = int(op.N);
  const Row<T, Group<T>> team(group, N);
  T *shifted = rows_of_team<Group<T>>(workspace, kShiftBackwardRows, N), *grad_shifted = shifted + N;
  for (int64_t r = int64_t(blockIdx.x) * Group<T>::kPerBlock + group.index(); r < count;
       r += int64_t(gridDim.x) * Group<T>::kPerBlock) {
    const T *weights = op.weights + r * N, *s = op.shift + r * op.S;
    shift(team, shifted, weights, s, op.S);
    group.sync();  // other members may still read grad_shifted of the row before
    sharpen_backward(team, grad_shifted, op.grad_sharpness[r], op.grad + r * N, op.sharpened + r * N, shifted,
                     op.sharpness[r]);
    shift_backward(team, op.grad_weights + r * N, op.grad_shift + r * op.S, grad_shifted, weights, s, op.S);
  }
}

}  // namespace mannkern
