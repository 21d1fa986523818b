// All kernels of an instruction set.
#pragma once

#include "../lrua.h"
#include "../ntm.h"
#include "../matrix.h"

namespace mannkern {

template <class T>
struct Kernels {
  void (*write)(const Write<T>&, int64_t begin, int64_t end);
  void (*write_backward)(const WriteBackward<T>&, int64_t begin, int64_t end);
  void (*read)(const Read<T>&, int64_t begin, int64_t end);
  void (*read_backward)(const ReadBackward<T>&, int64_t begin, int64_t end);
  void (*step)(const Step<T>&, int64_t begin, int64_t end);
  void (*step_backward)(const StepBackward<T>&, int64_t begin, int64_t end);
  void (*least_used)(const LeastUsed<T>&, int64_t begin, int64_t end);
  void (*pack)(const Pack<T>&, int64_t begin, int64_t end);
  void (*gemm)(const Product<T>&, int64_t begin, int64_t end);
  void (*lstm)(const Lstm<T>&, int64_t begin, int64_t end);
  void (*lstm_backward)(const LstmBackward<T>&, int64_t begin, int64_t end);
  void (*layer)(const Layer<T>&, int64_t begin, int64_t end);
  void (*layer_backward)(const LayerBackward<T>&, int64_t begin, int64_t end);
  void (*to_blocks)(const ToBlocks<T>&, int64_t begin, int64_t end);
  void (*from_blocks)(const FromBlocks<T>&, int64_t begin, int64_t end);
  void (*mann_writes)(const MannWrites<T>&, int64_t begin, int64_t end);
  void (*mann_step)(const MannStep<T>&, int64_t begin, int64_t end);
  void (*mann_step_backward)(const MannStepBackward<T>&, int64_t begin, int64_t end);
  void (*scan)(const Scan<T>&, int64_t begin, int64_t end);
  void (*scan_backward)(const ScanBackward<T>&, int64_t begin, int64_t end);
  void (*shift_sharpen)(const ShiftSharpen<T>&, int64_t begin, int64_t end);
  void (*shift_sharpen_backward)(const ShiftSharpenBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_address)(const Address<T>&, int64_t begin, int64_t end);
  void (*ntm_address_backward)(const AddressBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_write)(const EraseWrite<T>&, int64_t begin, int64_t end);
  void (*ntm_write_backward)(const EraseWriteBackward<T>&, int64_t begin, int64_t end);
  void (*ntm_writes)(const NtmWrites<T>&, int64_t begin, int64_t end);
  void (*ntm_step)(const NtmStep<T>&, int64_t begin, int64_t end);
  void (*ntm_step_backward)(const NtmStepBackward<T>&, int64_t begin, int64_t end);
};

// The kernels of one instruction set.
struct Isa {
  const char* name;
  int64_t bytes;  // of a vector
  Kernels<float> f32;
  Kernels<double> f64;
};
extern const Isa isa_portable;
#if defined(__x86_64__)
extern const Isa isa_avx2;
extern const Isa isa_avx512;
#endif

}  // namespace mannkern
