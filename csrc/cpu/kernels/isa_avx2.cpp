// The kernels for x86-64 with AVX2 and FMA; dispatch.cpp calls them on no other machine.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define MANNKERN_BYTES 32
#include "kernel_table.h"

namespace mannkern {
const InstructionSet isa_avx2 = {"avx2", MANNKERN_BYTES, kernels<float>, kernels<double>};
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
