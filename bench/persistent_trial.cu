// A plain C interface to the persistent kernels, which persistent_trial.py compiles and loads.

#include <cuda_runtime.h>

#include <cstring>

#include "../csrc/cuda/persistent_launch.h"

namespace {

struct Gpu {
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;
  int active_clusters = -1;
  bool only_ask = false;

  template <class Op>
  void launch_clusters(const char*, void (*kernel)(Op), int clusters, int blocks, int threads, int64_t bytes,
                       int64_t most, const Op& op) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most));
    if (error != cudaSuccess) return;
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = blocks, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(clusters * blocks), config.blockDim = dim3(threads);
    config.dynamicSmemBytes = size_t(bytes), config.stream = stream;
    config.attrs = &attribute, config.numAttrs = 1;
    if (only_ask) error = cudaOccupancyMaxActiveClusters(&active_clusters, kernel, &config);
    else error = cudaLaunchKernelEx(&config, kernel, op);
  }
};

template <class Op>
const char* call(const int64_t* fields, Gpu gpu, int64_t* clusters) {
  Op op;
  std::memcpy(&op, fields, sizeof op);
  if (const char* reason = mannkern::persistent_why_not(op.sizes)) return reason;
  mannkern::run_persistent(gpu, op);
  if (clusters) *clusters = gpu.active_clusters;
  return gpu.error == cudaSuccess ? nullptr : cudaGetErrorString(gpu.error);
}

}  // namespace

// Each returns null, or the text of an error.
extern "C" const char* persistent_forward(const int64_t* fields, void* stream) {
  return call<mannkern::MANNPersistent>(fields, Gpu{static_cast<cudaStream_t>(stream)}, nullptr);
}
extern "C" const char* persistent_backward(const int64_t* fields, void* stream) {
  return call<mannkern::MANNPersistentBackward>(fields, Gpu{static_cast<cudaStream_t>(stream)}, nullptr);
}

// Shared memory of a block in bytes, and clusters that the GPU runs at once.
extern "C" const char* persistent_occupancy(const int64_t* fields, int backward, int64_t* bytes, int64_t* clusters) {
  mannkern::PersistentShape sizes;
  std::memcpy(&sizes, fields, sizeof sizes);
  Gpu gpu{nullptr};
  gpu.only_ask = true;
  *bytes = backward ? mannkern::PersistentBackwardLayout(sizes).bytes() : mannkern::PersistentLayout(sizes).bytes();
  return backward ? call<mannkern::MANNPersistentBackward>(fields, gpu, clusters)
                  : call<mannkern::MANNPersistent>(fields, gpu, clusters);
}

// Copies the cycles of the parts of a step, and sets them to zero.
extern "C" void persistent_phases(long long* cycles) {
  const long long zeros[16] = {};
  cudaMemcpyFromSymbol(cycles, mannkern::phase_cycles, sizeof zeros);
  cudaMemcpyToSymbol(mannkern::phase_cycles, zeros, sizeof zeros);
}

namespace {

// Rounds in which every block gives 200 numbers to every block of its cluster and waits for theirs: one number or four
// by a thread, or with plain stores and a barrier of the cluster.
template <int kWay>
__global__ void __launch_bounds__(512, 1) exchange_kernel(long long* cycles, int rounds) {
  using namespace mannkern;
  float* shared = block_memory();
  auto* inboxes = reinterpret_cast<Inbox*>(shared);  // two, since a block may be a turn ahead of another
  float* place = shared + 8 + cluster_rank() * 256;
  if (threadIdx.x == 0) inboxes[0].init(), inboxes[1].init();
  cluster_barrier();
  const long long before = clock_cycles();
  for (int turn = 0; turn < rounds; ++turn) {
    Inbox* inbox = inboxes + turn % 2;
    if (threadIdx.x == 0 && kWay != 2) inbox->expect(8 * 200 * 4);
    if (kWay == 0 && threadIdx.x < 200) give_to_all(place + threadIdx.x, inbox, float(turn));
    if (kWay == 1 && threadIdx.x < 50)
      for (int rank = 0; rank < 8; ++rank) {
        uint32_t to, barrier;
        asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_place(place + 4 * threadIdx.x)), "r"(rank));
        asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(barrier) : "r"(shared_place(inbox)), "r"(rank));
        asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%1,%1,%1}, [%2];" ::"r"(
                         to),
                     "r"(turn), "r"(barrier)
                     : "memory");
      }
    if (kWay == 2) {
      if (threadIdx.x < 200)
        for (int rank = 0; rank < 8; ++rank) {
          uint32_t to;
          asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_place(place + threadIdx.x)), "r"(rank));
          asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(to), "r"(turn) : "memory");
        }
      cluster_barrier();
    } else {
      inbox->wait(turn / 2);
      __syncthreads();
    }
  }
  if (threadIdx.x == 0 && blockIdx.x == 0) cycles[kWay] = (clock_cycles() - before) / rounds;
  cluster_barrier();
}

template <int kWay>
cudaError_t time_exchange(long long* cycles) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = 8, attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(8), config.blockDim = dim3(512), config.dynamicSmemBytes = 16384;
  config.attrs = &attribute, config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, exchange_kernel<kWay>, cycles, 1000);
}

}  // namespace

// Cycles of a round of exchange_kernel, in each way.
extern "C" const char* persistent_exchange(long long* cycles) {
  long long* there;
  cudaError_t error = cudaMalloc(&there, 3 * sizeof *there);
  if (error == cudaSuccess) error = time_exchange<0>(there);
  if (error == cudaSuccess) error = time_exchange<1>(there);
  if (error == cudaSuccess) error = time_exchange<2>(there);
  if (error == cudaSuccess) error = cudaMemcpy(cycles, there, 3 * sizeof *there, cudaMemcpyDeviceToHost);
  cudaFree(there);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
