// How a block of threads goes through a matrix (N,W) of slots: slot by slot, over tiles in shared memory, or column by
// column.
#pragma once

#include "../args/ntm.h"
#include "team.h"

namespace mannkern {

constexpr int kHeads = 4;               // heads that a block works on at once
constexpr int kBlockBytes = 48 * 1024;  // shared memory that every GPU gives a block by default
constexpr int kMostWorking = 256;       // blocks in a launch whose rows are in device memory
constexpr int64_t kMostBlocks = 1 << 30;

// Columns of a tile, which has one slot per thread and takes 16 kB.
template <class T, int kThreads>
constexpr int kColumns = 16384 / kThreads / int(sizeof(T));

#define MANNKERN_HOST_TOO __host__ __device__ inline

MANNKERN_HOST_TOO int least(int64_t a, int64_t b) { return int(a < b ? a : b); }

// An odd pitch: when each thread reads the same column of its own slot, every read is in a bank of its own.
MANNKERN_HOST_TOO int odd(int columns) { return columns | 1; }

template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) double dynamic_shared[];
  return reinterpret_cast<T*>(dynamic_shared);
}

// The rows of N numbers that a block works in: in shared memory, or in device memory if they are too long for it.
template <class Group, class T>
__device__ T* rows_of_block(T* shared, T* workspace, int rows, int N) {
  if constexpr (Group::kPerBlock == 1)
    if (workspace) return workspace + int64_t(blockIdx.x) * rows * N;
  return shared;
}

// Copies `rows` x `columns` of a matrix, whose rows are W apart, to a tile.
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

// Copies columns [first, first + columns) of kHeads vectors, which are W apart, with the heads of a column side by
// side; 0 for heads beyond `heads`.
template <int kThreads, class T>
__device__ void stage_heads(T* staged, const T* vectors, int heads, int first, int columns, int W) {
  for (int at = threadIdx.x; at < columns * kHeads; at += kThreads) {
    const int j = at / kHeads, h = at % kHeads;
    staged[at] = h < heads ? vectors[int64_t(h) * W + first + j] : T(0);
  }
}

// Which column and which slots a thread works on. Neighbouring threads take neighbouring columns, so their reads
// coalesce; threads beyond `width` columns form further groups, and group g takes every groups-th slot from g on.
struct ColumnMap {
  int width, groups, column, group;
  bool used;  // false: the thread has no column

  __device__ ColumnMap(int columns, int threads)
      : width(columns < threads ? columns : threads), groups(threads / width), column(threadIdx.x % width),
        group(threadIdx.x / width), used(group < groups) {}
};

// Adds up, for each column, the K sums of all groups; group 0 gets the totals. `shared` holds K numbers per thread; a
// barrier must have passed since it was read last.
template <int K, class T>
__device__ void sum_groups(T (&sums)[K], const ColumnMap& map, T* shared) {
  const int threads = blockDim.x;
#pragma unroll
  for (int k = 0; k < K; ++k) shared[k * threads + threadIdx.x] = sums[k];
  __syncthreads();
  if (map.group > 0) return;
#pragma unroll
  for (int k = 0; k < K; ++k)
    for (int g = 1; g < map.groups; ++g) sums[k] += shared[k * threads + g * map.width + map.column];
}

}  // namespace mannkern
