// Fills the table of kernels.h with the kernels as the including file compiles them, for the instruction set it has
// chosen.
#pragma once

#include "block_kernels.h"
#include "controller.h"
#include "gemm.h"
#include "kernels.h"
#include "linear.h"
#include "mann_kernels.h"
#include "ntm_episode_kernels.h"
#include "ntm_kernels.h"
#include "scan_kernels.h"

namespace {

template <class T>
constexpr Kernels<T> kernels = {additive_write<T>,
                                additive_write_backward<T>,
                                cosine_read<T>,
                                cosine_read_backward<T>,
                                lrua_step<T>,
                                lrua_step_backward<T>,
                                least_used_slots<T>,
                                usage_update<T>,
                                pack<T>,
                                pack_rows<T>,
                                gemm<T>,
                                gemms<T>,
                                sum_rows<T>,
                                linear<T>,
                                linear_backward<T>,
                                lstm<T>,
                                lstm_backward<T>,
                                tanh_layer<T>,
                                tanh_layer_backward<T>,
                                to_blocks<T>,
                                from_blocks<T>,
                                mann_activate<T>,
                                mann_activate_backward<T>,
                                mann_recompute<T>,
                                mann_step<T>,
                                mann_step_backward<T>,
                                lrua_scan<T>,
                                lrua_scan_backward<T>,
                                shift_sharpen<T>,
                                shift_sharpen_backward<T>,
                                ntm_address<T>,
                                ntm_address_backward<T>,
                                ntm_write<T>,
                                ntm_write_backward<T>,
                                ntm_recompute<T>,
                                ntm_step<T>,
                                ntm_step_backward<T>};

}  // namespace
