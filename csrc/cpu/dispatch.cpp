// The choice of instruction set: the best that this machine runs, until a test or benchmark sets another.

#include <algorithm>
#include <cstring>
#include <iterator>

#include "kernels/kernels.h"

namespace mannkern {

extern const InstructionSet* instruction_set;

namespace {

const InstructionSet* const kInstructionSets[] = {
#if defined(__x86_64__)
    &isa_avx512, &isa_avx2,
#endif
    &isa_portable};

bool runs_here(const InstructionSet* isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == &isa_avx2) return avx2;
  if (isa == &isa_avx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
  return isa == &isa_portable;
}

}  // namespace

const InstructionSet* instruction_set =
    *std::find_if(std::begin(kInstructionSets), std::end(kInstructionSets), runs_here);

const BFloat16Products* bfloat16_products() {
#if defined(__x86_64__)
  if (instruction_set == &isa_avx512 && __builtin_cpu_supports("avx512bf16")) return &avx512_bfloat16;
#endif
  return nullptr;
}

}  // namespace mannkern

// What mannkern/backends/native.py calls. mannkern_set_isa returns 0 where this machine cannot run the instruction set.
#define MANNKERN_EXPORT extern "C" __attribute__((visibility("default")))
MANNKERN_EXPORT const char* mannkern_isa() { return mannkern::instruction_set->name; }
MANNKERN_EXPORT int mannkern_set_isa(const char* name) {
  for (const mannkern::InstructionSet* isa : mannkern::kInstructionSets)
    if (std::strcmp(isa->name, name) == 0 && mannkern::runs_here(isa)) return mannkern::instruction_set = isa, 1;
  return 0;
}
// Whether products with weights in bfloat16 are products of bfloat16.
MANNKERN_EXPORT int mannkern_multiplies_bfloat16() { return mannkern::bfloat16_products() != nullptr; }
// Bytes of a vector of the instruction set in use: a slot block is two vectors.
MANNKERN_EXPORT int64_t mannkern_vector_bytes() { return mannkern::instruction_set->bytes; }
