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

// Within an episode a memory is kept in the blocks of cpu/blocks.h, and of each step rows padded to Np (3H+1,Np): weights,
// content weights and cosines of the heads, the write heads first, and the norms of the new memory.
//
// A row of the interface: key (H,W), add and erase (V,W), gate, strength and sharpness (H), shift (H,S); V write heads.
struct Interface {
  NtmShape shape;
  int64_t V;
  int64_t adds() const { return shape.H * shape.W; }
  int64_t erases() const { return adds() + V * shape.W; }
  int64_t gates() const { return erases() + V * shape.W; }
  int64_t strengths() const { return gates() + shape.H; }
  int64_t sharpnesses() const { return strengths() + shape.H; }
  int64_t shifts() const { return sharpnesses() + shape.H; }
  int64_t size() const { return shifts() + shape.H * shape.S; }
};

template <class T>
struct NtmActivation {
  Interface layout;
  const T *product, *bias;
  T* rows;
};

template <class T>
struct NtmActivationBackward {
  Interface layout;
  const T* rows;  // activated
  T* grad_rows;   // in place
};

template <class T>
struct NtmWrite {  // the write alone, from what a step kept
  Interface layout;
  const T *memory, *asked, *rows;
  T* memory_out;  // may be memory
};

template <class T>
struct NtmStep {
  Interface layout;
  int64_t output_stride;
  const T *memory, *before, *asked;  // blocks; rows of the step before; rows of the interface
  T *memory_out, *rows, *read;       // memory_out may be memory; read: rows of (R,W), output_stride apart
};

template <class T>
struct NtmStepBackward {
  Interface layout;
  int64_t output_stride;
  const T *grad_read, *memory, *memory_out, *before, *rows, *asked;
  T *grad_memory, *grad_weights;  // blocks and rows (H,Np), in place: of what the step gave, then of what it took
  T* grad_asked;
};

}  // namespace mannkern
