// The least used slots by sorting: compiled once for all machines, as sort_least_used.h explains.

#include "sort_least_used.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace mannkern {

template <class T>
void sort_least_used(const T* usage, int64_t N, int64_t n, int64_t* slots) {
  std::vector<int64_t> order(N);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [usage](int64_t i, int64_t j) {
    const bool i_nan = usage[i] != usage[i], j_nan = usage[j] != usage[j];
    if (i_nan != j_nan) return j_nan;
    if (usage[i] != usage[j] && !i_nan) return usage[i] < usage[j];
    return i < j;
  });
  std::copy_n(order.begin(), n, slots);
}
template void sort_least_used(const float*, int64_t, int64_t, int64_t*);
template void sort_least_used(const double*, int64_t, int64_t, int64_t*);

}  // namespace mannkern
