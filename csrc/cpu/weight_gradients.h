// Gradients of the weights and biases of a controller and its interface, and of the input if it needs one. Each is a
// product over a few steps at a time, whose factors are still in the cache and need not be saved for the whole episode.
#pragma once

#include <array>

#include "allocate.h"
#include "batch.h"
#include "packed_gemm.h"

namespace mannkern {

struct ControllerShape {
  int64_t T, B, F, D, O, I;  // steps, episodes, input features, hidden units, output [h, r], interface vector
  bool lstm;                 // false: one tanh layer

  ControllerShape(const Tensor& input, const Tensor& interface_weight, const Tensor& output, bool lstm) : lstm(lstm) {
    check_sizes(input, "input", "TBF");
    check_sizes(interface_weight, "interface_weight", "ID");
    check_sizes(output, "output", "BO");
    T = input.size(0), B = input.size(1), F = input.size(2);
    D = interface_weight.size(1), I = interface_weight.size(0), O = output.size(1);
    if (O <= D) refuse("output", shape_text(output), "more than D = " + std::to_string(D) + " columns, for the reads");
  }
  int64_t gates() const { return lstm ? 4 * D : D; }
  // The first column of [h, r] that the controller sees: a tanh layer sees r only.
  int64_t seen() const { return lstm ? 0 : D; }
};

template <class T>
class WeightGradients {
 public:
  WeightGradients(const ControllerShape& s, const Batch& batch, bool needs_input_grad)
      : input(allocate_large<T>({needs_input_grad ? s.T : 0, s.B, s.F})), s_(s), batch_(batch),
        sums_(zeros()), chunk_sums_(batch.chunks.size() > 1 ? zeros() : sums_) {
    const int64_t rows = std::min(s.T * batch.largest(), 512 + batch.largest());
    grad_gates_ = allocate_large<T>({rows, s.gates()}), grad_interface_ = allocate_large<T>({rows, s.I});
    if (!batch.is_whole()) gathered_ = Call<T>::allocate({rows, std::max(s.F, s.O)}, Call<T>::kType);
  }

  void begin(const Chunk& chunk) {
    chunk_ = &chunk;
    steps_ = std::min(s_.T, 512 / std::max<int64_t>(chunk.B, 1) + 1);
    for (const Tensor& sum : chunk_sums_) std::fill_n(data<T>(sum), sum.numel(), T(0));
  }
  // Adds what the chunk has given to that of the others.
  void end() {
    for (size_t i = 0; batch_.chunks.size() > 1 && i < sums_.size(); ++i)
      for (int64_t j = 0; j < sums_[i].numel(); ++j) data<T>(sums_[i])[j] += data<T>(chunk_sums_[i])[j];
  }

  // Where step t writes the gradients (active,gates) of its gates and (active,I) of its interface vector, both before
  // activation.
  T* grad_gates(int64_t t) const { return data<T>(grad_gates_) + row(t) * s_.gates(); }
  T* grad_interface(int64_t t) const { return data<T>(grad_interface_) + row(t) * s_.I; }

  // Adds the gradients of step t and those behind it, if it is the first of the steps of one product: about 512 rows,
  // beyond which a product is no faster and leaves the cache. x is the input (T,B,F); weight (gates,F) is the input's,
  // null where the input needs no gradient; `first` (B,O) is the output before the first step, `outputs` (T,B,O) that
  // after each.
  void add(int64_t t, const T* x, const PackedMatrix<T>* weight, const T* first, const T* outputs) {
    if (t % steps_ != 0) return;
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t end = std::min(t + steps_, T_), rows = chunk_->rows[end] - chunk_->rows[t], G = s_.gates();
    const int64_t seen = s_.seen();
    const T *d_gates = grad_gates(t), *d_interface = grad_interface(t);
    const auto sum = [](const T* grad, int64_t width, const T* of, int64_t stride, int64_t count, int64_t columns,
                        const Tensor& total) {
      PackedMatrix<T>(rows_of(of, stride), count, columns)
          .multiply(transposed(rows_of(grad, width)), width, data<T>(total), columns, true);
    };
    sum(d_gates, G, gather(x, F, t, end), F, rows, F, chunk_sums_[0]);
    const int64_t late = t == 0 ? chunk_->active[0] : 0;  // the first row whose controller saw an output of the episode
    if (t == 0) sum(d_gates, G, before(first, 0, 1) + seen, O, late, O - seen, chunk_sums_[2]);
    if (rows > late)
      sum(d_gates + late * G, G, before(outputs - B * O, std::max<int64_t>(t, 1), end) + seen, O, rows - late,
          O - seen, chunk_sums_[2]);
    sum(d_interface, I, gather(outputs, O, t, end), O, rows, D, chunk_sums_[3]);
    add_rows(chunk_sums_[1], d_gates, rows);
    add_rows(chunk_sums_[4], d_interface, rows);
    if (weight) add_input(t, end, *weight);
  }

