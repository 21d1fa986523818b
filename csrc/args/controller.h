// Arguments of the pointwise kernels of a controller, which run between its matrix products. args/shape.h says how to
// read them. Outputs [h, r] are rows of O numbers; `output_stride` is O, and h their first D.
#pragma once

#include <cstdint>

namespace mannkern {

// One step of an LSTM, its gates in the order i, f, g, o of torch.nn.LSTMCell.
template <class T>
struct LSTM {
  int64_t D, output_stride;
  const T* input_gates;      // (B,4D): input times weight
  const T* recurrent_gates;  // (B,4D): [h, r] of the step before times weight
  const T* bias;             // (4D), the same for every episode
  const T* cell;             // (B,D), of the step before
  T* gates;                  // (B,4D), activated, saved for backward; may be `input_gates`
  T* cell_out;               // (B,D), saved for backward; may be `cell`
  T* hidden;                 // D of each episode, output_stride apart
};

template <class T>
struct LSTMBackward {
  int64_t D, output_stride;
  const T* grad_output;  // D of each episode, output_stride apart: h as an output and in the next step's controller
  const T* grad_hidden;  // (B,D): h in this step's interface; the gradient of h is the sum of both
  const T* gates;        // (B,4D), as LSTM gave them
  const T* cell;         // (B,D), of the step before
  const T* cell_out;     // (B,D), as LSTM gave it
  T* grad_cell;          // (B,D). In place: on entry the gradient w.r.t. cell_out, on exit w.r.t. cell
  T* grad_gates;         // (B,4D), with respect to the gates before activation
};

// One step of a feed-forward controller, tanh(input + recurrent + bias).
template <class T>
struct TanhLayer {
  int64_t D, output_stride;
  const T* input;      // (B,D): input times weight
  const T* recurrent;  // (B,D): r of the step before times weight
  const T* bias;       // (D), the same for every episode
  T* hidden;           // D of each episode, output_stride apart
};

template <class T>
struct TanhLayerBackward {
  int64_t D, output_stride;
  const T* grad_output;  // D of each episode, output_stride apart, as in LSTMBackward
  const T* grad_hidden;  // (B,D), as in LSTMBackward
  const T* hidden;       // D of each episode, output_stride apart, as TanhLayer gave it
  T* grad_input;         // (B,D), with respect to the sum before tanh
};

}  // namespace mannkern
