// What an operation refuses, and how it says so: the argument, what came and what is needed. A compiled graph, a saved
// tensor that a hook changed, and a direct call come here without Python's checks.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

// What the last of libtorch's C functions threw. Before PyTorch 2.13 it is null: they told no more than that they failed.
extern "C" const char* torch_exception_get_what_without_backtrace() __attribute__((weak));

namespace mannkern {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Sizes = std::initializer_list<int64_t>;

[[noreturn]] inline void refuse(const std::string& name, const std::string& got, const std::string& need) {
  throw std::runtime_error("mannkern: " + name + ": got " + got + ", need " + need);
}

// Says that PyTorch could not allocate so many bytes, in its own words, by which callers know a lack of memory.
[[noreturn]] inline void throw_out_of_memory(double bytes) {
  std::string what = torch_exception_get_what_without_backtrace ? torch_exception_get_what_without_backtrace() : "";
  if (what.empty())
    what = "mannkern: " + std::to_string(int64_t(bytes)) +
           " bytes could not be allocated: out of memory, or an earlier error of a GPU";
  throw std::runtime_error(what);
}

template <class List>
std::string text(const List& sizes) {
  std::string out;
  for (const int64_t size : sizes) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "[" + out + "]";
}
inline std::string shape_text(const Tensor& t) { return "shape " + text(t.sizes()); }
inline std::string text(ScalarType type) {
  if (type == ScalarType::Float) return "float32";
  if (type == ScalarType::Double) return "float64";
  if (type == ScalarType::Bool) return "bool";
  return type == ScalarType::Long ? "int64" : torch::headeronly::toString(type);
}

// Python's None, where the schema has a tensor, comes here as a tensor that is not defined.
inline void check_defined(const Tensor& t, const char* name) {
  if (!t.defined()) refuse(name, "None", "a tensor");
}

inline bool has_shape(const Tensor& t, Sizes sizes) {
  const auto have = t.sizes();
  return have.size() == sizes.size() && std::equal(sizes.begin(), sizes.end(), have.begin());
}

inline void check_range(int64_t value, const char* name, int64_t least, int64_t most) {
  if (value < least || value > most)
    refuse(name, std::to_string(value), std::to_string(least) + " to " + std::to_string(most));
}

// Checks the decay of usage: with one above 1 usage would grow without end, and NaN passes every comparison.
inline void check_decay(double decay) {
  if (!(decay >= 0 && decay <= 1)) refuse("decay", std::to_string(decay), "0 to 1");
}

// Checks the rank of a tensor, and that only the sizes B, T and F are 0. `letters` has one for each dimension, as in
// "BNW". Sizes under 2^31 keep a product of two of them in an int64.
inline void check_sizes(const Tensor& t, const char* name, std::string_view letters) {
  const auto have = t.sizes();
  bool right = have.size() == letters.size();
  for (size_t d = 0; right && d < have.size(); ++d)
    right = have[d] < int64_t(1) << 31 && (have[d] > 0 || std::string_view("BTF").find(letters[d]) != letters.npos);
  if (right) return;
  check_defined(t, name);
  std::string need;
  for (const char letter : letters) need += (need.empty() ? "(" : ", ") + std::string(1, letter);
  refuse(name, shape_text(t), need + "), each under 2^31; only B may be 0");
}

// Checks that a tensor's storage holds all its numbers, each of `width` bytes: it may have been freed or shrunk.
inline void check_storage(const Tensor& t, const char* name, Sizes sizes, bool is_contiguous, int64_t width) {
  int64_t bytes, end = 1, count = 1, d = 0;
  for (const int64_t size : sizes) count *= size;
  if (is_contiguous) end = count;
  else
    for (const int64_t size : sizes) end += (size - 1) * t.stride(d++);
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(t.get(), &bytes));
  const int64_t needed = (end + t.storage_offset()) * width;
  if (count > 0 && bytes < needed)
    refuse(name, "a storage of " + std::to_string(bytes) + " bytes", std::to_string(needed) + " bytes");
}

}  // namespace mannkern
