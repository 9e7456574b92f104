// The part that differs between instruction sets; _kernels.cpp includes it in a namespace, with TARGET and KERNELS_LEVEL set.

#if KERNELS_LEVEL == 2
constexpr int WIDTH = 64;  // bytes in a vector
constexpr int TOKENS = 8;  // tokens scored at once: two accumulators each, as many as stay in registers
#elif KERNELS_LEVEL == 1
constexpr int WIDTH = 32;
constexpr int TOKENS = 4;
#else
constexpr int WIDTH = 16;
constexpr int TOKENS = 4;
#endif
constexpr int PER_VECTOR = WIDTH / 4;  // lanes in a vector

typedef int32_t Ints __attribute__((vector_size(WIDTH)));
typedef float Floats __attribute__((vector_size(WIDTH)));
typedef uint8_t ByteLanes __attribute__((vector_size(LANES)));
typedef uint64_t Words __attribute__((vector_size(LANES)));

template <class V>
TARGET static INLINE V load(const void* source) {
    V value;
    std::memcpy(&value, source, sizeof value);
    return value;
}

template <class V>
TARGET static INLINE void store(void* target, V value) {
    std::memcpy(target, &value, sizeof value);
}

TARGET static INLINE Ints everywhere(int32_t value) { return Ints{} + value; }

#if KERNELS_LEVEL != 1
// Add to each lane the products of its four bytes (signed) with the four bytes of `token` (unsigned).
TARGET static INLINE Ints dot4(Ints sum, Ints query, Ints token) {
#if KERNELS_LEVEL == 2
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)token, (__m512i)query);
#elif defined(KERNELS_X86)
    const __m128i q = (__m128i)query, t = (__m128i)token;
    const __m128i even = _mm_madd_epi16(_mm_srai_epi16(_mm_slli_epi16(q, 8), 8), _mm_and_si128(t, _mm_set1_epi16(255)));
    const __m128i odd = _mm_madd_epi16(_mm_srai_epi16(q, 8), _mm_srli_epi16(t, 8));
    return sum + (Ints)_mm_add_epi32(even, odd);
#elif defined(KERNELS_NEON)
    const int16x8_t q = (int16x8_t)query, t = (int16x8_t)token;
    const int16x8_t even = vmulq_s16(vshrq_n_s16(vshlq_n_s16(q, 8), 8), vandq_s16(t, vdupq_n_s16(255)));
    const int16x8_t odd = vmulq_s16(vshrq_n_s16(q, 8), (int16x8_t)vshrq_n_u16((uint16x8_t)t, 8));
    return (Ints)vpadalq_s16(vpadalq_s16((int32x4_t)sum, even), odd);  // 127 * 255 fits into 16 bits
#else
    Ints total = sum;
    for (int byte = 0; byte < 4; byte++)
        total += ((query << (24 - 8 * byte)) >> 24) * ((token >> (8 * byte)) & 255);
    return total;
#endif
}
#endif

// The same for eight bytes: `query` and `token` hold the first four, the others the next four.
TARGET static INLINE Ints dot8(Ints sum, Ints query, Ints next_query, Ints token, Ints next_token) {
#if KERNELS_LEVEL == 1  // four products of 127 * 63 fit into 16 bits
    const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16((__m256i)token, (__m256i)query),
                                           _mm256_maddubs_epi16((__m256i)next_token, (__m256i)next_query));
    return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
    return dot4(dot4(sum, query, token), next_query, next_token);
#endif
}

