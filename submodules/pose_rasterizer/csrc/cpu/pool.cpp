// Work is taken block by block from an atomic counter by the threads of torch's OpenMP runtime, or,
// where there is none, by a pool of our own that sleeps on a condition variable.
//
// OpenMP's threads wait for their next work in a loop for some milliseconds before they sleep.
// Between two of torch's operators a second pool would have to share the cores with them: a forward
// and backward pass on two cores then took 17 ms instead of 10.
#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>
#if !defined(_WIN32)
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace pose_rasterizer {
namespace {

struct Job {
    const std::function<void(int64_t)>* body;
    int64_t num_blocks;
    std::atomic<int64_t> next{0};
    std::mutex failure_mutex;
    std::exception_ptr failure;  // the first one; no block starts after it

    void take_blocks() {
        try {
            for (int64_t b; (b = next.fetch_add(1)) < num_blocks;) (*body)(b);
        } catch (...) {
            next = num_blocks;
            std::lock_guard<std::mutex> lock(failure_mutex);
            if (!failure) failure = std::current_exception();
        }
    }
};

class Pool {
  public:
    void run(int num_threads, Job& job) {
        std::lock_guard<std::mutex> one_job(run_mutex_);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            wanted_ = num_threads - 1;
            joined_ = left_ = 0;
            while (static_cast<int>(workers_.size()) < wanted_)
                workers_.emplace_back([this] { work(); });
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
        job.take_blocks();
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = nullptr;  // nobody joins any more
        done_.wait(lock, [&] { return joined_ == left_; });
    }

  private:
    void work() {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            Job* job = job_;
            if (job == nullptr || joined_ >= wanted_) continue;
            ++joined_;
            lock.unlock();
            job->take_blocks();
            lock.lock();
            ++left_;
            done_.notify_all();
        }
    }

    std::mutex run_mutex_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    Job* job_ = nullptr;
    uint64_t generation_ = 0;
    int wanted_ = 0, joined_ = 0, left_ = 0;  // workers that may join the job, did, have finished
};

#if defined(_WIN32)
int process_id() { return 0; }
#else
int process_id() { return static_cast<int>(getpid()); }
#endif

// Never destroyed: workers may still sleep in it when the process ends. A forked child has none of
// its parent's threads, so it gets a pool of its own.
Pool& pool() {
    static std::mutex mutex;
    static Pool* instance = nullptr;
    static int owner = 0;
    std::lock_guard<std::mutex> lock(mutex);
    if (instance == nullptr || owner != process_id()) {
        instance = new Pool;
        owner = process_id();
    }
    return *instance;
}

// GOMP_parallel of GNU's OpenMP runtime (LLVM's and Intel's have it too), where torch loaded one.
// None in a forked child: the runtime would wait for its parent's threads.
using Parallel = void (*)(void (*)(void*), void*, unsigned num_threads, unsigned flags);
Parallel find_parallel() {
#if defined(_WIN32)
    return nullptr;
#else
    static const Parallel parallel =
        reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    static const int owner = process_id();
    return owner == process_id() ? parallel : nullptr;
#endif
}

}  // namespace

void parallel_blocks(int num_threads, int64_t num_blocks,
                     const std::function<void(int64_t)>& body) {
    if (num_threads > kMaxThreads) num_threads = kMaxThreads;
    if (num_threads > num_blocks) num_threads = static_cast<int>(num_blocks);
    if (num_threads <= 1) {
        for (int64_t b = 0; b < num_blocks; ++b) body(b);
        return;
    }
    Job job;
    job.body = &body;
    job.num_blocks = num_blocks;
    if (const Parallel parallel = find_parallel())
        parallel([](void* j) { static_cast<Job*>(j)->take_blocks(); }, &job, num_threads, 0);
    else
        pool().run(num_threads, job);
    if (job.failure) std::rethrow_exception(job.failure);
}

}  // namespace pose_rasterizer
