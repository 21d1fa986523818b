// What the operations on a CPU share beside the tensors of a call: the kernels of this machine, threads over the batch.
#pragma once

#include "../call.h"
#include "kernels.h"

namespace mannkern {

extern const Isa* chosen;  // the instruction set in use

template <class T>
const Kernels<T>& kernels() {
  if constexpr (sizeof(T) == 4) return chosen->f32;
  else return chosen->f64;
}

// Episodes over the threads. A thread is worth waking for the work of about three standard steps.
template <class Op>
void over_batch(int64_t B, int64_t work, void (*kernel)(const Op&, int64_t, int64_t), const Op& op) {
  const int64_t grain = 65536 / std::max<int64_t>(work, 1) + 1;
  torch::stable::parallel_for(0, B, grain, [&](int64_t begin, int64_t end) { kernel(op, begin, end); });
}

}  // namespace mannkern
