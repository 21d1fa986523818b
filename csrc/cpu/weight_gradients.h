// The gradients of a controller's and an interface's weights and biases, and of the input where it is wanted, from a few
// steps at a time: what they are products of is still in the cache, and need not be kept for the whole episode.
#pragma once

#include "products.h"

namespace mannkern {

struct ControllerShape {
  int64_t T, B, F, D, O, I;  // steps, batch, features, hidden, output D + R W, interface
  bool lstm;                 // else one tanh layer

  ControllerShape(const Tensor& input, const Tensor& interface_weight, const Tensor& output, bool lstm) : lstm(lstm) {
    STD_TORCH_CHECK(input.dim() == 3 && interface_weight.dim() == 2 && output.dim() == 2,
                    "mannkern: wrong rank of an episode's tensors");
    T = input.size(0), B = input.size(1), F = input.size(2);
    D = interface_weight.size(1), I = interface_weight.size(0), O = output.size(1);
    STD_TORCH_CHECK(O > D, "mannkern: the output has no place for what is read");
  }
  int64_t gates() const { return lstm ? 4 * D : D; }
  int64_t seen() const { return lstm ? 0 : D; }  // the controller sees these columns of [h, r] and those behind them
};

template <class T>
class WeightGradients {
 public:
  WeightGradients(const ControllerShape& s, bool wants_input)
      : input_weight(zeros({s.gates(), s.F})),
        bias(zeros({s.gates()})),
        recurrent_weight(zeros({s.gates(), s.O - s.seen()})),
        interface_weight(zeros({s.I, s.D})),
        interface_bias(zeros({s.I})),
        input(large<T>({wants_input ? s.T : 0, s.B, s.F})),
        s_(s),
        steps_(std::min(s.T, 512 / std::max<int64_t>(s.B, 1) + 1)),
        gates_(large<T>({steps_ * s.B, s.gates()})),
        asked_(large<T>({steps_ * s.B, s.I})) {}

  // Where the gradients of step t's gates, before activation, and interface go: rows of each episode.
  T* gates(int64_t t) const { return data<T>(gates_) + t % steps_ * s_.B * s_.gates(); }
  T* asked(int64_t t) const { return data<T>(asked_) + t % steps_ * s_.B * s_.I; }

  // Steps of a product: about 512 rows, beyond which a product is no faster and leaves the cache. `add` where it begins.
  int64_t steps() const { return steps_; }

  // Adds those of steps begin to end, at most `steps()`. x (T,B,F); weight (gates,F) of the input, null where its gradient
  // is not wanted; `first` (B,O) before the first step and `outputs` (T,B,O) after each.
  void add(int64_t begin, int64_t end, const T* x, const Factor<T>* weight, const T* first, const T* outputs) {
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t rows = (end - begin) * B, G = s_.gates(), seen = s_.seen();
    const Matrix<T> d_gates = rows_of<T>(gates(begin), G), d_asked = rows_of<T>(asked(begin), I);
    const auto sum = [](const Matrix<T>& grad, int64_t width, const Matrix<T>& of, int64_t count, int64_t columns,
                        const Tensor& total) {
      Factor<T>(of, count, columns).multiply(transposed(grad), width, data<T>(total), columns, true);
    };
    sum(d_gates, G, rows_of(x + begin * B * F, F), rows, F, input_weight);
    if (begin == 0) sum(d_gates, G, rows_of(first + seen, O), B, O - seen, recurrent_weight);
    const int64_t late = begin == 0 ? B : 0;  // the first of these rows that is behind a step
    if (rows > late)
      sum({d_gates.data + late * G, G, 1}, G, rows_of(outputs + begin * B * O - B * O + late * O + seen, O), rows - late,
          O - seen, recurrent_weight);
    sum(d_asked, I, rows_of(outputs + begin * B * O, O), rows, D, interface_weight);
    add_rows(bias, d_gates.data, rows);
    add_rows(interface_bias, d_asked.data, rows);
    if (weight) weight->multiply(d_gates, rows, data<T>(input) + begin * B * F, F);
  }

  const Tensor input_weight, bias, recurrent_weight, interface_weight, interface_bias, input;

 private:
  static Tensor zeros(std::initializer_list<int64_t> sizes) {
    const Tensor out = Call<T>::allocate(sizes, Call<T>::kType);
    std::fill_n(data<T>(out), out.numel(), T(0));
    return out;
  }
  // 64 rows at a time: sums of thousands of float32 in one chain would lose a digit.
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
  const Tensor gates_, asked_;
};

}  // namespace mannkern
