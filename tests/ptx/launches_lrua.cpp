// Notes how csrc/cuda/lrua_launch.h launches LRUA's step and scan. cuda_lrua.py calls it, as cuda_kernels.py calls
// launches.cpp.

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

extern "C" int launch_of(const char* operation, int64_t B, const int64_t* fields, int64_t workspace_address,
                         int64_t at_once, mannkern::Launch* noted) {
  using namespace mannkern;
  Recorder gpu{*noted, workspace_address, at_once};
  const std::string name = operation;
  if (name == "lrua_step") note<LRUAStep<float>>(gpu, B, fields);
  else if (name == "lrua_step_backward") note<LRUAStepBackward<float>>(gpu, B, fields);
  else if (name == "lrua_scan") note<LRUAScanCosines<float>>(gpu, B, fields);
  else if (name == "lrua_scan_backward") note<LRUAScanCosinesBackward<float>>(gpu, B, fields);
  else return 0;
  return 1;
}
