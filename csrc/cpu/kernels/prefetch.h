// Prefetches of short rows that lie far apart, which no hardware prefetcher foresees.
//
// Both functions must be inlined: GCC deletes calls to functions that only prefetch.
#pragma once

#include <initializer_list>

#include "../../args/shape.h"

namespace {

// A row, unless it is null.
template <class T>
__attribute__((always_inline)) inline void prefetch(const T* row, int64_t count, bool to_write = false) {
  for (int64_t i = 0; row && i < count; i += 64 / sizeof(T)) {
    if (to_write) __builtin_prefetch(row + i, 1);
    else __builtin_prefetch(row + i);
  }
}

// A tensor with B in front, `count` numbers of each episode, or null.
template <class T>
struct EpisodeRows {
  const T* all;
  int64_t count;
};

// The rows of episode e in each of these tensors.
template <class T>
__attribute__((always_inline)) inline void prefetch(int64_t e, std::initializer_list<EpisodeRows<T>> tensors) {
  for (const EpisodeRows<T>& rows : tensors) prefetch(mannkern::offset_or_null(rows.all, e * rows.count), rows.count);
}

}  // namespace
