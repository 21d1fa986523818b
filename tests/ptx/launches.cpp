// Notes how csrc/cuda/launch.h launches an operation of the NTM: which kernel, its sizes, and its parameters as a GPU
// gets them. cuda_kernels.py calls it, with addresses of the emulator in the place of pointers.

#include <dlfcn.h>

#include "../cuda/emulate.cpp"

namespace mannkern {
namespace {

struct Launch {
  char kernel[256];
  int64_t blocks, threads, shared_bytes, workspace_bytes, parameter_bytes;
  unsigned char parameters[1024];
};

// A Gpu of launch.h. `workspace_address` is where the device memory will be that it lends.
struct Recorder {
  Launch& noted;
  int64_t workspace_address;

  template <class... Parameters, class... Arguments>
  void launch(const char* name, void (*kernel)(Parameters...), int blocks, int threads, int64_t bytes,
              const Arguments&... arguments) {
    Dl_info symbol;
    if (!dladdr(reinterpret_cast<void*>(kernel), &symbol) || !symbol.dli_sname) emulator::fail(name);
    std::snprintf(noted.kernel, sizeof noted.kernel, "%s", symbol.dli_sname);  // mangled, as nvcc does it
    noted.blocks = blocks;
    noted.threads = threads;
    noted.shared_bytes = bytes;
    (add<Parameters>(arguments), ...);
  }
  template <class T>
  T* workspace(int64_t count) {
    noted.workspace_bytes = count * int64_t(sizeof(T));
    return reinterpret_cast<T*>(workspace_address);
  }

 private:
  template <class T>
  void add(const T& argument) {
    const int64_t at = (noted.parameter_bytes + alignof(T) - 1) / alignof(T) * alignof(T);
    if (at + sizeof argument > sizeof noted.parameters) emulator::fail("parameters");
    std::memcpy(noted.parameters + at, &argument, sizeof argument);
    noted.parameter_bytes = at + sizeof argument;
  }
};

}  // namespace
}  // namespace mannkern

extern "C" int launch_of(const char* name, int bytes, int64_t count, const int64_t* fields, int64_t workspace_address,
                         mannkern::Launch* noted) {
  mannkern::Recorder gpu{*noted, workspace_address};
  return bytes == 4 ? mannkern::call<float>(name, gpu, count, fields) : mannkern::call<double>(name, gpu, count, fields);
}
