#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::StoredType;
use crate::store::gguf::build::Builder;
use crate::store::memory::{MemoryStore, ready};

fn open(builder: &Builder) -> Result<GgufModel> {
    ready(GgufModel::open(&MemoryStore::new().with("f.gguf", builder.bytes()), "f.gguf"))
}

fn refuses(builder: Builder, expected: &str) {
    let error = open(&builder).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains(expected), "{error}");
}

/// One block of width 8 with 2 heads of 4, and 3 tokens.
fn model(architecture: &str) -> Builder {
    let key = |name: &str| format!("{architecture}.{name}");
    Builder::new()
        .text("general.architecture", architecture)
        .u32(&key("embedding_length"), 8)
        .u32(&key("feed_forward_length"), 12)
        .u32(&key("block_count"), 1)
        .u32(&key("context_length"), 64)
        .u32(&key("attention.head_count"), 2)
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["a", "b", "c"])
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.padding_token_id", u32::MAX)
        .f32_tensor("token_embd.weight", &[3, 8], &[0.0; 24])
        .f32_tensor("blk.0.attn_q.weight", &[8, 8], &ramp(64))
        .f32_tensor("blk.0.attn_norm.weight", &[8], &ramp(8))
}

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

fn tensor(builder: &Builder, name: &str) -> HostTensor {
    let store = MemoryStore::new().with("f.gguf", builder.bytes());
    ready(async {
        let model = GgufModel::open(&store, "f.gguf").await.unwrap();
        model.tensor(&store, name).await.unwrap().unwrap()
    })
}

#[test]
fn llama_gets_its_query_rows_back_in_halves() {
    let read = tensor(&model("llama"), "model.layers.0.self_attn.q_proj.weight");
    let rows: Vec<f32> = read.values.chunks(8).map(|row| row[0] / 8.0).collect();
    assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

#[test]
fn other_architectures_keep_their_query_rows() {
    for architecture in ["qwen2", "qwen3", "gemma3"] {
        let read = tensor(&model(architecture), "model.layers.0.self_attn.q_proj.weight");
        assert_eq!(read.values, ramp(64), "{architecture}");
    }
}

#[test]
fn gemma_norms_lose_the_one_the_converter_added_and_mean_what_they_say() {
    let gemma = model("gemma3")
        .f32_tensor("blk.0.ffn_norm.weight", &[8], &ramp(8))
        .f32_tensor("blk.0.post_attention_norm.weight", &[8], &[3.0; 8])
        .f32_tensor("blk.0.post_ffw_norm.weight", &[8], &[4.0; 8])
        .f32_tensor("blk.0.attn_q_norm.weight", &[4], &[5.0; 4])
        .f32_tensor("output_norm.weight", &[8], &[6.0; 8]);
    assert_eq!(tensor(&gemma, "model.layers.0.input_layernorm.weight").values[..3], [-1.0, 0.0, 1.0]);
    assert_eq!(tensor(&gemma, "model.layers.0.pre_feedforward_layernorm.weight").values[1], 0.0);
    assert_eq!(tensor(&gemma, "model.layers.0.post_attention_layernorm.weight").values[0], 2.0);
    assert_eq!(tensor(&gemma, "model.layers.0.post_feedforward_layernorm.weight").values[0], 3.0);
    assert_eq!(tensor(&gemma, "model.layers.0.self_attn.q_norm.weight").values[0], 4.0);
    assert_eq!(tensor(&gemma, "model.norm.weight").values[0], 5.0);
    assert_eq!(tensor(&model("llama"), "model.layers.0.input_layernorm.weight").values[1], 1.0);
}

#[test]
fn gpt2_matrices_are_transposed_and_its_shapes_told_so() {
    let gpt2 = Builder { tensors: vec![], data: vec![], ..model("gpt2") }
        .f32_tensor("token_embd.weight", &[3, 8], &ramp(24))
        .f32_tensor("blk.0.ffn_up.weight", &[2, 3], &ramp(6))
        .f32_tensor("blk.0.ffn_up.bias", &[2], &ramp(2));
    let opened = open(&gpt2).unwrap();
    let info = opened.info("transformer.h.0.mlp.c_fc.weight").unwrap();
    assert_eq!((&info.shape, info.stored), (&vec![3, 2], StoredType::F32));
    let read = tensor(&gpt2, "transformer.h.0.mlp.c_fc.weight");
    assert_eq!(read, HostTensor { shape: vec![3, 2], values: vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0] });
    assert_eq!(tensor(&gpt2, "transformer.wte.weight").values, ramp(24));
    assert_eq!(tensor(&gpt2, "transformer.h.0.mlp.c_fc.bias").shape, [2]);
    assert_eq!(opened.config["n_positions"], 64);
    assert_eq!(opened.config["n_inner"], 12);
}

#[test]
fn configs_have_what_the_file_says_and_the_defaults_of_what_it_does_not() {
    let config = open(&model("llama").f32("llama.rope.freq_base", 500.0)).unwrap().config;
    for (key, expected) in
        [("num_key_value_heads", 2), ("head_dim", 4), ("vocab_size", 3), ("bos_token_id", 1)]
    {
        assert_eq!(config[key], expected, "{key}");
    }
    assert_eq!((&config["rope_theta"], &config["rope_scaling"]), (&500.0.into(), &Value::Null));
    assert_eq!((&config["tie_word_embeddings"], &config["pad_token_id"]), (&true.into(), &Value::Null));
    let untied = model("llama").f32_tensor("output.weight", &[3, 8], &[0.0; 24]);
    assert_eq!(open(&untied).unwrap().config["tie_word_embeddings"], false);
    let scaled = model("qwen2").text("qwen2.rope.scaling.type", "yarn").f32("qwen2.rope.scaling.factor", 4.0);
    assert_eq!(open(&scaled).unwrap().config["rope_scaling"]["rope_type"], "yarn");
}