// Inner products of T byte rows with a block of 32 lanes: products (T, lanes).
template <int T>
TARGET static void dots(const uint8_t* rows, int64_t dim, const int8_t* query, const int32_t* start, int32_t* products) {
    for (int lane = 0; lane < LANES; lane += 2 * PER_VECTOR) {
        Ints low[T], high[T];
        for (int t = 0; t < T; t++) {
            low[t] = load<Ints>(start + lane);
            high[t] = load<Ints>(start + lane + PER_VECTOR);
        }
        const int8_t* lanes = query + 4 * lane;
        for (int64_t d = 0; d < dim; d += 8, lanes += 8 * LANES) {  // dim is a multiple of 8
            const Ints first = load<Ints>(lanes), second = load<Ints>(lanes + WIDTH);
            const Ints next_first = load<Ints>(lanes + 4 * LANES), next_second = load<Ints>(lanes + 4 * LANES + WIDTH);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) {
                const Ints token = everywhere(load<int32_t>(rows + t * dim + d));
                const Ints next = everywhere(load<int32_t>(rows + t * dim + d + 4));
                low[t] = dot8(low[t], first, next_first, token, next);
                high[t] = dot8(high[t], second, next_second, token, next);
            }
        }
        for (int t = 0; t < T; t++) {
            store(products + t * LANES + lane, low[t]);
            store(products + t * LANES + lane + PER_VECTOR, high[t]);
        }
    }
}

// The same in single precision; query (dim, lanes).
template <int T>
TARGET static void dots(const float* rows, int64_t dim, const float* query, float* products) {
    for (int lane = 0; lane < LANES; lane += 2 * PER_VECTOR) {
        Floats low[T] = {}, high[T] = {};
        const float* lanes = query + lane;
        for (int64_t d = 0; d < dim; d++, lanes += LANES) {
            const Floats first = load<Floats>(lanes), second = load<Floats>(lanes + PER_VECTOR);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) {
                low[t] += first * rows[t * dim + d];
                high[t] += second * rows[t * dim + d];
            }
        }
        for (int t = 0; t < T; t++) {
            store(products + t * LANES + lane, low[t]);
            store(products + t * LANES + lane + PER_VECTOR, high[t]);
        }
    }
}

// `dots` for a number of rows that is known only at run time.
template <class... Arguments>
TARGET static INLINE void dots_of(int64_t rows, Arguments... arguments) {
    switch (rows) {
        case 1: return dots<1>(arguments...);
        case 2: return dots<2>(arguments...);
        case 3: return dots<3>(arguments...);
#if KERNELS_LEVEL == 2
        case 4: return dots<4>(arguments...);
        case 5: return dots<5>(arguments...);
        case 6: return dots<6>(arguments...);
        case 7: return dots<7>(arguments...);
#endif
        default: return dots<TOKENS>(arguments...);
    }
}

TARGET static INLINE int32_t sum_of_bytes(ByteLanes bytes) {
#if KERNELS_LEVEL > 0
    const __m256i quarters = _mm256_sad_epu8((__m256i)bytes, _mm256_setzero_si256());
    const __m128i halves = _mm_add_epi64(_mm256_castsi256_si128(quarters), _mm256_extracti128_si256(quarters, 1));
    return _mm_cvtsi128_si32(_mm_add_epi64(halves, _mm_unpackhi_epi64(halves, halves)));
#else
    const Words even = Words{} + 0x00FF00FF00FF00FFull;
    const Words pairs = ((Words)bytes & even) + (((Words)bytes >> 8) & even);  // 16-bit fields, 510 at most
    const uint64_t fields = pairs[0] + pairs[1] + pairs[2] + pairs[3];
    return static_cast<int32_t>((fields * 0x0001000100010001ull) >> 48);
#endif
}

// Rounded weights of one token, by plane.
TARGET static INLINE void decode(const Codec& codec, const uint8_t* packed, uint8_t* token) {
    const int64_t bytes = codec.dim * codec.nbits / 8, ids = 8 / codec.nbits;
    int64_t done = 0;
#if KERNELS_LEVEL > 0 || defined(KERNELS_NEON)
    if (codec.nbits < 8) {
        const uint8_t* few = codec.planes + (ids - 1) * 256;  // the weight of each id alone
#if KERNELS_LEVEL == 2
        const __m512i weights = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)few));
        const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << codec.nbits) - 1));
        for (; done < bytes; done += 64) {
            const __mmask64 valid = bytes - done < 64 ? (1ull << (bytes - done)) - 1 : ~0ull;
            const __m512i part = _mm512_maskz_loadu_epi8(valid, packed + done);
            for (int64_t plane = 0; plane < ids; plane++) {
                const __m128i shift = _mm_cvtsi64_si128(8 - codec.nbits * (plane + 1));
                const __m512i index = _mm512_and_si512(_mm512_srl_epi16(part, shift), mask);
                _mm512_mask_storeu_epi8(token + plane * bytes + done, valid, _mm512_shuffle_epi8(weights, index));
            }
        }
