// Notes how csrc/cuda/persistent_launch.h launches the kernels of a MANN's episode. cuda_persistent.py calls it, with
// addresses of the emulator in the place of pointers.

#include "../cuda/emulate_persistent.cpp"
#include "recorder.h"

namespace {

template <class Op>
void note(mannkern::Recorder& gpu, const int64_t* fields) {
  Op op;
  std::memcpy(&op, fields, sizeof op);  // sizes and pointers have eight bytes each
  mannkern::run_persistent(gpu, op);
}

}  // namespace

extern "C" void launch_of(int backward, const int64_t* fields, mannkern::Launch* noted) {
  mannkern::Recorder gpu{*noted, 0};
  if (backward) note<mannkern::MANNPersistentBackward>(gpu, fields);
  else note<mannkern::MANNPersistent>(gpu, fields);
}
