// The kernel of ntm_address: one block per episode. It reads the memory once for up to four heads, slot by slot; then
// each team takes the row of a head.
#pragma once

#include "tiles.h"

namespace mannkern {

// The layout of a block's shared memory, in numbers of T: partial sums of its warps, norms of keys, the unit keys of
// a tile's columns, the tile, and the rows.
template <class T, int kThreads>
struct AddressSharedLayout {
  static constexpr int kNorms = kLanes, kUnit = kNorms + kHeads, kTile = kUnit + kColumns<T, kThreads> * kHeads;
  static MANNKERN_HOST_TOO int rows(int W) { return kTile + kThreads * odd(least(W, kColumns<T, kThreads>)); }
};

// Rows of N numbers that a block works in: one per head and one per team.
template <class Group>
MANNKERN_HOST_TOO int address_rows(int heads) {
  return heads + (Group::kPerBlock == 1 ? 1 : heads);
}

// The norms of keys; a warp computes one.
template <class T>
__device__ void norms_of_keys(T* norms, const T* keys, int heads, int W) {
  const Warp<T> warp{nullptr};
  if (warp.index() < heads) {
    const T norm = norm_of(warp, keys + int64_t(warp.index()) * W, W);
    if (warp.rank() == 0) norms[warp.index()] = norm;
  }
}

// The norm of a slot whose squares overflow.
template <class T>
__device__ T large_norm(const T* x, int W) {
  T largest = 0, sum = 0;
  for (int j = 0; j < W; ++j) largest = std::abs(x[j]) > largest ? std::abs(x[j]) : largest;
  for (int j = 0; j < W; ++j) sum += (x[j] / largest) * (x[j] / largest);
  return std::sqrt(sum) * largest;
}

// Cosines of all slots with `heads` keys, written to `rows` (heads,N) and op.cosine; for the first heads also the norms
// of slots.
template <int kThreads, class T>
__device__ void cosines(T* rows, T* shared, const NTMAddress<T>& op, int64_t e, int h0, int heads) {
  using Layout = AddressSharedLayout<T, kThreads>;
  const int N = int(op.shape.N), W = int(op.shape.W);
  const int64_t first = e * op.shape.H + h0;
  const T *memory = op.memory + e * N * W, *keys = op.heads.key + first * W;
  T *key_norms = shared + Layout::kNorms, *unit = shared + Layout::kUnit, *tile = shared + Layout::kTile;
  norms_of_keys(key_norms, keys, heads, W);
  for (int i0 = 0; i0 < N; i0 += kThreads) {
    const int slots = least(kThreads, N - i0), i = i0 + threadIdx.x;
    T square = 0, dot[kHeads] = {};
    for (int c0 = 0; c0 < W; c0 += kColumns<T, kThreads>) {
      const int columns = least(kColumns<T, kThreads>, W - c0);
      __syncthreads();  // the tile before has been read, and the norms of keys are written
      stage<kThreads>(tile, memory + int64_t(i0) * W + c0, slots, columns, W);
      for (int at = threadIdx.x; at < columns * kHeads; at += kThreads) {
        const int j = at / kHeads, h = at % kHeads;
        unit[at] = h < heads ? keys[int64_t(h) * W + c0 + j] / key_norms[h] : T(0);
      }
      __syncthreads();
      if (i >= N) continue;
      T tile_square = 0, tile_dot[kHeads] = {};  // a sum per tile, so that rounding errors stay small
      for (int j = 0; j < columns; ++j) {
        const T x = tile[threadIdx.x * odd(columns) + j];
        tile_square += x * x;
        for (int h = 0; h < kHeads; ++h) tile_dot[h] += x * unit[j * kHeads + h];
      }
      square += tile_square;
      for (int h = 0; h < kHeads; ++h) dot[h] += tile_dot[h];
    }
    if (i >= N) continue;
    const T size = square <= kMost<T> ? std::sqrt(square) : large_norm(memory + int64_t(i) * W, W);
    const T norm = size <= kEps<T> ? kEps<T> : size;  // NaN stays NaN
    if (h0 == 0) op.norm[e * N + i] = norm;
#pragma unroll
    for (int h = 0; h < kHeads; ++h)
      if (h < heads) op.cosine[(first + h) * N + i] = rows[h * N + i] = dot[h] / norm;
  }
  __syncthreads();
}

// The weights of all heads in episode e. `rows` has address_rows rows.
template <class Group, class T>
__device__ void address(const Group& group, T* rows, T* shared, const NTMAddress<T>& op, int64_t e) {
  const int N = int(op.shape.N), H = int(op.shape.H), most = least(H, kHeads);
  const Row<T, Group> team(group, N);
  T* w = rows + (most + group.index()) * N;  // content weights, then w_s, then w
  for (int h0 = 0; h0 < H; h0 += kHeads) {
    const int heads = least(kHeads, H - h0);
    cosines<Group::kThreads>(rows, shared, op, e, h0, heads);
    for (int k = group.index(); k < heads; k += Group::kPerBlock) {
      const int64_t h = e * H + h0 + k;
      T* moved = rows + k * N;  // cosines, then w_g
      softmax(team, w, moved, op.heads.strength[h]);
      team.each([&](int i) { op.content[h * N + i] = w[i]; });
      interpolate(team, moved, w, op.previous + h * N, op.heads.gate[h]);
      shift(team, w, moved, op.heads.shift + h * op.shape.S, op.shape.S);
      sharpen(team, w, w, op.heads.sharpness[h]);
      team.each([&](int i) { op.weights[h * N + i] = w[i]; });
    }
  }
}

template <template <class> class Group, class T>
__global__ void __launch_bounds__(Group<T>::kThreads, Group<T>::kBlocks)
    address_kernel(NTMAddress<T> op, int64_t B, T* workspace) {
  using Layout = AddressSharedLayout<T, Group<T>::kThreads>;
  T* shared = shared_memory<T>();
  const int N = int(op.shape.N), W = int(op.shape.W), most = least(op.shape.H, kHeads);
  const Group<T> group{shared};
  T* rows = rows_of_block<Group<T>>(shared + Layout::rows(W), workspace, address_rows<Group<T>>(most), N);
  for (int64_t e = blockIdx.x; e < B; e += gridDim.x) address(group, rows, shared, op, e);
}

}  // namespace mannkern