#elif KERNELS_LEVEL == 1
        const __m256i weights = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)few));
        const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << codec.nbits) - 1));
        for (; done + 32 <= bytes; done += 32) {
            const __m256i part = _mm256_loadu_si256((const __m256i*)(packed + done));
            for (int64_t plane = 0; plane < ids; plane++) {
                const __m128i shift = _mm_cvtsi64_si128(8 - codec.nbits * (plane + 1));
                const __m256i index = _mm256_and_si256(_mm256_srl_epi16(part, shift), mask);
                _mm256_storeu_si256((__m256i*)(token + plane * bytes + done), _mm256_shuffle_epi8(weights, index));
            }
        }
#else
        const uint8x16_t weights = vld1q_u8(few), mask = vdupq_n_u8(static_cast<uint8_t>((1 << codec.nbits) - 1));
        for (; done + 16 <= bytes; done += 16) {
            const uint8x16_t part = vld1q_u8(packed + done);
            for (int64_t plane = 0; plane < ids; plane++) {
                const int8x16_t shift = vdupq_n_s8(static_cast<int8_t>(codec.nbits * (plane + 1) - 8));
                vst1q_u8(token + plane * bytes + done, vqtbl1q_u8(weights, vandq_u8(vshlq_u8(part, shift), mask)));
            }
        }
#endif
    }
#endif
    for (; done < bytes; done++)
        for (int64_t plane = 0; plane < ids; plane++)
            token[plane * bytes + done] = codec.planes[plane * 256 + packed[done]];
}

// Squared length of weights, and their inner product with a centroid; both rounded, bytes minus ZERO.
TARGET static INLINE void lengths(const uint8_t* token, const uint8_t* centroid, int64_t dim, int32_t* square,
                                  int32_t* product) {
#if KERNELS_LEVEL == 2
    const __m512i bias = _mm512_set1_epi8(ZERO), ones = _mm512_set1_epi8(1);
    __m512i tt = {}, tc = {}, t1 = {}, c1 = {};
    for (int64_t d = 0; d < dim; d += 64) {
        const __mmask64 valid = dim - d < 64 ? (1ull << (dim - d)) - 1 : ~0ull;
        const __m512i t = _mm512_mask_loadu_epi8(bias, valid, token + d);
        const __m512i c = _mm512_mask_loadu_epi8(bias, valid, centroid + d);
        const __m512i signed_t = _mm512_sub_epi8(t, bias), signed_c = _mm512_sub_epi8(c, bias);
        tt = _mm512_dpbusd_epi32(tt, t, signed_t);
        tc = _mm512_dpbusd_epi32(tc, t, signed_c);
        t1 = _mm512_dpbusd_epi32(t1, ones, signed_t);
        c1 = _mm512_dpbusd_epi32(c1, ones, signed_c);
    }
    *square = _mm512_reduce_add_epi32(_mm512_sub_epi32(tt, _mm512_mullo_epi32(t1, _mm512_set1_epi32(ZERO))));
    *product = _mm512_reduce_add_epi32(_mm512_sub_epi32(tc, _mm512_mullo_epi32(c1, _mm512_set1_epi32(ZERO))));
#else
    int32_t tt = 0, tc = 0;
    for (int64_t d = 0; d < dim; d++) {
        const int16_t t = static_cast<int16_t>(token[d] - ZERO), c = static_cast<int16_t>(centroid[d] - ZERO);
        tt += t * t;
        tc += t * c;
    }
    *square = tt;
    *product = tc;
#endif
}
