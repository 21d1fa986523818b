// Arguments of the kernels that take an episode's memory and weights into slot blocks and padded rows, and back.
// args/shape.h says how to read them, csrc/README.md draws the layouts.
#pragma once

#include "shape.h"

namespace mannkern {

template <class T>
struct ToBlocks {
  Shape shape;
  int64_t row_stride;  // numbers between the rows of two episodes; what lies behind the R rows of weights becomes 0
  const T* memory;     // (B,N,W); null: zeros
  const T* weights;    // (B,R,N); null: zeros
  T* blocks;           // (B,Np W), slot blocks
  T* rows;             // (R,Np) of each episode, row_stride apart
  T* norm;             // (Np) of each episode, row_stride apart, in `rows`: norms of the memory; null: not computed
};

// Where episodes start anew before a step, and the state that they start from, one for all episodes.
template <class T>
struct Restart {
  const bool* reset;  // (B), or (steps,B); null: no episode starts anew
  const T* memory;    // slot blocks
  const T* rows;      // the padded rows of an episode's step: weights, zeros, and norms where a step reads them
  bool at(int64_t i) const { return reset && reset[i]; }
};

template <class T>
struct FromBlocks {
  Shape shape;
  int64_t row_stride;
  const T* blocks;  // (B,Np W), slot blocks
  const T* rows;    // (R,Np) of each episode, row_stride apart
  T* memory;        // (B,N,W)
  T* weights;       // (B,R,N)
};

}  // namespace mannkern
