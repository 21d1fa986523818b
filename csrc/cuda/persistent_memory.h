// The step of LRUA on a memory in the registers of 8 warps.
//
// A warp has 16 slots: lane l has columns l%8, l%8 + 8 ... of four slots, l/8 * 4 and on. Sums over columns and over
// slots go through `scatter_sum`: in each round a lane keeps half of its sums and gives the other half to its partner.
// Sums of two slots are added up in the same order, so equal slots get equal bits.
#pragma once

#include "persistent_layout.h"

namespace mannkern {

constexpr int kColumnLanes = 8, kSlotsOfThread = 4, kColumnsOfThread = kMostColumns / kColumnLanes;
constexpr int kSlotsOfWarp = kMostSlots / kMemoryWarps;

// Adds up K numbers over the lanes that differ in bit `kBit` of their index. The lane whose bit is 0 keeps the first
// half of the sums, at v[0] and on, the other the second half.
template <int K, int kBit>
__device__ void scatter_sum(float* v) {
  const bool second = threadIdx.x & kBit;
#pragma unroll
  for (int k = 0; k < K / 2; ++k) {
    const float own = second ? v[k + K / 2] : v[k], given = second ? v[k] : v[k + K / 2];
    v[k] = add(own, __shfl_xor_sync(kAll, given, kBit));
  }
}

struct Largest {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return add(a, b); }
};

// Combines the numbers of two heads over the lanes of a warp that have the same bit 0; a lane gets the result of the
// head that its bit 1 names.
template <class Combine>
__device__ float combine_pairs(float first, float second, Combine combine) {
  const bool other = threadIdx.x & 2;
  float v = combine(other ? second : first, __shfl_xor_sync(kAll, other ? first : second, 2));
  v = combine(v, __shfl_xor_sync(kAll, v, 4));
  v = combine(v, __shfl_xor_sync(kAll, v, 8));
  return combine(v, __shfl_xor_sync(kAll, v, 16));
}

struct DeviceMath {
  using Number = float;
  __device__ static float exp_nonpositive(float x) { return std::exp(x); }
  __device__ static float log1p_exp(float x) { return std::log1p(std::exp(x)); }
  __device__ static float expm1(float x) { return std::expm1(x); }
};

// A thread's part of a memory and of its rows. Lane l has slot `own` = l%8/2 of its four, and of that the weights of
// the heads 2 (l%2) and 2 (l%2) + 1; cosines and norms are those of the last step.
struct MemoryRegisters {
  float at[kSlotsOfThread][kColumnsOfThread];
  float read_weights[2], cosine[2];
  float usage, norm;
};

// A thread's place in a memory.
struct MemoryPlace {
  int memory, thread, warp, column, first, own, head, slot;  // `slot` is number `own` of those from `first` on
  __device__ MemoryPlace() {
    const int lane = threadIdx.x % kLanes;
    memory = threadIdx.x / kMemoryThreads;
    thread = threadIdx.x % kMemoryThreads;
    warp = thread / kLanes;
    column = lane % kColumnLanes;
    first = warp * kSlotsOfWarp + lane / kColumnLanes * kSlotsOfThread;
    own = column / 2;
    head = 2 * (column % 2);
    slot = first + own;
  }
  // A barrier of the memory's threads.
  __device__ void sync() const { group_barrier(1 + memory, kMemoryThreads); }
};

// The parts of shared memory of one memory.
struct MemoryShared {
  const float *key, *add, *gate, *strength;
  float *weights, *usage, *largest, *sums, *reads;  // weights have the heads of a slot side by side
  int *marks, *slots;                               // bit h of a mark: the slot is a least used one of head h
  __device__ MemoryShared(float* shared, const PersistentLayout& l, int memory) {
    const float* vector = shared + l.vectors + memory * kInterface;
    key = vector + kKeys, add = vector + kAdds, gate = vector + kGates, strength = vector + kStrengths;
    weights = shared + l.weights + memory * kMostSlots * kHeads;
    usage = shared + l.usage + memory * kMostSlots;
    marks = reinterpret_cast<int*>(shared + l.marks) + memory * kMostSlots;
    slots = reinterpret_cast<int*>(shared + l.slots) + memory * kHeads;
    largest = shared + l.largest + memory * kHeads * kMemoryWarps;
    sums = shared + l.sums + memory * kHeads * kMemoryWarps;
    reads = shared + l.scratch + memory * kMemoryWarps * kVector;
  }
};

// The weights of four heads on a slot.
__device__ inline float4 weights_of(const MemoryShared& s, int slot) {
  return reinterpret_cast<const float4*>(s.weights)[slot];
}
__device__ inline void set_weights(const MemoryShared& s, const MemoryPlace& p, float first, float second) {
  reinterpret_cast<float2*>(s.weights)[(p.slot * kHeads + p.head) / 2] = float2{first, second};
}

