// What the argument structs of all kernels share.
//
// How to read a struct. Letters: T steps, B episodes, N slots, W width of a slot, R read heads, H heads and S shifts of
// an NTM, F features, D hidden units, I numbers of an interface vector, G gate columns of a controller, O = D + R W
// numbers of an output, Np = N padded to whole slot blocks. Every tensor is contiguous and row-major with B in front,
// unless its line says otherwise; csrc/README.md draws the other layouts. A kernel gets (op, begin, end) and reads and
// writes episodes [begin, end) only.
//
// Names. An output `x_out` is the new value of the input `x`. `grad_x` is the gradient with respect to x, whether x is
// an input or an output. (Python and Triton call the gradient with respect to an input `d_x`.)
//
// A `const` pointer is an input, which a kernel never writes. An output overlaps no input and no other output unless
// its line says so, and a kernel writes all of it. A kernel keeps no pointer: a buffer may be reused once the call is
// over. "In place" marks a gradient: on entry gradients with respect to outputs, on exit with respect to inputs.
#pragma once

#include <cstdint>
#include <limits>

// A function for CPU and GPU.
#if defined(__CUDACC__)
#define MANNKERN_BOTH __host__ __device__ inline
#else
#define MANNKERN_BOTH inline
#endif

namespace mannkern {

template <class T>
constexpr T kEps = T(1e-8);  // a smaller norm counts as kEps and passes no gradient

template <class T>
constexpr T kMost = std::numeric_limits<T>::max();

// A larger strength or sharpness counts as this, also an infinite one: it is large enough for the weights of the limit.
template <class T>
constexpr T kMostStrength = T(0x1p64);
template <class T>
MANNKERN_BOTH T bounded(T strength) {
  return strength > kMostStrength<T> ? kMostStrength<T> : strength;  // NaN stays NaN
}

// A row of shifted weights whose largest is smaller passes no gradient, which would overflow.
template <class T>
constexpr T kLeastTop = T(sizeof(T) == 4 ? 0x1p-100 : 0x1p-1000);

// Above this norm the gradient that a slot loses through its norm is computed by itself: 1 / norm^2 could underflow.
template <class T>
constexpr T kLongNorm = T(sizeof(T) == 4 ? 0x1p30 : 0x1p300);

struct Shape {
  int64_t N, W, R;
};

// Pointer arithmetic that leaves null null.
template <class T>
T* offset_or_null(T* p, int64_t offset) {
  return p ? p + offset : nullptr;
}

}  // namespace mannkern
