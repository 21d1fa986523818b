// The choice of instruction set.

#include <algorithm>
#include <cstring>
#include <iterator>

#include "kernels.h"

namespace mannkern {

extern const Isa* chosen;

namespace {

const Isa* const kIsas[] = {
#if defined(__x86_64__)
    &isa_avx512, &isa_avx2,
#endif
    &isa_portable};

bool runs_here(const Isa* isa) {
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

const Isa* chosen = *std::find_if(std::begin(kIsas), std::end(kIsas), runs_here);

}  // namespace mannkern

// The instruction set in use, and its replacement (0 where this machine cannot run it): for tests and benchmarks.
#define MANNKERN_EXPORT extern "C" __attribute__((visibility("default")))
MANNKERN_EXPORT const char* mannkern_isa() { return mannkern::chosen->name; }
MANNKERN_EXPORT int mannkern_set_isa(const char* name) {
  for (const mannkern::Isa* isa : mannkern::kIsas)
    if (std::strcmp(isa->name, name) == 0 && mannkern::runs_here(isa)) return mannkern::chosen = isa, 1;
  return 0;
}
// Bytes of its vectors: what an episode keeps is laid out in blocks of two.
MANNKERN_EXPORT int64_t mannkern_vector_bytes() { return mannkern::chosen->bytes; }
