// Matrix products by PyTorch's libraries.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <array>

#include "call.h"

// oneDNN's product, on which torch.nn.LSTM runs too: up to twice as fast as MKL's where it is large. Absent where torch
// lacks oneDNN.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_cpu__linear_pointwise(
    AtenTensorHandle x, AtenTensorHandle weight, AtenTensorHandle* bias, const char* activation, const double** scalars,
    int64_t scalars_len, const char** algorithm, AtenTensorHandle* out);

namespace mannkern {

// A matrix over memory of somebody else, rows `stride` apart.
template <class T>
Tensor matrix(const T* data, int64_t rows, int64_t columns, int64_t stride) {
  const int64_t sizes[] = {rows, columns}, strides[] = {stride, 1};
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_create_tensor_from_blob(
      const_cast<T*>(data), 2, sizes, strides, 0,
      sizeof(T) == 4 ? aoti_torch_dtype_float32() : aoti_torch_dtype_float64(), aoti_torch_device_type_cpu(), 0,
      &handle));
  return Tensor(handle);
}

inline Tensor transposed(const Tensor& a) { return torch::stable::transpose(a, 0, 1); }

// Multiplications under which MKL's product is the faster one: oneDNN's takes about 15 us to begin.
constexpr int64_t kSmallProduct = 1 << 20;
constexpr int64_t kWorthPacking = 16;  // products, each of which packs its weights anew otherwise

template <class T>
bool by_onednn(int64_t rows, const Tensor& b) {
  return sizeof(T) == 4 && aoti_torch_cpu__linear_pointwise && rows * b.numel() >= kSmallProduct;
}

inline Tensor onednn_product(const Tensor& a, const Tensor& b) {
  AtenTensorHandle handle;
  // dense copies: on strided matrices oneDNN falls back to loops a hundred times slower
  const Tensor x = torch::stable::contiguous(a);
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_cpu__linear_pointwise(x.get(), b.get(), nullptr, "none", nullptr, 0, nullptr, &handle));
  return Tensor(handle);
}

// a b^T for a (rows, K) and b (columns, K).
template <class T>
Tensor product(const Tensor& a, const Tensor& b) {
  if (by_onednn<T>(a.size(0), b)) return onednn_product(a, torch::stable::contiguous(b));
  const Tensor out = Call<T>::allocate({a.size(0), b.size(0)}, Call<T>::kType);
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), transposed(b).get()));
  return out;
}

// The b of `count` products of `rows` rows each, packed once as oneDNN's kernels read it.
template <class T>
class Weights {
 public:
  Weights(const Tensor& b, int64_t rows, int64_t count) : large_(by_onednn<T>(rows, b)), b_(b) {
    if (large_) b_ = torch::stable::contiguous(b);
    if (large_ && count >= kWorthPacking) b_ = packed(b_);
  }
  Tensor product(const Tensor& a) const { return large_ ? onednn_product(a, b_) : mannkern::product<T>(a, b_); }

 private:
  static Tensor packed(const Tensor& dense) {
    std::array<StableIValue, 2> stack{torch::stable::detail::from(dense), torch::stable::detail::from(std::nullopt)};
    TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("mkldnn::_reorder_linear_weight", "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
  }
  const bool large_;
  Tensor b_;
};

}  // namespace mannkern
