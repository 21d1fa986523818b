// Arguments of the kernels of a cell's own step: products with weights as torch.nn.Linear has them, one row an output,
// which are read as they lie, since a single step does not pay for packing them. args/shape.h says how to read them.
#pragma once

#include "lrua.h"
#include "mann.h"

namespace mannkern {

// A part of a product's rows, with the columns of the weight that belong to it.
template <class T>
struct LinearPart {
  int64_t K;     // 0: there is no such part
  const T* x;    // K of each episode, x_row apart
  int64_t x_row;
  const T* w;    // K of each of the N outputs, w_row apart
  int64_t w_row;
};

// y = the sum over both parts of x w^T.
template <class T>
struct Linear {
  int64_t N;
  LinearPart<T> parts[2];
  T* y;  // (B,N)
};

// The gradient of a part's x.
template <class T>
struct LinearBackward {
  int64_t N, K;
  const T* grad;  // (B,N), of y
  const T* w;     // (N,K), rows w_row apart
  int64_t w_row;
  T* grad_x;      // (B,K)
  bool add;       // to what is in grad_x
};

// A MANN's interface vector in parts, as LRUAStep takes it.
template <class T>
struct MANNActivate {
  MANNInterface layout;
  const T* product;  // (B,I): hidden state times interface weight; without the adds where they are keys
  const T* bias;     // (I), the same for every episode
  T* key;            // (B,R,W)
  T* add;            // (B,R,W); null where keys are written
  T* gate;           // (B,R)
  T* strength;       // (B,R); null where there are none
};

template <class T>
struct MANNActivateBackward {
  MANNInterface layout;
  InterfaceVector<T> interface;   // as MANNActivate gave it; its add is its key where keys are written
  InterfaceGradients<T> grad;     // with respect to it
  T* grad_product;                // (B,I)
};

}  // namespace mannkern
