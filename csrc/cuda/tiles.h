// How a block goes through matrices (N,W) of slots: by slots, over tiles in shared memory, and by columns.
#pragma once

#include "../args/ntm.h"
#include "team.h"

namespace mannkern {

constexpr int kHeads = 4;                   // as many heads are worked on at once
constexpr int kBlockBytes = 48 * 1024;      // shared memory that every GPU gives a block unasked
constexpr int kMostWorking = 256;           // blocks at a time where their rows are in device memory
constexpr int64_t kMostBlocks = 1 << 30;

// Numbers of a row of a tile: a tile of a slot a thread has 16 kB.
template <class T, int kThreads>
constexpr int kColumns = 16384 / kThreads / int(sizeof(T));

#define MANNKERN_HOST_TOO __host__ __device__ inline

MANNKERN_HOST_TOO int least(int64_t a, int64_t b) { return int(a < b ? a : b); }

// An odd pitch: threads that read a column each of its own slot find it in banks of their own.
MANNKERN_HOST_TOO int odd(int columns) { return columns | 1; }

template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) double dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}

// Rows of N that a block works in: shared, or in device memory where they are too long for that.
template <class Group, class T>
__device__ T* rows_of_block(T* shared, T* workspace, int rows, int N) {
  if constexpr (Group::kPerBlock == 1)
    if (workspace) return workspace + int64_t(blockIdx.x) * rows * N;
  return shared;
}

// `rows` x `columns` of a matrix whose rows are W apart.
template <int kThreads, class T>
__device__ void stage(T* tile, const T* from, int rows, int columns, int W) {
  const int pitch = odd(columns);
  int i = threadIdx.x / columns, j = threadIdx.x % columns;
#pragma unroll 4
  for (int at = threadIdx.x; at < rows * columns; at += kThreads) {
    tile[i * pitch + j] = from[int64_t(i) * W + j];
    i += kThreads / columns;
    j += kThreads % columns;
    if (j >= columns) j -= columns, ++i;
  }
}

// Columns [first, first + columns) of kHeads vectors W apart, head by head within a column; 0 for heads there are not.
template <int kThreads, class T>
__device__ void stage_heads(T* staged, const T* vectors, int heads, int first, int columns, int W) {
  for (int at = threadIdx.x; at < columns * kHeads; at += kThreads) {
    const int j = at / kHeads, h = at % kHeads;
    staged[at] = h < heads ? vectors[int64_t(h) * W + first + j] : T(0);
  }
}

// A thread's column, and which of the slots are its own: threads that follow each other read numbers that do.
struct ColumnMap {
  int span, groups, column, group;
  bool used;

  __device__ ColumnMap(int columns, int threads)
      : span(columns < threads ? columns : threads),
        groups(threads / span),
        column(threadIdx.x % span),
        group(threadIdx.x / span),
        used(group < groups) {}
};

// What each group found in a column becomes, for group 0, the sums over all. `room` is shared, K numbers a
// thread, which a barrier has passed since it was read.
template <int K, class T>
__device__ void sum_groups(T (&found)[K], const ColumnMap& map, T* room) {
  const int threads = blockDim.x;
#pragma unroll
  for (int k = 0; k < K; ++k) room[k * threads + threadIdx.x] = found[k];
  __syncthreads();
  if (map.group > 0) return;
#pragma unroll
  for (int k = 0; k < K; ++k)
    for (int g = 1; g < map.groups; ++g) found[k] += room[k * threads + g * map.width + map.column];
}

}  // namespace mannkern