#[test]
fn gemma_alternates_sliding_and_full_attention() {
    let mut gemma = model("gemma3").u32("gemma3.block_count", 12).u32("gemma3.attention.sliding_window", 512);
    for block in 1..12 {
        gemma = gemma.f32_tensor(&format!("blk.{block}.attn_norm.weight"), &[8], &ramp(8));
    }
    let config = open(&gemma).unwrap().config;
    let kinds = config["layer_types"].as_array().unwrap();
    let full: Vec<_> = (0..12).filter(|&i| kinds[i] == "full_attention").collect();
    assert_eq!(full, [5, 11]);
    assert_eq!((&config["sliding_window"], &config["model_type"]), (&512.into(), &"gemma3_text".into()));
}

#[test]
fn llama3_scaling_is_recovered_from_its_divisors() {
    // (factor, original context): Llama 3.1 and 3.2, at a head's width of 64 and theta 500000.
    for (factor, original) in [(8.0, 8192), (32.0, 8192), (8.0, 1024)] {
        let divisors: Vec<f32> = (0..32)
            .map(|i| {
                let frequency = 500_000f64.powf(-f64::from(i) / 32.0);
                let turns = f64::from(original) * frequency / std::f64::consts::TAU;
                let s = ((turns - 1.0) / 3.0).clamp(0.0, 1.0);
                (1.0 / ((1.0 - s) / factor + s)) as f32
            })
            .collect();
        let llama =
            model("llama").u32("llama.attention.key_length", 64).f32("llama.rope.freq_base", 500_000.0);
        let scaled = llama.clone().f32_tensor("rope_freqs.weight", &[32], &divisors);
        let scaling = open(&scaled).unwrap().config["rope_scaling"].clone();
        assert_eq!(scaling["rope_type"], "llama3");
        assert_eq!(
            (&scaling["factor"], &scaling["original_max_position_embeddings"]),
            (&factor.into(), &original.into())
        );
        assert!(open(&scaled).unwrap().info("rope_freqs.weight").is_none());
        let ones = llama.clone().f32_tensor("rope_freqs.weight", &[32], &[1.0; 32]);
        assert_eq!(open(&ones).unwrap().config["rope_scaling"], Value::Null);
        let reversed: Vec<f32> = divisors.into_iter().rev().collect();
        refuses(llama.clone().f32_tensor("rope_freqs.weight", &[32], &reversed), "unlike Llama 3's");
        refuses(llama.f32_tensor("rope_freqs.weight", &[3], &[1.0; 3]), "shape [3]; expected [32]");
    }
}

#[test]
fn refuses_files_that_are_no_supported_model() {
    refuses(Builder::new(), "no metadata key general.architecture");
    refuses(
        model("mamba"),
        "architecture mamba is not supported; supported: llama, qwen2, qwen3, gemma3, gpt2",
    );
    refuses(
        model("llama").u32("llama.attention.head_count", 0),
        "key llama.attention.head_count: 0; expected 1 or more",
    );
    refuses(model("llama").text("llama.embedding_length", "8"), "key llama.embedding_length: the text");
    refuses(
        model("llama").u32("llama.block_count", 4_000_000_000),
        "key llama.block_count: 4000000000; expected 1",
    );
    refuses(
        model("llama").u32("llama.rope.dimension_count", 2).u32("llama.attention.key_length", 4),
        "expected the head's width 4",
    );
    refuses(model("llama").u32("llama.vocab_size", 5), "key llama.vocab_size: 5; expected 3");
    refuses(
        model("llama").f32_tensor("blk.0.ffn_gate_exps.weight", &[1], &[0.0]),
        "blk.0.ffn_gate_exps.weight: unknown name",
    );
    refuses(
        model("qwen2").f32_tensor("blk.0.attn_q_norm.weight", &[1], &[0.0]),
        "blk.0.attn_q_norm.weight: unknown name",
    );
    refuses(
        model("llama").f32_tensor("blk.+0.attn_k.weight", &[4, 8], &[0.0; 32]),
        "blk.+0.attn_k.weight: unknown name",
    );
    refuses(
        model("llama").f32_tensor("blk.0.attn_k.weight", &[3, 8], &[0.0; 24]),
        "shape [3, 8]; expected a multiple of 2·2",
    );
    let far = model("gemma3").f32_tensor("blk.3999999999.attn_norm.weight", &[8], &ramp(8));
    refuses(far.u32("gemma3.block_count", 4_000_000_000), "4000000000; expected 2, the blocks");
    refuses(model("llama").u32("split.count", 2), "one part of a split GGUF is not supported");
}

#[test]
fn refuses_vocabularies_that_do_not_agree_with_themselves() {
    refuses(
        model("llama").u32("tokenizer.ggml.eos_token_id", 3),
        "eos_token_id: 3; expected an id below the vocabulary's 3 tokens",
    );
    refuses(
        model("llama").texts("tokenizer.ggml.tokens", &["a", "b", "c", "d"]),
        "3 rows; expected 4 or more",
    );
    let one_type = [&5u32.to_le_bytes()[..], &1u64.to_le_bytes(), &1u32.to_le_bytes()].concat();
    refuses(
        model("llama").pair("tokenizer.ggml.token_type", 9, one_type),
        "a list of 1 values; expected 3 token types",
    );
    assert_eq!(open(&model("llama").text("tokenizer.ggml.model", "no_vocab")).unwrap().vocabulary, None);
}
