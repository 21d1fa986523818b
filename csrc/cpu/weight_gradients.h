// Gradients of the weights and biases of a controller and its interface: products over all steps of the episodes,
// computed after the loop. A thread has a few columns of one product, and sums them about 512 rows at a time.
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
  int64_t reads() const { return O - D; }            // numbers of r
  int64_t inputs() const { return F + reads(); }     // numbers of [x, r]
  int64_t hidden() const { return lstm ? D : 0; }    // numbers of h that the controller sees: a tanh layer sees none
  int64_t recurrent() const { return hidden() + reads(); }
  int64_t seen() const { return D - hidden(); }      // the first column of [h, r] that it sees
};

template <class T>
class WeightGradients {
 public:
  WeightGradients(const ControllerShape& s, const Batch& batch, bool bfloat16)
      : s_(s), batch_(batch), kernels_(bfloat16), sums_(sums()), chunk_sums_(batch.chunks.size() > 1 ? sums() : sums_),
        grad_gates_(allocate_large<T>({s.T * batch.largest(), s.gates()})),
        grad_interface_(allocate_large<T>({s.T * batch.largest(), s.I})), zeros_(s.O) {
    if (batch.chunks.size() > 1 || batch.chunks[0].rows.back() == 0)
      for (const Tensor& sum : sums_) std::fill_n(data<T>(sum), sum.numel(), T(0));
  }

  // Where the loop writes the gradients (active,gates) of a step's gates and (active,I) of its interface vector, both
  // before activation.
  T* grad_gates(const Share& share, int64_t t) const { return data<T>(grad_gates_) + share.row(t) * s_.gates(); }
  T* grad_interface(const Share& share, int64_t t) const { return data<T>(grad_interface_) + share.row(t) * s_.I; }

  // Adds what a chunk gives, all of whose gradients have been written. x is the input (T,B,F), `first` (B,O) the output
  // before the first step, `outputs` (T,B,O) that after each.
  void add(const Chunk& chunk, const T* x, const T* first, const T* outputs) {
    if (chunk.rows.back() == 0) return;
    for (size_t bias : {3, 4}) std::fill_n(data<T>(chunk_sums_[bias]), chunk_sums_[bias].numel(), T(0));
    const auto [T_, B, F, D, O, I, lstm] = s_;
    const int64_t G = s_.gates(), P = PackedMatrix<T>::panel();
    std::array<Factor, 3> factors{Factor{G, s_.inputs(), F, grad_gates_, {}, {}},
                                  Factor{G, s_.hidden(), s_.hidden(), grad_gates_, {}, {}},
                                  Factor{I, D, D, grad_interface_, {}, {}}};
    for (int64_t t = 0; t < T_; ++t) {
      const bool* reset = batch_.reset(chunk.begin, t);
      for (int64_t e = 0; e < chunk.active[t]; ++e) {
        const int64_t i = t * B + chunk.begin + e;
        const T* before = reset && reset[e] ? zeros_.data() : t ? outputs + (i - B) * O : first + i * O;
        factors[0].rows.push_back(x + i * F), factors[0].others.push_back(before + D);
        factors[1].rows.push_back(before);
        factors[2].rows.push_back(outputs + i * O);
      }
    }
    // tasks of about equally many numbers: panels of all products, one product after the other
    const int64_t threads = workers(INT64_MAX), count = threads == 1 ? 1 : 4 * threads;
    double total = 0, done = 0;
    for (const Factor& factor : factors) total += double(factor.outputs) * ((factor.columns + P - 1) / P);
    std::vector<std::vector<Piece>> tasks;
    for (size_t p = 0; p < factors.size(); ++p)
      for (int64_t panel = 0; panel < (factors[p].columns + P - 1) / P; ++panel, done += double(factors[p].outputs)) {
        if (done * double(count) >= total * double(tasks.size())) tasks.emplace_back();
        if (tasks.back().empty() || tasks.back().back().sum != p) tasks.back().push_back({p, panel, panel, false});
        ++tasks.back().back().end;
      }
    int64_t most = 0;
    for (const auto& task : tasks)
      for (const Piece& piece : task) most = std::max(most, piece.end - piece.begin);
    const int64_t size = std::min(chunk.rows.back(), steps(chunk) * chunk.B) * P * most;
    const Tensor panels = Call<T>::allocate({workers(tasks.size()), size}, Call<T>::kType);
    each_task(tasks.size(), [&](int64_t i, int64_t worker) {
      each_rows(chunk, [&](int64_t from, int64_t to) {
        for (Piece& piece : tasks[i]) {
          multiply(piece, factors[piece.sum], from, to, data<T>(panels) + worker * size);
          if (piece.begin == 0 && piece.sum != 1) add_rows(piece.sum ? 4 : 3, factors[piece.sum].grads, from, to);
        }
      });
      for (const Piece& piece : tasks[i])
        if (batch_.chunks.size() > 1) add_chunk(piece, factors[piece.sum]);
    });
  }