// Least used: a warp takes the n slots of smallest usage, ascending; of equal ones the lower index first; NaN is the
// largest. `saved` (n) may be null.
__device__ inline void select_least_used(const MemoryShared& s, const LRUAOptions& options, int N, int R,
                                         int64_t* saved) {
  constexpr int kKeysOfLane = kMostSlots / kLanes;
  constexpr uint32_t kTaken = 0xffffffffu;
  const int lane = threadIdx.x % kLanes;
  uint32_t rank[kKeysOfLane];
#pragma unroll
  for (int q = 0; q < kKeysOfLane; ++q) {
    const int i = lane + kLanes * q;
    s.marks[i] = 0;
    const float u = i < N ? s.usage[i] + 0.0f : 0.0f;  // -0 + 0 = 0: they are equal
    const uint32_t bits = bits_of(u);
    rank[q] = i >= N ? kTaken : u != u ? kTaken - 1 : bits >> 31 ? ~bits : bits | 0x80000000u;
  }
  __syncwarp();
  for (int k = 0; k < int(options.n); ++k) {
    uint32_t smallest = kTaken, slot = kTaken;
#pragma unroll
    for (int q = 0; q < kKeysOfLane; ++q) smallest = rank[q] < smallest ? rank[q] : smallest;
    smallest = __reduce_min_sync(kAll, smallest);
#pragma unroll
    for (int q = kKeysOfLane - 1; q >= 0; --q)
      if (rank[q] == smallest) slot = lane + kLanes * q;
    slot = __reduce_min_sync(kAll, slot);
#pragma unroll
    for (int q = 0; q < kKeysOfLane; ++q)
      if (slot == uint32_t(lane + kLanes * q)) rank[q] = kTaken;
    if (lane == 0) {
      int mark = 0;
      for (int h = 0; h < R; ++h) mark |= int(!options.per_head || h % options.n == k) << h;
      s.marks[slot] = mark;
      if (k == 0) s.slots[0] = int(slot);
      if (saved) saved[k] = slot;
    }
  }
}

// The sums of squares overflow for some slot of the warp: the norm of slot `own` of a thread, scaled.
__device__ inline float large_norm(const MemoryRegisters& m, const MemoryPlace& p) {
  float norm = 0;
#pragma unroll
  for (int s = 0; s < kSlotsOfThread; ++s) {
    float largest = 0, sum = 0;
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) largest = Largest()(largest, std::abs(m.at[s][j]));
    for (int o = 1; o < kColumnLanes; o *= 2) largest = Largest()(largest, __shfl_xor_sync(kAll, largest, o));
    const float scale = largest > 0 ? largest : 1;
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) sum += (m.at[s][j] / scale) * (m.at[s][j] / scale);
    for (int o = 1; o < kColumnLanes; o *= 2) sum = add(sum, __shfl_xor_sync(kAll, sum, o));
    if (s == p.own) norm = std::sqrt(sum) * scale;
  }
  return norm;
}

// Write weights of slot `own` and two heads: sigmoid(g) w_r + (1 - sigmoid(g)) w_lu.
__device__ inline void write_weights(float (&w)[2], const MemoryRegisters& m, const MemoryShared& s,
                                     const MemoryPlace& p) {
  const int mark = s.marks[p.slot];
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float g = s.gate[p.head + k];
    const float closed = mark >> (p.head + k) & 1 ? sigmoid<DeviceMath>(-g) : 0.0f;
    w[k] = std::fma(sigmoid<DeviceMath>(g), m.read_weights[k], closed);
  }
}

// Write: the first least used slot is set to zero, then each slot gets its weights times the adds.
__device__ inline void write(MemoryRegisters& m, const MemoryShared& s, const MemoryPlace& p) {
  float a[kHeads][kColumnsOfThread];
#pragma unroll
  for (int h = 0; h < kHeads; ++h)
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) a[h][j] = s.add[h * kMostColumns + p.column + kColumnLanes * j];
  const int reset = s.slots[0] - p.first;
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
    const float4 w = weights_of(s, p.first + i);
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      float x = i == reset ? 0.0f : m.at[i][j];
      x = std::fma(w.x, a[0][j], x), x = std::fma(w.y, a[1][j], x);
      m.at[i][j] = std::fma(w.w, a[3][j], std::fma(w.z, a[2][j], x));
    }
  }
}

