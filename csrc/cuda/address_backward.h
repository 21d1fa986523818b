// The backward kernel of ntm_address: one block per episode. Teams take the rows of up to four heads, then threads take
// the columns of the memory.
#pragma once

#include "address.h"

namespace mannkern {

// The layout of a block's shared memory, in numbers of T: partial sums of its warps, norms of keys, one sum per head
// and thread, and the rows.
template <int kThreads>
struct AddressBackwardSharedLayout {
  static constexpr int kNorms = kLanes, kSums = kNorms + kHeads, kRows = kSums + kHeads * kThreads;
};

// Rows of N numbers that a block works in: one per head and two per team.
template <class Group>
MANNKERN_HOST_TOO int address_backward_rows(int heads) {
  return heads + 2 * (Group::kPerBlock == 1 ? 1 : heads);
}

// Backward of the row of weights of head h, which counts over all episodes: writes the gradient of its cosines to `d`,
// and all other gradients but those of memory and key.
template <class Group, class T>
__device__ void row_backward(const Row<T, Group>& team, T* d, T* moved, T* grad_shifted,
                             const NTMAddressBackward<T>& op, int64_t h) {
  const int64_t at = h * op.shape.N, S = op.shape.S;
  const T *content = op.content + at, *previous = op.previous + at, *s = op.heads.shift + h * S;
  interpolate(team, moved, content, previous, op.heads.gate[h]);
  shift(team, d, moved, s, S);
  sharpen_backward(team, grad_shifted, op.grad_heads.sharpness[h], op.grad + at, op.weights + at, d,
                   op.heads.sharpness[h]);
  shift_backward(team, d, op.grad_heads.shift + h * S, grad_shifted, moved, s, S);
  interpolate_backward(team, d, op.grad_previous + at, op.grad_heads.gate[h], d, content, previous, op.heads.gate[h]);
  softmax_backward(team, d, op.grad_heads.strength[h], d, content, op.cosine + at, op.heads.strength[h]);
}

// Turns the gradients of cosines, rows (heads,N), into the gradients of the dot products of slots and unit keys.
// shrink(i) M(i) is what the gradient of a slot loses through its own norm, but for long slots, which follow below.
template <int kThreads, class T>
__device__ void pulls(T* rows, T* shrink, const NTMAddressBackward<T>& op, int64_t e, int64_t first, int heads) {
  const int N = int(op.shape.N);
  for (int i = threadIdx.x; i < N; i += kThreads) {
    const T norm = op.norm[e * N + i];
    T turn = 0;
    for (int h = 0; h < heads; ++h) {
      const T d = rows[h * N + i];
      turn += d * op.cosine[(first + h) * N + i];
      rows[h * N + i] = d / norm;
    }
    shrink[i] = norm > kEps<T> && !(norm > kLongNorm<T>) ? turn / norm / norm : T(0);
  }
  __syncthreads();
}

// Gradients of the memory, added to those of earlier heads or, with kAdds, to what is there, and of the unit keys.
template <int kThreads, bool kAdds, class T>
__device__ void columns_backward(const T* rows, const T* shrink, const T* key_norms, T* sums,
                                 const NTMAddressBackward<T>& op, int64_t e, int h0, int heads) {
  const int N = int(op.shape.N), W = int(op.shape.W);
  const int64_t first = e * op.shape.H + h0;
  const T* memory = op.memory + e * N * W;
  T* grad_memory = op.grad_memory + e * N * W;
  const ColumnMap map(W, kThreads);
  for (int c0 = 0; c0 < W; c0 += map.width) {
    const int c = c0 + map.column;
    const bool used = map.used && c < W;
    T unit[kHeads] = {}, key_sum[kHeads] = {};
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (used && h < heads) unit[h] = op.heads.key[(first + h) * W + c] / key_norms[h];
#pragma unroll 4
    for (int i = map.group; used && i < N; i += map.groups) {
      const int at = i * W + c;
      const T x = memory[at];
      T d = -shrink[i] * x;
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        if (h < heads) {
          const T pull = rows[h * N + i];
          d += pull * unit[h];
          key_sum[h] += pull * x;
        }
      // a cosine of one column is a sign, whose gradient is 0; the difference would leave rounding errors
      if (W == 1 && op.norm[e * N + i] > kEps<T>) d = 0;
      grad_memory[at] = !kAdds && h0 == 0 ? d : grad_memory[at] + d;
    }
    sum_groups(key_sum, map, sums);
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (h < heads && used && map.group == 0) op.grad_heads.key[(first + h) * W + c] = key_sum[h];
  }
  __syncthreads();
}

// Subtracts from the gradients of slots above kLongNorm what they lose through their norm; a thread takes a slot.
template <int kThreads, class T>
__device__ void shrink_long_slots(const T* rows, const NTMAddressBackward<T>& op, int64_t e, int64_t first, int heads) {
  const int N = int(op.shape.N), W = int(op.shape.W);
  for (int i = threadIdx.x; i < N && W > 1; i += kThreads) {
    const T norm = op.norm[e * N + i];
    if (!(norm > kLongNorm<T>)) continue;
    const T* x = op.memory + (e * N + i) * W;
    T *d = op.grad_memory + (e * N + i) * W, through = 0;
    for (int h = 0; h < heads; ++h) through += rows[h * N + i] * op.cosine[(first + h) * N + i];
    for (int j = 0; j < W; ++j) d[j] -= through * (x[j] / norm);
  }
  __syncthreads();
}

// Turns the gradients of unit keys into the gradients of keys, one warp for each key.
template <class T>
__device__ void keys_backward(const T* key_norms, const NTMAddressBackward<T>& op, int64_t first, int heads) {
  const Warp<T> warp{nullptr};
  const int h = warp.index(), W = int(op.shape.W);
  if (h >= heads) return;
  const Row<T, Warp<T>> team(warp, W);
  const T norm = key_norms[h], *key = op.heads.key + (first + h) * W;
  T* grad = op.grad_heads.key + (first + h) * W;
  T along = team.sum([&](int j) { return grad[j] * (key[j] / norm); });
  if (!(norm > kEps<T>)) along = 0;
  team.each([&](int j) { grad[j] = (grad[j] - along * (key[j] / norm)) / norm; });
  warp.sync();  // all lanes have read the norm, before the first one writes that of the next heads
}

// The gradients of addressing in episode e; kAdds: that of the memory is added. `rows` has address_backward_rows rows.
// op.grad_previous may be op.grad.
template <bool kAdds, class Group, class T>
__device__ void address_backward(const Group& group, T* rows, T* shared, const NTMAddressBackward<T>& op, int64_t e) {
  constexpr int kThreads = Group::kThreads;
  using Layout = AddressBackwardSharedLayout<kThreads>;
  const int N = int(op.shape.N), W = int(op.shape.W), H = int(op.shape.H), most = least(H, kHeads);
  const Row<T, Group> team(group, N);
  T *key_norms = shared + Layout::kNorms, *own = rows + most * N, *moved = own + 2 * group.index() * N;
  T* grad_shifted = moved + N;
  for (int h0 = 0; h0 < H; h0 += kHeads) {
    const int heads = least(kHeads, H - h0);
    const int64_t first = e * H + h0;
    norms_of_keys(key_norms, op.heads.key + first * W, heads, W);
    for (int k = group.index(); k < heads; k += Group::kPerBlock)
      row_backward(team, rows + k * N, moved, grad_shifted, op, first + k);
    __syncthreads();
    pulls<kThreads>(rows, own, op, e, first, heads);
    columns_backward<kThreads, kAdds>(rows, own, key_norms, shared + Layout::kSums, op, e, h0, heads);
    shrink_long_slots<kThreads>(rows, op, e, first, heads);
    keys_backward(key_norms, op, first, heads);
  }
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, Group<T>::kBlocks)
    address_backward_kernel(NTMAddressBackward<T> op, int64_t B, T* workspace) {
  using Layout = AddressBackwardSharedLayout<Group<T>::kThreads>;
  T* shared = shared_memory<T>();
  const int most = least(op.shape.H, kHeads);
  const Group<T> group{shared};
  T* rows = rows_of_block<Group<T>>(shared + Layout::kRows, workspace, address_backward_rows<Group<T>>(most),
                                    int(op.shape.N));
  for (int64_t e = blockIdx.x; e < B; e += gridDim.x) address_backward<false>(group, rows, shared, op, e);
}

}  // namespace mannkern
