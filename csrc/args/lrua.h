// Arguments of the kernels of LRUA. args/shape.h says how to read them.
//
// A kernel, its operation and its struct have one name: lrua_step runs LRUAStep.
#pragma once

#include "shape.h"

namespace mannkern {

struct LRUAOptions {
  int64_t n;      // the number of least used slots, at most N
  bool per_head;  // head h writes to slot h mod n of them; false: every head writes to all n
  double decay;   // gamma of the usage
};

// The interface vector of each episode, in parts.
template <class T>
struct InterfaceVector {
  const T* key;       // (B,R,W)
  const T* add;       // (B,R,W)
  const T* gate;      // (B,R), before its sigmoid
  const T* strength;  // (B,R); null: 1
};

template <class T>
struct InterfaceGradients {
  T* key;       // (B,R,W)
  T* add;       // (B,R,W)
  T* gate;      // (B,R), with respect to the gate before its sigmoid
  T* strength;  // (B,R); null where InterfaceVector's is
};

template <class T>
struct LeastUsedSlots {
  int64_t N, n;
  const T* usage;  // (B,N)
  int64_t* slots;  // (B,n): the n slots of smallest usage, ascending
};

template <class T>
struct AdditiveWrite {
  Shape shape;
  const T* memory;         // (B,N,W)
  const T* write_weights;  // (B,R,N)
  const T* add;            // (B,R,W)
  const int64_t* reset;    // (B): the slot that is set to zero before the write; null: none is
  T* memory_out;           // (B,N,W); may be `memory`
};

template <class T>
struct AdditiveWriteBackward {
  Shape shape;
  const T* grad_memory_out;  // (B,N,W)
  const T* write_weights;    // (B,R,N)
  const T* add;              // (B,R,W)
  const int64_t* reset;      // (B), or null as in the forward pass
  T* grad_memory;            // (B,N,W); may be `grad_memory_out`
  T* grad_write_weights;     // (B,R,N)
  T* grad_add;               // (B,R,W)
};

template <class T>
struct CosineRead {
  Shape shape;
  const T* memory;    // (B,N,W)
  const T* key;       // (B,R,W)
  const T* strength;  // (B,R); null: 1
  T* read;            // (B,R,W)
  T* read_weights;    // (B,R,N)
  T* cosine;          // (B,R,N), saved for backward
  T* norm;            // (B,N): max(|M(i)|, eps), saved for backward
};

template <class T>
struct CosineReadBackward {
  Shape shape;
  const T* grad_read;          // (B,R,W); null: zero
  const T* grad_read_weights;  // (B,R,N); null: zero
  const T* memory;             // (B,N,W)
  const T* key;                // (B,R,W)
  const T* strength;           // (B,R); null: 1
  const T* read_weights;       // (B,R,N), as CosineRead gave them
  const T* cosine;             // (B,R,N), as CosineRead gave it
  const T* norm;               // (B,N), as CosineRead gave it
  T* grad_memory;              // (B,N,W)
  T* grad_key;                 // (B,R,W)
  T* grad_strength;            // (B,R); null where `strength` is
};

template <class T>
struct UsageUpdate {
  int64_t N, R;
  double decay;
  const T* usage;          // (B,N)
  const T* read_weights;   // (B,R,N)
  const T* write_weights;  // (B,R,N)
  T* usage_out;            // (B,N); may be `usage`
};

template <class T>
struct LRUAStep {
  Shape shape;
  LRUAOptions options;
  const T* memory;        // (B,N,W)
  const T* read_weights;  // (B,R,N), of the step before
  const T* usage;         // (B,N)
  InterfaceVector<T> interface;
  T* memory_out;        // (B,N,W); may be `memory`
  T* read;              // (B,R,W)
  T* read_weights_out;  // (B,R,N)
  T* usage_out;         // (B,N); may be `usage`
  T* write_weights;     // (B,R,N)
  T* cosine;            // (B,R,N), saved for backward
  T* norm;              // (B,N): max(|M'(i)|, eps), saved for backward
  int64_t* least_used;  // (B,n), ascending, saved for backward
};

template <class T>
struct LRUAStepBackward {
  Shape shape;
  LRUAOptions options;
  const T* grad_memory_out;        // (B,N,W); null: zero
  const T* grad_read;              // (B,R,W); null: zero
  const T* grad_read_weights_out;  // (B,R,N); null: zero
  const T* grad_usage_out;         // (B,N); null: zero
  const T* grad_write_weights;     // (B,R,N); null: zero
  const T* read_weights;           // (B,R,N), of the step before
  InterfaceVector<T> interface;    // as in the forward pass
  const T* memory_out;             // (B,N,W), as LRUAStep gave it; so are the next five
  const T* read_weights_out;       // (B,R,N)
  const T* write_weights;          // (B,R,N)
  const T* cosine;                 // (B,R,N)
  const T* norm;                   // (B,N)
  const int64_t* least_used;       // (B,n)
  T* grad_memory;                  // (B,N,W)
  T* grad_read_weights;            // (B,R,N)
  T* grad_usage;                   // (B,N)
  InterfaceGradients<T> grad_interface;
};

// T steps in one call, episode by episode: the interface vectors are known from the start. They and the reads have T in
// front, (T,B,...). Every `checkpoint_every` steps the state is copied to a checkpoint: memory in slot blocks, read
// weights and usage, (W + R + 1,Np) numbers. The first state is an input, so it has no checkpoint.
template <class T>
struct LRUAScan {
  Shape shape;
  LRUAOptions options;
  int64_t B, steps, checkpoint_every;
  const T* memory;        // (B,N,W)
  const T* read_weights;  // (B,R,N)
  const T* usage;         // (B,N)
  InterfaceVector<T> interface;
  T* reads;             // (T,B,R,W)
  T* memory_out;        // (B,N,W), after the last step
  T* read_weights_out;  // (B,R,N)
  T* usage_out;         // (B,N)
  T* checkpoints;       // ((T - 1) / checkpoint_every,B,(W + R + 1) Np); null: nothing is saved for backward
};

template <class T>
struct LRUAScanBackward {
  Shape shape;
  LRUAOptions options;
  int64_t B, steps, checkpoint_every;
  const T* grad_reads;             // (T,B,R,W); null: zero
  const T* grad_memory_out;        // (B,N,W); null: zero
  const T* grad_read_weights_out;  // (B,R,N); null: zero
  const T* grad_usage_out;         // (B,N); null: zero
  const T* memory;                 // (B,N,W), before the first step; so are the next two
  const T* read_weights;           // (B,R,N)
  const T* usage;                  // (B,N)
  InterfaceVector<T> interface;
  const T* checkpoints;  // as LRUAScan wrote them
  T* grad_memory;        // (B,N,W)
  T* grad_read_weights;  // (B,R,N)
  T* grad_usage;         // (B,N)
  InterfaceGradients<T> grad_interface;
};

// The overload "cosines" of lrua_scan, on a GPU: what is saved for backward are cosines and least used slots of every
// step, and the memory alone every `checkpoint_every` steps. Read weights follow from cosines, largest logit and sum.
template <class T>
struct LRUAScanCosines {
  Shape shape;
  LRUAOptions options;
  int64_t B, steps, checkpoint_every;
  const T* memory;        // (B,N,W)
  const T* read_weights;  // (B,R,N)
  const T* usage;         // (B,N)
  InterfaceVector<T> interface;
  T* reads;             // (T,B,R,W)
  T* memory_out;        // (B,N,W), after the last step
  T* read_weights_out;  // (B,R,N)
  T* usage_out;         // (B,N)
  int8_t* marks;        // (T,B,N): 1 + rank, at most 127, at a least used slot, 0 elsewhere; null: nothing is saved
  T* checkpoints;       // ((T - 1) / checkpoint_every,B,N,W): memory before steps checkpoint_every, 2 checkpoint_every...
  T* cosines;           // (T,B,R,N + 2), then the largest logit (0 without strengths) and the sum of exponentials
};

template <class T>
struct LRUAScanCosinesBackward {
  Shape shape;
  LRUAOptions options;
  int64_t B, steps, checkpoint_every;
  const T* grad_reads;             // (T,B,R,W); null: zero
  const T* grad_memory_out;        // (B,N,W); null: zero
  const T* grad_read_weights_out;  // (B,R,N); null: zero
  const T* grad_usage_out;         // (B,N); null: zero
  const T* memory;                 // (B,N,W), before the first step
  const T* read_weights;           // (B,R,N), before the first step
  InterfaceVector<T> interface;
  const int8_t* marks;    // as LRUAScanCosines wrote them; so are the next two
  const T* checkpoints;   // ((T - 1) / checkpoint_every,B,N,W)
  const T* cosines;       // (T,B,R,N + 2)
  T* grad_memory;         // (B,N,W)
  T* grad_read_weights;   // (B,R,N)
  T* grad_usage;          // (B,N)
  InterfaceGradients<T> grad_interface;
};

}  // namespace mannkern
