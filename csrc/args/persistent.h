// Arguments of the persistent kernels of a MANN's episode, which run all T steps in one launch on a GPU, in float32.
// args/shape.h says how to read them. Memories and their checkpoints are row-major (N,W), and rows have no padding.
#pragma once

#include "lrua.h"

namespace mannkern {

struct PersistentShape {
  int64_t T, B, D;
  Shape shape;
  bool strengths;            // the interface vector ends with R strengths
  int64_t checkpoint_every;  // steps between two checkpoints of the memory
};

struct MANNPersistent {
  PersistentShape sizes;
  LRUAOptions options;
  const float* recurrent_weight;  // (4D,O), of [h, r]
  const float* interface_weight;  // (I,D)
  const float* interface_bias;    // (I)
  const float* output;            // (B,O): [h, r] before the first step; so are the next four
  const float* cell;              // (B,D)
  const float* memory;            // (B,N,W)
  const float* read_weights;      // (B,R,N)
  const float* usage;             // (B,N)
  const float* projection;        // (T,B,4D): input times weight + bias
  float* outputs;                 // (T,B,O)
  float* memory_out;              // (B,N,W), after the last step; so are the next three
  float* read_weights_out;        // (B,R,N)
  float* usage_out;               // (B,N)
  float* cell_out;                // (B,D)
  // Saved for backward; all null where it is not needed.
  float* checkpoints;   // (1 + (T-1) / checkpoint_every,B,N,W): memory before the steps 0, checkpoint_every ...
  float* rows;          // (T+1,B,2R+1,N): read weights (R,N), cosines (R,N) and norms (N) after each step. Of the rows
                        // before the first step only the read weights are written
  float* gates;         // (T,B,4D), activated
  float* cells;         // (T,B,D)
  float* interface;     // (T,B,I), activated
  int64_t* least_used;  // (T,B,n)
};

// The gradients of the gates and of the interface's product, from which the weights' gradients follow, and those of the
// state before the first step. Inputs and what was saved are those of MANNPersistent.
struct MANNPersistentBackward {
  PersistentShape sizes;
  LRUAOptions options;
  const float* recurrent_weight;  // (4D,O)
  const float* interface_weight;  // (I,D)
  const float* cell;              // (B,D), before the first step
  const float* gates;             // (T,B,4D), activated
  const float* checkpoints;
  const float* rows;
  const float* cells;
  const float* interface;
  const int64_t* least_used;
  const float* grad_outputs;           // (T,B,O); null: zero, as the next four
  const float* grad_memory_out;        // (B,N,W)
  const float* grad_read_weights_out;  // (B,R,N)
  const float* grad_usage_out;         // (B,N)
  const float* grad_cell_out;          // (B,D)
  float* memories;           // (2 checkpoint_every,B filled up to 8 k,128 * 40): scratch, in the order of the threads
  float* grad_gates;         // (T,B,4D), before activation
  float* grad_interface;     // (T,B,I), before activation
  float* grad_output;        // (B,O)
  float* grad_cell;          // (B,D)
  float* grad_memory;        // (B,N,W)
  float* grad_read_weights;  // (B,R,N)
  float* grad_usage;         // (B,N)
};

}  // namespace mannkern
