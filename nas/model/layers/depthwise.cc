// For XLA on CPU: depthwise convolution of images [b, h, w, c] and its two derivatives, and sums over the rows of [r, c].
//
// Built at first use by nas/model/layers/native.py. Channels are the vectors, a
// block of neighbouring pixels shares each weight in registers, nothing is padded. Sums are kept in float32 and taken in
// an order that depends on shapes alone, so the number of threads never changes a result.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

constexpr int kLanes = 8;    // floats of a vector; compilers split or join it as the processor wants
constexpr int kBlock = 4;    // neighbouring results computed together, which share a weight in a register
constexpr int kGroups = 16; // parts of a batch whose weight gradients are summed apart

template <int N>
struct VectorOf {
  typedef float Float __attribute__((vector_size(N * 4), aligned(4)));
  typedef uint32_t Word __attribute__((vector_size(N * 4), aligned(4)));
  typedef uint16_t Half __attribute__((vector_size(N * 2), aligned(2)));
};

struct BFloat16 {
  uint16_t bits;
};

// N numbers as float32, from memory and back; bfloat16 is rounded to the nearest, ties to even.
template <int N, typename T>
inline typename VectorOf<N>::Float Load(const T* from) {
  using V = VectorOf<N>;
  if constexpr (std::is_same_v<T, float>) {
    return *reinterpret_cast<const typename V::Float*>(from);
  } else {
    typename V::Half half = *reinterpret_cast<const typename V::Half*>(from);
    typename V::Word word = __builtin_convertvector(half, typename V::Word) << 16;
    typename V::Float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
}

template <int N, typename T>
inline void Store(T* to, typename VectorOf<N>::Float value) {
  using V = VectorOf<N>;
  if constexpr (std::is_same_v<T, float>) {
    *reinterpret_cast<typename V::Float*>(to) = value;
  } else {
    typename V::Word word;
    std::memcpy(&word, &value, sizeof word);
    word += 0x7fff + ((word >> 16) & 1);
    *reinterpret_cast<typename V::Half*>(to) = __builtin_convertvector(word >> 16, typename V::Half);
  }
}

// Runs work(0) .. work(count - 1) on the pool and on the calling thread, which waits for what others began only: so
// threads of the pool may call this without ever waiting for a thread that is itself waiting.
void ForEach(ffi::ThreadPool& pool, int64_t count, std::function<void(int64_t)> work) {
  struct Shared {
    std::function<void(int64_t)> work;
    int64_t count;
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  auto shared = std::make_shared<Shared>();
  shared->work = std::move(work);
  shared->count = count;
  auto run = [shared] {
    int64_t mine = 0;
    for (int64_t i; (i = shared->next.fetch_add(1)) < shared->count; ++mine) shared->work(i);
    if (mine && shared->done.fetch_add(mine) + mine == shared->count) {
      std::lock_guard<std::mutex> lock(shared->mutex);
      shared->finished.notify_all();
    }
  };
  for (int64_t i = 1; i < std::min(pool.num_threads(), count); ++i) pool.Schedule(std::function<void()>(run));
  run();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done.load() == shared->count; });
}

// "SAME" of TensorFlow: the pixels before the first one.
int64_t Before(int64_t length, int64_t size, int64_t stride) {
  int64_t windows = (length + stride - 1) / stride;
  return std::max<int64_t>((windows - 1) * stride + size - length, 0) / 2;
}

int64_t FloorDivide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// Along one axis, one kernel position: result t reads place t * step + offset, for first <= t < end.
struct Tap {
  int64_t position, offset, first, end;
};

Tap MakeTap(int64_t position, int64_t offset, int64_t step, int64_t results, int64_t places) {
  int64_t first = std::max<int64_t>(0, -FloorDivide(offset, step));
  int64_t end = std::min(results, FloorDivide(places - 1 - offset, step) + 1);
  return {position, offset, first, std::max(first, end)};
}

// Every result, or every result of one residue modulo `out_step`, and what it reads. The convolution itself has
// out_step 1 and step = stride; its input gradient has, for each residue, out_step = stride and step 1.
struct Axis {
  int64_t start, out_step, step, results;
  std::vector<Tap> taps;
};

std::vector<Axis> Forward(int64_t length, int64_t size, int64_t stride) {
  Axis axis{0, 1, stride, (length + stride - 1) / stride, {}};
  for (int64_t u = 0; u < size; ++u)
    axis.taps.push_back(MakeTap(u, u - Before(length, size, stride), stride, axis.results, length));
  return {axis};
}

