// The kernels for any machine: 128-bit vectors (SSE2 on x86-64, NEON on 64-bit Arm).
#define MANNKERN_BYTES 16
#include "kernel_table.h"

namespace mannkern {
const InstructionSet isa_portable = {"portable", MANNKERN_BYTES, kernels<float>, kernels<double>};
}
