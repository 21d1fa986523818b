// Emulates a block of a GPU on a CPU, one thread at a time: as much of CUDA as the kernels of csrc/cuda use.
//
// Threads are fibres. Each runs until it waits for others; threads and warps take turns in the order of their numbers or in
// reverse, and a result that depends on the order shows a race. A barrier that some thread never reaches ends the process.
// Shared memory begins as NaN, and a write beyond its requested size ends the process too.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

struct Index {
  unsigned x;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

struct Fibre {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 * 1024);
  bool done;
  int waits;  // how many threads it waits for: 0, those of a warp or those of a block
};

inline std::vector<std::unique_ptr<Fibre>> fibres;
inline ucontext_t scheduler;
inline std::function<void()> body;
inline bool backwards = false;
inline unsigned char exchanged[1024][8];

inline void enter() {
  body();
  fibres[threadIdx.x]->done = true;
}

inline void wait(int size) {
  Fibre& own = *fibres[threadIdx.x];
  own.waits = size;
  const unsigned x = threadIdx.x;
  swapcontext(&own.context, &scheduler);
  threadIdx.x = x;
}

inline void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

// Lets threads go on that all wait for each other; a thread that waits for one that is done waits for ever.
inline bool release(unsigned begin, unsigned size) {
  for (unsigned t = begin; t < begin + size; ++t)
    if (fibres[t]->done || fibres[t]->waits != int(size)) return false;
  for (unsigned t = begin; t < begin + size; ++t) fibres[t]->waits = 0;
  return true;
}

// Runs a warp until all its threads wait for other warps or are done. False if none of them could run.
inline bool run_warp(unsigned begin) {
  bool moved = false;
  do {
    for (unsigned k = 0; k < 32; ++k) {
      const unsigned t = begin + (backwards ? 31 - k : k);
      if (fibres[t]->done || fibres[t]->waits != 0) continue;
      threadIdx.x = t;
      swapcontext(&scheduler, &fibres[t]->context);
      moved = true;
    }
  } while (release(begin, 32));
  return moved;
}

inline void run_block() {
  const unsigned threads = blockDim.x;
  while (fibres.size() < threads) fibres.push_back(std::make_unique<Fibre>());
  for (unsigned t = 0; t < threads; ++t) {
    Fibre& fibre = *fibres[t];
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.data();
    fibre.context.uc_stack.ss_size = fibre.stack.size();
    fibre.context.uc_link = &scheduler;
    makecontext(&fibre.context, enter, 0);
    fibre.done = false;
    fibre.waits = 0;
  }
  for (;;) {
    bool ran = false;
    unsigned done = 0;
    for (unsigned k = 0; k < threads / 32; ++k) ran = run_warp(32 * (backwards ? threads / 32 - 1 - k : k)) || ran;
    for (unsigned t = 0; t < threads; ++t) done += fibres[t]->done;
    if (done == threads) return;
    if (!release(0, threads) && !ran) fail("threads wait for others that do not come");
  }
}

}  // namespace emulator

inline void __syncthreads() { emulator::wait(int(blockDim.x)); }
inline void __syncwarp() { emulator::wait(32); }
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lane) {
  if (mask != 0xffffffffu) emulator::fail("a shuffle of less than a warp");
  std::memcpy(emulator::exchanged[threadIdx.x], &v, sizeof v);
  emulator::wait(32);
  T other;
  std::memcpy(&other, emulator::exchanged[threadIdx.x ^ unsigned(lane)], sizeof other);
  emulator::wait(32);
  return other;
}
