// What the operations on a CPU share beside the tensors of a call: the kernels of this machine, threads over the batch.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../call.h"
#include "kernels.h"

namespace mannkern {

extern const Isa* chosen;  // the instruction set in use

template <class T>
const Kernels<T>& kernels() {
  if constexpr (sizeof(T) == 4) return chosen->f32;
  else return chosen->f64;
}

// Episodes over the threads. A thread is worth waking for the work of about three standard steps.
template <class Op>
void over_batch(int64_t B, int64_t work, void (*kernel)(const Op&, int64_t, int64_t), const Op& op) {
  const int64_t grain = 65536 / std::max<int64_t>(work, 1) + 1;
  torch::stable::parallel_for(0, B, grain, [&](int64_t begin, int64_t end) { kernel(op, begin, end); });
}

// A tensor that may be large, in pages of 2 MB where the system has them: a fresh page costs a fault, and those of 4 kB add
// up to a tenth of an episode, to most of a step on a memory of 65,536 slots.
template <class T>
Tensor large(std::initializer_list<int64_t> sizes) {
  const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t(1) << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(out.data_ptr()), end = begin + out.numel() * sizeof(T);
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return out;
}

}  // namespace mannkern
