// What every entry point of the CUDA libraries needs on the host.
#pragma once
#include "platform.cuh"

namespace pose_rasterizer {

// Makes the caller's device current in this library's own runtime, and puts the old one back.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device) {
        status_ = cudaGetDevice(&before_);
        if (status_ == cudaSuccess && before_ != device) {
            status_ = cudaSetDevice(device);
            changed_ = status_ == cudaSuccess;
        }
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    cudaError_t status() const { return status_; }

  private:
    int before_ = 0;
    bool changed_ = false;
    cudaError_t status_;
};

inline const char* message(cudaError_t status) {
    return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace pose_rasterizer
