// What the argument structs of all kernels share.
//
// How to read a struct. Letters: T steps, B episodes, N slots, W width of a slot, R read heads, H heads and S shifts of
// an NTM, F features, D hidden units, I numbers of an interface vector, O = D + R W numbers of an output, Np = N padded
// to whole slot blocks. Every tensor is contiguous and row-major with B in front, unless its line says otherwise;
// csrc/README.md draws the other layouts. A kernel gets (op, begin, end) and reads and writes episodes [begin, end)
// only.
//
// Names. An output `x_out` is the new value of the input `x`. `grad_x` is the gradient with respect to x, whether x is
// an input or an output. (Python and Triton call the gradient with respect to an input `d_x`.)
//
// A `const` pointer is an input, which a kernel never writes. An output overlaps no input and no other output unless
// its line says so, and a kernel writes all of it. A kernel keeps no pointer: a buffer may be reused once the call is
// over. "In place" marks a gradient: on entry gradients with respect to outputs, on exit with respect to inputs.
#pragma once

#include <cstdint>

// A function for CPU and GPU.
#if defined(__CUDACC__)
#define MANNKERN_BOTH __host__ __device__ inline
#else
#define MANNKERN_BOTH inline
#endif

namespace mannkern {

template <class T>
constexpr T kEps = T(1e-8);  // a smaller norm counts as kEps and passes no gradient

struct Shape {
  int64_t N, W, R;
};

// Pointer arithmetic that leaves null null.
template <class T>
T* offset_or_null(T* p, int64_t offset) {
  return p ? p + offset : nullptr;
}

}  // namespace mannkern
