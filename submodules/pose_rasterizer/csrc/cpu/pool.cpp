// The thread pool: workers sleep on a condition variable and take blocks from an atomic counter.
#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>
#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace pose_rasterizer {
namespace {

struct Job {
    const std::function<void(int64_t)>* body;
    int64_t num_blocks;
    std::atomic<int64_t> next{0};
    int wanted;   // workers that may join
    int joined = 0, left = 0;
};

class Pool {
  public:
    void run(int num_threads, int64_t num_blocks, const std::function<void(int64_t)>& body) {
        std::lock_guard<std::mutex> one_job(run_mutex_);
        Job job;
        job.body = &body;
        job.num_blocks = num_blocks;
        job.wanted = num_threads - 1;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            while (static_cast<int>(workers_.size()) < job.wanted)
                workers_.emplace_back([this] { work(); });
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
        take_blocks(job);
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = nullptr;  // nobody joins any more
        done_.wait(lock, [&] { return job.joined == job.left; });
    }

  private:
    static void take_blocks(Job& job) {
        for (int64_t b; (b = job.next.fetch_add(1)) < job.num_blocks;) (*job.body)(b);
    }

    void work() {
        uint64_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return generation_ != seen; });
            seen = generation_;
            Job* job = job_;
            if (job == nullptr || job->joined >= job->wanted) continue;
            ++job->joined;
            lock.unlock();
            take_blocks(*job);
            lock.lock();
            ++job->left;
            done_.notify_all();
        }
    }

    std::mutex run_mutex_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    Job* job_ = nullptr;
    uint64_t generation_ = 0;
};

// Never destroyed: workers may still sleep in it when the process ends. A forked child has none of
// its parent's threads, so it gets a pool of its own.
Pool& pool() {
    static std::mutex mutex;
    static Pool* instance = nullptr;
#if !defined(_WIN32)
    static pid_t owner = 0;
    std::lock_guard<std::mutex> lock(mutex);
    if (instance == nullptr || owner != getpid()) {
        instance = new Pool;
        owner = getpid();
    }
#else
    std::lock_guard<std::mutex> lock(mutex);
    if (instance == nullptr) instance = new Pool;
#endif
    return *instance;
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
    pool().run(num_threads, num_blocks, body);
}

}  // namespace pose_rasterizer
