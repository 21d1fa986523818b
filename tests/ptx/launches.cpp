// Notes how csrc/cuda/launch.h launches an operation of the NTM. cuda_kernels.py calls it, with addresses of the
// emulator in the place of pointers.

#include "../cuda/emulate.cpp"
#include "recorder.h"

extern "C" int launch_of(const char* name, int bytes, int64_t count, const int64_t* fields, int64_t workspace_address,
                         mannkern::Launch* noted) {
  mannkern::Recorder gpu{*noted, workspace_address};
  return bytes == 4 ? mannkern::call<float>(name, gpu, count, fields) : mannkern::call<double>(name, gpu, count, fields);
}
