// Tensors that only operations on a CPU allocate: large ones, and gradients that are updated in place.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>

#include "../host/tensors.h"

namespace mannkern {

// glibc's malloc gives freed memory back to the system, and gets it back cleared, until it has seen a large block freed:
// then it keeps up to 64 MB of it. Here it sees one at once, so that an episode finds the pages of the one before.
inline void keep_freed_pages() {
#if defined(__GLIBC__)
  static const bool done = [] {
    void* volatile block = std::malloc((size_t(32) << 20) - (size_t(1) << 16));
    std::free(block);
    return true;
  }();
  (void)done;
#endif
}

// A tensor that may be large, in pages of 2 MB where the system has them. A fresh page costs a fault: with pages of 4
// kB faults take a tenth of an episode, and most of a step on a memory of 65,536 slots.
template <class T>
Tensor allocate_large(Sizes sizes) {
  keep_freed_pages();
  const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t(1) << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(out.data_ptr()), end = begin + out.numel() * sizeof(T);
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return out;
}

// A gradient to be updated in place, step by step: a copy of the outgoing one, or zeros where there is none.
template <class T>
Tensor copy_or_zeros(Call<T>& call, const Maybe& grad, const char* name, Sizes sizes) {
  const Tensor out = call.out(sizes);
  const T* outgoing = call.in(grad, name, sizes);
  if (outgoing) std::copy_n(outgoing, out.numel(), data<T>(out));
  else std::fill_n(data<T>(out), out.numel(), T(0));
  return out;
}

}  // namespace mannkern
