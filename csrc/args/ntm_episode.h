// Arguments of the kernels of an NTM's episode on a GPU: its memory, between the controller's matrix products.
// args/shape.h says how to read them. Everything is row-major; the H heads' rows begin with those of the V write heads.
//
// `rows` (B,2H+2,N) of a step are content weights and cosines of all heads, and the norms of the memory before and after
// the step. tests/cuda reads the structs as numbers of eight bytes: sizes first, then pointers.
#pragma once

#include "ntm.h"

namespace mannkern {

constexpr int32_t kAnew = 1, kEnded = 2;  // phases of an episode, as in mannkern/triton/phases.py

// The phases of a step, and the state that an episode starts anew from.
template <class T>
struct Phases {
  const int32_t* phase;    // (B), or (steps,B); null: no episode starts anew or has ended
  const T* first_memory;   // (N,W); null: no episode starts anew
  const T* first_weights;  // (H,N)
};

template <class T>
struct NTMEpisodeStep {
  NTMInterface layout;
  int64_t output_stride;  // numbers between the episodes of `read`
  const T* memory;        // (B,N,W), before the step
  const T* previous;      // (B,H,N), the weights before the step
  Phases<T> phases;
  T* interface;   // (B,I), in place: on entry before, on exit after the activation, saved for backward
  T* memory_out;  // (B,N,W); may be `memory`
  T* weights;     // (B,H,N), saved for backward
  T* rows;        // saved for backward
  T* read;        // (H-V,W) of each episode, output_stride apart
};

template <class T>
struct NTMEpisodeStepBackward {
  NTMInterface layout;
  int64_t output_stride;  // numbers between the episodes of `grad_read`
  const T* grad_read;     // (H-V,W) of each episode
  const T* memory;        // (B,N,W), before the step
  const T* memory_out;    // (B,N,W), after it
  const T* previous;      // (B,H,N), as NTMEpisodeStep had it
  const T* weights;       // (B,H,N), as NTMEpisodeStep gave it; so are the next two
  const T* rows;
  const T* interface;  // (B,I)
  Phases<T> phases;    // as NTMEpisodeStep had them
  T* grad_memory;      // (B,N,W). In place: on entry gradients w.r.t. outputs, on exit w.r.t. inputs
  T* grad_weights;     // (B,H,N), in place as above
  T* grad_interface;   // (B,I), before the activation
  T* grad_first;       // (B,N,W): where an episode starts anew, the gradient of its memory is added; null: nowhere
};

// Computes the memories after each of `steps` steps again, bit for bit, from the memory before the first. Those of
// episodes that have ended are no memories, and nothing reads them.
template <class T>
struct NTMEpisodeRecompute {
  NTMInterface layout;
  int64_t steps;
  const T* memory;     // (B,N,W)
  const T* interface;  // (steps,B,I), activated
  const T* weights;    // (steps,B,H,N), after each step
  Phases<T> phases;    // of (steps,B)
  T* memories;         // (steps,B,N,W)
};

}  // namespace mannkern
