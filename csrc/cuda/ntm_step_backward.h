// The kernel of an NTM's episode, backward: a step on the memory, one block per episode.
#pragma once

#include "address_backward.h"
#include "ntm_step.h"
#include "write_backward.h"

namespace mannkern {

// Numbers of T in the shared memory of a block.
template <class Group, class T>
MANNKERN_HOST_TOO int64_t step_backward_numbers(const NTMInterface& layout) {
  const int H = int(layout.shape.H), V = int(layout.V), most = least(V > H - V ? V : H - V, kHeads);
  const int64_t address = AddressBackwardSharedLayout<Group::kThreads>::kRows +
                          address_backward_rows<Group>(most) * layout.shape.N;
  const int64_t write = WriteBackwardSharedLayout<T>::size(int(layout.shape.W));
  return address > write ? address : write;
}

// The gradients of the numbers of the heads from `first` on, in the gradient of an episode's interface vector.
template <class T>
__device__ HeadGradients<T> gradients_in(T* vector, const NTMInterface& layout, int64_t first) {
  return {vector + first * layout.shape.W, vector + layout.strengths() + first, vector + layout.gates() + first,
          vector + layout.shifts() + first * layout.shape.S, vector + layout.sharpnesses() + first};
}

// Backward of `activate`, from its result y. d is in place.
template <class T>
__device__ void activate_backward(T* d, const T* y, const NTMInterface& layout) {
  const int S = int(layout.shape.S);
  for (int64_t i = layout.adds() + threadIdx.x; i < layout.shifts(); i += blockDim.x)
    d[i] *= i < layout.erases()        ? 1 - y[i] * y[i]
            : i < layout.strengths()   ? y[i] * (1 - y[i])
            : i < layout.sharpnesses() ? softplus_slope<NumberMath<T>>(-y[i])
                                       : softplus_slope<NumberMath<T>>(1 - y[i]);
  for (int64_t h = threadIdx.x; h < layout.shape.H; h += blockDim.x) {
    const T* s = y + layout.shifts() + h * S;
    T *ds = d + layout.shifts() + h * S, mean = 0;
    for (int j = 0; j < S; ++j) mean += s[j] * ds[j];
    for (int j = 0; j < S; ++j) ds[j] = s[j] * (ds[j] - mean);
  }
}

// Backward of `read`: adds to the gradients of the memory and of the weights. A warp takes the weights of a slot.
template <class T>
__device__ void read_backward(T* grad_memory, T* grad_weights, const T* grad_read, const T* weights, const T* memory,
                              int heads, int N, int W) {
  const Warp<T> warp{nullptr};
  const Row<T, Warp<T>> columns(warp, W);
  for (int i = warp.index(); i < N; i += blockDim.x / kLanes)
    for (int h = 0; h < heads; ++h) {
      const T sum = columns.sum([&](int c) { return memory[i * W + c] * grad_read[h * W + c]; });
      if (warp.rank() == 0) grad_weights[h * N + i] += sum;
    }
  const ColumnMap map(W, blockDim.x);
  for (int c = map.column; map.used && c < W; c += map.width)
    for (int i = map.group; i < N; i += map.groups) {
      T d = grad_memory[i * W + c];
      for (int h = 0; h < heads; ++h) d += weights[h * N + i] * grad_read[h * W + c];
      grad_memory[i * W + c] = d;
    }
}

// Where an episode started anew, the gradients of what it started from: that of the memory is added up, the others end.
template <class T>
__device__ void end_gradients(T* grad_first, T* grad_memory, T* grad_weights, int64_t memory_size, int64_t weights_size) {
  for (int64_t i = threadIdx.x; i < memory_size; i += blockDim.x) grad_first[i] += grad_memory[i];
  fill(grad_memory, T(0), memory_size);
  fill(grad_weights, T(0), weights_size);
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, kStepBlocks)
    ntm_step_backward_kernel(NTMEpisodeStepBackward<T> op, int64_t B) {
  static_assert(Group<T>::kThreads == kWriteThreads);
  const NTMInterface& layout = op.layout;
  const int N = int(layout.shape.N), W = int(layout.shape.W), H = int(layout.shape.H), V = int(layout.V);
  const int64_t S = layout.shape.S;
  T* shared = shared_memory<T>();
  const Group<T> group{shared};
  for (int64_t e = blockIdx.x; e < B; e += gridDim.x) {
    const int phase = op.phases.phase ? op.phases.phase[e] : 0;
    T *d_memory = op.grad_memory + e * N * W, *d_weights = op.grad_weights + e * H * N;
    T* d_vector = op.grad_interface + e * layout.size();
    if (phase == kEnded) {
      fill(d_vector, T(0), layout.size());
      continue;
    }
    const T* memory = phase == kAnew ? op.phases.first_memory : op.memory + e * N * W;
    const T* previous = phase == kAnew ? op.phases.first_weights : op.previous + e * H * N;
    const T *memory_out = op.memory_out + e * N * W, *weights = op.weights + e * H * N;
    const T *rows = op.rows + e * (2 * H + 2) * N, *vector = op.interface + e * layout.size();
#pragma unroll 1
    for (int part = 1; part >= 0; --part) {  // read heads, then write heads
      const int64_t first = part ? V : 0, heads = part ? H - V : V;
      if (part)
        read_backward(d_memory, d_weights + first * N, op.grad_read + e * op.output_stride, weights + first * N,
                      memory_out, H - V, N, W);
      else
        erase_write_backward<true, T>(shared,
                                      {{N, W, V, S}, d_memory, memory, weights, vector + layout.erases(),
                                       vector + layout.adds(), d_memory, d_weights, d_vector + layout.erases(),
                                       d_vector + layout.adds()},
                                      0);
      __syncthreads();
      const NTMAddressBackward<T> op_address = {{N, W, heads, S},
                                                d_weights + first * N,
                                                part ? memory_out : memory,
                                                previous + first * N,
                                                heads_in<T>(vector, layout, first),
                                                weights + first * N,
                                                rows + first * N,
                                                rows + (H + first) * N,
                                                rows + (2 * H + part) * N,
                                                d_memory,
                                                d_weights + first * N,
                                                gradients_in(d_vector, layout, first)};
      address_backward<true>(group, shared + AddressBackwardSharedLayout<Group<T>::kThreads>::kRows, shared,
                             op_address, 0);
      __syncthreads();
    }
    activate_backward(d_vector, vector, layout);
    if (phase == kAnew) end_gradients(op.grad_first + e * N * W, d_memory, d_weights, int64_t(N) * W, int64_t(H) * N);
  }
}

}  // namespace mannkern
