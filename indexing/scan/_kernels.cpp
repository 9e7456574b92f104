// Kernels of the search on a CPU: plain functions on raw memory, called from kernels.py, which checks all arguments.
//
// A query is scored in lanes: 32 query tokens side by side, so that one vector register holds one number for each of
// them and a maximum over a video's tokens needs no reduction. A longer query takes several blocks of 32 lanes.
//
// The two headers are compiled once for each instruction set; the caller chooses among those the machine has.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#define KERNELS_X86 1
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define KERNELS_NEON 1
#include <arm_neon.h>
#endif

#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int LANES = 32;
constexpr int ZERO = 64;              // the byte that stands for 0; bytes reach 127, query tokens from -63 to 63
constexpr int GROUP = 4;              // distinct codes side by side
constexpr int LINE = 64;              // bytes the memory delivers at once
constexpr int STEPS = 192;            // numbers of a row that are added up before they are added to the others
constexpr int MOST_PREFETCHED = 16;   // tokens of a video asked for ahead of time

// A bag of a segment, as ColBERT stores it.
struct Bag {
    const int32_t* codes;      // (tokens), centroid of each token
    const uint8_t* residuals;  // (tokens, bytes), packed bucket ids
    const int64_t* offsets;    // (videos + 1), where each video's tokens start
    float* inverse;            // (tokens), 1 / length of each decoded token; 0 until it is computed
};

// The codes of a bag, each once for a video that has it: most tokens share their centroid with another one. A video has
// whole groups, the last filled up with a code that it has already; codes are below the number of centroids.
struct Distinct {
    const void* groups;      // (groups, GROUP), uint16_t, or int32_t where `wide`
    const int64_t* starts;   // (videos + 1), where each video's groups start
    int64_t wide;
};

// A codec in full precision and rounded to bytes. Bytes stand for (byte - ZERO) * scale, and their dimensions are
// ordered by plane: first those in the highest bits of each packed byte, then the next ones.
struct Codec {
    const uint8_t* centroids;   // (centroids, dim), rounded, by plane
    const float* squares;       // (centroids), squared length
    const float* means;         // (centroids, dim), in full precision, in order
    const uint8_t* planes;      // (ids, 256), rounded weight of each packed byte's ids
    const float* weights;       // (256, ids), the same in full precision
    int64_t count;              // centroids
    int64_t dim;
    int64_t nbits;
    float centroid_scale;
    float weight_scale;
};

// A query in full precision and rounded to bytes; unused lanes of the last block are zero.
struct Query {
    const int8_t* bytes;   // (blocks, dim / 4, lanes, 4), rounded, dimensions by plane
    const int32_t* start;  // (blocks, lanes), -ZERO * sum of each lane's bytes: undoes ZERO in centroids and weights
    const float* tokens;   // (blocks, dim, lanes), in full precision, dimensions in order
    int64_t count;         // query tokens
    int64_t blocks;
    float scale;
};

// The code, kept within the centroids: a mapped file may change after it was checked.
INLINE int64_t within(int32_t code, int64_t count) {
    const uint32_t last = static_cast<uint32_t>(count - 1), given = static_cast<uint32_t>(code);
    return given < last ? given : last;
}

// Call body(first, last) for parts of [0, count), each in a thread of its own; where the system has no more threads, the
// calling one does the rest.
template <class Body>
void in_parts(int threads, int64_t count, Body body) {
    const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads, count));
    const auto start = [=](int64_t part) { return count / parts * part + std::min(part, count % parts); };
    std::vector<std::thread> others;
    int64_t part = 1;
    try {
        others.reserve(parts - 1);
        for (; part < parts; part++) others.emplace_back(body, start(part), start(part + 1));
    } catch (const std::system_error&) {
    }
    body(0, start(1));
    if (part < parts) body(start(part), count);
    for (std::thread& other : others) other.join();
}

