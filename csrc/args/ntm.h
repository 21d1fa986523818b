// Arguments of the kernels of the NTM, on a CPU and on a GPU. args/shape.h says how to read them.
//
// A kernel, its operation and its struct have one name: ntm_address runs NTMAddress. tests/cuda reads the structs of
// single operations as numbers of eight bytes: sizes first, then pointers.
#pragma once

#include <cstdint>

#include "blocks.h"

namespace mannkern {

struct NTMShape {
  int64_t N, W, H, S;
};

// Works on rows: the B H rows of all episodes and heads are numbered through, and [begin, end) counts rows.
template <class T>
struct ShiftSharpen {
  int64_t N, S;
  const T* weights;    // (B H,N)
  const T* shift;      // (B H,S)
  const T* sharpness;  // (B H)
  T* sharpened;        // (B H,N)
};

template <class T>
struct ShiftSharpenBackward {
  int64_t N, S;
  const T* grad;       // (B H,N), of `sharpened`
  const T* weights;    // (B H,N)
  const T* shift;      // (B H,S)
  const T* sharpness;  // (B H)
  const T* sharpened;  // (B H,N), as ShiftSharpen gave it
  T* grad_weights;     // (B H,N)
  T* grad_shift;       // (B H,S)
  T* grad_sharpness;   // (B H)
};

// The parts of an interface vector that address the memory, activated.
template <class T>
struct Heads {
  const T* key;        // (B,H,W)
  const T* strength;   // (B,H)
  const T* gate;       // (B,H)
  const T* shift;      // (B,H,S)
  const T* sharpness;  // (B,H)
};

// The gradients of the numbers in Heads, of the same shapes.
template <class T>
struct HeadGradients {
  T *key, *strength, *gate, *shift, *sharpness;
};

template <class T>
struct NTMAddress {
  NTMShape shape;
  const T* memory;    // (B,N,W)
  const T* previous;  // (B,H,N): the weights of the step before
  Heads<T> heads;
  T* weights;  // (B,H,N)
  T* content;  // (B,H,N): content weights, saved for backward
  T* cosine;   // (B,H,N), saved for backward
  T* norm;     // (B,N): max(|M(i)|, eps), saved for backward
};

template <class T>
struct NTMAddressBackward {
  NTMShape shape;
  const T* grad;      // (B,H,N), of `weights`
  const T* memory;    // (B,N,W)
  const T* previous;  // (B,H,N)
  Heads<T> heads;
  const T* weights;  // (B,H,N), as NTMAddress gave them; so are the next three
  const T* content;  // (B,H,N)
  const T* cosine;   // (B,H,N)
  const T* norm;     // (B,N)
  T* grad_memory;    // (B,N,W)
  T* grad_previous;  // (B,H,N)
  HeadGradients<T> grad_heads;
};

template <class T>
struct NTMWrite {
  NTMShape shape;    // S is not read
  const T* memory;   // (B,N,W)
  const T* weights;  // (B,H,N)
  const T* erase;    // (B,H,W)
  const T* add;      // (B,H,W)
  T* memory_out;     // (B,N,W)
};

template <class T>
struct NTMWriteBackward {
  NTMShape shape;    // S is not read
  const T* grad;     // (B,N,W), of `memory_out`
  const T* memory;   // (B,N,W), before the write
  const T* weights;  // (B,H,N)
  const T* erase;    // (B,H,W)
  const T* add;      // (B,H,W)
  T* grad_memory;    // (B,N,W)
  T* grad_weights;   // (B,H,N)
  T* grad_erase;     // (B,H,W)
  T* grad_add;       // (B,H,W)
};

// The rest is an NTM's episode. There a memory lies in slot blocks (Np W numbers), and each step has padded rows
// (3H+1,Np): the H rows of weights, of content weights and of cosines, the write heads first, and the norms of the
// memory after the step. csrc/README.md draws both.

// Where the parts of an interface vector begin: key (H,W), add (V,W), erase (V,W), gate (H), strength (H), sharpness
// (H), shift (H,S). The first V of the H heads write, the others read.
struct NTMInterface {
  NTMShape shape;
  int64_t V;
  MANNKERN_BOTH int64_t adds() const { return shape.H * shape.W; }
  MANNKERN_BOTH int64_t erases() const { return adds() + V * shape.W; }
  MANNKERN_BOTH int64_t gates() const { return erases() + V * shape.W; }
  MANNKERN_BOTH int64_t strengths() const { return gates() + shape.H; }
  MANNKERN_BOTH int64_t sharpnesses() const { return strengths() + shape.H; }
  MANNKERN_BOTH int64_t shifts() const { return sharpnesses() + shape.H; }
  MANNKERN_BOTH int64_t size() const { return shifts() + shape.H * shape.S; }
};

template <class T>
struct NTMStep {
  NTMInterface layout;
  int64_t output_stride;   // numbers between the episodes of `read`
  const T* product;        // (B,I): hidden state times interface weight
  const T* bias;           // (I), the same for every episode: the interface vector is activate(product + bias)
  const T* memory;         // slot blocks, before the step
  const T* previous_rows;  // (B,3H+1,Np), of the step before
  T* memory_out;           // slot blocks; may be `memory`
  T* interface;            // (B,I), activated, saved for backward
  T* rows;                 // (B,3H+1,Np), saved for backward; not `previous_rows`
  T* read;                 // (H-V,W) of each episode, output_stride apart: the columns of an output behind h
  Restart<T> restart;      // of `memory` and `previous_rows`
};

template <class T>
struct NTMStepBackward {
  NTMInterface layout;
  int64_t output_stride, D;
  const T* grad_outputs;   // (B,O), of this step; null: zero
  const T* memory;         // slot blocks, before the step
  const T* memory_out;     // slot blocks, after it
  const T* previous_rows;  // (B,3H+1,Np), of the step before
  const T* rows;           // (B,3H+1,Np), as NTMStep gave them
  const T* interface;      // (B,I), as NTMStep gave it
  T* grad_output;          // (B,O): on entry what the next step's products give [h, r]; grad_outputs is added to it
  T* grad_memory;          // slot blocks. In place: on entry gradients w.r.t. outputs, on exit w.r.t. inputs
  T* grad_weights;         // (B,H,Np), in place as above
  T* grad_interface;       // (B,I), with respect to product + bias
  Restart<T> restart;      // as NTMStep had it; the gradients of what an episode started from are not added up
};

// Computes the memories after each of `steps` steps again for the backward pass, from the checkpoint before the first.
// All pointers are those of the first step and of the first of `episodes`, with the steps behind each other: of B
// episodes in what was saved, of `episodes` in the memories.
template <class T>
struct NTMRecompute {
  NTMInterface layout;
  int64_t B, episodes, steps;
  const T* memory;     // slot blocks: the checkpoint
  const T* interface;  // (steps,B,I), activated
  const T* rows;       // (steps,B,3H+1,Np)
  T* memories;         // (steps,episodes,...) in slot blocks, bit-equal to the forward pass
  Restart<T> restart;  // (steps,B)
};

}  // namespace mannkern
