// The Teams of row_math.h on a GPU: the threads of a warp, or of a block, work on one row.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "../args/shape.h"
#include "../cpu/kernels/row_math.h"

namespace mannkern {

constexpr int kLanes = 32;
template <class T>
constexpr T kLowest = -std::numeric_limits<T>::infinity();

// A group of threads, its team. kThreads: threads of a block; kSize: threads of a team; kPerBlock: teams of a block;
// kBlocks: blocks that a multiprocessor must have registers for, because the assembler, left to itself, spills
// registers to fit more. `all` combines the members' numbers in a fixed order, so that every member gets the same bits.
template <class T>
struct Warp {
  static constexpr int kThreads = 128, kSize = kLanes, kPerBlock = kThreads / kSize, kBlocks = sizeof(T) == 4 ? 5 : 4;
  T* partial;

  __device__ int rank() const { return threadIdx.x % kLanes; }
  __device__ int index() const { return threadIdx.x / kLanes; }
  __device__ void sync() const { __syncwarp(); }
  template <class F>
  __device__ T all(T v, F combine) const {
    for (int o = kLanes / 2; o > 0; o /= 2) v = combine(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
  }
};

// Combines the numbers of all threads of a block; `partial` is in shared memory, one number per warp.
template <int kThreads, class T, class F>
__device__ T all_of_block(T* partial, T v, F combine) {
  const Warp<T> warp{partial};
  v = warp.all(v, combine);
  if (warp.rank() == 0) partial[warp.index()] = v;
  __syncthreads();
  v = partial[0];
  for (int w = 1; w < kThreads / kLanes; ++w) v = combine(v, partial[w]);
  __syncthreads();
  return v;
}

template <class T>
struct Block {
  static constexpr int kThreads = 512, kSize = kThreads, kPerBlock = 1, kBlocks = 1;
  T* partial;

  __device__ int rank() const { return threadIdx.x; }
  __device__ int index() const { return 0; }
  __device__ void sync() const { __syncthreads(); }
  template <class F>
  __device__ T all(T v, F combine) const {
    return all_of_block<kThreads>(partial, v, combine);
  }
};

// A Block with as many threads as one of a Warp, for kernels of which parts want just as many.
template <class T>
struct SmallBlock {
  static constexpr int kThreads = Warp<T>::kThreads, kSize = kThreads, kPerBlock = 1, kBlocks = Warp<T>::kBlocks;
  T* partial;

  __device__ int rank() const { return threadIdx.x; }
  __device__ int index() const { return 0; }
  __device__ void sync() const { __syncthreads(); }
  template <class F>
  __device__ T all(T v, F combine) const {
    return all_of_block<kThreads>(partial, v, combine);
  }
};

// The Team of row_math.h. Of a row of N numbers, member k holds numbers k, k + Group::kSize and so on. A row needs no
// halo: load_shifted takes the index modulo N, and fill_halo waits until all members have stored.
template <class T, class Group>
class Row {
 public:
  using Value = T;

  __device__ Row(const Group& group, int N) : group_(group), N_(N) {}

  template <class F>
  __device__ void each(F f) const {
#pragma unroll 1
    for (int i = group_.rank(); i < N_; i += Group::kSize) f(i);
  }
  template <class F>
  __device__ T sum(F f) const {
    T total = 0;
    each([&](int i) { total += f(i); });
    return group_.all(total, [](T a, T b) { return a + b; });
  }
  template <class F>
  __device__ T max(F f) const {
    T largest = kLowest<T>;
    each([&](int i) {
      const T v = f(i);
      largest = v > largest ? v : largest;
    });
    return group_.all(largest, [](T a, T b) { return b > a ? b : a; });
  }
  __device__ static T load(const T* p, int i) { return p[i]; }
  __device__ static void store(T* p, int i, T v) { p[i] = v; }
  __device__ T load_shifted(const T* p, int i, int64_t o) const {
    int at = i - int(o);
    if (unsigned(at) >= unsigned(N_)) at = (at % N_ + N_) % N_;
    return p[at];
  }
  __device__ void fill_halo(const T*) const { group_.sync(); }
  __device__ static T exp(T v) { return std::exp(v); }
  __device__ static T log(T v) { return std::log(v); }
  __device__ static T power(T v, T e) { return std::pow(v, e); }
  __device__ static T lower_power(T v, T, T e) { return power(v, e); }

 private:
  const Group group_;
  const int N_;
};

// The norm max(|x|, eps) of W numbers, by a warp; scaled, so that their squares do not overflow.
template <class T>
__device__ T norm_of(const Warp<T>& warp, const T* x, int W) {
  const Row<T, Warp<T>> team(warp, W);
  const T largest = team.max([&](int j) { return std::abs(x[j]); });
  const T scale = largest > kEps<T> ? largest : kEps<T>;
  const T sum = team.sum([&](int j) { return (x[j] / scale) * (x[j] / scale); });
  const T norm = std::sqrt(sum) * scale;
  return norm <= kEps<T> ? kEps<T> : norm;  // NaN stays NaN
}

}  // namespace mannkern
