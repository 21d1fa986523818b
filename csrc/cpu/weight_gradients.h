// Gradients of the weights and biases of a controller and its interface, and of the input if it needs one. Each is a
// product over a few steps at a time, whose factors are still in the cache and need not be saved for the whole episode.
#pragma once

#include "allocate.h"
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
  WeightGradients(const ControllerShape& s, bool needs_input_grad)
      : input_weight(zeros({s.gates(), s.F})), bias(zeros({s.gates()})),
        recurrent_weight(zeros({s.gates(), s.O - s.seen()})), interface_weight(zeros({s.I, s.D})),
        interface_bias(zeros({s.I})), input(allocate_large<T>({needs_input_grad ? s.T : 0, s.B, s.F})), s_(s),
        steps_(std::min(s.T, 512 / std::max<int64_t>(s.B, 1) + 1)),
        grad_gates_(allocate_large<T>({steps_ * s.B, s.gates()})),
        grad_interface_(allocate_large<T>({steps_ * s.B, s.I})) {}

  // Where step t writes the gradients (B,gates) of its gates and (B,I) of its interface vector, both before activation.
  T* grad_gates(int64_t t) const { return data<T>(grad_gates_) + t % steps_ * s_.B * s_.gates(); }
  T* grad_interface(int64_t t) const { return data<T>(grad_interface_) + t % steps_ * s_.B * s_.I; }

  // Steps of one product: about 512 rows, beyond which a product is no faster and leaves the cache.
  int64_t steps() const { return steps_; }

  // Adds the gradients of steps [begin, end), at most steps() of them. x is the input (T,B,F); weight (gates,F) is the
  // input's, null where the input needs no gradient; `first` (B,O) is the output before the first step, `outputs`
  // (T,B,O) that after each.
  void add(int64_t begin, int64_t end, const T* x, const PackedMatrix<T>* weight, const T* first, const T* outputs) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t rows = (end - begin) * B, G = s_.gates(), seen = s_.seen();
    const Matrix<T> d_gates = rows_of<T>(grad_gates(begin), G), d_interface = rows_of<T>(grad_interface(begin), I);
    const auto sum = [](const Matrix<T>& grad, int64_t width, const Matrix<T>& of, int64_t count, int64_t columns,
                        const Tensor& total) {
      PackedMatrix<T>(of, count, columns).multiply(transposed(grad), width, data<T>(total), columns, true);
    };
    sum(d_gates, G, rows_of(x + begin * B * F, F), rows, F, input_weight);
    if (begin == 0) sum(d_gates, G, rows_of(first + seen, O), B, O - seen, recurrent_weight);
    const int64_t late = begin == 0 ? B : 0;  // the first row whose controller saw an output of this episode
    if (rows > late)
      sum({d_gates.data + late * G, G, 1}, G, rows_of(outputs + begin * B * O - B * O + late * O + seen, O),
          rows - late, O - seen, recurrent_weight);
    sum(d_interface, I, rows_of(outputs + begin * B * O, O), rows, D, interface_weight);
    add_rows(bias, d_gates.data, rows);
    add_rows(interface_bias, d_interface.data, rows);
    if (weight) weight->multiply(d_gates, rows, data<T>(input) + begin * B * F, F);
  }

  const Tensor input_weight, bias, recurrent_weight, interface_weight, interface_bias, input;

 private:
  static Tensor zeros(Sizes sizes) {
    const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
    std::fill_n(data<T>(out), out.numel(), T(0));
    return out;
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
  const int64_t steps_;
  const Tensor grad_gates_, grad_interface_;
};

}  // namespace mannkern
