// The kernels, written with _kernels_isa.h; _kernels.cpp includes both once for each instruction set.

// Prefetch the next centroids while others are multiplied.
TARGET static INLINE void prefetch_rows(const Codec& codec, int64_t first) {
    const int64_t end = first + TOKENS < codec.count ? first + TOKENS : codec.count;
    for (int64_t at = first * codec.dim; at < end * codec.dim; at += LINE) __builtin_prefetch(codec.centroids + at);
}

// The products of the centroids [first, last).
TARGET static void centroid_products(const Codec& codec, const Query& query, int64_t first, int64_t last,
                                     int32_t* products, int32_t* range) {
    int32_t least = INT32_MAX, most = INT32_MIN;
    for (int64_t block = 0; block < query.blocks; block++) {
        const int8_t* bytes = query.bytes + block * codec.dim * LANES;
        for (int64_t c = first; c < last; c += TOKENS) {
            const int64_t rows = last - c < TOKENS ? last - c : TOKENS;
            int32_t* row = products + (block * codec.count + c) * LANES;
            prefetch_rows(codec, c + TOKENS);
            dots_of(rows, codec.centroids + c * codec.dim, codec.dim, bytes, query.start + block * LANES, row);
            for (int64_t i = 0; i < rows * LANES; i++) {
                least = row[i] < least ? row[i] : least;
                most = row[i] > most ? row[i] : most;
            }
        }
    }
    range[0] = least;
    range[1] = most;
}

TARGET static void byte_table(const int32_t* products, int64_t count, int32_t low, float scale, uint8_t* table) {
    for (int64_t i = 0; i < count; i++) {
        const int32_t level = static_cast<int32_t>(static_cast<float>(products[i] - low) * scale);
        table[i] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
    }
}

TARGET static INLINE ByteLanes larger(ByteLanes one, ByteLanes other) { return one > other ? one : other; }

// The table's row at a code.
template <class Code>
TARGET static INLINE ByteLanes row_of(const uint8_t* table, Code code) {
    return load<ByteLanes>(table + static_cast<size_t>(code) * LANES);
}

template <class Code>
TARGET static void centroid_interaction(const Code* groups, const int64_t* starts, const int64_t* ordinals,
                                        int64_t videos, const uint8_t* table, int32_t* sums) {
    for (int64_t i = 0; i < videos; i++) {
        const Code* code = groups + starts[ordinals[i]] * GROUP;
        const Code* end = groups + starts[ordinals[i] + 1] * GROUP;
        ByteLanes best = {};
        for (; code < end; code += GROUP) {
            const ByteLanes two = larger(row_of(table, code[0]), row_of(table, code[1]));
            best = larger(best, larger(two, larger(row_of(table, code[2]), row_of(table, code[3]))));
        }
        sums[i] += sum_of_bytes(best);
    }
}

TARGET static void centroid_interaction(const Distinct& codes, const int64_t* ordinals, int64_t videos,
                                        const uint8_t* table, int64_t centroids, int64_t blocks, int32_t* sums) {
    for (int64_t block = 0; block < blocks; block++, table += centroids * LANES)
        if (codes.wide)
            centroid_interaction(static_cast<const int32_t*>(codes.groups), codes.starts, ordinals, videos, table, sums);
        else
            centroid_interaction(static_cast<const uint16_t*>(codes.groups), codes.starts, ordinals, videos, table, sums);
}

// Positions of sums above the threshold and of the first `equal` that equal it, `wanted` in all.
TARGET static void positions_from(const int32_t* sums, int64_t count, int32_t threshold, int64_t equal, int64_t wanted,
                                  int64_t* positions) {
    int64_t found = 0;
    for (int64_t first = 0; first < count && found < wanted; first += LANES) {
        const int64_t last = count - first < LANES ? count : first + LANES;
        int32_t any = 0;
        for (int64_t i = first; i < last; i++) any |= sums[i] >= threshold;
        if (!any) continue;
        for (int64_t i = first; i < last && found < wanted; i++)
            if (sums[i] > threshold || (sums[i] == threshold && equal-- > 0)) positions[found++] = i;
    }
}

// Sum over query tokens of the best similarity, divided by their number.
TARGET static INLINE float mean(const std::vector<float>& best, int64_t count) {
    double sum = 0;
    for (int64_t lane = 0; lane < count; lane++) sum += best[lane];
    return static_cast<float>(sum / static_cast<double>(count));
}

// Consecutive tokens [first, last).
struct Run {
    int64_t first, last;
};

