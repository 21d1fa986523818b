// Dispatch: the kernels of the instruction set in use, and the threads that run one over the batch.
#pragma once

#include "../host/tensors.h"
#include "kernels/kernels.h"
#include "team.h"

namespace mannkern {

extern const InstructionSet* instruction_set;  // the one in use

template <class T>
const Kernels<T>& kernels() {
  if constexpr (sizeof(T) == 4) return instruction_set->f32;
  else return instruction_set->f64;
}

const BFloat16Products* bfloat16_products();  // null where the machine has none, or does not use them

// Slots of a slot block, for numbers of `bytes` each: two vectors of the instruction set in use. Python's twin is
// block() in mannkern/backends/native.py.
inline int64_t block_slots(int64_t bytes) { return 2 * instruction_set->bytes / bytes; }

inline int64_t padded_slots(int64_t N, int64_t block) { return (N + block - 1) / block * block; }

// torch::stable::parallel_for, but what f throws comes out as it was thrown, such as std::bad_alloc. The C function
// between would only say that it failed.
template <class F>
void parallel(int64_t end, int64_t grain, const F& f) {
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  torch::stable::parallel_for(0, end, grain, [&](int64_t from, int64_t to) {
    try {
      f(from, to);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

// Runs a kernel on B episodes, shared among the threads. `work` is about N W R for a step of one episode. A thread gets
// at least the work of about three standard steps, because waking it takes as long.
template <class Op>
void over_batch(int64_t B, int64_t work, void (*kernel)(const Op&, int64_t, int64_t), const Op& op) {
  Team* team = Team::of_this_thread();
  if (team && B > 1 && B * work > 4096) return team->run(B, [&](int64_t begin, int64_t end) { kernel(op, begin, end); });
  const int64_t grain = 65536 / std::max<int64_t>(work, 1) + 1;
  parallel(B, grain, [&](int64_t begin, int64_t end) { kernel(op, begin, end); });
}

// The thread that makes it leads the team.
class Lead {
 public:
  explicit Lead(Team& team) : team_(team) { Team::of_this_thread() = &team; }
  ~Lead() { Team::of_this_thread() = nullptr, team_.end(); }

 private:
  Team& team_;
};

// Threads that each_task uses.
inline int64_t workers(int64_t count) {
  return std::max<int64_t>(1, std::min<int64_t>(count, torch::stable::get_num_threads()));
}

// Calls f(i, worker) for each i below `count`. A thread takes the next i whenever it is done with one: those that the
// system lets run do the work. `worker` is below workers(count), and has one i at a time. With a single task the other
// threads help with what it gives to over_batch.
template <class F>
void each_task(int64_t count, F f) {
  if (count == 1) {
    const int64_t threads = workers(INT64_MAX);
    if (threads == 1) return f(0, 0);
    Team team(threads);
    return parallel(threads, 1, [&](int64_t worker, int64_t) {
      if (worker > 0) return team.help();
      const Lead lead(team);
      f(0, 0);
    });
  }
  std::atomic<int64_t> next{0};
  parallel(workers(count), 1, [&](int64_t worker, int64_t) {
    for (int64_t i; (i = next.fetch_add(1)) < count;) f(i, worker);
  });
}

// As over_batch, for kernels that take an episode through all steps: a thread that is done takes the next few episodes.
template <class Op>
void over_episodes(int64_t B, int64_t work, void (*kernel)(const Op&, int64_t, int64_t), const Op& op) {
  const int64_t grain = 65536 / std::max<int64_t>(work, 1) + 1, threads = workers(INT64_MAX);
  const int64_t parts = threads == 1 ? 1 : std::min(4 * threads, B / grain);
  if (parts <= 1) return kernel(op, 0, B);
  each_task(parts, [&](int64_t i, int64_t) { kernel(op, i * B / parts, (i + 1) * B / parts); });
}

}  // namespace mannkern
