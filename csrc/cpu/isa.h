// The kernels as the instruction set compiles them that the including file has chosen.
#pragma once

#include "gemm.h"
#include "kernels.h"
#include "mann_step.h"
#include "ntm_kernels.h"
#include "ntm_step.h"
#include "scan.h"

namespace {

template <class T>
constexpr Kernels<T> kernels = {write<T>,
                                write_backward<T>,
                                read<T>,
                                read_backward<T>,
                                step<T>,
                                step_backward<T>,
                                find_least_used<T>,
                                pack<T>,
                                gemm<T>,
                                lstm<T>,
                                lstm_backward<T>,
                                layer<T>,
                                layer_backward<T>,
                                to_blocks<T>,
                                from_blocks<T>,
                                mann_writes<T>,
                                mann_step<T>,
                                mann_step_backward<T>,
                                scan<T>,
                                scan_backward<T>,
                                shift_sharpen<T>,
                                shift_sharpen_backward<T>,
                                ntm_address<T>,
                                ntm_address_backward<T>,
                                ntm_write<T>,
                                ntm_write_backward<T>,
                                ntm_writes<T>,
                                ntm_step<T>,
                                ntm_step_backward<T>};

}  // namespace
