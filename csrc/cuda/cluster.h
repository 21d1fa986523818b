// What a kernel for a cluster of thread blocks uses: the shared memory of its own block and of the others, barriers of
// a few warps and of the cluster, and the product of two small matrices by a warp. tests/cuda/cluster_emulator.h has the
// same functions for a CPU.
#pragma once

#include <cstdint>

namespace mannkern {

#if defined(__CUDACC__)

__device__ inline float* block_memory() {
  extern __shared__ __align__(16) float persistent_shared[];
  return persistent_shared;
}

__device__ inline int cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return int(rank);
}

// The same place in the shared memory of block `rank` of the cluster. It is for stores only.
__device__ inline uint32_t place_at(float* p, int rank) {
  uint32_t place;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(place) : "r"(uint32_t(__cvta_generic_to_shared(p))), "r"(rank));
  return place;
}
__device__ inline void store_at(float* p, int rank, float v) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(place_at(p, rank)), "f"(v) : "memory");
}

// All threads of the cluster arrive and wait. What they stored before they arrived can be read after the wait.
__device__ inline void cluster_arrive() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A barrier of `threads` neighbouring threads, a multiple of 32. Barrier 0 is that of __syncthreads.
__device__ inline void group_barrier(int id, int threads) {
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// d += A B by a warp, A (16,8) and B (8,8) of numbers with 11 bits each. Lane l has rows l/4 and l/4 + 8 of A and d,
// column l/4 of B, and of k and the columns of d its share l%4, as PTX defines mma.m16n8k8.
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline float number_of(uint32_t bits) { return __uint_as_float(bits); }

// A sum that the compiler does not contract with a product: where two lanes exchange parts of a sum, contraction would
// give them different bits.
__device__ inline float add(float a, float b) { return __fadd_rn(a, b); }

#endif

// Clock cycles of the parts of a step, which bench/persistent_trial.py prints.
#if defined(MANNKERN_PHASES)
__device__ long long phase_cycles[16];
__device__ inline long long clock_cycles() {
  long long now;
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(now)::"memory");
  return now;
}
struct Phases {
  long long before;
  __device__ Phases() : before(clock_cycles()) {}
  __device__ void mark(int phase) {
    const long long now = clock_cycles();
    if (blockIdx.x == 0 && threadIdx.x == 0) phase_cycles[phase] += now - before;
    before = now;
  }
};
#else
struct Phases {
  __device__ void mark(int) {}
};
#endif

}  // namespace mannkern
