// Runs the kernels of LRUA in csrc/cuda on a CPU, with their launches and sizes. lrua.py calls it.

#include "cluster_emulator.h"

inline unsigned __ballot_sync(unsigned mask, bool v) {
  return emulator::over_warp(mask, unsigned(v) << emulator::current % 32, [](unsigned a, unsigned b) { return a | b; });
}
inline int __ffs(int v) { return __builtin_ffs(v); }

namespace mannkern {

// Copies that a thread has begun; their numbers arrive when it waits for them.
struct Copy {
  float* to;
  const float* from;
  bool exist;
};
inline std::vector<std::vector<Copy>> copies;

inline void copy_later(float* to, const float* from, bool exist) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16) emulator::fail("misaligned copy");
  copies[emulator::current].push_back({to, from, exist});
}
inline float root(float x) { return std::sqrt(x); }
inline float inverse_of(float x) { return 1 / x; }
inline float exponential(float x) { return std::exp(x); }
inline float4 load_four(const float* from) { return *reinterpret_cast<const float4*>(from); }
inline void wait_for_copies() {
  for (const Copy& copy : copies[emulator::current])
    for (int k = 0; k < 4; ++k) copy.to[k] = copy.exist ? copy.from[k] : 0.0f;
  copies[emulator::current].clear();
  emulator::wait(32);
}

}  // namespace mannkern

#include "../../csrc/cuda/lrua_launch.h"

namespace mannkern {

alignas(16) double dynamic_shared[kStepBytes / sizeof(double) + 64];

namespace {

constexpr int64_t kAtOnce = 2;  // blocks that run side by side

struct Emulated {
  std::vector<std::vector<float>> held;

  template <class Kernel>
  void reserve(const char* name, Kernel*, int64_t bytes) {
    if (bytes != kStepBytes) emulator::fail(name);  // less would take from what another thread has reserved
  }
  template <class Kernel>
  int64_t at_once(const char*, Kernel*, int, int64_t) {
    return kAtOnce;
  }
  template <class T>
  T* workspace(int64_t count) {
    held.emplace_back(count + 4, std::nanf(""));  // its numbers begin at a multiple of 16 bytes
    return held.back().data() + -(reinterpret_cast<uintptr_t>(held.back().data()) / 4) % 4;
  }
  template <class Kernel, class Op, class... Scratch>
  void launch(const char* name, Kernel* kernel, int blocks, int threads, int64_t bytes, const Op& op,
              Scratch*... scratch) {
    if (bytes > kStepBytes || blocks < 1 || !step_takes(op.shape)) emulator::fail(name);
    gridDim.x = unsigned(blocks);
    blockDim.x = unsigned(threads);
    emulator::body = [&] { kernel(op, scratch...); };
    for (unsigned block = 0; block < gridDim.x; ++block) {
      std::memset(dynamic_shared, 0xff, sizeof dynamic_shared);
      copies.assign(blockDim.x, {});
      emulator::run_blocks(block, 1);
      for (const auto& left : copies)
        if (!left.empty()) emulator::fail("copies that nobody waited for");
      for (size_t at = size_t(bytes); at < sizeof dynamic_shared; ++at)
        if (reinterpret_cast<unsigned char*>(dynamic_shared)[at] != 0xff) emulator::fail("shared memory overrun");
    }
  }
};

// A Gpu that launches nothing and notes the shared memory of a block.
struct SharedMemory {
  int64_t bytes = 0;

  template <class Kernel>
  void reserve(const char*, Kernel*, int64_t) {}
  template <class Kernel>
  int64_t at_once(const char*, Kernel*, int, int64_t) {
    return 1;
  }
  template <class T>
  T* workspace(int64_t) {
    return nullptr;
  }
  template <class Kernel, class Op, class... Scratch>
  void launch(const char*, Kernel*, int, int, int64_t of_block, const Op&, Scratch*...) {
    bytes = of_block;
  }
};
template <class Op>
int64_t shared_memory_of(const Shape& shape) {
  Op op = {};
  op.shape = shape;
  op.options.n = shape.R;
  SharedMemory gpu;
  run_step(gpu, 1, op);
  return gpu.bytes;
}

template <class Op>
void call(int64_t B, const int64_t* fields, int backwards) {
  Op op;
  std::memcpy(&op, fields, sizeof op);  // sizes and pointers have eight bytes each
  emulator::backwards = backwards;
  Emulated gpu;
  run_step(gpu, B, op);
}

}  // namespace
}  // namespace mannkern

extern "C" void lrua_step(int64_t B, const int64_t* fields, int backwards) {
  mannkern::call<mannkern::LRUAStep<float>>(B, fields, backwards);
}
extern "C" void lrua_step_backward(int64_t B, const int64_t* fields, int backwards) {
  mannkern::call<mannkern::LRUAStepBackward<float>>(B, fields, backwards);
}

extern "C" void lrua_scan(int64_t B, const int64_t* fields, int backwards) {
  mannkern::call<mannkern::LRUAScanCosines<float>>(B, fields, backwards);
}
extern "C" void lrua_scan_backward(int64_t B, const int64_t* fields, int backwards) {
  mannkern::call<mannkern::LRUAScanCosinesBackward<float>>(B, fields, backwards);
}

extern "C" int takes(int64_t N, int64_t W, int64_t R) { return mannkern::step_takes({N, W, R}); }

extern "C" int shared_memory(const char* operation, int64_t N, int64_t W, int64_t R) {
  const std::string name = operation;
  const mannkern::Shape shape = {N, W, R};
  if (name == "lrua_step") return int(mannkern::shared_memory_of<mannkern::LRUAStep<float>>(shape));
  if (name == "lrua_scan") return int(mannkern::shared_memory_of<mannkern::LRUAScanCosines<float>>(shape));
  return int(mannkern::shared_memory_of<mannkern::LRUAStepBackward<float>>(shape));  // the scan's is the same
}
