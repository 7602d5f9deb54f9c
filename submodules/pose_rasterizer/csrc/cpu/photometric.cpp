// The photometric loss of a fit, (1 - w) mean |x - y| + w (1 - mean SSIM), and its gradient.
//
// SSIM with a separable window of 11 taps and zeros beyond the border (Wang et al. 2004, eq. 13).
// Pass 1 walks down the rows: five products filtered along the row go into a ring of 11 rows; the
// ring filtered across rows gives the statistics, hence S and its derivatives by the means and
// moments of x. Pass 2 filters these three maps (the window is symmetric, hence its own adjoint)
// and adds what follows from x and y at the pixel itself. Threads own bands of rows of one channel;
// sums are kept per row and added in order, so the result does not depend on the threads.
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

struct Task {
  const float *image, *target, *window;
  int channels, height, width;
  float ssim_weight;
  float *v_image;         // [C, H, W]
  float *maps;            // [3, C, H, W]: derivatives by mean, by xx, by xy
  double *row_l1, *row_s;  // [C * H]
};

// `maps` rows filtered along x; each padded row has kRadius zeros on either side.
void filter_row(const float *__restrict padded, const float *w, int width, float *__restrict out) {
  for (int x = 0; x < width; ++x) {
    float sum = w[kRadius] * padded[x + kRadius];
    for (int k = 0; k < kRadius; ++k) sum += w[k] * (padded[x + k] + padded[x + kTaps - 1 - k]);
    out[x] = sum;
  }
}

// `count` maps kept as rings of rows; `slot` of a row is row modulo kTaps.
struct Rings {
  Rings(int count, int width)
      : width(width), rows(size_t(count) * kTaps * width), padded(size_t(width) + 2 * kRadius) {}
  float *row(int map, int y) { return &rows[(size_t(map) * kTaps + y % kTaps) * width]; }
  // Filter across the rows y - kRadius .. y + kRadius that exist.
  void column(int map, int y, int height, const float *w, float *__restrict out) {
    std::fill(out, out + width, 0.f);
    for (int k = -kRadius; k <= kRadius; ++k) {
      if (y + k < 0 || y + k >= height) continue;
      const float *__restrict in = row(map, y + k);
      const float weight = w[k + kRadius];
      for (int x = 0; x < width; ++x) out[x] += weight * in[x];
    }
  }
  int width;
  std::vector<float> rows, padded;
};

void statistics_band(const Task &t, int channel, int first, int last) {
  const int W = t.width, H = t.height;
  const size_t plane = size_t(H) * W, base = channel * plane, all = t.channels * plane;
  Rings rings(5, W);
  std::vector<float> stats(size_t(5) * W);
  float *mx = &stats[0], *my = mx + W, *sxx = my + W, *syy = sxx + W, *sxy = syy + W;
  auto load = [&](int y) {
    const float *x = t.image + base + size_t(y) * W, *r = t.target + base + size_t(y) * W;
    float *p = rings.padded.data() + kRadius;
    for (int map = 0; map < 5; ++map) {
      const float *a = map == 1 || map == 3 ? r : x, *b = map == 3 || map == 4 ? r : x;
      if (map < 2) {
        std::memcpy(p, a, sizeof(float) * W);
      } else {
        for (int i = 0; i < W; ++i) p[i] = a[i] * b[i];
      }
      filter_row(rings.padded.data(), t.window, W, rings.row(map, y));
    }
  };
  for (int y = std::max(0, first - kRadius); y < std::min(H, first + kRadius); ++y) load(y);
  for (int y = first; y < last; ++y) {
    if (y + kRadius < H) load(y + kRadius);
    for (int map = 0; map < 5; ++map) rings.column(map, y, H, t.window, &stats[size_t(map) * W]);
    float *v_m = t.maps + base + size_t(y) * W, *v_xx = v_m + all, *v_xy = v_xx + all;
    float row_sum = 0.f;
    for (int i = 0; i < W; ++i) {
      const float m = mx[i], n = my[i];
      const float a = 2.f * m * n + kC1, b = 2.f * (sxy[i] - m * n) + kC2;
      const float d = m * m + n * n + kC1, e = sxx[i] - m * m + syy[i] - n * n + kC2;
      const float over_d = 1.f / d, over_e = 1.f / e, s = a * b * over_d * over_e;
      row_sum += s;
      v_xx[i] = -s * over_e;
      v_xy[i] = 2.f * a * over_d * over_e;
      v_m[i] = 2.f * n * (b - a) * over_d * over_e - 2.f * m * s * (over_d - over_e);
    }
    t.row_s[size_t(channel) * H + y] = row_sum;
  }
}

