// Notes how csrc/cuda/lrua_launch.h launches LRUA's step. cuda_lrua.py calls it, as cuda_kernels.py calls launches.cpp.

#include "../cuda/emulate_lrua.cpp"
#include "recorder.h"

namespace mannkern {
namespace {

template <class Op>
void note(Recorder& gpu, int64_t B, const int64_t* fields) {
  Op op;
  std::memcpy(&op, fields, sizeof op);  // sizes and pointers have eight bytes each
  run_step(gpu, B, op);
}

}  // namespace
}  // namespace mannkern

extern "C" void launch_of(int backward, int64_t B, const int64_t* fields, mannkern::Launch* noted) {
  mannkern::Recorder gpu{*noted, 0};
  if (backward) mannkern::note<mannkern::LRUAStepBackward<float>>(gpu, B, fields);
  else mannkern::note<mannkern::LRUAStep<float>>(gpu, B, fields);
}
