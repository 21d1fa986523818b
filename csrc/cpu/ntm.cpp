// The operations of the NTM on a CPU: threads over the batch.

#include "../ntm_ops.h"
#include "call.h"

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
  static auto kernel(const Address<T>&) {
    return kernels<T>().ntm_address;
  }
  template <class T>
  static auto kernel(const AddressBackward<T>&) {
    return kernels<T>().ntm_address_backward;
  }
  template <class T>
  static auto kernel(const EraseWrite<T>&) {
    return kernels<T>().ntm_write;
  }
  template <class T>
  static auto kernel(const EraseWriteBackward<T>&) {
    return kernels<T>().ntm_write_backward;
  }
};

}  // namespace
}  // namespace mannkern

STABLE_TORCH_LIBRARY_IMPL(mannkern, CPU, m) { mannkern::NtmOperations<mannkern::Cpu>::add_to(m); }
