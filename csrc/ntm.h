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
struct NtmWrites {  // the writes of some steps, anew from what the steps kept: all pointers are of the first step
  Interface layout;
  int64_t B, steps;
  const T *memory, *asked, *rows;  // memory before it
  T* memories;                     // (steps,B,...), after each
};

template <class T>
struct NtmStep {
  Interface layout;
  int64_t output_stride;
  const T *product, *bias;      // (B,I), (I): the interface is their sum
  const T *memory, *before;     // blocks; rows of the step before
  T *memory_out, *asked, *rows;  // memory_out may be memory; the interface, activated
  T* read;                      // rows of (R,W), output_stride apart
};

template <class T>
struct NtmStepBackward {
  Interface layout;
  int64_t output_stride, D;
  const T *grad_outputs, *memory, *memory_out, *before, *rows, *asked;  // grad_outputs null: zero
  T* grad_output;  // rows of [h, r], D and (R,W): of the next step's products, which grad_outputs is added to
  T *grad_memory, *grad_weights;  // blocks and rows (H,Np), in place: of what the step gave, then of what it took
  T* grad_asked;                  // before activation
};

}  // namespace mannkern
