// Brings near what is needed soon and no prefetcher foresees: short rows, each far from the one before.
//
// All inlined: GCC takes a function that only fetches for one that does nothing, and drops its calls.
#pragma once

#include <initializer_list>

#include "../lrua.h"

namespace {

template <class T>
__attribute__((always_inline)) inline void fetch(const T* row, int64_t count, bool to_write = false) {
  for (int64_t i = 0; row && i < count; i += 64 / sizeof(T)) {
    if (to_write) __builtin_prefetch(row + i, 1);
    else __builtin_prefetch(row + i);
  }
}

template <class T>
struct Given {  // `count` numbers of every episode; null stays null
  const T* all;
  int64_t count;
};

// What episode e is given, but for memories.
template <class T>
__attribute__((always_inline)) inline void fetch(int64_t e, std::initializer_list<Given<T>> given) {
  for (const Given<T>& part : given) fetch(mannkern::at(part.all, e * part.count), part.count);
}

}  // namespace
