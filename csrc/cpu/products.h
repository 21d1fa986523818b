// Matrix products by PyTorch's libraries.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include "call.h"

// oneDNN's product, on which torch.nn.LSTM runs too: up to twice as fast as MKL's. Absent where torch lacks oneDNN.
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

// a b^T for a (rows, K) and b (columns, K).
template <class T>
Tensor product(const Tensor& a, const Tensor& b) {
  AtenTensorHandle handle;
  if (sizeof(T) == 4 && aoti_torch_cpu__linear_pointwise && a.numel() > 0) {
    // dense copies: on strided matrices oneDNN falls back to loops a hundred times slower
    const Tensor x = torch::stable::contiguous(a), weight = torch::stable::contiguous(b);
    TORCH_ERROR_CODE_CHECK(
        aoti_torch_cpu__linear_pointwise(x.get(), weight.get(), nullptr, "none", nullptr, 0, nullptr, &handle));
    return Tensor(handle);
  }
  const Tensor out = Call<T>::allocate({a.size(0), b.size(0)}, Call<T>::kType);
  TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), transposed(b).get()));
  return out;
}

}  // namespace mannkern
