// What an LRUA kernel is given: sizes and pointers. SPEC.md's letters: B episodes, N slots, W width, R heads.
//
// Every tensor is contiguous, row-major, with B in front; a kernel reads and writes episodes [begin, end) of it.
// Inputs are const and never written; outputs do not overlap inputs or each other. "null:" says what null means.
#pragma once

#include <cstdint>

namespace mannkern {

template <class T>
constexpr T kEps = T(1e-8);  // norms under it are divided as it and pass no gradient

struct Shape {
  int64_t N, W, R;
};

template <class T>
struct Write {  // additive_write
  Shape shape;
  const T *memory, *write_weights, *add;
  const int64_t* reset;  // (B,); null: no slot is zeroed
  T* memory_out;
};

template <class T>
struct WriteBackward {
  Shape shape;
  const T *grad_memory_out, *write_weights, *add;
  const int64_t* reset;
  T *grad_memory, *grad_write_weights, *grad_add;
};

template <class T>
struct Read {  // cosine_read
  Shape shape;
  const T *memory, *key, *strength;  // strength null: 1
  T *read, *read_weights;
  T *cosine, *norm;  // (B,R,N) and (B,N), max(|M(i)|, eps): what the backward pass needs
};

template <class T>
struct ReadBackward {
  Shape shape;
  const T *grad_read, *grad_read_weights;  // null: zero
  const T *memory, *key, *strength, *read_weights, *cosine, *norm;
  T *grad_memory, *grad_key, *grad_strength;  // grad_strength null where strength is
};

template <class T>
struct Step {  // lrua_step
  Shape shape;
  int64_t n;
  bool per_head;
  T decay;
  const T *memory, *read_weights, *usage, *key, *add, *gate, *strength;
  T *memory_out, *read, *read_weights_out, *usage_out, *write_weights;
  T *cosine, *norm;
  int64_t* least_used;  // (B,n), ascending
};

template <class T>
struct StepBackward {
  Shape shape;
  int64_t n;
  bool per_head;
  T decay;
  const T *grad_memory_out, *grad_read, *grad_read_weights_out, *grad_usage_out, *grad_write_weights;  // null: zero
  const T *read_weights, *key, *add, *gate, *strength;
  const T *memory_out, *read_weights_out, *write_weights, *cosine, *norm;
  const int64_t* least_used;
  T *grad_memory, *grad_read_weights, *grad_usage, *grad_key, *grad_add, *grad_gate, *grad_strength;
};

template <class T>
struct LeastUsed {
  int64_t N, n;
  const T* usage;
  int64_t* slots;  // (B,n)
};

template <class T>
struct Kernels {
  void (*write)(const Write<T>&, int64_t begin, int64_t end);
  void (*write_backward)(const WriteBackward<T>&, int64_t begin, int64_t end);
  void (*read)(const Read<T>&, int64_t begin, int64_t end);
  void (*read_backward)(const ReadBackward<T>&, int64_t begin, int64_t end);
  void (*step)(const Step<T>&, int64_t begin, int64_t end);
  void (*step_backward)(const StepBackward<T>&, int64_t begin, int64_t end);
  void (*least_used)(const LeastUsed<T>&, int64_t begin, int64_t end);
};

// The kernels of one instruction set.
struct Isa {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};
extern const Isa isa_portable;
#if defined(__x86_64__)
extern const Isa isa_avx2;
extern const Isa isa_avx512;
#endif

// Indices of the n smallest of N usages, ascending, by sorting; ties by index, NaN last. For n too large for rounds.
template <class T>
void sort_least_used(const T* usage, int64_t N, int64_t n, int64_t* slots);

}  // namespace mannkern
