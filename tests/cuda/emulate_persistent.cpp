// Runs the persistent kernels of csrc/cuda on a CPU, with their launches and sizes. emulated_persistent.py calls it.

#include "cluster_emulator.h"

#include "../../csrc/cuda/persistent_launch.h"

namespace {

struct Emulated {
  template <class Kernel, class Op>
  void launch_clusters(const char* name, Kernel* kernel, int clusters, int blocks, int threads, int64_t bytes,
                       const Op& op) {
    if (bytes > mannkern::kMostShared || clusters < 1) emulator::fail(name);
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

extern "C" void persistent_forward(const int64_t* fields, int backwards) {
  call<mannkern::MANNPersistent>(fields, backwards);
}

extern "C" void persistent_backward(const int64_t* fields, int backwards) {
  call<mannkern::MANNPersistentBackward>(fields, backwards);
}
