// The Team of row_math.h on a CPU: the lanes of a vector, which go from one end of a row to the other.
#pragma once

#include "row_math.h"
#include "slot_blocks.h"
#include "vector_math.h"

namespace {

// A row of N numbers, padded to Np. What is stored beyond N becomes 0. A row for load_shifted needs space for `halo`
// numbers before and behind it, into which fill_halo copies the numbers from its other end.
template <class T>
class Row {
 public:
  using Value = Vec<T>;
  static constexpr int L = Lanes<T>::L;

  explicit Row(int64_t n, int64_t shifts = 1) : N(n), Np(padded(n, kBlock<T>)), reach_(shifts / 2) {}
  Row(const Sizes<T>& s, int64_t shifts) : Row(s.N, shifts) {}

  // Numbers before and behind a row for load_shifted, and the size of the row with both.
  int64_t halo() const { return padded(reach_, 64 / sizeof(T)); }
  int64_t size_with_halo() const { return Np + 2 * halo(); }

  template <class F>
  void each(F f) const {
    for (int64_t i = 0; i < Np; i += L) f(i);
  }
  template <class F>
  T sum(F f) const {
    double total = 0;  // of few numbers, and exact for the one of a short row
    for (int64_t first = 0; first < Np; first += kRun<T>) {
      const int64_t end = run_end<T>(first, Np);
      Value even = {}, odd = {};  // two chains of sums at once
      for (int64_t i = first; i < end; i += 2 * L) {
        even += within(f(i), i, T(0));
        odd += within(f(i + L), i + L, T(0));
      }
      total += lane_sum<T>(even + odd);
    }
    return T(total);
  }
  template <class F>
  T max(F f) const {
    constexpr T lowest = -std::numeric_limits<T>::infinity();
    Value largest = Value{} + lowest;
    for (int64_t i = 0; i < Np; i += L) {
      const Value v = within(f(i), i, lowest);
      largest = v > largest ? v : largest;
    }
    return lane_max<T>(largest);
  }
  static Value load(const T* p, int64_t i) { return ::load(p + i); }
  void store(T* p, int64_t i, Value v) const { ::store(p + i, within(v, i, T(0))); }
  static Value load_shifted(const T* p, int64_t i, int64_t o) { return ::load(p + i - o); }
  void fill_halo(T* p) const {
    for (int64_t k = 1; k <= reach_; ++k) p[-k] = p[N - k];  // for k > N it copies a number filled just before
    for (int64_t k = 0; k < reach_; ++k) p[N + k] = p[k];
  }
  static Value exp(Value v) { return exp_nonpositive<T>(v); }
  static Value log(Value v) { return logarithm<T>(v); }
  static Value power(Value v, T e) { return power_below_one<T>(v, e); }
  // p / v, but where p may have lost digits: there it may be below 1e-30.
  static Value lower_power(Value v, Value p, T e) {
    const Value known = p < T(1e-30) ? Value{} : Value{} + T(1);
    return lane_sum<T>(known) == L ? p / v : power_below_one<T>(v, e);
  }

  const int64_t N, Np;

 private:
  // v, with the value `rest` in the lanes beyond N.
  Value within(Value v, int64_t i, T rest) const {
    if (i + L <= N) return v;
    for (int e = 0; e < L; ++e) v[e] = i + e < N ? v[e] : rest;
    return v;
  }
  const int64_t reach_;
};

}  // namespace
