//! What is compared with what. A new comparison is one more [`Case`]; attune against attune is one whose other side
//! is attune too ([`attune_named`]).

/// Text in the arguments that stands for what only the run knows: see `side::Bench::arguments`.
const MODEL: &str = "{model}";
/// As [`MODEL`]: steps that count.
const STEPS: &str = "{steps}";

/// One comparison.
pub struct Case {
    pub name: String,
    pub kind: Kind,
    pub targets: Targets,
    pub ours: Side,
    pub others: Vec<Side>,
}

/// What is to be reached beside the side that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Targets {
    /// Times as fast, at least.
    pub speed: Option<f64>,
    /// Share of its memory, at most.
    pub memory: Option<f64>,
}

impl Targets {
    pub fn text(self) -> String {
        let speed = self.speed.map(|speed| format!("{speed} times as fast"));
        let memory = self.memory.map(|memory| format!("{memory} of the memory"));
        speed.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
    }
}

/// How a side is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It times its own steps and prints tokens a second of each; the sides take turns, so many steps each a round.
    Steps(u32),
    /// From its start to the line that tells of its first optimizer step.
    FirstStep,
    /// From its start to its end; it tells of every optimizer step.
    WholeRun,
}

/// What a side is to the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that is judged.
    Ours,
    /// The fastest of these counts.
    Rival,
    /// Shown beside them; left out where it cannot run.
    Further,
}

