// What a kernel of the NTM is given: sizes and pointers. Letters as everywhere: B episodes, N slots, W width, H heads,
// S shifts. The first letters of a comment are the dimensions behind B.
//
// Every tensor is contiguous, row-major, with B in front; a kernel reads and writes episodes [begin, end) of it. Inputs
// are const and never written; outputs do not overlap inputs or each other unless said.
#pragma once

#include <cstdint>

namespace mannkern {

struct NtmShape {
  int64_t N, W, H, S;
};

template <class T>
struct ShiftSharpen {  // rows of all episodes and heads in place of B
  int64_t N, S;
  const T *weights, *shift, *sharpness;  // N, S, one
  T* sharpened;                          // N
};

template <class T>
struct ShiftSharpenBackward {
  int64_t N, S;
  const T *grad, *weights, *shift, *sharpness, *sharpened;
  T *grad_weights, *grad_shift, *grad_sharpness;
};

template <class T>
struct Heads {  // what heads ask: W, and one, one, S, one number a head
  const T *key, *strength, *gate, *shift, *sharpness;
};

template <class T>
struct HeadGradients {
  T *key, *strength, *gate, *shift, *sharpness;
};

template <class T>
struct Address {  // ntm_address
  NtmShape shape;
  const T *memory, *previous;  // (N,W), (H,N)
  Heads<T> heads;
  T *weights, *content, *cosine, *norm;  // (H,N) three times, (N)
};

template <class T>
struct AddressBackward {
  NtmShape shape;
  const T *grad, *memory, *previous;
  Heads<T> heads;
  const T *weights, *content, *cosine, *norm;
  T *grad_memory, *grad_previous;
  HeadGradients<T> grad_heads;
};

template <class T>
struct EraseWrite {  // ntm_write
  NtmShape shape;
  const T *memory, *weights, *erase, *add;  // (N,W), (H,N), (H,W), (H,W)
  T* memory_out;
};

template <class T>
struct EraseWriteBackward {
  NtmShape shape;
  const T *grad, *memory, *weights, *erase, *add;
  T *grad_memory, *grad_weights, *grad_erase, *grad_add;
};

}  // namespace mannkern
