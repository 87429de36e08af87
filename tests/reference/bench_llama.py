"""Times greedy generation of SmolLM2 in llama.cpp, from the file as it is: 4-bit weights, one stream.

    python bench_llama.py --model SmolLM2-135M-Instruct.Q4_1.gguf --n-tokens 64
"""

import random
import time

from shared import arguments, peak_rss_mib, peak_since_reset_mib, report, reset_peak, wait_for_turn


def main():
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--prompt-length", type=int, default=32)
    parser.add_argument("--n-tokens", type=int, default=64)
    parser.add_argument("--warm", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    from llama_cpp import Llama

    model = Llama(
        str(options.model), n_ctx=options.prompt_length + options.n_tokens, n_threads=options.threads,
        n_threads_batch=options.threads, verbose=False,
    )  # fmt: skip
    reset_peak()
    random.seed(options.seed)
    prompt = [random.randrange(17, model.n_vocab()) for _ in range(options.prompt_length)]
    rates = []
    for step in range(options.warm + options.steps):
        wait_for_turn(options, step)
        began = time.perf_counter()
        model.reset()
        model.eval(prompt)
        for n_made in range(1, options.n_tokens + 1):
            token = model.sample(temp=0.0, repeat_penalty=1.0)
            if n_made < options.n_tokens:
                model.eval([token])
        rates.append(options.n_tokens / (time.perf_counter() - began))
    report(
        {
            "case": "generate",
            "threads": options.threads,
            "tokens_per_sec": [round(rate, 2) for rate in rates[options.warm :]],
            "work_peak_rss_mib": peak_since_reset_mib(),
            "peak_rss_mib": peak_rss_mib(),
        }
    )


if __name__ == "__main__":
    main()
