// PyTorch's parallel loop on threads of the C++ library, to be loaded before PyTorch under ThreadSanitizer.
//
// PyTorch's own loop runs on OpenMP's threads, whose barriers are in a library that was not compiled for the sanitizer:
// it would not see that one thread's writes come before another's reads, and report every loop as a race. It knows how
// these threads begin and end. Nothing else of PyTorch is replaced, and it runs on one thread.

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

constexpr int64_t kThreads = 4;
thread_local bool is_inside = false;  // a loop within a loop runs on its thread, as PyTorch's does

}  // namespace

extern "C" __attribute__((visibility("default"))) int32_t torch_get_num_threads(uint32_t* count) {
  *count = kThreads;
  return 0;
}

extern "C" __attribute__((visibility("default"))) int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                                                             void (*f)(int64_t, int64_t, void*),
                                                                             void* context) {
  if (begin >= end) return 0;
  const int64_t grains = (end - begin + grain - 1) / std::max<int64_t>(grain, 1);
  const int64_t threads = is_inside ? 1 : std::min(kThreads, grains), share = (end - begin + threads - 1) / threads;
  if (threads == 1) return f(begin, end, context), 0;
  const auto run = [&](int64_t i) {
    is_inside = true;
    if (begin + i * share < end) f(begin + i * share, std::min(end, begin + (i + 1) * share), context);
    is_inside = false;
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < threads; ++i) others.emplace_back(run, i);
  run(0);
  for (std::thread& other : others) other.join();
  return 0;
}

// A race, which the sanitizer has to find: all threads of a loop add to one number.
extern "C" __attribute__((visibility("default"))) int64_t planted_race() {
  int64_t sum = 0;
  const auto add = [](int64_t begin, int64_t end, void* sum) {
    for (int64_t i = begin; i < end; ++i) *static_cast<int64_t*>(sum) += i;
  };
  torch_parallel_for(0, 1000, 1, add, &sum);
  return sum;
}