// Cosines of slot `own` with the keys of two heads, and its norm.
__device__ inline void cosines(MemoryRegisters& m, const MemoryShared& s, const MemoryPlace& p) {
  // numbers 3 c to 3 c + 2 end in lane c of eight: its two dot products, and a square of a slot (c < 4) or a key
  float v[24];
  float key[kHeads][kColumnsOfThread];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float square = 0;
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const float x = key[h][j] = s.key[h * kMostColumns + p.column + kColumnLanes * j];
      square = std::fma(x, x, square);
    }
    v[3 * (4 + h) + 2] = square;
  }
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
    float square = 0, dot[kHeads] = {};
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      const float x = m.at[i][j];
      square = std::fma(x, x, square);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) dot[h] = std::fma(x, key[h][j], dot[h]);
    }
    v[3 * i + 2] = square;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) v[3 * (2 * i + h / 2) + h % 2] = dot[h];
  }
  scatter_sum<24, 4>(v), scatter_sum<12, 2>(v), scatter_sum<6, 1>(v);
  const int octet = threadIdx.x % kLanes / kColumnLanes * kColumnLanes;
  const float root = std::sqrt(v[2]);
  float norm = __shfl_sync(kAll, root, octet + p.own);
  if (__any_sync(kAll, p.column < 4 && !(v[2] <= kMost<float>))) norm = large_norm(m, p);
  norm = norm > kEps<float> ? norm : kEps<float>;
  m.norm = norm;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const float size = __shfl_sync(kAll, root, octet + 4 + p.head + k);
    m.cosine[k] = v[k] / (size > kEps<float> ? size : kEps<float>) / norm;
  }
}

// A step. The read vectors are given to `give_read(head, column, number)`, one by one.
template <class GiveRead>
__device__ void memory_step(MemoryRegisters& m, const MemoryShared& s, const MemoryPlace& p, int N, int R, float decay,
                            GiveRead give_read) {
  float written[2];
  write_weights(written, m, s, p);
  set_weights(s, p, written[0], written[1]);
  __syncwarp();
  write(m, s, p);
  cosines(m, s, p);

  // content weights, in three parts: the largest number of each head, powers, and their sum
  float x[2], power[2];
#pragma unroll
  for (int k = 0; k < 2; ++k) x[k] = p.slot < N ? s.strength[p.head + k] * m.cosine[k] : kLowest<float>;
  const int lane = threadIdx.x % kLanes, pair_head = 2 * (lane % 2) + lane / 2 % 2;
  const float top = combine_pairs(x[0], x[1], Largest());
  if (lane < kHeads) s.largest[pair_head * kMemoryWarps + p.warp] = top;
  p.sync();
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float most = s.largest[(p.head + k) * kMemoryWarps];
#pragma unroll
    for (int w = 1; w < kMemoryWarps; ++w) most = Largest()(most, s.largest[(p.head + k) * kMemoryWarps + w]);
    power[k] = p.head + k < R ? std::exp(x[k] - most) : 0.0f;
  }
  set_weights(s, p, power[0], power[1]);
  const float total = combine_pairs(power[0], power[1], Sum());
  if (lane < kHeads) s.sums[pair_head * kMemoryWarps + p.warp] = total;
  __syncwarp();

  // read: the warp's slots, then all warps
  float r[kHeads * kColumnsOfThread] = {};
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
    const float4 w = weights_of(s, p.first + i);
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) {
      r[j] = std::fma(w.x, m.at[i][j], r[j]);
      r[kColumnsOfThread + j] = std::fma(w.y, m.at[i][j], r[kColumnsOfThread + j]);
      r[2 * kColumnsOfThread + j] = std::fma(w.z, m.at[i][j], r[2 * kColumnsOfThread + j]);
      r[3 * kColumnsOfThread + j] = std::fma(w.w, m.at[i][j], r[3 * kColumnsOfThread + j]);
    }
  }
  scatter_sum<20, 16>(r), scatter_sum<10, 8>(r);
#pragma unroll
  for (int j = 0; j < kColumnsOfThread; ++j)
    s.reads[p.warp * kVector + lane / kColumnLanes * kMostColumns + p.column + kColumnLanes * j] = r[j];
  p.sync();
  if (p.thread < kVector) {
    const int h = p.thread / kMostColumns;
    float sum = 0, read = 0;
#pragma unroll
    for (int w = 0; w < kMemoryWarps; ++w) {
      sum += s.sums[h * kMemoryWarps + w];
      read += s.reads[w * kVector + p.thread];
    }
    give_read(h, p.thread % kMostColumns, read / sum);
  }

  // usage
  float read_sum = 0;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kMemoryWarps; ++w) sum += s.sums[(p.head + k) * kMemoryWarps + w];
    m.read_weights[k] = p.head + k < R ? power[k] / sum : 0.0f;
  }
  read_sum = add(m.read_weights[0], m.read_weights[1]);
  read_sum = add(read_sum, __shfl_xor_sync(kAll, read_sum, 1));
  float write_sum = add(written[0], written[1]);
  write_sum = add(write_sum, __shfl_xor_sync(kAll, write_sum, 1));
  m.usage = add(std::fma(decay, m.usage, read_sum), write_sum);
  if (p.head == 0) s.usage[p.slot] = m.usage;
}

}  // namespace mannkern
