// The single operations of the NTM on a CPU: host/ntm_ops.h checks and allocates, this file runs the kernels over the
// batch.

#include "../host/ntm_ops.h"
#include "dispatch.h"

namespace mannkern {
namespace {

struct Cpu {
  template <class Op>
  static void run(Device, int64_t count, int64_t work, const Op& op) {
    over_batch(count, work, kernel(op), op);
  }

 private:
  template <class T>
  static auto kernel(const ShiftSharpen<T>&) {
    return kernels<T>().shift_sharpen;
  }
  template <class T>
  static auto kernel(const ShiftSharpenBackward<T>&) {
    return kernels<T>().shift_sharpen_backward;
  }
  template <class T>
  static auto kernel(const NTMAddress<T>&) {
    return kernels<T>().ntm_address;
  }
  template <class T>
  static auto kernel(const NTMAddressBackward<T>&) {
    return kernels<T>().ntm_address_backward;
  }
  template <class T>
  static auto kernel(const NTMWrite<T>&) {
    return kernels<T>().ntm_write;
  }
  template <class T>
  static auto kernel(const NTMWriteBackward<T>&) {
    return kernels<T>().ntm_write_backward;
  }
};

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) { mannkern::NTMOperations<mannkern::Cpu>::add_to(m); }
