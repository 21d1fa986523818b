// What a kernel for a cluster of thread blocks uses: the shared memory of its own block and of the others, barriers,
// and the product of two small matrices by a warp. tests/cuda/cluster_emulator.h has the same functions for a CPU.
#pragma once

#include <cstdint>

// Other GPUs get kernels without a body, which are never launched: mannkern_persistent_why_not in mann.cu asks.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define MANNKERN_HAS_CLUSTERS 0
#else
#define MANNKERN_HAS_CLUSTERS 1
#endif

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

// A barrier of all threads of the cluster.
__device__ inline void cluster_barrier() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A barrier of `threads` threads of the block, in whole warps. Barrier 0 is that of __syncthreads.
__device__ inline void group_barrier(int id, int threads) {
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts a thread at such a barrier, which it does not wait for.
__device__ inline void group_arrive(int id, int threads) {
  __syncwarp();
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ inline uint32_t shared_place(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// What blocks of the cluster give to a block: it counts their bytes, turn by turn. A turn ends when one thread has
// called `expect` and that many bytes have come; bytes of the next turn may not be sent before. It lies in shared
// memory.
struct Inbox {
  uint64_t barrier;

  // By one thread; the others may use it after a barrier of the cluster.
  __device__ void init() {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_place(this)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __device__ void expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_place(this)), "r"(bytes)
                 : "memory");
  }
  // Waits for the end of a turn; turns are counted from 0.
  __device__ void wait(int turn) const {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(shared_place(this)),
        "r"(turn & 1)
        : "memory");
  }
};

// Stores v at the same place in the shared memory of block `rank` of the cluster, and counts it in that block's inbox.
__device__ inline void give(float* p, Inbox* inbox, int rank, float v) {
  uint32_t place, barrier;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(place) : "r"(shared_place(p)), "r"(rank));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(barrier) : "r"(shared_place(inbox)), "r"(rank));
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(place),
               "r"(__float_as_uint(v)), "r"(barrier)
               : "memory");
}

// d += A B by a warp, A (16,8) and B (8,8); of their numbers only the upper 11 bits count. Lane l has rows l/4 and
// l/4 + 8 of A and d, column l/4 of B, and of k and the columns of d its share l%4, as PTX defines mma.m16n8k8.
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ inline float number_of(uint32_t bits) { return __uint_as_float(bits); }

// 1 / x, off by at most one in the last bit; 0 if it would be denormal.
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// x, of which the compiler knows nothing from here on: what follows from it is computed again, in each round of a loop,
// where it would otherwise be computed once and take registers all the time.
__device__ inline int forget(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

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
