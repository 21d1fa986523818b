// A Gpu of csrc/cuda that launches nothing: it notes which kernel would be launched, its sizes, and its parameters as a
// GPU gets them. tests/cuda/emulator.h comes before it.
#pragma once

#include <dlfcn.h>

namespace mannkern {
namespace {

struct Launch {
  char kernel[256];
  int64_t blocks, threads, shared_bytes, workspace_bytes, parameter_bytes;
  int64_t cluster;  // blocks of a cluster; 0 without
  unsigned char parameters[1024];
};

// `workspace_address` is where the device memory will be that it lends, `blocks` how many blocks run side by side.
struct Recorder {
  Launch& noted;
  int64_t workspace_address, blocks = 1;

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
  template <class Op>
  void launch_clusters(const char* name, void (*kernel)(Op), int clusters, int blocks, int threads, int64_t bytes,
                       int64_t, const Op& op) {
    launch(name, kernel, clusters * blocks, threads, bytes, op);
    noted.cluster = blocks;
  }
  template <class Kernel>
  void reserve(const char*, Kernel*, int64_t) {}
  template <class Kernel>
  int64_t at_once(const char*, Kernel*, int, int64_t) {
    return blocks;
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
