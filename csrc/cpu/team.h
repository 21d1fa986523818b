// Threads that help one thread with its kernels, while it goes through the steps of an episode of few rows.
//
// Why not a parallel region for each kernel: opening and closing one takes as long as a product of one row. Here a kernel
// is an increment of one number, which the helpers watch. They take parts of it from its end, so that the same columns
// of the weights stay in the same core's cache, and the thread that leads takes parts from its beginning. It waits for no
// helper that has not begun a part, so a helper that the system does not let run costs nothing.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>

namespace mannkern {

class Team {
 public:
  explicit Team(int64_t threads) : threads_(threads) {}

  // Of the thread that leads: calls f(begin, end) for all parts of [0, count).
  template <class F>
  void run(int64_t count, const F& f) {
    const uint64_t parts = std::min<int64_t>(count, 4 * threads_);
    call_.store([](const void* f, int64_t begin, int64_t end) { (*static_cast<const F*>(f))(begin, end); },
                std::memory_order_relaxed);
    f_.store(&f, std::memory_order_relaxed), count_.store(count, std::memory_order_relaxed);
    parts_.store(parts, std::memory_order_relaxed), done_.store(0, std::memory_order_relaxed);
    const uint64_t job = state_.load(std::memory_order_relaxed) >> 32;
    state_.store((job + 1) << 32 | parts, std::memory_order_release);
    std::exception_ptr error;  // of a part; thrown again when no helper uses f any more
    for (bool left = true; left;) try {
        left = take(false);
      } catch (...) {
        error = std::current_exception();
      }
    for (int64_t spins = 0; done_.load(std::memory_order_acquire) < parts;) pause(++spins);
    if (error) std::rethrow_exception(error);
  }
  // Of a helper: works until end().
  void help() {
    for (int64_t spins = 0; !over_.load(std::memory_order_acquire);)
      if (take(true)) spins = 0;
      else pause(++spins);
  }
  void end() { over_.store(true, std::memory_order_release); }

  // The team that this thread leads.
  static Team*& of_this_thread() {
    static thread_local Team* team = nullptr;
    return team;
  }

 private:
  // Takes a part and runs it; false where none is left. The state has the number of the kernel, the parts taken from its
  // beginning, and the end of those that are left. Whoever changes it has read a kernel that is not over, so what it
  // read of it was whole.
  bool take(bool from_end) {
    uint64_t state = state_.load(std::memory_order_acquire);
    for (;;) {
      const uint64_t begin = state >> 16 & 0xffff, end = state & 0xffff;
      if (begin >= end) return false;
      const auto call = call_.load(std::memory_order_relaxed);
      const void* f = f_.load(std::memory_order_relaxed);
      const int64_t count = count_.load(std::memory_order_relaxed), parts = parts_.load(std::memory_order_relaxed);
      const uint64_t taken = from_end ? state - 1 : state + (uint64_t(1) << 16);
      if (!state_.compare_exchange_weak(state, taken, std::memory_order_acq_rel)) continue;
      const int64_t part = from_end ? end - 1 : begin;
      const Done done{done_};  // also where the kernel throws, or the others would wait for ever
      call(f, part * count / parts, (part + 1) * count / parts);
      return true;
    }
  }
  struct Done {
    std::atomic<uint64_t>& count;
    ~Done() { count.fetch_add(1, std::memory_order_release); }
  };
  static void pause(int64_t spins) {
    if (spins > 1000) std::this_thread::yield();
#if defined(__x86_64__)
    else __builtin_ia32_pause();
#endif
  }

  const int64_t threads_;
  std::atomic<void (*)(const void*, int64_t, int64_t)> call_{nullptr};
  std::atomic<const void*> f_{nullptr};
  std::atomic<int64_t> count_{0}, parts_{0};
  alignas(64) std::atomic<uint64_t> state_{0}, done_{0};
  std::atomic<bool> over_{false};
};

}  // namespace mannkern
