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
  float* gates;                   // (T,B,4D): on entry input times weight + bias, on exit activated
  float* outputs;                 // (T,B,O)
  float* memory_out;              // (B,N,W), after the last step; so are the next three
  float* read_weights_out;        // (B,R,N)
  float* usage_out;               // (B,N)
  float* cell_out;                // (B,D)
  // Saved for backward; all null where it is not needed. The gates are saved in place.
  float* checkpoints;   // (1 + (T-1) / checkpoint_every,B,N,W): memory before the steps 0, checkpoint_every ...
  float* rows;          // (T+1,B,2R+1,N): read weights (R,N), cosines (R,N) and norms (N) after each step. Of the rows
                        // before the first step only the read weights are written
  float* cells;         // (T,B,D)
  float* interface;     // (T,B,I), activated
  int64_t* least_used;  // (T,B,n)
};

}  // namespace mannkern
