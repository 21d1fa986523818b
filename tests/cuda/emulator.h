// Emulates a block of a GPU on a CPU, or the blocks of a cluster, one thread at a time: as much of CUDA as the kernels
// of csrc/cuda use. cluster_emulator.h has what only clusters use.
//
// Threads are fibres. Each runs until it waits for others; threads and warps take turns in the order of their numbers
// or in reverse, and a result that depends on the order shows a race. A barrier that some thread never reaches ends the
// process. Shared memory begins as NaN, and a write beyond its requested size ends the process too.
//
// A fibre begins with setcontext, and from then on threads take turns by longjmp, which asks nothing of the system.
#pragma once

#undef _FORTIFY_SOURCE  // its longjmp refuses another stack
#include <setjmp.h>
#include <ucontext.h>

#include <array>
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
  jmp_buf place;  // where it goes on
  std::vector<char> stack = std::vector<char>(64 * 1024);
  bool begun = false, done;
  unsigned waits;                 // how many threads it waits for: 0, those of a warp or those of a block; or kCondition
  std::function<bool()> is_ready;  // for kCondition: what it waits for
};
constexpr unsigned kCondition = ~0u;

inline std::vector<std::unique_ptr<Fibre>> fibres;
inline jmp_buf scheduler;
inline std::function<void()> body;
inline bool backwards = false;
inline unsigned current, first_block;  // the running fibre's number, counted over all blocks that run
inline std::vector<std::array<unsigned char, 8>> exchanged;

// The threads of all runs that have the fibre's number, one after another.
inline void enter() {
  for (;;) {
    body();
    Fibre& own = *fibres[current];
    own.done = true;
    if (_setjmp(own.place) == 0) _longjmp(scheduler, 1);
  }
}

inline void begin(Fibre& fibre) {
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fibre.stack.data();
  context.uc_stack.ss_size = fibre.stack.size();
  context.uc_link = nullptr;
  makecontext(&context, enter, 0);
  fibre.begun = true;
  setcontext(&context);
}

__attribute__((noinline)) inline void resume(unsigned fibre) {
  current = fibre;
  threadIdx.x = fibre % blockDim.x;
  blockIdx.x = first_block + fibre / blockDim.x;
  if (_setjmp(scheduler) != 0) return;
  if (fibres[fibre]->begun) _longjmp(fibres[fibre]->place, 1);
  begin(*fibres[fibre]);
}

// Waits for the `size` threads around the running one, whose numbers begin at a multiple of `size`.
__attribute__((noinline)) inline void wait(unsigned size) {
  Fibre& own = *fibres[current];
  own.waits = size;
  if (_setjmp(own.place) == 0) _longjmp(scheduler, 1);
}

inline void wait_until(std::function<bool()> is_ready) {
  if (is_ready()) return;
  fibres[current]->is_ready = std::move(is_ready);
  wait(kCondition);
}

inline void fail(const char* what) {
  std::fprintf(stderr, "emulator: %s\n", what);
  std::abort();
}

// Lets threads go on that all wait for each other; a thread that waits for one that is done waits for ever.
inline bool release(unsigned begin, unsigned size) {
  for (unsigned t = begin; t < begin + size; ++t)
    if (fibres[t]->done || fibres[t]->waits != size) return false;
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
      resume(t);
      moved = true;
    }
  } while (release(begin, 32));
  return moved;
}

// Releases blocks whose threads all wait, and threads whose condition holds. False if there are none.
inline bool release_groups(unsigned threads) {
  bool released = false;
  for (unsigned t = 0; t < threads; ++t) {
    Fibre& fibre = *fibres[t];
    if (fibre.done || fibre.waits <= 32) continue;
    if (fibre.waits != kCondition) {
      if (t % fibre.waits == 0) released = release(t, fibre.waits) || released;
    } else if (fibre.is_ready()) {
      fibre.waits = 0, released = true;
    }
  }
  return released;
}

// Runs `blocks` blocks side by side, from block `first` on.
inline void run_blocks(unsigned first, unsigned blocks) {
  const unsigned threads = blocks * blockDim.x;
  first_block = first;
  exchanged.resize(threads);
  while (fibres.size() < threads) fibres.push_back(std::make_unique<Fibre>());
  for (unsigned t = 0; t < threads; ++t) {
    fibres[t]->done = false;
    fibres[t]->waits = 0;
  }
  for (;;) {
    bool ran = false;
    unsigned done = 0;
    for (unsigned k = 0; k < threads / 32; ++k) ran = run_warp(32 * (backwards ? threads / 32 - 1 - k : k)) || ran;
    for (unsigned t = 0; t < threads; ++t) done += fibres[t]->done;
    if (done == threads) return;
    if (!release_groups(threads) && !ran) fail("threads wait for others that do not come");
  }
}

}  // namespace emulator

inline void __syncthreads() { emulator::wait(blockDim.x); }
inline void __syncwarp() { emulator::wait(32); }

// The number that thread `from` of all running ones passes to a shuffle of its warp.
template <class T>
T exchange(unsigned mask, T v, unsigned from) {
  if (mask != 0xffffffffu) emulator::fail("a shuffle of less than a warp");
  std::memcpy(emulator::exchanged[emulator::current].data(), &v, sizeof v);
  emulator::wait(32);
  T other;
  std::memcpy(&other, emulator::exchanged[from].data(), sizeof other);
  emulator::wait(32);
  return other;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lane) {
  return exchange(mask, v, emulator::current ^ unsigned(lane));
}
