// Arguments of the kernels of a MANN's episode: LRUA between a controller's matrix products. args/shape.h says how to
// read them.
//
// Within an episode a memory lies in slot blocks (Np W numbers), and each step has padded rows (2R+1,Np): the R rows of
// read weights, the R rows of cosines, and the norms of the memory after the step. csrc/README.md draws both.
#pragma once

#include "blocks.h"
#include "lrua.h"

namespace mannkern {

// Where the parts of an interface vector begin: key (R,W), add (R,W), gate (R), and strength (R) where there are
// strengths.
struct MANNInterface {
  Shape shape;
  bool strengths;
  int64_t adds() const { return shape.R * shape.W; }
  int64_t gates() const { return 2 * adds(); }
  int64_t size() const { return gates() + (strengths ? 2 : 1) * shape.R; }
};

template <class T>
struct MANNStep {
  MANNInterface layout;
  LRUAOptions options;
  int64_t output_stride;   // numbers between the episodes of `read`
  const T* product;        // (B,I): hidden state times interface weight
  const T* bias;           // (I), the same for every episode: the interface vector is activate(product + bias)
  const T* previous_rows;  // (B,2R+1,Np), of the step before
  T* memory;               // slot blocks, updated in place
  T* usage;                // (B,N), updated in place
  T* checkpoint;           // slot blocks: the memory before the step is copied here; null: no checkpoint
  T* interface;            // (B,I), activated, saved for backward
  T* rows;                 // (B,2R+1,Np), saved for backward; not `previous_rows`
  T* read;                 // (R,W) of each episode, output_stride apart: the columns of an output behind h
  int64_t* slots;          // (B,n): the least used slots, saved for backward
  Restart<T> restart;      // of `memory` and `previous_rows`; the caller has set the usage
};

template <class T>
struct MANNStepBackward {
  MANNInterface layout;
  LRUAOptions options;
  int64_t output_stride, D;
  const T* grad_outputs;   // (B,O), of this step; null: zero
  const T* memory;         // slot blocks, after the step
  const T* previous_rows;  // (B,2R+1,Np), of the step before
  const T* rows;           // (B,2R+1,Np), as MANNStep gave them; so are the next two
  const T* interface;      // (B,I)
  const int64_t* slots;    // (B,n)
  T* grad_output;          // (B,O): on entry what the next step's products give [h, r]; grad_outputs is added to it
  T* grad_memory;          // slot blocks. In place: on entry gradients w.r.t. outputs, on exit w.r.t. inputs
  T* grad_weights;         // (B,R,Np), of the read weights, in place as above
  T* grad_usage;           // (B,N), in place as above
  T* grad_interface;       // (B,I), with respect to product + bias
  Restart<T> restart;      // as MANNStep had it; the gradients of what an episode started from are not added up
};

// Computes the memories after each of `steps` steps again for the backward pass, from the checkpoint before the first.
// All pointers are those of the first step and of the first of `episodes`, with the steps behind each other: of B
// episodes in what was saved, of `episodes` in the memories.
template <class T>
struct MANNRecompute {
  MANNInterface layout;
  LRUAOptions options;
  int64_t B, episodes, steps;
  const T* memory;         // slot blocks: the checkpoint
  const T* interface;      // (steps,B,I), activated
  const T* previous_rows;  // (steps,B,2R+1,Np): each step's rows of the step before it
  const int64_t* slots;    // (steps,B,n)
  T* memories;             // (steps,episodes,...) in slot blocks, bit-equal to the forward pass
  Restart<T> restart;      // (steps,B)
};

}  // namespace mannkern
