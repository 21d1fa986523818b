// The kernel of ntm_write.
#pragma once

#include "tiles.h"

namespace mannkern {

constexpr int kWriteThreads = 128, kWriteSlots = 256;  // of a block
constexpr int kFlight = 4;                             // slots that a thread loads at once
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 1200
constexpr int kMostWriteBlocks = 5;  // with 6 the assembler spills 8 bytes on sm_120
#else
constexpr int kMostWriteBlocks = 6;
#endif
template <class T>
constexpr int kWriteBlocks = sizeof(T) == 4 ? kMostWriteBlocks : 3;  // of a multiprocessor, as kBlocks of a Warp

// Slots [begin, end) of episode e. Each thread takes one column of some of these slots, by ColumnMap, and so
// op.memory_out may be op.memory.
template <class T>
__device__ void erase_write(const NTMWrite<T>& op, int64_t e, int begin, int end) {
  const int N = int(op.shape.N), W = int(op.shape.W), H = int(op.shape.H);
  const ColumnMap map(W, kWriteThreads);
  const T *memory = op.memory + e * N * W, *weights = op.weights + e * H * N;
  const T *erase = op.erase + e * H * W, *add = op.add + e * H * W;
  T* out = op.memory_out + e * N * W;
  for (int c = map.column; map.used && c < W; c += map.width)
    for (int i0 = begin + map.group; i0 < end; i0 += kFlight * map.groups) {
      T x[kFlight], factor[kFlight], term[kFlight];
#pragma unroll
      for (int f = 0; f < kFlight; ++f) {
        const int i = i0 + f * map.groups;
        x[f] = i < end ? memory[i * W + c] : T(0);
        factor[f] = 1;
        term[f] = 0;
      }
      for (int h = 0; h < H; ++h) {
        const T erased = erase[int64_t(h) * W + c], added = add[int64_t(h) * W + c];
#pragma unroll
        for (int f = 0; f < kFlight; ++f) {
          const int i = least(i0 + f * map.groups, end - 1);
          erase_and_add<Row<T, Warp<T>>>(factor[f], term[f], weights[int64_t(h) * N + i], erased, added);
        }
      }
#pragma unroll
      for (int f = 0; f < kFlight; ++f) {
        const int i = i0 + f * map.groups;
        if (i < end) out[i * W + c] = x[f] * factor[f] + term[f];
      }
    }
}

// Each block takes kWriteSlots slots of an episode.
template <class T>
__global__ void __launch_bounds__(kWriteThreads, kWriteBlocks<T>) write_kernel(NTMWrite<T> op, int64_t count) {
  const int N = int(op.shape.N), parts = (N + kWriteSlots - 1) / kWriteSlots;
  for (int64_t part = blockIdx.x; part < count * parts; part += gridDim.x) {
    const int begin = int(part % parts) * kWriteSlots;
    erase_write(op, part / parts, begin, least(begin + kWriteSlots, N));
  }
}

}  // namespace mannkern