// Prefetch a video's residuals; returns the tokens covered.
TARGET static INLINE Run prefetch_residuals(const Bag& bag, const Codec& codec, int64_t ordinal) {
    const int64_t bytes = codec.dim * codec.nbits / 8;
    const int64_t first = bag.offsets[ordinal], end = bag.offsets[ordinal + 1];
    const int64_t last = end - first > MOST_PREFETCHED ? first + MOST_PREFETCHED : end;
    for (const uint8_t* at = bag.residuals + first * bytes; at < bag.residuals + last * bytes; at += LINE)
        __builtin_prefetch(at, 0, 2);
    return {first, last};
}

// Prefetch what a video's rounded scores will read, while another video is computed: it is scattered in memory.
TARGET static INLINE void prefetch_rounded(const Bag& bag, const Codec& codec, const int32_t* products, int64_t ordinal) {
    const Run run = prefetch_residuals(bag, codec, ordinal);
    for (int64_t token = run.first; token < run.last; token++) {
        const int64_t code = within(bag.codes[token], codec.count);
        if (shared_load(bag.inverse + token) == 0)
            for (int64_t d = 0; d < codec.dim; d += LINE)
                __builtin_prefetch(codec.centroids + code * codec.dim + d, 0, 2);
        for (int lane = 0; lane < LANES; lane += LINE / 4) __builtin_prefetch(products + code * LANES + lane, 0, 2);
    }
}

// The same for its scores in single precision.
TARGET static INLINE void prefetch_exact(const Bag& bag, const Codec& codec, int64_t ordinal) {
    const Run run = prefetch_residuals(bag, codec, ordinal);
    for (int64_t token = run.first; token < run.last; token++) {
        const float* mean = codec.means + within(bag.codes[token], codec.count) * codec.dim;
        for (int64_t d = 0; d < codec.dim; d += LINE / 4) __builtin_prefetch(mean + d, 0, 2);
    }
}

// 1 / length of a decoded token, from its rounded weights and its centroid.
TARGET static INLINE float inverse_length(const Codec& codec, int64_t centroid, const uint8_t* token) {
    int32_t square, product;
    lengths(token, codec.centroids + centroid * codec.dim, codec.dim, &square, &product);
    const float length = codec.squares[centroid] + codec.weight_scale * codec.weight_scale * static_cast<float>(square) +
                         2 * codec.weight_scale * codec.centroid_scale * static_cast<float>(product);
    return 1 / std::sqrt(length > 1e-24f ? length : 1e-24f);
}

TARGET static void rounded_scores(const Bag& bag, const Codec& codec, const Query& query, const int32_t* products,
                                  const int64_t* ordinals, int64_t videos, float* scores) {
    const int64_t bytes = codec.dim * codec.nbits / 8;
    const float by_centroid = query.scale * codec.centroid_scale, by_weight = query.scale * codec.weight_scale;
    std::vector<uint8_t> decoded(TOKENS * codec.dim);
    std::vector<float> best(query.blocks * LANES);
    int32_t residual_products[TOKENS * LANES];
    int64_t centroids[TOKENS];
    float inverse[TOKENS];
    for (int64_t i = 0; i < videos; i++) {
        const int64_t end = bag.offsets[ordinals[i] + 1];
        if (i + 2 < videos) __builtin_prefetch(bag.codes + bag.offsets[ordinals[i + 2]]);
        if (i + 1 < videos) prefetch_rounded(bag, codec, products, ordinals[i + 1]);
        best.assign(best.size(), -INFINITY);
        for (int64_t token = bag.offsets[ordinals[i]]; token < end;) {
            const int64_t left = end - token, parts = (left + TOKENS - 1) / TOKENS, rows = (left + parts - 1) / parts;
            for (int64_t t = 0; t < rows; t++) {
                uint8_t* row = decoded.data() + t * codec.dim;
                centroids[t] = within(bag.codes[token + t], codec.count);
                decode(codec, bag.residuals + (token + t) * bytes, row);
                inverse[t] = shared_load(bag.inverse + token + t);
                if (inverse[t] == 0) {
                    inverse[t] = inverse_length(codec, centroids[t], row);
                    shared_store(bag.inverse + token + t, inverse[t]);
                }
            }
            for (int64_t block = 0; block < query.blocks; block++) {
                dots_of(rows, decoded.data(), codec.dim, query.bytes + block * codec.dim * LANES,
                        query.start + block * LANES, residual_products);
                float* lanes = best.data() + block * LANES;
                for (int64_t t = 0; t < rows; t++) {
                    const int32_t* row = products + (block * codec.count + centroids[t]) * LANES;
                    for (int lane = 0; lane < LANES; lane++) {
                        const float similarity = (by_centroid * static_cast<float>(row[lane]) +
                                                  by_weight * static_cast<float>(residual_products[t * LANES + lane])) *
                                                 inverse[t];
                        lanes[lane] = similarity > lanes[lane] ? similarity : lanes[lane];
                    }
                }
            }
            token += rows;
        }
        scores[i] += mean(best, query.count);
    }
}

