// Kernels with planted mistakes, one each, of 256 threads a block; the first two have none. test_machine.py runs them.

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
