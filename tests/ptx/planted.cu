// Kernels with planted mistakes, one each, of 256 threads a block; good, divergent, copied and
// copied_in_groups have none. test_machine.py runs them.

#define KERNEL(name) extern "C" __global__ void name(const float* x, float* y, int n)

KERNEL(good) {
  __shared__ float s[256];
  const int t = threadIdx.x, at = blockIdx.x * 256 + t;
  s[t] = x[at];
  __syncthreads();
  y[at] = s[255 - t];
}

KERNEL(divergent) {
  const int at = blockIdx.x * 256 + threadIdx.x;
  float v = x[at];
  for (int k = 0; v < 100.f && k < 37; ++k) {
    v = v * 1.7f + 1.f;
    if (threadIdx.x % 3 == 0) v += 2.f;
  }
  y[at] = v + __shfl_xor_sync(0xffffffffu, v, 5);
}

KERNEL(no_barrier) {
  __shared__ float s[256];
  const int t = threadIdx.x, at = blockIdx.x * 256 + t;
  s[t] = x[at];
  y[at] = s[255 - t];
}

KERNEL(no_warp_barrier) {
  __shared__ volatile float s[256];
  const int t = threadIdx.x, at = blockIdx.x * 256 + t;
  s[t] = x[at];
  y[at] = s[t ^ 1];
}

KERNEL(lanes_differ) {
  __shared__ float s[8];
  const int t = threadIdx.x, at = blockIdx.x * 256 + t;
  s[t / 32] = x[at];
  __syncthreads();
  y[at] = s[t / 32];
}

KERNEL(barrier_of_some) {
  __shared__ float s[256];
  const int t = threadIdx.x, at = blockIdx.x * 256 + t;
  s[t] = x[at];
  if (t < 128) __syncthreads();
  y[at] = s[t];
}

KERNEL(past_the_end) {
  const int at = blockIdx.x * 256 + threadIdx.x;
  y[at] = x[at + 1];
}

KERNEL(undefined_shared) {
  __shared__ float s[256];
  const int t = threadIdx.x;
  if (t < 255) s[t] = x[t];
  __syncthreads();
  y[blockIdx.x * 256 + t] = s[255 - t];
}

KERNEL(blocks_overlap) { y[threadIdx.x] = x[blockIdx.x * 256 + threadIdx.x]; }

KERNEL(misaligned) {
  const float2 v = *(const float2*)(x + 1 + 2 * (threadIdx.x % 8));
  y[blockIdx.x * 256 + threadIdx.x] = v.x + v.y;
}

// Copies four numbers to shared memory while the thread goes on; zeros unless they exist.
__device__ void copy_later(float* to, const float* from, bool exist) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from),
               "r"(exist ? 16 : 0)
               : "memory");
}
__device__ void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

KERNEL(copied) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x, first = blockIdx.x * 256;
  copy_later(s + 4 * t, x + first + 4 * (t % 64), t < 64);
  wait_for_copies();
  __syncthreads();
  y[first + t] = s[255 - t] + s[1023 - t];
}

// Two groups of copies; `left` of them may still be under way when they are read.
template <int left>
__device__ void in_groups(const float* x, float* y) {
  __shared__ alignas(16) float s[2048];
  const int t = threadIdx.x;
  for (int k = 0; k < 2; ++k) {
    copy_later(s + 4 * (t + 256 * k), x + t % 64 * 4, true);
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
  y[blockIdx.x * 256 + t] = s[4 * t];
  wait_for_copies();
}

KERNEL(copied_in_groups) { in_groups<1>(x, y); }

KERNEL(copy_of_an_open_group) { in_groups<2>(x, y); }

KERNEL(copy_read_too_early) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x;
  copy_later(s + 4 * t, x + t % 64 * 4, true);
  y[blockIdx.x * 256 + t] = s[4 * t];
  wait_for_copies();
}

KERNEL(copy_without_warp_barrier) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x;
  copy_later(s + 4 * t, x + t % 64 * 4, true);
  wait_for_copies();
  y[blockIdx.x * 256 + t] = s[4 * (t ^ 1)];
}

KERNEL(copy_overwrites) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x;
  copy_later(s + 4 * t, x + t % 64 * 4, true);
  s[4 * t] = 1;
  wait_for_copies();
  y[blockIdx.x * 256 + t] = s[4 * t];
}

KERNEL(copy_of_what_changes) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x;
  float* own = y + blockIdx.x * 256 + 4 * (t % 64);
  copy_later(s + 4 * t, own, t < 64);
  if (t < 64) own[0] = 1;
  wait_for_copies();
}

KERNEL(copy_not_awaited) {
  __shared__ alignas(16) float s[1024];
  copy_later(s + 4 * threadIdx.x, x + threadIdx.x % 64 * 4, true);
  y[blockIdx.x * 256 + threadIdx.x] = 1;
}

KERNEL(copy_past_the_end) {
  __shared__ alignas(16) float s[1024];
  const int t = threadIdx.x;
  copy_later(s + 4 * t, x + 512 + t % 64 * 4, true);
  wait_for_copies();
  y[blockIdx.x * 256 + t] = s[4 * t];
}
