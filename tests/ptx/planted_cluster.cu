// Kernels for two blocks of a cluster, of 64 threads each, with planted mistakes; given, seen, parts and product have
// none. Each block gives its numbers to the other. test_cluster.py runs them.

#define KERNEL(name) extern "C" __global__ void name(const float* x, float* y)

struct Box {
  alignas(8) unsigned long long barrier;
  float s[64];
};

__device__ unsigned place(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }
__device__ unsigned rank() {
  unsigned r;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
__device__ void cluster_barrier() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ void init(Box& box) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(place(&box.barrier)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ void expect(Box& box, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(place(&box.barrier)), "r"(bytes)
               : "memory");
}
__device__ void wait(Box& box, int turn) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::
          "r"(place(&box.barrier)),
      "r"(turn & 1)
      : "memory");
}
__device__ void wait_once(Box& box, int turn) {
  asm volatile("{\n.reg .pred done;\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n}" ::"r"(
                   place(&box.barrier)),
               "r"(turn & 1)
               : "memory");
}
__device__ unsigned mapped(const void* p, unsigned block) {
  unsigned to;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(place(p)), "r"(block));
  return to;
}
__device__ void give(Box& box, int k, unsigned block, float v) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                   mapped(&box.s[k], block)),
               "r"(__float_as_uint(v)), "r"(mapped(&box.barrier, block))
               : "memory");
}
__device__ float see(const float* p, unsigned block) {
  float v;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(mapped(p, block)) : "memory");
  return v;
}
__device__ void show(float* p, unsigned block, float v) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(mapped(p, block)), "f"(v) : "memory");
}
__device__ void barrier_of(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ void arrive_at(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#define BEGIN                                                                \
  __shared__ Box box;                                                        \
  const int t = threadIdx.x, at = blockIdx.x * 64 + t, other = 1 - int(rank()); \
  if (t == 0) init(box)

// Three turns: what a block got is added to its own number.
KERNEL(given) {
  BEGIN;
  cluster_barrier();
  float v = x[at];
  for (int turn = 0; turn < 3; ++turn) {
    if (t == 0) expect(box, 64 * 4);
    give(box, t, other, v);
    wait(box, turn);
    v += box.s[63 - t];
    cluster_barrier();  // the next numbers come to where these are
  }
  y[at] = v;
}

KERNEL(given_without_turns) {
  BEGIN;
  cluster_barrier();
  float v = x[at];
  for (int turn = 0; turn < 3; ++turn) {
    if (t == 0) expect(box, 64 * 4);
    give(box, t, other, v);
    wait(box, turn);
    v += box.s[63 - t];
  }
  y[at] = v;
  cluster_barrier();
}

KERNEL(given_before_the_first_barrier) {
  BEGIN;
  __syncthreads();
  if (t == 0) expect(box, 64 * 4);
  give(box, t, other, x[at]);
  wait(box, 0);
  y[at] = box.s[63 - t];
  cluster_barrier();
}

KERNEL(read_too_early) {
  BEGIN;
  box.s[t] = 0;
  cluster_barrier();
  if (t == 0) expect(box, 64 * 4);
  give(box, t, other, x[at]);
  y[at] = box.s[t];
  wait(box, 0);
}

KERNEL(waited_once) {
  BEGIN;
  cluster_barrier();
  if (t == 0) expect(box, 64 * 4);
  give(box, t, other, x[at]);
  wait_once(box, 0);
  y[at] = box.s[63 - t];
  cluster_barrier();
}

KERNEL(left_too_early) {
  BEGIN;
  cluster_barrier();
  give(box, t, other, x[at]);
  y[at] = 0;
}

KERNEL(too_few_bytes) {
  BEGIN;
  cluster_barrier();
  if (t == 0) expect(box, 65 * 4);
  give(box, t, other, x[at]);
  wait(box, 0);
  y[at] = box.s[t];
}

KERNEL(seen) {
  BEGIN;
  box.s[t] = x[at];
  cluster_barrier();
  const float v = see(&box.s[63 - t], other);
  cluster_barrier();
  show(&box.s[t], other, v);
  cluster_barrier();
  y[at] = box.s[63 - t];
}

KERNEL(seen_without_barrier) {
  BEGIN;
  cluster_barrier();
  box.s[t] = x[at];
  __syncthreads();
  y[at] = see(&box.s[63 - t], other);
  cluster_barrier();
}

KERNEL(seen_of_a_block_that_left) {
  BEGIN;
  box.s[t] = x[at];
  cluster_barrier();
  y[at] = other ? see(&box.s[63 - t], other) : 0;
}

// The first warp writes, the second one reads: barrier 1 is waited for by the second alone.
KERNEL(parts) {
  BEGIN;
  if (t < 32) {
    box.s[t] = x[at];
    __syncwarp();
    arrive_at(1, 64);
    y[at] = 0;
  } else {
    barrier_of(1, 64);
    y[at] = box.s[63 - t];
  }
}

KERNEL(parts_in_the_wrong_order) {
  BEGIN;
  if (t < 32) {
    arrive_at(1, 64);
    box.s[t] = x[at];
    y[at] = 0;
  } else {
    barrier_of(1, 64);
    y[at] = box.s[63 - t];
  }
}

KERNEL(barrier_of_too_many) {
  BEGIN;
  if (t < 32) barrier_of(1, 64);
  y[at] = x[at];
}

// y (16,8) of the first block is A B, with A (16,8) and B (8,8) of x, by the first warp.
KERNEL(product) {
  const int lane = threadIdx.x, g = lane / 4, q = lane % 4;
  if (lane >= 32 || blockIdx.x) return;
  const float *a = x, *b = x + 128;
  float d[4] = {};
  const auto bits = [](float v) { return __float_as_uint(v); };
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(bits(a[g * 8 + q])), "r"(bits(a[g * 8 + 64 + q])), "r"(bits(a[g * 8 + q + 4])),
        "r"(bits(a[g * 8 + 64 + q + 4])), "r"(bits(b[q * 8 + g])), "r"(bits(b[(q + 4) * 8 + g])));
  for (int k = 0; k < 4; ++k) y[(g + k / 2 * 8) * 8 + 2 * q + k % 2] = d[k];
}