/// One program with its arguments.
pub struct Side {
    pub name: String,
    pub role: Role,
    pub program: Program,
    pub args: Vec<String>,
    /// Python modules besides torch, transformers and peft.
    pub needs: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Attune,
    /// A file of `tests/reference`.
    Script(&'static str),
}

/// The comparisons; the long ones only in `full`, or they would take an hour.
pub fn cases(full: bool) -> Vec<Case> {
    let mut cases =
        vec![training("train 1x128", 1, 128, 2, 8, full), training("train 8x128", 8, 128, 1, 3, full)];
    if full {
        cases.push(training("train 4x512", 4, 512, 1, 2, full));
        cases.push(packing());
        cases.push(checkpointing());
        cases.push(qlora());
    }
    cases.push(cold_start());
    cases.push(generation());
    cases
}

/// LoRA steps on random tokens; the file of `method::targets` names all linear layers by default.
fn training(name: &str, batch: u32, seq: u32, warmup: u32, steps: u32, full: bool) -> Case {
    let peft = |name: &str, role, attention: &str, more: &str| {
        let args = format!(
            "--attention {attention} train --batch-size {batch} --length {seq} --warm {warmup} --steps {STEPS}{more}"
        );
        script(name, role, "bench_peft.py", &args)
    };
    let mut others =
        vec![peft("PEFT, sdpa", Role::Rival, "sdpa", ""), peft("PEFT, eager", Role::Rival, "eager", "")];
    if full {
        others.push(peft("PEFT, torch.compile", Role::Further, "sdpa", " --compile"));
    }
    let targets = Targets { speed: Some(1.5), memory: Some(0.4) };
    let ours = steps_of_attune(batch, seq, warmup);
    Case { name: name.into(), kind: Kind::Steps(steps), targets, ours, others }
}

fn steps_of_attune(batch: u32, seq: u32, warmup: u32) -> Side {
    attune(&format!(
        "bench-step --model {MODEL} --batch {batch} --seq {seq} --warmup {warmup} --steps {STEPS} --rank 8"
    ))
}

/// One epoch over the first reviews, packed: both sides see the same tokens, and about as many steps, because both
/// pack best-fit decreasing. TRL joins a batch into one row, so its batches are also tried as single rows that are
/// accumulated.
fn packing() -> Case {
    let trl = |name: &str, batch: u32, accumulated: u32| {
        let args = format!(
            "--train {{packed}} --out {{out}} --batch-size {batch} --accumulated {accumulated} --max-length 256"
        );
        Side { needs: &["trl", "datasets"], ..script(name, Role::Rival, "trl_packing.py", &args) }
    };
    Case {
        name: "packed reviews".into(),
        kind: Kind::WholeRun,
        targets: Targets { speed: Some(2.0), memory: None },
        ours: attune(
            "train --model {alias} --data {packed} --out {out} --method lora --rank 8 --alpha 16 --dropout 0 \
             --epochs 1 --batch-size 4 --max-length 256 --packing --learning-rate 2e-4 --no-shuffle",
        ),
        others: vec![trl("TRL, batches of 4", 4, 1), trl("TRL, 4 accumulated", 1, 4)],
    }
}

/// What a checkpointed step costs and spares: attune against attune.
fn checkpointing() -> Case {
    let plain = steps_of_attune(4, 512, 1);
    let mut checkpointed = steps_of_attune(4, 512, 1);
    checkpointed.args.push("--gradient-checkpointing".into());
    Case {
        name: "checkpointing 4x512".into(),
        kind: Kind::Steps(2),
        targets: Targets::default(),
        ours: checkpointed,
        others: vec![attune_named("attune without", plain)],
    }
}

/// Four bits and checkpointing, as QLoRA is used, beside LoRA in f32; the step with four bits alone is shown too.
fn qlora() -> Case {
    let with = |more: &str| {
        let mut side = steps_of_attune(4, 512, 1);
        side.args.extend(words(more));
        side
    };
    let four = Side { role: Role::Further, ..attune_named("attune, q4 alone", with("--weights q4")) };
    Case {
        name: "QLoRA 4x512".into(),
        kind: Kind::Steps(2),
        targets: Targets { speed: None, memory: Some(0.35) },
        ours: with("--weights q4 --gradient-checkpointing"),
        others: vec![attune_named("attune, LoRA in f32", with("--weights f32")), four],
    }
}

/// The demo's first batch, model in the cache.
fn cold_start() -> Case {
    Case {
        name: "cold start".into(),
        kind: Kind::FirstStep,
        targets: Targets { speed: Some(5.0), memory: None },
        ours: attune(
            "train --model {alias} --data {first} --out {out} --method lora --rank 8 --alpha 16 --dropout 0 \
             --max-steps 1 --batch-size 8 --max-length 128 --learning-rate 2e-4 --no-shuffle",
        ),
        others: vec![script("PEFT", Role::Rival, "bench_peft.py", "first-step --train {first}")],
    }
}

fn generation() -> Case {
    let args = &format!("--prompt-length 32 --n-tokens 64 --warm 1 --steps {STEPS}");
    let transformers = |name: &str, attention: &str| {
        script(name, Role::Rival, "bench_peft.py", &format!("--attention {attention} generate {args}"))
    };
    let llama = script("llama.cpp, Q4_1", Role::Further, "bench_llama.py", args);
    Case {
        name: "generate".into(),
        kind: Kind::Steps(2),
        targets: Targets { speed: Some(2.0), memory: None },
        ours: attune(&format!(
            "bench-generate --model {MODEL} --prompt-tokens 32 --new-tokens 64 --warmup 1 --steps {STEPS}"
        )),
        others: vec![
            transformers("transformers, sdpa", "sdpa"),
            transformers("transformers, eager", "eager"),
            Side { needs: &["llama_cpp"], ..llama },
        ],
    }
}

/// attune with these arguments, as the side that is judged.
pub fn attune(args: &str) -> Side {
    let args = words(&format!("{args} --device {{device}} --json"));
    Side { name: "attune".into(), role: Role::Ours, program: Program::Attune, args, needs: &[] }
}

/// attune as the side that another attune is compared with.
fn attune_named(name: &str, side: Side) -> Side {
    Side { name: name.into(), role: Role::Rival, ..side }
}

fn script(name: &str, role: Role, file: &'static str, args: &str) -> Side {
    let args = words(&format!("--model {MODEL} --threads {{threads}} {args}"));
    Side { name: name.into(), role, program: Program::Script(file), args, needs: &[] }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::{Role, cases};
    use std::collections::HashSet;

    #[test]
    fn every_case_has_its_own_name_one_side_that_is_judged_and_a_rival() {
        let all = cases(true);
        assert!(cases(false).len() < all.len());
        assert_eq!(all.iter().map(|case| &case.name).collect::<HashSet<_>>().len(), all.len());
        for case in &all {
            assert_eq!(case.ours.role, Role::Ours);
            assert!(case.others.iter().any(|side| side.role == Role::Rival), "{}", case.name);
            assert!(case.others.iter().all(|side| side.role != Role::Ours), "{}", case.name);
        }
    }
}
