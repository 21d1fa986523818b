// The step of LRUA on a memory in registers.
#pragma once

#include "persistent_threads.h"

namespace mannkern {

// The parts of shared memory that belong to the memory.
struct MemoryShared {
  const float *key, *add, *open, *closed, *strength;
  float *weights, *usage, *largest, *sums, *reads;  // weights have the heads of a slot side by side
  int *marks, *slots;                               // bit h of a mark: the slot is a least used one of head h
  __device__ MemoryShared(float* shared, const PersistentLayout& l) {
    const float* vector = shared + l.vector;
    key = vector + kKeys, add = vector + kAdds, open = vector + kOpen, closed = vector + kClosed;
    strength = vector + kStrengths;
    weights = shared + l.weights, usage = shared + l.usage, reads = shared + l.reads;
    marks = reinterpret_cast<int*>(shared + l.marks), slots = reinterpret_cast<int*>(shared + l.slots);
    largest = shared + l.largest, sums = shared + l.sums;
  }
};

// Which heads write to each of the least used slots: all of them, or head h to slot h mod n. `ranks` has h mod n in
// byte h; it is one register.
struct LeastUsedHeads {
  int n, all;
  uint32_t ranks = 0;
  bool per_head;
  __device__ LeastUsedHeads(const LRUAOptions& options, int R)
      : n(int(options.n)), all((1 << R) - 1), per_head(options.per_head) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) ranks |= uint32_t(h < R ? h % n : 255) << (8 * h);
  }
  // Bit h: head h writes to slot k of the n.
  __device__ int mark(int k) const {
    int bits = 0;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) bits |= int((ranks >> (8 * h) & 255) == uint32_t(k)) << h;
    return per_head ? bits : all;
  }
};

// Least used: a warp takes the n slots of smallest usage, ascending; of equal ones the lower index first; NaN is the
// largest. `saved` (n) may be null.
__device__ inline void select_least_used(const MemoryShared& s, const LeastUsedHeads& heads, int N, int64_t* saved) {
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
  for (int k = 0; k < heads.n; ++k) {
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
      s.marks[slot] = heads.mark(k);
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

// 1 / norm of a slot of any size: reciprocal gives 0 where the result is under 1e-38.
__device__ inline float inverse_norm(float norm) { return reciprocal(norm * 0x1p-32f) * 0x1p-32f; }

// A write weight: sigmoid(g) w_r + (1 - sigmoid(g)) w_lu. open and closed are sigmoid(g) and sigmoid(-g) of gate g.
__device__ inline float write_weight(float open, float closed, float read_weight, bool is_least_used) {
  return std::fma(open, read_weight, is_least_used ? closed : 0.0f);
}

// Those of slot `own` and two heads. Bit h of `mark`: the slot is a least used one of head h.
__device__ inline void write_weights(float (&w)[2], const float (&read_weights)[2], const float* open,
                                     const float* closed, int mark, const MemoryPlace& p) {
#pragma unroll
  for (int k = 0; k < 2; ++k)
    w[k] = write_weight(open[p.head + k], closed[p.head + k], read_weights[k], mark >> (p.head + k) & 1);
}

// Write: slot `reset` is set to zero, then each slot gets its write weights times the adds.
__device__ inline void write(MemoryRegisters& m, const float (&written)[2], const HeadColumns& adds, int reset,
                             float* weights, const MemoryPlace& p) {
  set_weights(weights, p, written[0], written[1]);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kSlotsOfThread; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j)
      if (p.first + i == reset) m.at[i][j] = 0;
    add_weighted(m.at[i], weights_of(weights, p.first + i), adds);
  }
  __syncwarp();
}

// Cosines of slot `own` with the keys of two heads, and its norm.
__device__ inline void cosines(MemoryRegisters& m, const MemoryShared& s, const MemoryPlace& p) {
  // numbers 3 c to 3 c + 2 end in lane c of eight: its two dot products, and a square of a slot (c < 4) or a key
  float v[24];
  HeadColumns key;
  load_columns(key, s.key, p);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float square = 0;
#pragma unroll
    for (int j = 0; j < kColumnsOfThread; ++j) square = std::fma(key[h][j], key[h][j], square);
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
  const float root = std::sqrt(v[2]), inverse = reciprocal(root > kEps<float> ? root : kEps<float>);
  float norm = __shfl_sync(kAll, root, octet + p.own), of_slot = __shfl_sync(kAll, inverse, octet + p.own);
  const bool overflows = !(norm * norm <= kMost<float>);  // of this slot alone: equal slots keep equal norms
  if (__any_sync(kAll, overflows)) {
    const float large = large_norm(m, p);
    if (overflows) norm = large, of_slot = inverse_norm(large);
  }
  m.norm = norm > kEps<float> ? norm : kEps<float>;
#pragma unroll
  for (int k = 0; k < 2; ++k) m.cosine[k] = v[k] * __shfl_sync(kAll, inverse, octet + 4 + p.head + k) * of_slot;
}

// A step. The read vectors are given to `give_read(head, column, number)`, one by one, after the block's other threads
// have come to MemoryPlace::arrive.
template <class GiveRead>
__device__ void memory_step(MemoryRegisters& m, const MemoryShared& s, const MemoryPlace& p, int N, int R, float decay,
                            GiveRead give_read) {
  float written[2];
  write_weights(written, m.read_weights, s.open, s.closed, s.marks[p.slot], p);
  HeadColumns adds;
  load_columns(adds, s.add, p);
  write(m, written, adds, s.slots[0], s.weights, p);
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
    power[k] = p.head + k < R ? std::exp(add(x[k], -most)) : 0.0f;
  }
  set_weights(s.weights, p, power[0], power[1]);
  const float total = combine_pairs(power[0], power[1], Sum());
  if (lane < kHeads) s.sums[pair_head * kMemoryWarps + p.warp] = total;
  __syncwarp();

  // read: the warp's slots, then all warps
  float r[kHeads * kColumnsOfThread];
  sum_slots(r, m.at, s.weights, p);
  store_part(s.reads, r, p);
  p.sync_with_others();
  if (threadIdx.x < kVector) {
    const int h = threadIdx.x / kMostColumns;
    float sum = 0, read = 0;
#pragma unroll
    for (int w = 0; w < kMemoryWarps; ++w) {
      sum += s.sums[h * kMemoryWarps + w];
      read += s.reads[w * kVector + threadIdx.x];
    }
    give_read(h, threadIdx.x % kMostColumns, read * reciprocal(sum));
  }

  // usage
  float read_sum = 0;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kMemoryWarps; ++w) sum += s.sums[(p.head + k) * kMemoryWarps + w];
    m.read_weights[k] = p.head + k < R ? power[k] * reciprocal(sum) : 0.0f;
  }
  read_sum = add(m.read_weights[0], m.read_weights[1]);
  read_sum = add(read_sum, __shfl_xor_sync(kAll, read_sum, 1));
  float write_sum = add(written[0], written[1]);
  write_sum = add(write_sum, __shfl_xor_sync(kAll, write_sum, 1));
  m.usage = add(std::fma(decay, m.usage, read_sum), write_sum);
  if (p.head == 0) s.usage[p.slot] = m.usage;
}

}  // namespace mannkern
