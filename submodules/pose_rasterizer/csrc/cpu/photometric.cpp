// The photometric loss of a fit, (1 - w) mean |x - y| + w (1 - mean SSIM), and its gradient.
//
// SSIM with a separable window of 11 taps and zeros beyond the border (Wang et al. 2004, eq. 13).
// One walk down the rows does all of it, so that nothing but the two images and the gradient passes
// through memory: row y + 10 of four products is filtered along the row into a ring of 11 rows; the
// ring filtered across rows gives the statistics of row y + 5, hence S and its derivatives by the
// means and moments of x; these, filtered along the row, go into a second ring, and that one
// filtered across rows (the window is symmetric, hence its own adjoint) gives the gradient of row y.
// Threads own bands of rows of one channel and make the rows around them anew; sums are kept per
// row and added in order, so the result does not depend on the threads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../common/export.h"
#include "pool.h"

namespace {

constexpr int kRadius = 5, kTaps = 2 * kRadius + 1;
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

// Sixteen floats: one AVX-512 register, or two or four smaller ones.
constexpr int kWide = 16;
typedef float Wide __attribute__((vector_size(64)));
typedef int32_t WideInt __attribute__((vector_size(64)));

static inline Wide load(const float *from) {
  Wide v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
static inline void store(float *to, Wide v) { std::memcpy(to, &v, sizeof(v)); }
static inline Wide wide(float v) { return v - Wide{}; }

struct Task {
  const float *image, *target, *window;
  const uint8_t *bytes;  // the target where it holds bytes, else null
  int channels, height, width;
  float ssim_weight, scale;
  float *v_image;                     // [C, H, W]
  double *row_l1, *row_s, *row_square;  // [C * H]
};

// A row with room for the window on either side, all beyond the image zero; whole vectors long.
struct Row {
  explicit Row(int width) : values(kWide + (width + kWide - 1) / kWide * kWide + kWide) {}
  float *data() { return values.data() + kWide; }
  std::vector<float> values;
};

// kTaps rows of each of `Maps` maps, and their sums across rows.
template <int Maps> class Ring {
 public:
  explicit Ring(int width) : stride_((width + kWide - 1) / kWide * kWide), zero_(stride_) {
    for (auto &map : rows_) map.assign(size_t(kTaps) * stride_, 0.f);
  }
  float *row(int map, int y) { return &rows_[map][size_t(y % kTaps) * stride_]; }
  // The rows y - kRadius .. y + kRadius of all maps; zeros where there are none.
  void gather(int y, int height) {
    for (int map = 0; map < Maps; ++map)
      for (int k = 0; k < kTaps; ++k) {
        const int at = y + k - kRadius;
        taps_[map][k] = at < 0 || at >= height ? zero_.data() : row(map, at);
      }
  }
  Wide across(int map, int x, const Wide *w) const {
    const float *const *r = taps_[map];
    Wide sum = w[kRadius] * load(r[kRadius] + x);
    for (int k = 0; k < kRadius; ++k) sum += w[k] * (load(r[k] + x) + load(r[kTaps - 1 - k] + x));
    return sum;
  }

 private:
  int stride_;
  std::vector<float> zero_, rows_[Maps];
  const float *taps_[Maps][kTaps];
};

static inline Wide along(const float *x, const Wide *w) {
  Wide sum = w[kRadius] * load(x);
  for (int k = 1; k <= kRadius; ++k) sum += w[kRadius + k] * (load(x - k) + load(x + k));
  return sum;
}

// A band of rows of one channel.
class Band {
 public:
  Band(const Task &t, int channel)
      : t_(t), channel_(channel), base_(size_t(channel) * t.height * t.width), x_(t.width),
        y_(t.width), squares_(t.width), product_(t.width), by_mean_(t.width), by_square_(t.width),
        by_product_(t.width), moments_(t.width), derivatives_(t.width), out_(t.width) {
    for (int k = 0; k < kTaps; ++k) w_[k] = wide(t.window[k]);
  }

  void run(int first, int last) {
    const int H = t_.height;
    if (t_.ssim_weight != 0.f) {
      int loaded = std::max(0, first - 2 * kRadius), known = std::max(0, first - kRadius);
      for (int y = first; y < last; ++y) {
        for (; known <= std::min(H - 1, y + kRadius); ++known) {
          for (; loaded <= std::min(H - 1, known + kRadius); ++loaded) load_row(loaded);
          const float sum = statistics(known);
          if (known >= first && known < last) t_.row_s[size_t(channel_) * H + known] = sum;
        }
        gradient<true>(y);
      }
    } else {
      for (int y = first; y < last; ++y) gradient<false>(y);
    }
  }

 private:
  void fetch(int y) {
    const size_t at = base_ + size_t(y) * t_.width;
    std::memcpy(x_.data(), t_.image + at, sizeof(float) * t_.width);
    if (t_.bytes == nullptr) {
      std::memcpy(y_.data(), t_.target + at, sizeof(float) * t_.width);
      return;
    }
    const uint8_t *from = t_.bytes + at;
    float *to = y_.data();
    for (int i = 0; i < t_.width; ++i) to[i] = float(from[i]) / 255.f;
  }

  void load_row(int y) {
    fetch(y);
    const float *a = x_.data(), *b = y_.data();
    float *s = squares_.data(), *p = product_.data();
    for (int i = 0; i < t_.width; i += kWide) {
      const Wide u = load(a + i), v = load(b + i);
      store(s + i, u * u + v * v);  // SSIM needs the two variances only as a sum
      store(p + i, u * v);
    }
    float *m[4] = {moments_.row(0, y), moments_.row(1, y), moments_.row(2, y), moments_.row(3, y)};
    for (int i = 0; i < t_.width; i += kWide) {
      store(m[0] + i, along(a + i, w_));
      store(m[1] + i, along(b + i, w_));
      store(m[2] + i, along(s + i, w_));
      store(m[3] + i, along(p + i, w_));
    }
  }

  // S of row y summed; its derivatives go into the second ring.
  float statistics(int y) {
    const int W = t_.width;
    moments_.gather(y, t_.height);
    float *v_m = by_mean_.data(), *v_xx = by_square_.data(), *v_xy = by_product_.data();
    Wide total{};
    float rest = 0.f;
    for (int i = 0; i < W; i += kWide) {
      const Wide m = moments_.across(0, i, w_), n = moments_.across(1, i, w_);
      const Wide squares = moments_.across(2, i, w_), product = moments_.across(3, i, w_);
      const Wide mn = m * n, mm_nn = m * m + n * n;
      const Wide a = 2.f * mn + kC1, b = 2.f * (product - mn) + kC2;
      const Wide d = mm_nn + kC1, e = squares - mm_nn + kC2;
      const Wide over_de = 1.f / (d * e), over_d = e * over_de, over_e = d * over_de;
      const Wide s = a * b * over_de;
      if (i + kWide <= W) total += s;
      else for (int k = 0; k < W - i; ++k) rest += s[k];
      store(v_xx + i, -s * over_e);
      store(v_xy + i, 2.f * a * over_de);
      store(v_m + i, 2.f * n * (b - a) * over_de - 2.f * m * s * (over_d - over_e));
    }
    const int end = (W + kWide - 1) / kWide * kWide;  // what lies beyond the image counts as zero
    for (float *row : {v_m, v_xx, v_xy}) std::fill(row + W, row + end, 0.f);
    float *r[3] = {derivatives_.row(0, y), derivatives_.row(1, y), derivatives_.row(2, y)};
    for (int i = 0; i < W; i += kWide) {
      store(r[0] + i, along(v_m + i, w_));
      store(r[1] + i, along(v_xx + i, w_));
      store(r[2] + i, along(v_xy + i, w_));
    }
    for (int k = 0; k < kWide; ++k) rest += total[k];
    return rest;
  }

  template <bool with_ssim> void gradient(int y) {
    const int W = t_.width;
    const float each = t_.scale / float(size_t(t_.channels) * t_.height * W);
    const float scale = t_.ssim_weight * each, l1 = (1.f - t_.ssim_weight) * each;
    fetch(y);
    if (with_ssim) derivatives_.gather(y, t_.height);
    Wide sum{}, square{};
    for (int i = 0; i < W; i += kWide) {  // beyond the image both are zero
      const Wide x = load(x_.data() + i), r = load(y_.data() + i), difference = x - r;
      const WideInt up = difference > 0.f, down = difference < 0.f;
      const Wide sign = __builtin_convertvector(down - up, Wide);
      sum += difference * sign;
      square += difference * difference;
      Wide v = l1 * sign;
      if (with_ssim)
        v -= scale * (derivatives_.across(0, i, w_) + 2.f * x * derivatives_.across(1, i, w_) +
                      r * derivatives_.across(2, i, w_));
      store(out_.data() + i, v);
    }
    std::memcpy(t_.v_image + base_ + size_t(y) * W, out_.data(), sizeof(float) * W);
    float l1_sum = 0.f, square_sum = 0.f;
    for (int k = 0; k < kWide; ++k) l1_sum += sum[k], square_sum += square[k];
    t_.row_l1[size_t(channel_) * t_.height + y] = l1_sum;
    t_.row_square[size_t(channel_) * t_.height + y] = square_sum;
  }

  const Task &t_;
  const int channel_;
  const size_t base_;
  Wide w_[kTaps];
  Row x_, y_, squares_, product_, by_mean_, by_square_, by_product_;
  Ring<4> moments_;
  Ring<3> derivatives_;
  Row out_;
};

// A band never spans two channels.
void run_bands(const Task &t, int threads) {
  const int rows = t.channels * t.height;
  threads = std::max(1, std::min(threads, rows));
  pose_rasterizer::parallel_blocks(threads, threads, [&](int64_t k) {
    int row = int(int64_t(rows) * k / threads), end = int(int64_t(rows) * (k + 1) / threads);
    while (row < end) {
      const int channel = row / t.height;
      const int stop = std::min(end, (channel + 1) * t.height);
      Band(t, channel).run(row - channel * t.height, stop - channel * t.height);
      row = stop;
    }
  });
}

}  // namespace

// Writes scale * d loss / d image to v_image, and to `means` the loss, mean |x - y|, mean SSIM (0 where its
// weight is 0) and mean (x - y)^2.
POSE_EXPORT void pose_cpu_photometric(const float *image, const void *target, const float *window,
                                      int32_t channels, int32_t height, int32_t width,
                                      int32_t target_bytes, float ssim_weight, float scale,
                                      int32_t threads, float *v_image, double *means) {
  const size_t rows = size_t(channels) * height;
  std::vector<double> row_l1(rows, 0.0), row_s(rows, 0.0), row_square(rows, 0.0);
  const bool in_bytes = target_bytes != 0;
  const Task task{image, in_bytes ? nullptr : static_cast<const float *>(target), window,
                  in_bytes ? static_cast<const uint8_t *>(target) : nullptr, channels, height, width,
                  ssim_weight, scale, v_image, row_l1.data(), row_s.data(), row_square.data()};
  run_bands(task, threads);
  double l1 = 0.0, s = 0.0, square = 0.0;
  for (size_t i = 0; i < rows; ++i) l1 += row_l1[i], s += row_s[i], square += row_square[i];
  const double count = double(rows) * width;
  means[1] = l1 / count;
  means[2] = s / count;
  means[3] = square / count;
  means[0] = (1.0 - ssim_weight) * means[1] + (ssim_weight != 0.f ? ssim_weight * (1.0 - means[2]) : 0.0);
}