// Loads and stores of a number that several threads may write at once; all write the same value.
INLINE float shared_load(const float* from) {
    const uint32_t bits = __atomic_load_n(reinterpret_cast<const uint32_t*>(from), __ATOMIC_RELAXED);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE void shared_store(float* to, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    __atomic_store_n(reinterpret_cast<uint32_t*>(to), bits, __ATOMIC_RELAXED);
}

template <class Code>
void write_distinct(const Bag& bag, int64_t videos, int64_t centroids, Code* groups, int64_t* starts) {
    std::vector<Code> codes;
    int64_t group = 0;
    for (int64_t video = 0; video < videos; video++) {
        starts[video] = group;
        codes.clear();
        for (int64_t token = bag.offsets[video]; token < bag.offsets[video + 1]; token++) {
            const Code code = static_cast<Code>(within(bag.codes[token], centroids));
            if (codes.empty() || codes.back() != code) codes.push_back(code);
        }
        std::sort(codes.begin(), codes.end());
        codes.erase(std::unique(codes.begin(), codes.end()), codes.end());
        codes.resize((codes.size() + GROUP - 1) / GROUP * GROUP, codes.empty() ? Code{} : codes.back());
        std::copy(codes.begin(), codes.end(), groups + group * GROUP);
        group += static_cast<int64_t>(codes.size()) / GROUP;
    }
    starts[videos] = group;
}

}  // namespace

namespace portable {
#define KERNELS_LEVEL 0
#define TARGET
#include "_kernels_isa.h"
#include "_kernels_scores.h"
#undef TARGET
#undef KERNELS_LEVEL
}  // namespace portable

#ifdef KERNELS_X86
namespace avx2 {
#define KERNELS_LEVEL 1
#define TARGET __attribute__((target("avx2,fma")))
#include "_kernels_isa.h"
#include "_kernels_scores.h"
#undef TARGET
#undef KERNELS_LEVEL
}  // namespace avx2

namespace avx512 {
#define KERNELS_LEVEL 2
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#include "_kernels_isa.h"
#include "_kernels_scores.h"
#undef TARGET
#undef KERNELS_LEVEL
}  // namespace avx512
#endif

#ifdef KERNELS_X86
#define DISPATCH(level, call)      \
    switch (level) {               \
        case 2: avx512::call; break; \
        case 1: avx2::call; break;   \
        default: portable::call;   \
    }
#else
#define DISPATCH(level, call) portable::call
#endif

#if defined(_WIN32)
#define API extern "C" __declspec(dllexport)
#else
#define API extern "C" __attribute__((visibility("default")))
#endif

// Raised with every change of a function or structure here; kernels.py loads no other version.
API int kernels_version() { return 3; }

// The best instruction set of this machine: 0 portable, 1 AVX2, 2 AVX-512 with VNNI.
API int best_level() {
#ifdef KERNELS_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    return avx2 ? (avx512 ? 2 : 1) : 0;
#else
    return 0;
#endif
}

// Products of rows (count, dim) with a square matrix (dim, dim): each row's are the same whatever the other rows are, and
// whichever thread computes them.
API void rotate(int level, const float* rows, int64_t count, const float* matrix, int64_t dim, float* products) {
    DISPATCH(level, rotate(rows, count, matrix, dim, products));
}

// Round query tokens (count, dim) to bytes and lay them out as in `Query`; `bytes`, `start` and `tokens` must be zero.
// Returns the value that 1 of a byte stands for.
API float round_query(const float* rotated, int64_t count, int64_t dim, int64_t nbits, int8_t* bytes, int32_t* start,
                      float* tokens) {
    const int64_t ids = 8 / nbits, plane = dim / ids;  // dimensions in one plane
    float most = 1e-30f;
    for (int64_t i = 0; i < count * dim; i++) most = std::fabs(rotated[i]) > most ? std::fabs(rotated[i]) : most;
    const float scale = most / (ZERO - 1);
    for (int64_t token = 0; token < count; token++) {
        const int64_t block = token / LANES, lane = token % LANES;
        int32_t sum = 0;
        for (int64_t d = 0; d < dim; d++) {
            const float value = rotated[token * dim + d];
            const float whole = value / scale + 12582912.0f - 12582912.0f;  // 1.5 * 2^23: to the nearest, ties to even
            const int64_t place = d % ids * plane + d / ids;
            bytes[(block * dim + place / 4 * 4) * LANES + lane * 4 + place % 4] = static_cast<int8_t>(whole);
            tokens[(block * dim + d) * LANES + lane] = value;
            sum += static_cast<int32_t>(whole);
        }
        start[token] = -ZERO * sum;
    }
    return scale;
}

