// The backward kernel of ntm_write: one block per episode, four heads at once. It goes through each tile of gradient
// and memory twice: slot by slot for the gradients of weights, column by column for those of memory, erase and add.
#pragma once

#include "write.h"

namespace mannkern {

// The layout of a block's shared memory, in numbers of T: sums of columns, weights of a tile's slots, erase and add
// of its columns, and the two tiles.
template <class T>
struct WriteBackwardSharedLayout {
  static constexpr int kWeights = 2 * kHeads * kWriteThreads, kErase = kWeights + kHeads * kWriteThreads;
  static constexpr int kAdd = kErase + kColumns<T, kWriteThreads> * kHeads;
  static constexpr int kGrad = kAdd + kColumns<T, kWriteThreads> * kHeads;
  static MANNKERN_HOST_TOO int tile(int W) { return kWriteThreads * odd(least(W, kColumns<T, kWriteThreads>)); }
  static MANNKERN_HOST_TOO int size(int W) { return kGrad + 2 * tile(W); }
};

// The product of the factors 1 - w e of all heads but [h0, h0 + kHeads), at slot i and column c.
template <class T>
__device__ T factors_beside(const NTMWriteBackward<T>& op, int64_t e, int h0, int i, int c) {
  T product = 1;
  for (int h = 0; h < op.shape.H; ++h)
    if (h < h0 || h >= h0 + kHeads) {
      const int64_t head = e * op.shape.H + h;
      product *= 1 - op.weights[head * op.shape.N + i] * op.erase[head * op.shape.W + c];
    }
  return product;
}

// For each of four heads the product of the other heads' factors; returns the product of all. Dividing the product of
// all would fail for a factor of 0.
template <class T>
__device__ T products_of_others(T* others, const T* factor, T beside) {
  static_assert(kHeads == 4);
  const T low = factor[0] * factor[1], high = factor[2] * factor[3];
  others[0] = factor[1] * high * beside;
  others[1] = factor[0] * high * beside;
  others[2] = factor[3] * low * beside;
  others[3] = factor[2] * low * beside;
  return low * high * beside;
}

// A tile of an episode in shared memory; the numbers of kHeads heads are side by side.
template <class T>
struct Tile {
  int i0, c0, rows, columns;
  T *weights, *erase, *add, *grad, *memory;  // (rows,kHeads), (columns,kHeads) twice, (rows,columns) twice

  // At slot r and column j, for each head the product of the other heads' factors 1 - w e; returns the product of all.
  __device__ T products(T (&others)[kHeads], const NTMWriteBackward<T>& op, int64_t e, int h0, int r, int j) const {
    T factor[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) factor[h] = 1 - weights[r * kHeads + h] * erase[j * kHeads + h];
    const T beside = op.shape.H > kHeads ? factors_beside(op, e, h0, i0 + r, c0 + j) : T(1);
    return products_of_others(others, factor, beside);
  }
};

// One slot per thread: adds what this tile gives to the gradients of the slot's weights.
template <class T>
__device__ void slot_backward(T (&grad_weights)[kHeads], const Tile<T>& tile, const NTMWriteBackward<T>& op, int64_t e,
                              int h0) {
  const int r = threadIdx.x;
  if (r >= tile.rows) return;
  T sums[kHeads] = {};
  for (int j = 0; j < tile.columns; ++j) {
    const T d = tile.grad[r * odd(tile.columns) + j], x = tile.memory[r * odd(tile.columns) + j];
    T others[kHeads];
    tile.products(others, op, e, h0, r, j);
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      sums[h] += d * (tile.add[j * kHeads + h] - x * others[h] * tile.erase[j * kHeads + h]);
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) grad_weights[h] += sums[h];
}

// One column per thread, by ColumnMap: writes the gradient of the memory, and adds what this tile gives to those of
// erase and add.
template <class T>
__device__ void column_backward(const Tile<T>& tile, T* shared, const NTMWriteBackward<T>& op, int64_t e, int h0) {
  const int W = int(op.shape.W), H = int(op.shape.H);
  const ColumnMap map(tile.columns, kWriteThreads);
  T* grad_memory = op.grad_memory + e * op.shape.N * W + int64_t(tile.i0) * W + tile.c0;
  T sums[2 * kHeads] = {};  // gradients of erase, then of add
  for (int r = map.group; map.used && r < tile.rows; r += map.groups) {
    const int at = r * odd(tile.columns) + map.column;
    const T d = tile.grad[at], x = tile.memory[at];
    T others[kHeads];
    const T product = tile.products(others, op, e, h0, r, map.column);
    if (h0 == 0) grad_memory[r * W + map.column] = d * product;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const T pushed = tile.weights[r * kHeads + h] * d;
      sums[h] -= pushed * x * others[h];
      sums[kHeads + h] += pushed;
    }
  }
  sum_groups(sums, map, shared);
  if (!map.used || map.group > 0) return;
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
    if (h0 + h < H) {
      const int64_t at = (e * H + h0 + h) * W + tile.c0 + map.column;
      op.grad_erase[at] = tile.i0 == 0 ? sums[h] : op.grad_erase[at] + sums[h];
      op.grad_add[at] = tile.i0 == 0 ? sums[kHeads + h] : op.grad_add[at] + sums[kHeads + h];
    }
}