std::vector<Axis> Backward(int64_t length, int64_t size, int64_t stride) {
  int64_t places = (length + stride - 1) / stride, before = Before(length, size, stride);
  std::vector<Axis> axes;
  for (int64_t rest = 0; rest < std::min(stride, length); ++rest) {
    Axis axis{rest, stride, 1, (length - rest + stride - 1) / stride, {}};
    for (int64_t u = 0; u < size; ++u)
      if ((rest + before - u) % stride == 0)
        axis.taps.push_back(MakeTap(u, (rest + before - u) / stride, 1, axis.results, places));
    axes.push_back(axis);
  }
  return axes;
}

// A tap of both axes for one line of results: what result 0 reads, and its weights.
template <typename T>
struct LineTap {
  const T* in;
  const float* weight;
  int64_t first, end;
};

// `count` neighbouring results from `t` on, all of whose taps exist; channels from..to, N at a time.
template <int N, int count, typename T>
inline void Block(const std::vector<LineTap<T>>& taps, T* out, int64_t t, int64_t from, int64_t to, int64_t in_step,
                  int64_t out_step) {
  for (int64_t c = from; c + N <= to; c += N) {
    typename VectorOf<N>::Float sums[count] = {};
    for (const auto& tap : taps) {
      auto weight = Load<N>(tap.weight + c);
      const T* in = tap.in + t * in_step + c;
      for (int k = 0; k < count; ++k) sums[k] += Load<N>(in + k * in_step) * weight;
    }
    for (int k = 0; k < count; ++k) Store<N>(out + (t + k) * out_step + c, sums[k]);
  }
}

// All results of a line; between `first` and `end` all taps exist.
template <int N, typename T>
void Line(const std::vector<LineTap<T>>& taps, std::vector<LineTap<T>>& some, T* out, int64_t results, int64_t first,
          int64_t end, int64_t from, int64_t to, int64_t in_step, int64_t out_step) {
  auto edge = [&](int64_t t) {
    some.clear();
    for (const auto& tap : taps)
      if (tap.first <= t && t < tap.end) some.push_back(tap);
    Block<N, 1>(some, out, t, from, to, in_step, out_step);
  };
  int64_t t = 0;
  for (; t < std::min(first, results); ++t) edge(t);
  for (; t + kBlock <= end; t += kBlock) Block<N, kBlock>(taps, out, t, from, to, in_step, out_step);
  for (; t + 2 <= end; t += 2) Block<N, 2>(taps, out, t, from, to, in_step, out_step);
  for (; t < results; ++t) edge(t);
}

// out[b, rows, columns, c] = sum over the taps of both axes of in[b, ...] * weights[position, position, c].
template <typename T>
void Convolve(ffi::ThreadPool& pool, const T* in, int64_t in_h, int64_t in_w, const std::vector<float>& weights,
              int64_t size, T* out, int64_t batch, int64_t out_h, int64_t out_w, int64_t channels,
              const std::vector<Axis>& rows, const std::vector<Axis>& columns) {
  ForEach(pool, batch, [&](int64_t b) {
    std::vector<LineTap<T>> taps, some;
    const T* image = in + b * in_h * in_w * channels;
    for (const Axis& row : rows)
      for (int64_t i = 0; i < row.results; ++i)
        for (const Axis& column : columns) {
          taps.clear();
          int64_t first = 0, end = column.results;
          for (const Tap& u : row.taps) {
            if (i < u.first || i >= u.end) continue;
            for (const Tap& v : column.taps) {
              taps.push_back({image + ((i * row.step + u.offset) * in_w + v.offset) * channels,
                              weights.data() + (u.position * size + v.position) * channels, v.first, v.end});
              first = std::max(first, v.first);
              end = std::min(end, v.end);
            }
          }
          T* line = out + ((b * out_h + row.start + i * row.out_step) * out_w + column.start) * channels;
          int64_t in_step = column.step * channels, out_step = column.out_step * channels;
          int64_t whole = channels / kLanes * kLanes;
          Line<kLanes>(taps, some, line, column.results, first, end, 0, whole, in_step, out_step);
          Line<1>(taps, some, line, column.results, first, end, whole, channels, in_step, out_step);
        }
  });
}