// Each video's distinct codes, in groups; `groups` has room for all tokens, `starts` for one number more than videos.
API void distinct_codes(const Bag* bag, int64_t videos, int64_t centroids, int64_t wide, void* groups, int64_t* starts) {
    if (wide)
        write_distinct(*bag, videos, centroids, static_cast<int32_t*>(groups), starts);
    else
        write_distinct(*bag, videos, centroids, static_cast<uint16_t*>(groups), starts);
}

// Inner products of all centroids and query tokens, (blocks, centroids, lanes); `range` gets the least and the largest.
API void centroid_products(int level, int threads, const Codec* codec, const Query* query, int32_t* products,
                           int32_t* range) {
    std::atomic<int32_t> least{INT32_MAX}, most{INT32_MIN};
    in_parts(threads, codec->count, [&](int64_t first, int64_t last) {
        int32_t own[2];
        DISPATCH(level, centroid_products(*codec, *query, first, last, products, own));
        for (int32_t seen = least; own[0] < seen && !least.compare_exchange_weak(seen, own[0]);) {}
        for (int32_t seen = most; own[1] > seen && !most.compare_exchange_weak(seen, own[1]);) {}
    });
    range[0] = least;
    range[1] = most;
}

// Products as bytes: table = (product - low) * scale, rounded down, within 0 to 255.
API void byte_table(int level, int threads, const int32_t* products, int64_t count, int32_t low, float scale,
                    uint8_t* table) {
    in_parts(threads, count, [=](int64_t first, int64_t last) {
        DISPATCH(level, byte_table(products + first, last - first, low, scale, table + first));
    });
}

// Add to each video's sum: over lanes, the maximum of the table's rows at its codes.
API void centroid_interaction(int level, int threads, const Distinct* codes, const int64_t* ordinals, int64_t videos,
                              const uint8_t* table, int64_t centroids, int64_t blocks, int32_t* sums) {
    in_parts(threads, videos, [=](int64_t first, int64_t last) {
        DISPATCH(level, centroid_interaction(*codes, ordinals + first, last - first, table, centroids, blocks,
                                             sums + first));
    });
}

// Add each video's MeanMaxSim on its decoded tokens, in rounded arithmetic.
API void rounded_scores(int level, int threads, const Bag* bag, const Codec* codec, const Query* query,
                        const int32_t* products, const int64_t* ordinals, int64_t videos, float* scores) {
    in_parts(threads, videos, [=](int64_t first, int64_t last) {
        DISPATCH(level, rounded_scores(*bag, *codec, *query, products, ordinals + first, last - first, scores + first));
    });
}

// Each video's MeanMaxSim on its decoded tokens, in single precision.
API void exact_scores(int level, int threads, const Bag* bag, const Codec* codec, const Query* query,
                      const int64_t* ordinals, int64_t videos, float* scores) {
    in_parts(threads, videos, [=](int64_t first, int64_t last) {
        DISPATCH(level, exact_scores(*bag, *codec, *query, ordinals + first, last - first, scores + first));
    });
}

// Positions of the `wanted` largest of `count` sums, all within 0 to `most`, in ascending order; the first of equals.
API void select_largest(int level, const int32_t* sums, int64_t count, int32_t most, int64_t wanted,
                        int64_t* positions) {
    std::vector<int64_t> histogram(static_cast<size_t>(most) + 1, 0);
    for (int64_t i = 0; i < count; i++) histogram[sums[i]]++;
    int32_t threshold = most;
    int64_t above = 0;  // sums greater than the threshold
    while (threshold > 0 && above + histogram[threshold] < wanted) above += histogram[threshold--];
    DISPATCH(level, positions_from(sums, count, threshold, wanted - above, wanted, positions));
}

#ifdef KERNELS_PYTHON_MODULE
// An empty module, so that Python can find and import the file; kernels.py calls the functions above through ctypes.
#include <Python.h>

PyMODINIT_FUNC PyInit__kernels() {
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", nullptr, -1, nullptr,
                                     nullptr,               nullptr,    nullptr, nullptr};
    return PyModule_Create(&definition);
}
#endif