// The gradients of the write in episode e; kAdds: those of the weights are added. The heads go backwards, so that the
// gradient of the memory is written last: op.grad_memory may be op.grad.
template <bool kAdds, class T>
__device__ void erase_write_backward(T* shared, const NTMWriteBackward<T>& op, int64_t e) {
  using Layout = WriteBackwardSharedLayout<T>;
  constexpr int most = kColumns<T, kWriteThreads>;
  const int N = int(op.shape.N), W = int(op.shape.W), H = int(op.shape.H);
  T* grad = shared + Layout::kGrad;
  for (int h0 = (H - 1) / kHeads * kHeads; h0 >= 0; h0 -= kHeads) {
    const int heads = least(kHeads, H - h0);
    const int64_t first = e * H + h0;
    for (int i0 = 0; i0 < N; i0 += kWriteThreads) {
      T grad_weights[kHeads] = {};
      for (int c0 = 0; c0 < W; c0 += most) {
        const Tile<T> tile = {i0,
                              c0,
                              least(kWriteThreads, N - i0),
                              least(most, W - c0),
                              shared + Layout::kWeights,
                              shared + Layout::kErase,
                              shared + Layout::kAdd,
                              grad,
                              grad + Layout::tile(W)};
        const int64_t corner = e * N * W + int64_t(i0) * W + c0;
        // the tile before has been read by now: sum_groups has a barrier
        stage<kWriteThreads>(tile.grad, op.grad + corner, tile.rows, tile.columns, W);
        stage<kWriteThreads>(tile.memory, op.memory + corner, tile.rows, tile.columns, W);
        stage_heads<kWriteThreads>(tile.erase, op.erase + first * W, heads, c0, tile.columns, W);
        stage_heads<kWriteThreads>(tile.add, op.add + first * W, heads, c0, tile.columns, W);
        if (c0 == 0) stage_heads<kWriteThreads>(tile.weights, op.weights + first * N, heads, i0, tile.rows, N);
        __syncthreads();
        slot_backward(grad_weights, tile, op, e, h0);
        column_backward(tile, shared, op, e, h0);
      }
      const int i = i0 + threadIdx.x;
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        if (h < heads && i < N) {
          T& d = op.grad_weights[(first + h) * N + i];
          d = kAdds ? d + grad_weights[h] : grad_weights[h];
        }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kWriteThreads, kWriteBlocks<T>)
    write_backward_kernel(NTMWriteBackward<T> op, int64_t B) {
  T* shared = shared_memory<T>();
  for (int64_t e = blockIdx.x; e < B; e += gridDim.x) erase_write_backward<false>(shared, op, e);
}

}  // namespace mannkern