// sums[v][c] += over the outputs of a line of x[stride * j + offset of v] * dy[j], for `count` taps from `taps` on.
template <int N, int count, typename T>
void AddLine(const T* x, const T* dy, const Tap* taps, float* sums, int64_t channels, int64_t from, int64_t to,
             int64_t stride) {
  int64_t first = taps[0].first, end = taps[0].end;
  for (int v = 1; v < count; ++v) {
    first = std::max(first, taps[v].first);
    end = std::min(end, taps[v].end);
  }
  for (int64_t c = from; c + N <= to; c += N) {
    typename VectorOf<N>::Float total[count];
    for (int v = 0; v < count; ++v) total[v] = Load<N>(sums + taps[v].position * channels + c);
    for (int64_t j = first; j < end; ++j) {
      auto gradient = Load<N>(dy + j * channels + c);
      for (int v = 0; v < count; ++v)
        total[v] += Load<N>(x + (j * stride + taps[v].offset) * channels + c) * gradient;
    }
    for (int v = 0; v < count; ++v) {
      auto edge = [&](int64_t j) {
        total[v] += Load<N>(x + (j * stride + taps[v].offset) * channels + c) * Load<N>(dy + j * channels + c);
      };
      for (int64_t j = taps[v].first; j < std::min(first, taps[v].end); ++j) edge(j);
      for (int64_t j = std::max(end, std::max(first, taps[v].first)); j < taps[v].end; ++j) edge(j);
      Store<N>(sums + taps[v].position * channels + c, total[v]);
    }
  }
}

template <int N, typename T>
void AddLine(const T* x, const T* dy, const std::vector<Tap>& taps, float* sums, int64_t channels, int64_t from,
             int64_t to, int64_t stride) {
  size_t v = 0;
  for (; v + 5 <= taps.size(); v += 5) AddLine<N, 5>(x, dy, &taps[v], sums, channels, from, to, stride);
  for (; v + 3 <= taps.size(); v += 3) AddLine<N, 3>(x, dy, &taps[v], sums, channels, from, to, stride);
  for (; v < taps.size(); ++v) AddLine<N, 1>(x, dy, &taps[v], sums, channels, from, to, stride);
}

// dkernel[u, v, c] = sum over b, i, j of x[b, stride * i + u - p, stride * j + v - p, c] * dy[b, i, j, c].
template <typename T>
void KernelGradient(ffi::ThreadPool& pool, const T* x, const T* dy, T* out, int64_t batch, int64_t height,
                    int64_t width, int64_t channels, int64_t size, int64_t stride) {
  Axis row = Forward(height, size, stride)[0], column = Forward(width, size, stride)[0];
  int64_t groups = std::min<int64_t>(batch, kGroups), weights = size * size * channels;
  std::vector<float> sums(groups * weights, 0.f);
  ForEach(pool, groups, [&](int64_t g) {
    for (int64_t b = g * batch / groups; b < (g + 1) * batch / groups; ++b)
      for (int64_t i = 0; i < row.results; ++i)
        for (const Tap& u : row.taps) {
          if (i < u.first || i >= u.end) continue;
          const T* pixels = x + (b * height + i * stride + u.offset) * width * channels;
          const T* gradient = dy + (b * row.results + i) * column.results * channels;
          float* own = &sums[g * weights + u.position * size * channels];
          int64_t whole = channels / kLanes * kLanes;
          AddLine<kLanes>(pixels, gradient, column.taps, own, channels, 0, whole, stride);
          AddLine<1>(pixels, gradient, column.taps, own, channels, whole, channels, stride);
        }
  });
  for (int64_t i = 0; i < weights; ++i) {
    float total = 0;
    for (int64_t g = 0; g < groups; ++g) total += sums[g * weights + i];
    Store<1>(out + i, typename VectorOf<1>::Float{total});
  }
}

// totals[g][0][c], totals[g][1][c] = sum over the rows of part g of y, and of x * y; channels from..to, N * count at once.
template <int N, int count, typename T>
void AddRows(const T* x, const T* y, float* totals, int64_t rows, int64_t channels, int64_t from, int64_t to) {
  for (int64_t c = from; c + N * count <= to; c += N * count) {
    typename VectorOf<N>::Float sums[count] = {}, products[count] = {};
    for (int64_t r = 0; r < rows; ++r)
      for (int k = 0; k < count; ++k) {
        auto value = Load<N>(y + r * channels + c + k * N);
        sums[k] += value;
        products[k] += value * Load<N>(x + r * channels + c + k * N);
      }
    for (int k = 0; k < count; ++k) {
      Store<N>(totals + c + k * N, sums[k]);
      Store<N>(totals + channels + c + k * N, products[k]);
    }
  }
}

