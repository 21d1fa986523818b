// The table of kernels, one for each instruction set. It is all that a host file knows of them.
//
// A kernel takes the struct of its operation and works on episodes [begin, end); those of args/matrix.h on panels or
// columns, shift_sharpen on rows.
#pragma once

#include "../../args/blocks.h"
#include "../../args/cell.h"
#include "../../args/controller.h"
#include "../../args/lrua.h"
#include "../../args/mann.h"
#include "../../args/matrix.h"
#include "../../args/ntm.h"

namespace mannkern {

template <class T>
struct Kernels {
  void (*additive_write)(const AdditiveWrite<T>&, int64_t begin, int64_t end);
  void (*additive_write_backward)(const AdditiveWriteBackward<T>&, int64_t begin, int64_t end);
  void (*cosine_read)(const CosineRead<T>&, int64_t begin, int64_t end);
  void (*cosine_read_backward)(const CosineReadBackward<T>&, int64_t begin, int64_t end);
  void (*lrua_step)(const LRUAStep<T>&, int64_t begin, int64_t end);
  void (*lrua_step_backward)(const LRUAStepBackward<T>&, int64_t begin, int64_t end);
  void (*least_used_slots)(const LeastUsedSlots<T>&, int64_t begin, int64_t end);
  void (*usage_update)(const UsageUpdate<T>&, int64_t begin, int64_t end);
  void (*pack)(const Pack<T>&, int64_t begin, int64_t end);
  void (*pack_rows)(const PackRows<T>&, int64_t begin, int64_t end);
  void (*gemm)(const Product<T>&, int64_t begin, int64_t end);
  void (*gemms)(const Products<T>&, int64_t begin, int64_t end);
  void (*sum_rows)(const SumRows<T>&, int64_t begin, int64_t end);
  void (*linear)(const Linear<T>&, int64_t begin, int64_t end);
  void (*linear_backward)(const LinearBackward<T>&, int64_t begin, int64_t end);
  void (*lstm)(const LSTM<T>&, int64_t begin, int64_t end);
  void (*lstm_backward)(const LSTMBackward<T>&, int64_t begin, int64_t end);
  void (*tanh_layer)(const TanhLayer<T>&, int64_t begin, int64_t end);
  void (*tanh_layer_backward)(const TanhLayerBackward<T>&, int64_t begin, int64_t end);
  void (*to_blocks)(const ToBlocks<T>&, int64_t begin, int64_t end);
  void (*from_blocks)(const FromBlocks<T>&, int64_t begin, int64_t end);
  void (*mann_activate)(const MANNActivate<T>&, int64_t begin, int64_t end);
  void (*mann_activate_backward)(const MANNActivateBackward<T>&, int64_t begin, int64_t end);
  void (*mann_recompute)(const MANNRecompute<T>&, int64_t begin, int64_t end);
  void (*mann_step)(const MANNStep<T>&, int64_t begin, int64_t end);
  void (*mann_step_backward)(const MANNStepBackward<T>&, int64_t begin, int64_t end);
  void (*lrua_scan)(const LRUAScan<T>&, int64_t begin, int64_t end);
  void (*lrua_scan_backward)(const LRUAScanBackward<T>&, int64_t begin, int64_t end);
  void (*shift_sharpen)(const ShiftSharpen<T>&, int64_t begin, int64_t end);
  void (*shift_sharpen_backward)(const ShiftSharpenBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_address)(const NTMAddress<T>&, int64_t begin, int64_t end);
  void (*ntm_address_backward)(const NTMAddressBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_write)(const NTMWrite<T>&, int64_t begin, int64_t end);
  void (*ntm_write_backward)(const NTMWriteBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_recompute)(const NTMRecompute<T>&, int64_t begin, int64_t end);
  void (*ntm_step)(const NTMStep<T>&, int64_t begin, int64_t end);
  void (*ntm_step_backward)(const NTMStepBackward<T>&, int64_t begin, int64_t end);
};

// Products in bfloat16 with sums in float32: factors come in float32, A as Product has it, and the panels of B rounded.
struct BFloat16Products {
  // Rounds panels [begin, end) of K rows in place: the first half of a panel then has pairs of rows.
  void (*round)(float* panels, int64_t K, int64_t begin, int64_t end);
  void (*gemm)(const Product<float>&, int64_t begin, int64_t end);
  void (*gemms)(const Products<float>&, int64_t begin, int64_t end);
};

struct InstructionSet {
  const char* name;
  int64_t bytes;  // of a vector
  Kernels<float> f32;
  Kernels<double> f64;
};
extern const InstructionSet isa_portable;
#if defined(__x86_64__)
extern const InstructionSet isa_avx2;
extern const InstructionSet isa_avx512;
extern const BFloat16Products avx512_bfloat16;
#endif

}  // namespace mannkern
