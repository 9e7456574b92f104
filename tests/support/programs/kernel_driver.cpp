// Runs every kernel on random shapes, in buffers without a byte to spare; compiled with sanitizers by
// test_kernels_sanitized.py.

#include "../../../indexing/scan/_kernels.cpp"

#include <cstdio>
#include <random>

namespace {

std::mt19937 generator(1);

int64_t number(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(generator); }

template <class T>
std::vector<T> random_bytes(int64_t count) {
    std::vector<T> values(count);
    for (T& value : values) value = static_cast<T>(number(0, 255));
    return values;
}

std::vector<float> random_floats(int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(number(-1000, 1000)) / 1000;
    return values;
}

void run(int level) {
    const int threads = static_cast<int>(number(1, 4));
    const int64_t nbits = int64_t{1} << number(0, 3), dim = 8 * nbits * number(1, 9), count = number(1, 50);
    const int64_t videos = number(1, 6), query_tokens = number(1, 70), blocks = (query_tokens + LANES - 1) / LANES;
    std::vector<int64_t> offsets{0};
    for (int64_t video = 0; video < videos; video++) offsets.push_back(offsets.back() + number(1, 40));
    std::vector<int32_t> codes(offsets.back());
    for (int32_t& code : codes) code = static_cast<int32_t>(number(INT32_MIN, INT32_MAX) % (2 * count));
    const auto residuals = random_bytes<uint8_t>(offsets.back() * dim * nbits / 8);
    std::vector<float> inverse(offsets.back(), 0);
    const Bag bag{codes.data(), residuals.data(), offsets.data(), inverse.data()};

    const auto centroids = random_bytes<uint8_t>(count * dim), planes = random_bytes<uint8_t>(8 / nbits * 256);
    const auto squares = random_floats(count), means = random_floats(count * dim);
    const auto weights = random_floats(256 * (8 / nbits));
    const Codec codec{centroids.data(), squares.data(), means.data(), planes.data(), weights.data(),
                      count,            dim,            nbits,        0.01f,         0.01f};

    const auto rotated = random_floats(query_tokens * dim);
    std::vector<int8_t> bytes(blocks * dim * LANES, 0);
    std::vector<int32_t> start(blocks * LANES, 0);
    std::vector<float> tokens(blocks * dim * LANES, 0);
    const float scale =
        round_query(rotated.data(), query_tokens, dim, nbits, bytes.data(), start.data(), tokens.data());
    const Query query{bytes.data(), start.data(), tokens.data(), query_tokens, blocks, scale};

    std::vector<int32_t> products(blocks * count * LANES);
    int32_t range[2];
    centroid_products(level, threads, &codec, &query, products.data(), range);
    std::vector<uint8_t> table(products.size());
    byte_table(level, threads, products.data(), products.size(), range[0], 255.0f / (1.0f + range[1] - range[0]),
               table.data());

    std::vector<int64_t> ordinals;
    for (int64_t video = 0; video < videos; video++)
        if (number(0, 1)) ordinals.push_back(video);
    const int64_t chosen = ordinals.size();
    std::vector<int32_t> sums(chosen, 0);
    const int64_t wide = number(0, 1);
    int64_t groups = 0;
    for (int64_t video = 0; video < videos; video++) groups += (offsets[video + 1] - offsets[video] + GROUP - 1) / GROUP;
    std::vector<uint8_t> distinct(groups * GROUP * (wide ? 4 : 2));
    std::vector<int64_t> starts(videos + 1);
    distinct_codes(&bag, videos, count, wide, distinct.data(), starts.data());
    const Distinct once{distinct.data(), starts.data(), wide};
    centroid_interaction(level, threads, &once, ordinals.data(), chosen, table.data(), count, blocks, sums.data());
    std::vector<float> scores(chosen, 0);
    for (int time = 0; time < 2; time++)  // the lengths of tokens are not known at first, then they are
        rounded_scores(level, threads, &bag, &codec, &query, products.data(), ordinals.data(), chosen, scores.data());
    exact_scores(level, threads, &bag, &codec, &query, ordinals.data(), chosen, scores.data());
    int32_t most = 0;
    for (int32_t sum : sums) most = sum > most ? sum : most;
    const int64_t wanted = number(0, chosen);
    std::vector<int64_t> positions(wanted);
    select_largest(level, sums.data(), chosen, most, wanted, positions.data());
}

}  // namespace

int main() {
    for (int level = 0; level <= best_level(); level++)
        for (int shape = 0; shape < 300; shape++) run(level);
    std::puts("nothing found");
}
