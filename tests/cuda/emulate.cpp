// Runs the kernels of csrc/cuda on a CPU, with their launches and sizes. emulated.py calls it.

#include "emulator.h"

#include <tuple>

#include "../../csrc/cuda/ntm_episode_launch.h"

namespace mannkern {

constexpr int kGuard = 64;
alignas(16) double dynamic_shared[kBlockBytes / sizeof(double) + kGuard];

namespace {

// A Gpu of csrc/cuda/launch.h. A bound on the number of blocks makes each work on several rows.
struct Emulated {
  int most_blocks;
  std::vector<std::vector<char>> lent;

  template <class Kernel, class... Arguments>
  void launch(const char* name, Kernel* kernel, int blocks, int threads, int64_t bytes, const Arguments&... arguments) {
    if (bytes > kBlockBytes || blocks < 1) emulator::fail(name);
    gridDim.x = unsigned(blocks < most_blocks ? blocks : most_blocks);
    blockDim.x = unsigned(threads);
    emulator::body = [&] { kernel(arguments...); };
    for (unsigned block = 0; block < gridDim.x; ++block) {
      std::memset(dynamic_shared, 0xff, sizeof dynamic_shared);
      emulator::run_blocks(block, 1);
      for (size_t at = size_t(bytes); at < sizeof dynamic_shared; ++at)
        if (reinterpret_cast<unsigned char*>(dynamic_shared)[at] != 0xff) emulator::fail("shared memory overrun");
    }
  }
  template <class T>
  T* workspace(int64_t count) {
    lent.emplace_back(count * sizeof(T), '\xff');
    return reinterpret_cast<T*>(lent.back().data());
  }
};

// A Gpu that launches nothing and notes the shared memory of a block.
struct Sizes {
  int64_t bytes = 0;

  template <class... Arguments>
  void launch(const char*, Arguments... arguments) {
    bytes = int64_t(std::get<3>(std::make_tuple(arguments...)));
  }
  template <class T>
  T* workspace(int64_t) {
    return nullptr;
  }
};

template <class Op, class Gpu>
void call(Gpu& gpu, int64_t count, const int64_t* fields) {
  Op op;
  static_assert(sizeof op % sizeof *fields == 0);
  std::memcpy(&op, fields, sizeof op);  // sizes and pointers have eight bytes each
  run(gpu, count, op);
}

template <class T, class Gpu>
bool call(const std::string& name, Gpu& gpu, int64_t count, const int64_t* fields) {
  if (name == "shift_sharpen") call<ShiftSharpen<T>>(gpu, count, fields);
  else if (name == "shift_sharpen_backward") call<ShiftSharpenBackward<T>>(gpu, count, fields);
  else if (name == "ntm_address") call<NTMAddress<T>>(gpu, count, fields);
  else if (name == "ntm_address_backward") call<NTMAddressBackward<T>>(gpu, count, fields);
  else if (name == "ntm_write") call<NTMWrite<T>>(gpu, count, fields);
  else if (name == "ntm_write_backward") call<NTMWriteBackward<T>>(gpu, count, fields);
  else if (name == "ntm_step") call<NTMEpisodeStep<T>>(gpu, count, fields);
  else if (name == "ntm_step_backward") call<NTMEpisodeStepBackward<T>>(gpu, count, fields);
  else if (name == "ntm_recompute") call<NTMEpisodeRecompute<T>>(gpu, count, fields);
  else return false;
  return true;
}

}  // namespace
}  // namespace mannkern

extern "C" int emulate(const char* name, int bytes, int64_t count, const int64_t* fields, int most_blocks,
                       int backwards) {
  emulator::backwards = backwards;
  mannkern::Emulated gpu{most_blocks, {}};
  return bytes == 4 ? mannkern::call<float>(name, gpu, count, fields) : mannkern::call<double>(name, gpu, count, fields);
}

extern "C" int64_t shared_memory(const char* name, int bytes, const int64_t* fields) {
  mannkern::Sizes gpu;
  bytes == 4 ? mannkern::call<float>(name, gpu, 1, fields) : mannkern::call<double>(name, gpu, 1, fields);
  return gpu.bytes;
}