// sums[c] and products[c] = sum over r of y[r, c], and of x[r, c] * y[r, c].
template <typename T>
void SumRows(ffi::ThreadPool& pool, const T* x, const T* y, float* sums, float* products, int64_t rows,
             int64_t channels) {
  int64_t groups = std::min<int64_t>(rows, kGroups);
  std::vector<float> totals(groups * 2 * channels);
  ForEach(pool, groups, [&](int64_t g) {
    int64_t first = g * rows / groups, count = (g + 1) * rows / groups - first;
    int64_t fours = channels / (4 * kLanes) * (4 * kLanes), whole = channels / kLanes * kLanes;
    const T *xs = x + first * channels, *ys = y + first * channels;
    float* own = &totals[g * 2 * channels];
    AddRows<kLanes, 4>(xs, ys, own, count, channels, 0, fours);
    AddRows<kLanes, 1>(xs, ys, own, count, channels, fours, whole);
    AddRows<1, 1>(xs, ys, own, count, channels, whole, channels);
  });
  for (int64_t c = 0; c < channels; ++c) {
    sums[c] = products[c] = 0;
    for (int64_t g = 0; g < groups; ++g) {
      sums[c] += totals[2 * g * channels + c];
      products[c] += totals[(2 * g + 1) * channels + c];
    }
  }
}

// A product of matrices in tiles that stay in registers: kTall channels of x by kWide of dy, over kDeep rows at a time.
// A task has kDown channels of x and kAcross of dy.
constexpr int kTall = 6, kWide = 2 * kLanes, kDeep = 256, kDown = 8 * kTall, kAcross = 6 * kWide;

// [rows, channels], channels first..end, as panels [rows, width] one behind the other, zeros after the last channel.
template <int width, typename T>
void Pack(const T* from, int64_t rows, int64_t channels, int64_t first, int64_t end, float* to) {
  for (int64_t c = first; c < end; c += width)
    for (int64_t r = 0; r < rows; ++r, to += width) {
      const T* row = from + r * channels + c;
      if (c + width > end) {
        for (int k = 0; k < width; ++k) to[k] = k < end - c ? Load<1>(row + k)[0] : 0.f;
      } else if constexpr (std::is_same_v<T, float>) {
        std::memcpy(to, row, width * sizeof(float));
      } else {
        for (int k = 0; k < width; ++k) to[k] = Load<1>(row + k)[0];
      }
    }
}

// sums[i, j] += sum over the rows of x[r, i] * dy[r, j], of one panel each.
inline void AddTile(const float* x, const float* dy, float* sums, int64_t rows) {
  using Float = VectorOf<kLanes>::Float;
  Float totals[kTall][2] = {};
  for (int64_t r = 0; r < rows; ++r) {
    Float first = Load<kLanes>(dy + r * kWide), second = Load<kLanes>(dy + r * kWide + kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kTall; ++i) {
      totals[i][0] += first * x[r * kTall + i];
      totals[i][1] += second * x[r * kTall + i];
    }
  }
  for (int i = 0; i < kTall; ++i)
    for (int half = 0; half < 2; ++half) {
      float* to = sums + i * kAcross + half * kLanes;
      Store<kLanes>(to, Load<kLanes>(to) + totals[i][half]);
    }
}

// out[c, d] = sum over r of x[r, c] * dy[r, d].
template <typename T>
void MultiplyRows(ffi::ThreadPool& pool, const T* x, const T* dy, T* out, int64_t rows, int64_t tall, int64_t wide) {
  int64_t downs = (tall + kDown - 1) / kDown, acrosses = (wide + kAcross - 1) / kAcross;
  ForEach(pool, downs * acrosses, [&](int64_t task) {
    int64_t top = task / acrosses * kDown, left = task % acrosses * kAcross;
    int64_t bottom = std::min(tall, top + kDown), right = std::min(wide, left + kAcross);
    std::vector<float> sums(kDown * kAcross), xs(kDeep * kDown), gradients(kDeep * kAcross);
    for (int64_t r = 0; r < rows; r += kDeep) {
      int64_t deep = std::min<int64_t>(kDeep, rows - r);
      Pack<kTall>(x + r * tall, deep, tall, top, bottom, xs.data());
      Pack<kWide>(dy + r * wide, deep, wide, left, right, gradients.data());
      for (int64_t j = 0; j < right - left; j += kWide)
        for (int64_t i = 0; i < bottom - top; i += kTall)
          AddTile(&xs[i * deep], &gradients[j * deep], &sums[i * kAcross + j], deep);
    }
    for (int64_t i = top; i < bottom; ++i)
      for (int64_t j = left; j < right; ++j)
        Store<1>(out + i * wide + j, typename VectorOf<1>::Float{sums[(i - top) * kAcross + j - left]});
  });
}