// Weights of one token in full precision, IDS of them to a packed byte.
template <int IDS>
TARGET static INLINE void weights(const Codec& codec, const uint8_t* packed, float* token) {
    for (int64_t byte = 0; byte < codec.dim / IDS; byte++)
        std::memcpy(token + byte * IDS, codec.weights + packed[byte] * IDS, IDS * sizeof(float));
}

// One token in full precision, in order of dimension; returns 1 / its length.
TARGET static INLINE float decode(const Codec& codec, int32_t code, const uint8_t* packed, float* token) {
    switch (codec.nbits) {
        case 1: weights<8>(codec, packed, token); break;
        case 2: weights<4>(codec, packed, token); break;
        case 4: weights<2>(codec, packed, token); break;
        default: weights<1>(codec, packed, token);
    }
    const float* centroid = codec.means + within(code, codec.count) * codec.dim;
    float partial[8] = {};  // dim is a multiple of 8
    for (int64_t d = 0; d < codec.dim; d += 8)
        for (int part = 0; part < 8; part++) {
            token[d + part] += centroid[d + part];
            partial[part] += token[d + part] * token[d + part];
        }
    float square = 0;
    for (float part : partial) square += part;
    return 1 / std::sqrt(square > 1e-24f ? square : 1e-24f);
}

TARGET static void exact_scores(const Bag& bag, const Codec& codec, const Query& query, const int64_t* ordinals,
                                int64_t videos, float* scores) {
    const int64_t bytes = codec.dim * codec.nbits / 8;
    std::vector<float> decoded(TOKENS * codec.dim), best(query.blocks * LANES);
    float products[TOKENS * LANES], inverse[TOKENS];
    for (int64_t i = 0; i < videos; i++) {
        const int64_t end = bag.offsets[ordinals[i] + 1];
        if (i + 1 < videos) prefetch_exact(bag, codec, ordinals[i + 1]);
        best.assign(best.size(), -INFINITY);
        for (int64_t token = bag.offsets[ordinals[i]]; token < end;) {
            const int64_t left = end - token, parts = (left + TOKENS - 1) / TOKENS, rows = (left + parts - 1) / parts;
            for (int64_t t = 0; t < rows; t++)
                inverse[t] = decode(codec, bag.codes[token + t], bag.residuals + (token + t) * bytes,
                                    decoded.data() + t * codec.dim);
            for (int64_t block = 0; block < query.blocks; block++) {
                dots_of(rows, decoded.data(), codec.dim, query.tokens + block * codec.dim * LANES, products);
                float* lanes = best.data() + block * LANES;
                for (int64_t t = 0; t < rows; t++)
                    for (int lane = 0; lane < LANES; lane++) {
                        const float similarity = products[t * LANES + lane] * inverse[t];
                        lanes[lane] = similarity > lanes[lane] ? similarity : lanes[lane];
                    }
            }
            token += rows;
        }
        scores[i] = mean(best, query.count);
    }
}

// Products of T rows with a square matrix: products (T, dim). STEPS numbers of a row at a time are added up by themselves.
template <int T>
TARGET static void rotate_rows(const float* rows, const float* matrix, int64_t dim, float* products) {
    std::memset(products, 0, T * dim * sizeof(float));
    for (int64_t first = 0; first < dim; first += STEPS) {
        const int64_t last = std::min(dim, first + STEPS);
        int64_t column = 0;
        for (; column + 2 * PER_VECTOR <= dim; column += 2 * PER_VECTOR) {
            Floats low[T] = {}, high[T] = {};
            for (int64_t k = first; k < last; k++) {
                const float* values = matrix + k * dim + column;
                const Floats near = load<Floats>(values), far = load<Floats>(values + PER_VECTOR);
                for (int t = 0; t < T; t++) {
                    low[t] += rows[t * dim + k] * near;
                    high[t] += rows[t * dim + k] * far;
                }
            }
            for (int t = 0; t < T; t++) {
                float* target = products + t * dim + column;
                store(target, load<Floats>(target) + low[t]);
                store(target + PER_VECTOR, load<Floats>(target + PER_VECTOR) + high[t]);
            }
        }
        for (; column < dim; column++) {
            float sums[T] = {};
            for (int64_t k = first; k < last; k++)
                for (int t = 0; t < T; t++) sums[t] += rows[t * dim + k] * matrix[k * dim + column];
            for (int t = 0; t < T; t++) products[t * dim + column] += sums[t];
        }
    }
}

TARGET static void rotate(const float* rows, int64_t count, const float* matrix, int64_t dim, float* products) {
    int64_t row = 0;
    for (; row + TOKENS <= count; row += TOKENS)
        rotate_rows<TOKENS>(rows + row * dim, matrix, dim, products + row * dim);
    for (; row < count; row++) rotate_rows<1>(rows + row * dim, matrix, dim, products + row * dim);
}
