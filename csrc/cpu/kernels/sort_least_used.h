// The least used slots by sorting, for an n that is large.
#pragma once

#include <cstdint>

namespace mannkern {

// The n slots of smallest usage, ascending; equal usage: the lower index first; NaN counts as the largest.
//
// Compiled once for all machines, in sort_least_used.cpp: it uses the standard library, whose functions the linker
// shares between files, so no file of one instruction set may contain them.
template <class T>
void sort_least_used(const T* usage, int64_t N, int64_t n, int64_t* slots);

}  // namespace mannkern