void gradient_band(const Task &t, int channel, int first, int last) {
  const int W = t.width, H = t.height;
  const size_t plane = size_t(H) * W, base = channel * plane, all = t.channels * plane;
  const float scale = t.ssim_weight / float(all), l1 = (1.f - t.ssim_weight) / float(all);
  const bool with_ssim = t.ssim_weight != 0.f;
  Rings rings(3, W);
  std::vector<float> filtered(size_t(3) * W, 0.f);
  auto load = [&](int y) {
    for (int map = 0; map < 3; ++map) {
      const float *in = t.maps + map * all + base + size_t(y) * W;
      std::memcpy(rings.padded.data() + kRadius, in, sizeof(float) * W);
      filter_row(rings.padded.data(), t.window, W, rings.row(map, y));
    }
  };
  if (with_ssim)
    for (int y = std::max(0, first - kRadius); y < std::min(H, first + kRadius); ++y) load(y);
  for (int y = first; y < last; ++y) {
    if (with_ssim) {
      if (y + kRadius < H) load(y + kRadius);
      for (int map = 0; map < 3; ++map)
        rings.column(map, y, H, t.window, &filtered[size_t(map) * W]);
    }
    const float *x = t.image + base + size_t(y) * W, *r = t.target + base + size_t(y) * W;
    const float *fm = &filtered[0], *fxx = fm + W, *fxy = fxx + W;
    float *v = t.v_image + base + size_t(y) * W, sum = 0.f;
    for (int i = 0; i < W; ++i) {
      const float difference = x[i] - r[i];
      sum += std::fabs(difference);
      const float sign = float(difference > 0.f) - float(difference < 0.f);
      v[i] = l1 * sign - scale * (fm[i] + 2.f * x[i] * fxx[i] + r[i] * fxy[i]);
    }
    t.row_l1[size_t(channel) * H + y] = sum;
  }
}

template <class Band>
void for_bands(const Task &t, int threads, Band band) {
  const int rows = t.channels * t.height;
  threads = std::max(1, std::min(threads, rows));
  auto work = [&](int k) {
    int row = int(int64_t(rows) * k / threads), end = int(int64_t(rows) * (k + 1) / threads);
    while (row < end) {  // a band never spans two channels
      const int channel = row / t.height;
      const int stop = std::min(end, (channel + 1) * t.height);
      band(t, channel, row - channel * t.height, stop - channel * t.height);
      row = stop;
    }
  };
  pose_rasterizer::parallel_blocks(threads, threads, [&](int64_t k) { work(int(k)); });
}

}  // namespace

// `maps` is scratch of 3 C H W floats. Returns the loss; writes d loss / d image to v_image.
POSE_EXPORT double pose_cpu_photometric(const float *image, const float *target,
                                        const float *window, int32_t channels, int32_t height,
                                        int32_t width, float ssim_weight, int32_t threads,
                                        float *maps, float *v_image) {
  const size_t rows = size_t(channels) * height;
  std::vector<double> row_l1(rows, 0.0), row_s(rows, 0.0);
  const Task task{image,       target,  window, channels,      height,      width,
                  ssim_weight, v_image, maps,   row_l1.data(), row_s.data()};
  if (ssim_weight != 0.f) for_bands(task, threads, statistics_band);
  for_bands(task, threads, gradient_band);
  double l1 = 0.0, s = 0.0;
  for (size_t i = 0; i < rows; ++i) l1 += row_l1[i], s += row_s[i];
  const double count = double(rows) * width;
  return (1.0 - ssim_weight) * l1 / count + ssim_weight * (1.0 - s / count);
}