template <typename T>
std::vector<float> Floats(const T* from, int64_t count) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = Load<1>(from + i)[0];
  return values;
}

// Calls function(T{}) with the number type of the buffers.
template <typename F>
ffi::Error ByType(ffi::DataType type, F&& function) {
  if (type == ffi::DataType::F32) {
    function(float{});
  } else if (type == ffi::DataType::BF16) {
    function(BFloat16{});
  } else {
    return ffi::Error::InvalidArgument("depthwise: numbers must be float32 or bfloat16");
  }
  return ffi::Error::Success();
}

template <typename T>
T* As(ffi::AnyBuffer buffer) {
  return reinterpret_cast<T*>(buffer.untyped_data());
}

// in [b, h, w, c] and kernel [k, k, c] to out; `shape` is that of the layer's input.
ffi::Error Run(ffi::ThreadPool& pool, ffi::AnyBuffer in, ffi::AnyBuffer kernel, ffi::AnyBuffer out,
               std::vector<Axis> rows, std::vector<Axis> columns) {
  return ByType(in.element_type(), [&](auto number) {
    using T = decltype(number);
    auto from = in.dimensions(), to = out.dimensions();
    Convolve<T>(pool, As<T>(in), from[1], from[2], Floats(As<T>(kernel), kernel.element_count()),
                kernel.dimensions()[0], As<T>(out), to[0], to[1], to[2], to[3], rows, columns);
  });
}

ffi::Error ForwardImpl(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer kernel, ffi::Result<ffi::AnyBuffer> y,
                       int64_t stride) {
  int64_t size = kernel.dimensions()[0];
  return Run(pool, x, kernel, *y, Forward(x.dimensions()[1], size, stride), Forward(x.dimensions()[2], size, stride));
}

ffi::Error InputGradientImpl(ffi::ThreadPool pool, ffi::AnyBuffer dy, ffi::AnyBuffer kernel,
                             ffi::Result<ffi::AnyBuffer> dx, int64_t stride) {
  int64_t size = kernel.dimensions()[0];
  auto shape = dx->dimensions();
  return Run(pool, dy, kernel, *dx, Backward(shape[1], size, stride), Backward(shape[2], size, stride));
}

ffi::Error KernelGradientImpl(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                              ffi::Result<ffi::AnyBuffer> dkernel, int64_t stride) {
  return ByType(x.element_type(), [&](auto number) {
    using T = decltype(number);
    auto d = x.dimensions();
    KernelGradient<T>(pool, As<T>(x), As<T>(dy), As<T>(*dkernel), d[0], d[1], d[2], d[3], dkernel->dimensions()[0],
                      stride);
  });
}

ffi::Error RowSumsImpl(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer y, ffi::ResultBuffer<ffi::F32> sums,
                       ffi::ResultBuffer<ffi::F32> products) {
  return ByType(x.element_type(), [&](auto number) {
    using T = decltype(number);
    SumRows<T>(pool, As<T>(x), As<T>(y), sums->typed_data(), products->typed_data(), x.dimensions()[0],
               x.dimensions()[1]);
  });
}

ffi::Error RowProductsImpl(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                           ffi::Result<ffi::AnyBuffer> out) {
  return ByType(x.element_type(), [&](auto number) {
    using T = decltype(number);
    MultiplyRows<T>(pool, As<T>(x), As<T>(dy), As<T>(*out), x.dimensions()[0], x.dimensions()[1], dy.dimensions()[1]);
  });
}

}  // namespace

#define MNV4_NAS_HANDLER(name, function)                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, function,                \
                                ffi::Ffi::Bind()               \
                                    .Ctx<ffi::ThreadPool>()    \
                                    .Arg<ffi::AnyBuffer>()     \
                                    .Arg<ffi::AnyBuffer>()     \
                                    .Ret<ffi::AnyBuffer>()     \
                                    .Attr<int64_t>("stride"))

MNV4_NAS_HANDLER(DepthwiseForward, ForwardImpl);
MNV4_NAS_HANDLER(DepthwiseInputGradient, InputGradientImpl);
MNV4_NAS_HANDLER(DepthwiseKernelGradient, KernelGradientImpl);

XLA_FFI_DEFINE_HANDLER_SYMBOL(RowSums, RowSumsImpl,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(RowProducts, RowProductsImpl,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