  const Tensor& input_weight() const { return sums_[0]; }
  const Tensor& bias() const { return sums_[1]; }
  const Tensor& recurrent_weight() const { return sums_[2]; }
  const Tensor& interface_weight() const { return sums_[3]; }
  const Tensor& interface_bias() const { return sums_[4]; }
  const Tensor input;

 private:
  std::array<Tensor, 5> zeros() const {
    const auto of = [](Sizes sizes) {
      const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
      std::fill_n(data<T>(out), out.numel(), T(0));
      return out;
    };
    return {of({s_.gates(), s_.F}), of({s_.gates()}), of({s_.gates(), s_.O - s_.seen()}), of({s_.I, s_.D}),
            of({s_.I})};
  }
  int64_t row(int64_t t) const { return chunk_->rows[t] - chunk_->rows[t / steps_ * steps_]; }

  // The rows of steps [begin, end) behind each other: of x (T,B,width), where they may lie apart.
  const T* gather(const T* x, int64_t width, int64_t begin, int64_t end) {
    if (batch_.is_whole()) return x + begin * s_.B * width;
    T* out = data<T>(gathered_);
    for (int64_t t = begin; t < end; ++t)
      out = std::copy_n(x + (t * s_.B + chunk_->begin) * width, chunk_->active[t] * width, out);
    return data<T>(gathered_);
  }
  // The outputs before steps [begin, end), of which x has number t for step t: zeros where an episode starts anew.
  const T* before(const T* x, int64_t begin, int64_t end) {
    const T* rows = gather(x, s_.O, begin, end);
    for (int64_t t = begin; batch_.reset(*chunk_, t) && t < end; ++t)
      clear_restarted(data<T>(gathered_) + (chunk_->rows[t] - chunk_->rows[begin]) * s_.O, s_.O,
                      batch_.reset(*chunk_, t), chunk_->active[t]);
    return rows;
  }
  void add_input(int64_t begin, int64_t end, const PackedMatrix<T>& weight) {
    const int64_t F = s_.F;
    T* d_input = data<T>(input) + (begin * s_.B + chunk_->begin) * F;
    if (batch_.is_whole())
      return weight.multiply(rows_of<T>(grad_gates(begin), s_.gates()), (end - begin) * s_.B, d_input, F);
    for (int64_t t = begin; t < end; ++t, d_input += s_.B * F) {
      weight.multiply(rows_of<T>(grad_gates(t), s_.gates()), chunk_->active[t], d_input, F);
      chunk_->clear_ended(d_input, F, t);
    }
  }
  // Adds 64 rows at a time: thousands of float32 in one chain of sums would lose a digit.
  static void add_rows(const Tensor& total, const T* row, int64_t count) {
    const int64_t width = total.numel();
    T* sum = data<T>(total);
    std::vector<T> part(width);
    for (int64_t i = 0; i < count; ++i, row += width) {
      for (int64_t j = 0; j < width; ++j) part[j] += row[j];
      if (i % 64 != 63 && i + 1 != count) continue;
      for (int64_t j = 0; j < width; ++j) sum[j] += part[j];
      std::fill(part.begin(), part.end(), T(0));
    }
  }

  const ControllerShape s_;
  const Batch& batch_;
  // gradients of input_weight, bias, recurrent_weight, interface_weight and interface_bias, of all and of one chunk
  const std::array<Tensor, 5> sums_, chunk_sums_;
  const Chunk* chunk_ = nullptr;
  int64_t steps_ = 1;  // of one product
  Tensor grad_gates_, grad_interface_, gathered_;
};

}  // namespace mannkern
