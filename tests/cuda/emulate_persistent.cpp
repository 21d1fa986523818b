// Runs the persistent kernels of csrc/cuda on a CPU, with their launches and sizes. emulated_persistent.py calls it.

#include "cluster_emulator.h"

#include "../../csrc/cuda/persistent_launch.h"

namespace {

struct Emulated {
  template <class Kernel, class Op>
  void launch_clusters(const char* name, Kernel* kernel, int clusters, int blocks, int threads, int64_t bytes,
                       int64_t most, const Op& op) {
    if (bytes > most || most != mannkern::kMostShared || clusters < 1) emulator::fail(name);
    gridDim.x = unsigned(clusters * blocks);
    blockDim.x = unsigned(threads);
    emulator::body = [&] { kernel(op); };
    for (int cluster = 0; cluster < clusters; ++cluster) emulator::run_cluster(cluster, blocks, bytes);
  }
};

template <class Op>
void call(const int64_t* fields, int backwards) {
  emulator::backwards = emulator::late = backwards;
  Op op;
  std::memcpy(&op, fields, sizeof op);
  Emulated gpu;
  mannkern::run_persistent(gpu, op);
}

}  // namespace

// Bytes of shared memory of a block, with strengths.
extern "C" int64_t persistent_shared_memory(int backward, int64_t D, int64_t N, int64_t W, int64_t R) {
  const mannkern::PersistentShape s = {1, 1, D, {N, W, R}, true, 1};
  return backward ? mannkern::PersistentBackwardLayout(s).bytes() : mannkern::PersistentLayout(s).bytes();
}

extern "C" void persistent_forward(const int64_t* fields, int backwards) {
  call<mannkern::MANNPersistent>(fields, backwards);
}

extern "C" void persistent_backward(const int64_t* fields, int backwards) {
  call<mannkern::MANNPersistentBackward>(fields, backwards);
}
