// What a kernel of LRUA, or of the controller beside it, is given: sizes and pointers. Letters as everywhere: B episodes,
// N slots, W width, R heads, D hidden units, I numbers in an interface's row, O in an output's.
//
// Every tensor is contiguous, row-major, with B in front; a kernel reads and writes episodes [begin, end) of it.
// Inputs are const and never written; outputs do not overlap inputs or each other unless said. "null:" says what null
// means.
#pragma once

#include <cstdint>

namespace mannkern {

template <class T>
constexpr T kEps = T(1e-8);  // norms under it are divided as it and pass no gradient

struct Shape {
  int64_t N, W, R;
};

// Null stays null.
template <class T>
T* at(T* p, int64_t offset) {
  return p ? p + offset : nullptr;
}

template <class T>
struct Write {  // additive_write; memory_out may be memory
  Shape shape;
  const T *memory, *write_weights, *add;
  const int64_t* reset;  // (B,); null: no slot is zeroed
  T* memory_out;
};

template <class T>
struct WriteBackward {
  Shape shape;
  const T *grad_memory_out, *write_weights, *add;
  const int64_t* reset;
  T *grad_memory, *grad_write_weights, *grad_add;
};

template <class T>
struct Read {  // cosine_read
  Shape shape;
  const T *memory, *key, *strength;  // strength null: 1
  T *read, *read_weights;
  T *cosine, *norm;  // (B,R,N) and (B,N), max(|M(i)|, eps): what the backward pass needs
};

template <class T>
struct ReadBackward {
  Shape shape;
  const T *grad_read, *grad_read_weights;  // null: zero
  const T *memory, *key, *strength, *read_weights, *cosine, *norm;
  T *grad_memory, *grad_key, *grad_strength;  // grad_strength null where strength is
};

struct Rule {  // of a step
  int64_t n;  // slots marked least used
  bool per_head;
  double decay;
};

template <class T>
struct Asked {  // key and add (R,W), gate and strength (R)
  const T *key, *add, *gate, *strength;  // strength null: 1
};
template <class T>
struct AskedGradients {
  T *key, *add, *gate, *strength;  // strength null where Asked's is
};

// usage_out may be usage.
template <class T>
struct Step {  // lrua_step
  Shape shape;
  Rule rule;
  const T *memory, *read_weights, *usage;
  Asked<T> asked;
  T *memory_out, *read, *read_weights_out, *usage_out, *write_weights;
  T *cosine, *norm;
  int64_t* least_used;  // (B,n), ascending
};

template <class T>
struct StepBackward {
  Shape shape;
  Rule rule;
  const T *grad_memory_out, *grad_read, *grad_read_weights_out, *grad_usage_out, *grad_write_weights;  // null: zero
  const T* read_weights;
  Asked<T> asked;
  const T *memory_out, *read_weights_out, *write_weights, *cosine, *norm;
  const int64_t* least_used;
  T *grad_memory, *grad_read_weights, *grad_usage;
  AskedGradients<T> grad_asked;
};

template <class T>
struct LeastUsed {
  int64_t N, n;
  const T* usage;
  int64_t* slots;  // (B,n)
};

template <class T>
struct Lstm {  // the pointwise part of an LSTM step, gates in the order i, f, g, o of torch.nn.LSTMCell
  int64_t D, output_stride;
  const T *input_gates, *recurrent_gates, *bias, *cell;  // both (B,4D), (4D), (B,D)
  T *gates, *cell_out, *hidden;  // activated (B,4D), may be input_gates; (B,D); rows of D, output_stride apart
};

template <class T>
struct LstmBackward {
  int64_t D, output_stride;
  const T *grad_output, *grad_hidden;  // rows of D, output_stride apart, and (B,D): the gradient of h is their sum
  const T *gates, *cell, *cell_out;    // (B,4D), (B,D), (B,D)
  T *grad_cell, *grad_gates;           // (B,D), updated in place; (B,4D), before activation
};

template <class T>
struct Layer {  // the pointwise part of a tanh layer
  int64_t D, output_stride;
  const T *input, *recurrent, *bias;  // (B,D) twice, (D): the layer is tanh of their sum
  T* hidden;                          // rows of D, output_stride apart
};

template <class T>
struct LayerBackward {
  int64_t D, output_stride;
  const T *grad_output, *grad_hidden, *hidden;  // rows output_stride apart but for grad_hidden (B,D), as LstmBackward's
  T* grad_input;                                // (B,D), before activation
};

// Within an episode a memory is kept in the blocks of cpu/blocks.h, and rows of N numbers are padded to Np.

template <class T>
struct ToBlocks {  // memory and weights into blocks and rows; null: zeros
  Shape shape;
  int64_t row_stride;  // between episodes
  const T *memory, *weights;
  T *blocks, *rows;
  T* norm;  // of the memory, row_stride apart; null: not wanted
};

template <class T>
struct FromBlocks {
  Shape shape;
  int64_t row_stride;
  const T *blocks, *rows;
  T *memory, *weights;
};

// A row of MANN's interface: key and add (R,W), gate (R), strength (R) where there are strengths.
struct MannInterface {
  Shape shape;
  bool strengths;
  int64_t adds() const { return shape.R * shape.W; }
  int64_t gates() const { return 2 * adds(); }
  int64_t size() const { return gates() + (strengths ? 2 : 1) * shape.R; }
};

// Of each step rows (2R+1,Np): read weights, cosines, and the norms of the new memory.

template <class T>
struct MannWrites {  // the writes of some steps, anew from what the steps kept: all pointers are of the first step
  MannInterface layout;
  Rule rule;
  int64_t B, steps;
  const T *memory, *asked, *before;  // memory before it, rows of the step before
  const int64_t* slots;
  T* memories;  // (steps,B,...), after each
};

template <class T>
struct MannStep {
  MannInterface layout;
  Rule rule;
  int64_t output_stride;
  const T *product, *bias, *before;  // (B,I), (I): the interface is their sum; rows of the step before
  T *memory, *usage;                 // blocks and (N), in place
  T* copy;                           // where the memory before the step is kept; null: nowhere
  T *asked, *rows, *read;            // the interface, activated; read: rows of (R,W), output_stride apart
  int64_t* slots;
};

template <class T>
struct MannStepBackward {
  MannInterface layout;
  Rule rule;
  int64_t output_stride, D;
  const T *grad_outputs, *memory, *before, *rows, *asked;  // null: zero; memory after the step
  const int64_t* slots;
  T* grad_output;  // rows of [h, r], D and (R,W): of the next step's products, which grad_outputs is added to
  T *grad_memory, *grad_weights, *grad_usage;  // blocks, rows (R,Np), (N), in place: of what the step gave, then took
  T* grad_asked;                               // before activation
};

// A scan: a step of all episodes after the other, `asked` and reads with steps in front, (steps,B,...). Every `span` steps
// a copy of the state is kept, of memory in blocks, read weights and usage (W + R + 1,Np): none of the first state.
template <class T>
struct Scan {
  Shape shape;
  Rule rule;
  int64_t B, steps, span;
  const T *memory, *read_weights, *usage;
  Asked<T> asked;
  T *reads, *memory_out, *read_weights_out, *usage_out;
  T* copies;  // ((steps - 1) / span,B,...); null: not wanted
};

template <class T>
struct ScanBackward {
  Shape shape;
  Rule rule;
  int64_t B, steps, span;
  const T *grad_reads, *grad_memory_out, *grad_read_weights_out, *grad_usage_out;  // null: zero
  const T *memory, *read_weights, *usage;
  Asked<T> asked;
  const T* copies;
  T *grad_memory, *grad_read_weights, *grad_usage;
  AskedGradients<T> grad_asked;
};

// Indices of the n smallest of N usages, ascending, by sorting; ties by index, NaN last. For n too large for rounds.
template <class T>
void sort_least_used(const T* usage, int64_t N, int64_t n, int64_t* slots);

}  // namespace mannkern
