// The kernels for x86-64 with AVX-512; dispatch.cpp calls them on no other machine.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define MANNKERN_BYTES 64
#include "kernel_table.h"

namespace mannkern {
const InstructionSet isa_avx512 = {"avx512", MANNKERN_BYTES, kernels<float>, kernels<double>};
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
