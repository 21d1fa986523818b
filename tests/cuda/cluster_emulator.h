// What csrc/cuda/cluster.h has on a GPU, for kernels that emulator.h runs: each block's shared memory, barriers of a
// cluster, and the product of two matrices by a warp.
#pragma once

#include "emulator.h"

#include <map>

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

template <class T>
T __shfl_sync(unsigned mask, T v, int lane) {
  return exchange(mask, v, emulator::current / 32 * 32 + unsigned(lane));
}

namespace emulator {

inline std::vector<std::vector<float>> block_memories;

// Barriers of parts of a block, and of the cluster: how many threads came, and how often all did.
struct Barrier {
  int came = 0, turn = 0;
};
inline std::vector<std::array<Barrier, 16>> group_barriers;
inline Barrier cluster_barrier;

// True if that thread is the last one.
inline bool arrive(Barrier& barrier, int threads) {
  if (++barrier.came < threads) return false;
  barrier.came = 0, ++barrier.turn;
  return true;
}
inline void arrive_and_wait(Barrier& barrier, int threads) {
  const int turn = barrier.turn;
  if (!arrive(barrier, threads)) wait_until([&barrier, turn] { return barrier.turn != turn; });
}

// Numbers that were given to an inbox. They are stored at once, or when all of a turn have come: a kernel must work
// with both.
struct Parcel {
  float* place;
  float number;
};
inline std::map<const void*, std::vector<Parcel>> parcels;
inline bool late = false;

// What the lanes of a warp give to a product; two sets take turns, so that one wait is enough.
struct Fragments {
  uint32_t a[4], b[2];
};
inline std::vector<std::array<Fragments, 2>> fragments;
inline std::vector<unsigned> products;

// The number f(lane) of all lanes, combined.
template <class T, class F>
T over_warp(unsigned mask, T v, F combine) {
  T all = exchange(mask, v, current / 32 * 32);
  for (unsigned lane = 1; lane < 32; ++lane) all = combine(all, exchange(mask, v, current / 32 * 32 + lane));
  return all;
}

inline void run_cluster(unsigned cluster, unsigned blocks, int64_t bytes) {
  constexpr size_t kGuard = 64;
  const size_t numbers = size_t(bytes) / sizeof(float);
  block_memories.assign(blocks, std::vector<float>(numbers + kGuard));
  for (auto& memory : block_memories) std::memset(memory.data(), 0xff, memory.size() * sizeof(float));
  products.assign(blocks * blockDim.x, 0);
  group_barriers.assign(blocks, {});
  cluster_barrier = {};
  parcels.clear();
  fragments.resize(blocks * blockDim.x);
  run_blocks(cluster * blocks, blocks);
  for (const auto& memory : block_memories)
    for (size_t at = numbers; at < memory.size(); ++at) {
      uint32_t bits;
      std::memcpy(&bits, &memory[at], sizeof bits);
      if (bits != 0xffffffffu) fail("shared memory overrun");
    }
}

}  // namespace emulator

inline int __any_sync(unsigned mask, int v) {
  return emulator::over_warp(mask, v != 0, [](bool a, bool b) { return a || b; });
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned v) {
  return emulator::over_warp(mask, v, [](unsigned a, unsigned b) { return a < b ? a : b; });
}

namespace mannkern {

inline int cluster_rank() { return int(emulator::current / blockDim.x); }
inline float* block_memory() { return emulator::block_memories[cluster_rank()].data(); }

inline void cluster_barrier() {
  emulator::arrive_and_wait(emulator::cluster_barrier, int(emulator::block_memories.size() * blockDim.x));
}
inline void group_barrier(int id, int threads) {
  emulator::arrive_and_wait(emulator::group_barriers[cluster_rank()][id], threads);
}
inline void group_arrive(int id, int threads) {
  emulator::arrive(emulator::group_barriers[cluster_rank()][id], threads);
}

struct Inbox {
  int16_t pending, turn;
  int bytes;  // what is expected minus what has come

  void init() { pending = 1, turn = 0, bytes = 0; }
  void expect(int expected) {
    if (--pending < 0) emulator::fail("a turn of an inbox is expected twice");
    bytes += expected, finish();
  }
  void come(float* place, float number) {
    bytes -= int(sizeof number);
    if (emulator::late) emulator::parcels[this].push_back({place, number});
    else *place = number;
    finish();
  }
  void wait(int t) const {
    emulator::wait_until([this, t] { return (turn & 1) != (t & 1); });
  }

 private:
  void finish() {
    if (pending != 0 || bytes > 0) return;
    if (bytes < 0) emulator::fail("more came to an inbox than was expected");
    for (const auto& parcel : emulator::parcels[this]) *parcel.place = parcel.number;
    emulator::parcels[this].clear();
    pending = 1, ++turn;
  }
};
static_assert(sizeof(Inbox) == 8);

inline void give(float* p, Inbox* inbox, int rank, float number) {
  float *own = block_memory(), *other = emulator::block_memories[rank].data();
  auto* there = reinterpret_cast<Inbox*>(other + (reinterpret_cast<float*>(inbox) - own));
  there->come(&emulator::block_memories[rank].at(p - own), number);
}

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float number_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline float reciprocal(float x) { return 1 / x; }
inline int forget(int x) { return x; }
inline float add(float a, float b) { return a + b; }

inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const unsigned own = emulator::current, warp = own / 32 * 32, turn = emulator::products[own]++ % 2;
  emulator::Fragments& given = emulator::fragments[own][turn];
  std::memcpy(given.a, a, sizeof a), std::memcpy(given.b, b, sizeof b);
  emulator::wait(32);
  const auto number = [](uint32_t bits) { return double(number_of(bits & 0xffffe000u)); };
  for (unsigned q = 0; q < 4; ++q) {
    const unsigned row = own % 32 / 4, column = 2 * (own % 4) + q % 2;
    double sum = d[q];
    for (unsigned k = 0; k < 8; ++k) {
      const auto& from_a = emulator::fragments[warp + 4 * row + k % 4][turn];
      const auto& from_b = emulator::fragments[warp + 4 * column + k % 4][turn];
      sum += number(from_a.a[q / 2 + 2 * (k / 4)]) * number(from_b.b[k / 4]);
    }
    d[q] = float(sum);
  }
}

}  // namespace mannkern
