// The kernels of an NTM's episode, forward: a step on the memory, one block per episode, and memories computed again.
// A step does in place what the kernels of single operations do: the write heads' addressing and write, then the read
// heads' addressing and read.
#pragma once

#include "../args/ntm_episode.h"
#include "address.h"
#include "write.h"

namespace mannkern {

// Blocks of a multiprocessor, as kBlocks of a Warp: with 3 a step in float32 spills 16 bytes on sm_90.
constexpr int kStepBlocks = 2;
template <class T>
constexpr int kRecomputeBlocks = sizeof(T) == 4 ? 3 : 2;

// The equations of single numbers.
template <class T>
struct NumberMath {
  using Number = T;
  __device__ static T exp_nonpositive(T x) { return std::exp(x); }
  __device__ static T log1p_exp(T x) { return std::log1p(std::exp(x)); }
  __device__ static T expm1(T x) { return std::expm1(x); }
};

// Numbers of T in the shared memory of a block of a step.
template <class Group, class T>
MANNKERN_HOST_TOO int64_t step_numbers(const NTMInterface& layout) {
  const int H = int(layout.shape.H), V = int(layout.V), most = least(V > H - V ? V : H - V, kHeads);
  const int64_t address = AddressSharedLayout<T, Group::kThreads>::rows(int(layout.shape.W)) +
                          address_rows<Group>(most) * layout.shape.N;
  const int64_t sums = kHeads * Group::kThreads;
  return address > sums ? address : sums;
}

// The heads from `first` on, in an episode's interface vector.
template <class T>
__device__ Heads<T> heads_in(const T* vector, const NTMInterface& layout, int64_t first) {
  return {vector + first * layout.shape.W, vector + layout.strengths() + first, vector + layout.gates() + first,
          vector + layout.shifts() + first * layout.shape.S, vector + layout.sharpnesses() + first};
}

// Activates an episode's interface vector: tanh of adds, sigmoid of erases and gates, softplus of strengths, 1 +
// softplus of sharpnesses, softmax of shifts; keys stay.
template <class T>
__device__ void activate(T* vector, const NTMInterface& layout) {
  const int S = int(layout.shape.S);
  for (int64_t i = layout.adds() + threadIdx.x; i < layout.shifts(); i += blockDim.x) {
    const T x = vector[i];
    vector[i] = i < layout.erases()      ? std::tanh(x)
                : i < layout.strengths() ? sigmoid<NumberMath<T>>(x)
                                         : softplus<NumberMath<T>>(x, T(i < layout.sharpnesses() ? 0 : 1));
  }
  for (int64_t h = threadIdx.x; h < layout.shape.H; h += blockDim.x) {
    T *s = vector + layout.shifts() + h * S, top = s[0], sum = 0;
    for (int j = 1; j < S; ++j) top = s[j] > top ? s[j] : top;
    for (int j = 0; j < S; ++j) sum += s[j] = std::exp(s[j] - top);
    for (int j = 0; j < S; ++j) s[j] /= sum;
  }
}

// Read vectors (heads,W) of weights (heads,N) and a memory: r[h] = sum_i w[h](i) M(i).
template <class T>
__device__ void read(T* read, T* shared, const T* weights, const T* memory, int heads, int N, int W) {
  const ColumnMap map(W, blockDim.x);
  for (int h0 = 0; h0 < heads; h0 += kHeads)
    for (int c0 = 0; c0 < W; c0 += map.width) {
      const int c = c0 + map.column;
      T sums[kHeads] = {};
      for (int i = map.group; map.used && c < W && i < N; i += map.groups) {
        const T x = memory[i * W + c];
#pragma unroll
        for (int h = 0; h < kHeads; ++h)
          if (h0 + h < heads) sums[h] += weights[(h0 + h) * N + i] * x;
      }
      __syncthreads();  // the sums before have been read
      sum_groups(sums, map, shared);
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        if (h0 + h < heads && map.used && map.group == 0 && c < W) read[(h0 + h) * W + c] = sums[h];
    }
}

// Copies `count` numbers, if they are not there yet.
template <class T>
__device__ void copy(T* to, const T* from, int64_t count) {
  for (int64_t i = threadIdx.x; to != from && i < count; i += blockDim.x) to[i] = from[i];
}

template <class T>
__device__ void fill(T* to, T x, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = x;
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, kStepBlocks)
    ntm_step_kernel(NTMEpisodeStep<T> op, int64_t B) {
  static_assert(Group<T>::kThreads == kWriteThreads);
  const NTMInterface& layout = op.layout;
  const int N = int(layout.shape.N), W = int(layout.shape.W), H = int(layout.shape.H), V = int(layout.V);
  const int64_t S = layout.shape.S;
  T* shared = shared_memory<T>();
  const Group<T> group{shared};
  T* addressing = shared + AddressSharedLayout<T, Group<T>::kThreads>::rows(W);
  for (int64_t e = blockIdx.x; e < B; e += gridDim.x) {
    const int phase = op.phases.phase ? op.phases.phase[e] : 0;
    const T* memory = phase == kAnew ? op.phases.first_memory : op.memory + e * N * W;
    const T* previous = phase == kAnew ? op.phases.first_weights : op.previous + e * H * N;
    T *out = op.memory_out + e * N * W, *weights = op.weights + e * H * N, *rows = op.rows + e * (2 * H + 2) * N;
    T *vector = op.interface + e * layout.size(), *reads = op.read + e * op.output_stride;
    if (phase == kEnded) {
      copy(out, memory, int64_t(N) * W);
      copy(weights, previous, int64_t(H) * N);
      fill(reads, T(0), int64_t(H - V) * W);
      continue;
    }
    activate(vector, layout);
    __syncthreads();
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {  // write heads, then read heads
      const int64_t first = part ? V : 0, heads = part ? H - V : V;
      const NTMAddress<T> op_address = {{N, W, heads, S},          part ? out : memory,
                                        previous + first * N,      heads_in<T>(vector, layout, first),
                                        weights + first * N,       rows + first * N,
                                        rows + (H + first) * N,    rows + (2 * H + part) * N};
      address(group, addressing, shared, op_address, 0);
      __syncthreads();
      if (part)
        read(reads, shared, weights + first * N, out, H - V, N, W);
      else
        erase_write<T>({{N, W, V, S}, memory, weights, vector + layout.erases(), vector + layout.adds(), out}, 0, 0, N);
      __syncthreads();
    }
  }
}

// Each block takes kWriteSlots slots of an episode, and no thread reads what another one wrote.
template <class T>
__global__ void __launch_bounds__(kWriteThreads, kRecomputeBlocks<T>)
    ntm_recompute_kernel(NTMEpisodeRecompute<T> op, int64_t B) {
  const NTMInterface& layout = op.layout;
  const int64_t N = layout.shape.N, W = layout.shape.W, H = layout.shape.H, S = layout.shape.S;
  const int64_t parts = (N + kWriteSlots - 1) / kWriteSlots;
  for (int64_t part = blockIdx.x; part < B * parts; part += gridDim.x) {
    const int64_t e = part / parts;
    const int begin = int(part % parts) * kWriteSlots, end = least(begin + kWriteSlots, N);
    const T* before = op.memory + e * N * W;
    for (int64_t i = e; i < op.steps * B; i += B) {
      const T* vector = op.interface + i * layout.size();
      T* out = op.memories + i * N * W;
      if (op.phases.first_memory && op.phases.phase[i] == kAnew) before = op.phases.first_memory;
      erase_write<T>({{N, W, layout.V, S}, before, op.weights + i * H * N, vector + layout.erases(),
                      vector + layout.adds(), out},
                     0, begin, end);
      before = out;
    }
  }
}

}  // namespace mannkern
