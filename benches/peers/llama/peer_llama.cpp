// The speed of llama.cpp through its C API, with the flags and the JSON keys of our `bench`.
//
//   peer-llama --model FILE.gguf [--prompt-tokens 512] [--gen-tokens 128] [--context 0]
//              [--batch 1] [--threads N] [--max-seconds 30] [--load auto|mmap|none]
//   peer-llama convert IN.gguf OUT.gguf f32|bf16|q4_0
//
// One invocation is one repetition, so that a script can interleave it with other engines.
// Settings are the library's defaults, except the threads and the size of the context.

#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

using Clock = std::chrono::steady_clock;

static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

static void log_errors(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static uint64_t peak_rss_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        uint64_t kib = 0;
        if (word == "VmHWM:" && status >> kib) {
            return kib * 1024;
        }
    }
    return 0;
}

// Ids that look random, from a fixed linear congruential sequence.
static std::vector<llama_token> prompt(int len, int vocab_size) {
    std::vector<llama_token> ids;
    uint64_t state = 1;
    for (int i = 0; i < len; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        ids.push_back((state >> 33) % vocab_size);
    }
    return ids;
}

struct Session {
    llama_context * context;
    int vocab_size;

    void clear() { llama_memory_clear(llama_get_memory(context), true); }

    // Runs `ids` and picks the likeliest next token.
    llama_token step(llama_token * ids, int len) {
        if (llama_decode(context, llama_batch_get_one(ids, len)) != 0) {
            throw std::runtime_error("llama_decode failed");
        }
        const float * logits = llama_get_logits_ith(context, -1);
        int best = 0;
        for (int i = 1; i < vocab_size; i++) {
            best = logits[i] > logits[best] ? i : best;
        }
        return best;
    }

    // One token for each of `len` sequences, all at `position`; the likeliest next tokens replace them.
    void step_together(std::vector<llama_token> & tokens, int position) {
        const int len = (int) tokens.size();
        llama_batch batch = llama_batch_init(len, 0, 1);
        batch.n_tokens = len;
        for (int i = 0; i < len; i++) {
            batch.token[i] = tokens[i];
            batch.pos[i] = position;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = i;
            batch.logits[i] = true;
        }
        const int status = llama_decode(context, batch);
        llama_batch_free(batch);
        if (status != 0) {
            throw std::runtime_error("llama_decode failed");
        }
        for (int i = 0; i < len; i++) {
            const float * logits = llama_get_logits_ith(context, i);
            tokens[i] = (llama_token) (std::max_element(logits, logits + vocab_size) - logits);
        }
    }
};

static int convert(const char * from, const char * to, const std::string & dtype) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.allow_requantize = true;
    params.ftype = dtype == "f32"    ? LLAMA_FTYPE_ALL_F32
                   : dtype == "q4_0" ? LLAMA_FTYPE_MOSTLY_Q4_0
                                     : LLAMA_FTYPE_MOSTLY_BF16;
    return (int) llama_model_quantize(from, to, &params);
}

int main(int argc, char ** argv) try {
    llama_log_set(log_errors, nullptr);
    llama_backend_init();
    if (argc == 5 && std::string(argv[1]) == "convert") {
        return convert(argv[2], argv[3], argv[4]);
    }

    std::map<std::string, std::string> flags = {
        {"--model", ""},     {"--prompt-tokens", "512"}, {"--gen-tokens", "128"}, {"--context", "0"},
        {"--threads", "2"},  {"--max-seconds", "30"},    {"--load", "auto"},      {"--batch", "1"},
    };
    for (int i = 1; i < argc; i += 2) {
        auto flag = flags.find(argv[i]);
        if (flag == flags.end() || i + 1 == argc) {
            throw std::invalid_argument(std::string("unknown flag or no value: ") + argv[i]);
        }
        flag->second = argv[i + 1];
    }
    const std::string path = flags["--model"];
    const int prompt_tokens = std::stoi(flags["--prompt-tokens"]);
    const int gen_tokens = std::stoi(flags["--gen-tokens"]);
    const int context = std::stoi(flags["--context"]);
    const int threads = std::stoi(flags["--threads"]);
    const int sequences = std::stoi(flags["--batch"]);
    const double max_seconds = std::stod(flags["--max-seconds"]);

    const auto load_start = Clock::now();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    if (flags["--load"] != "auto") {
        model_params.load_mode = llama_load_mode_from_str(flags["--load"].c_str());
    }
    llama_model * model = llama_model_load_from_file(path.c_str(), model_params);
    if (model == nullptr) {
        throw std::runtime_error("cannot load " + path);
    }
    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = std::max(prompt_tokens, (context + gen_tokens) * sequences) + 64 * sequences;
    context_params.n_seq_max = sequences;
    context_params.n_threads = threads;
    context_params.n_threads_batch = threads;
    Session session = {llama_init_from_model(model, context_params),
                       llama_vocab_n_tokens(llama_model_get_vocab(model))};
    if (session.context == nullptr) {
        throw std::runtime_error("cannot make a context for " + path);
    }
    const double load_s = seconds_since(load_start);

    std::vector<llama_token> ids = prompt(std::max({prompt_tokens, context, 32}), session.vocab_size);
    llama_token token = session.step(ids.data(), 32); // warm up
    session.step(&token, 1);

    double pp_tokens_per_s = 0;
    if (prompt_tokens > 0) {
        session.clear();
        const auto start = Clock::now();
        session.step(ids.data(), prompt_tokens);
        pp_tokens_per_s = prompt_tokens / seconds_since(start);
    }

    double tg_tokens_per_s = 0;
    int generated = 0;
    std::string first_ids; // they show that the peers run the same network
    if (gen_tokens > 0 && sequences > 1) { // all from an empty context
        session.clear();
        std::vector<llama_token> tokens(ids.begin(), ids.begin() + sequences);
        const auto start = Clock::now();
        while (generated < gen_tokens * sequences && (generated < 4 * sequences || seconds_since(start) < max_seconds)) {
            session.step_together(tokens, generated / sequences);
            generated += sequences;
        }
        tg_tokens_per_s = generated / seconds_since(start);
    } else if (gen_tokens > 0) {
        session.clear();
        token = ids[0];
        for (int at = 0; at < context; at += 512) {
            token = session.step(ids.data() + at, std::min(512, context - at));
        }
        const auto start = Clock::now();
        while (generated < gen_tokens && (generated < 8 || seconds_since(start) < max_seconds)) {
            token = session.step(&token, 1);
            generated++;
            if (generated <= 8) {
                first_ids += (first_ids.empty() ? "" : ",") + std::to_string(token);
            }
        }
        tg_tokens_per_s = generated / seconds_since(start);
    }

    printf("{\"model\":\"%s\",\"threads\":%d,\"context\":%d,\"generated\":%d,\"first_ids\":[%s],\"pp_tokens_per_s\":%.4f,"
           "\"tg_tokens_per_s\":%.4f,\"load_s\":%.3f,\"peak_rss_bytes\":%llu}\n",
           path.c_str(), threads, context, generated, first_ids.c_str(), pp_tokens_per_s, tg_tokens_per_s, load_s,
           (unsigned long long) peak_rss_bytes());
    llama_free(session.context);
    llama_model_free(model);
} catch (const std::exception & error) {
    fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