  const Tensor& input_weight() const { return sums_[0]; }
  const Tensor& recurrent_weight() const { return sums_[1]; }
  const Tensor& interface_weight() const { return sums_[2]; }
  const Tensor& bias() const { return sums_[3]; }
  const Tensor& interface_bias() const { return sums_[4]; }

 private:
  // The factors of a product: `grads` (rows,outputs), and for each of its rows one of `columns` numbers, the first
  // `split` of them in `rows` and those behind them in `others`.
  struct Factor {
    int64_t outputs, columns, split;
    const Tensor& grads;
    std::vector<const T*> rows, others;
  };
  // Panels [begin, end) of the columns of sum number `sum`.
  struct Piece {
    size_t sum;
    int64_t begin, end;
    bool add;  // whether it has been written, so that what comes is added
  };

  std::array<Tensor, 5> sums() const {
    const auto of = [](Sizes sizes) { return Call<T>::allocate(sizes, Call<T>::kType); };
    return {of({s_.gates(), s_.inputs()}), of({s_.gates(), s_.hidden()}), of({s_.I, s_.D}), of({s_.gates()}), of({s_.I})};
  }
  // Steps whose rows are summed at once: about 512 rows, beyond which a product is no faster and leaves the cache.
  int64_t steps(const Chunk& chunk) const { return std::min(s_.T, 512 / chunk.B + 1); }
  // Calls f(first row, end) for the rows that are summed at once, those of the last steps first.
  template <class F>
  void each_rows(const Chunk& chunk, F f) const {
    for (int64_t t = (s_.T - 1) / steps(chunk) * steps(chunk); t >= 0; t -= steps(chunk))
      f(chunk.rows[t], chunk.rows[std::min(t + steps(chunk), s_.T)]);
  }

  // Adds the products of rows [from, to) to a chunk's sum.
  void multiply(Piece& piece, const Factor& factor, int64_t from, int64_t to, T* panels) const {
    if (from == to) return;
    const int64_t first = piece.begin * PackedMatrix<T>::panel(), M = factor.outputs, K = to - from;
    const int64_t N = factor.columns - first, count = piece.end - piece.begin;
    kernels<T>().pack_rows(PackRows<T>{K, N, first, factor.split, factor.rows.data() + from,
                                       factor.others.empty() ? nullptr : factor.others.data() + from, panels},
                           0, count);
    if (kernels_.round) kernels_.round(panels, K, 0, count);
    kernels_.gemm(Product<T>{M, N, K, transposed(rows_of<T>(data<T>(factor.grads) + from * M, M)), panels,
                             data<T>(chunk_sums_[piece.sum]) + first, factor.columns, piece.add},
                  0, count);
    piece.add = true;
  }
  void add_rows(size_t sum, const Tensor& grads, int64_t from, int64_t to) const {
    const int64_t width = grads.size(1);
    kernels<T>().sum_rows(SumRows<T>{to - from, width, data<T>(grads) + from * width, data<T>(chunk_sums_[sum])}, 0,
                          width);
  }
  // Adds a chunk's sum to that of all.
  void add_chunk(const Piece& piece, const Factor& factor) const {
    const int64_t P = PackedMatrix<T>::panel(), end = std::min(piece.end * P, factor.columns);
    const T* sum = data<T>(chunk_sums_[piece.sum]);
    T* all = data<T>(sums_[piece.sum]);
    for (int64_t m = 0; m < factor.outputs; ++m)
      for (int64_t j = piece.begin * P; j < end; ++j) all[m * factor.columns + j] += sum[m * factor.columns + j];
    if (piece.begin > 0 || piece.sum == 1) return;
    const size_t bias = piece.sum ? 4 : 3;
    for (int64_t j = 0; j < factor.outputs; ++j) data<T>(sums_[bias])[j] += data<T>(chunk_sums_[bias])[j];
  }

  const ControllerShape s_;
  const Batch& batch_;
  const MatrixKernels<T> kernels_;
  // gradients of input_weight, recurrent_weight, interface_weight, bias and interface_bias, of all and of one chunk
  const std::array<Tensor, 5> sums_, chunk_sums_;
  const Tensor grad_gates_, grad_interface_;  // of one chunk, the rows of all steps behind each other
  const std::vector<T> zeros_;
};

}  // namespace mannkern
