//! `attune export --model M [--adapter DIR] --format merged|adapter --out DIR`

use super::progress::{Json, Progress};
use super::{adapter, json, open, paint, required};
use attune::export::{ExportFormat, ExportReport, Origin};
use attune::native::{self, FileStore};
use attune::protocol::Control;
use attune::session::{self, ExportWork};
use attune::store::{Store, safetensors};
use attune::{Error, Result, device};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use std::path::Path;

/// The arguments of `export`.
pub fn command(command: Command) -> Result<Command> {
    let arg = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    Ok(command
        .about("Write a tuned model for transformers, or its adapter for PEFT")
        .arg(
            arg("model", "NAME")
                .required(true)
                .help("The base model: a folder, a GGUF file, a hub id or an alias"),
        )
        .arg(arg("adapter", "DIR").help("Folder of the adapter, such as a run's"))
        .arg(
            arg("format", "FORMAT")
                .value_parser(PossibleValuesParser::new(["merged", "adapter"]))
                .default_value("merged")
                .help("The whole model with the adapter folded in, or the adapter alone"),
        )
        .arg(arg("out", "DIR").required(true).help("New or empty folder for the files"))
        .arg(arg("device", "DEVICE").default_value("auto").help("auto, cpu, vulkan, metal, cuda or webgpu"))
        .arg(
            arg("logits", "FILE").help(
                "Also write the tokens and logits compared, as safetensors, to check other programs by",
            ),
        ))
}

/// Runs `attune export`.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let json = json(matches);
    let name = required::<String>(matches, "model")?;
    let format = match required::<String>(matches, "format")?.as_str() {
        "adapter" => ExportFormat::Adapter,
        _ => ExportFormat::Merged,
    };
    let device = required::<String>(matches, "device")?;
    device::resolve(device)?;
    let adapter = matches.get_one::<String>("adapter").map(|folder| adapter::load(folder)).transpose()?;
    // One object is promised; progress would be more.
    let mut progress = Progress::for_people(json);
    let opened = open::model(name, &mut progress)?;
    let files = opened.files()?;
    let tokenizer = session::tokenizer_of(&files)?;
    let out = FileStore::new(required::<String>(matches, "out")?);
    let origin = Origin { files: &files, tokenizer: &tokenizer, name };
    let work = ExportWork { origin, adapter, format, device };
    let report = native::block_on(session::export(work, &out, "", &mut |event| {
        progress.event(&event);
        Control::Continue
    }));
    progress.finish();
    let report = report?;
    if let Some(file) = matches.get_one::<String>("logits") {
        write_logits(&report, file)?;
    }
    print(&report, &out, json)
}

fn write_logits(report: &ExportReport, file: &str) -> Result<()> {
    let bytes = safetensors::to_bytes(&report.probe.tensors(), &safetensors::pytorch_metadata())?;
    let path = Path::new(file);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::input("--logits", file, "the name of a file"))?;
    native::block_on(FileStore::new(path.parent().unwrap_or(Path::new(""))).write(name, &bytes))
}

fn print(report: &ExportReport, out: &FileStore, json: Json) -> Result<()> {
    if json == Json::Yes {
        return paint::json(report);
    }
    paint::line(&format!("wrote {} to {}", report.files.join(", "), out.root().display()));
    paint::line(&format!("largest difference of logits before and after: {:.1e}", report.max_abs_diff));
    Ok(())
}
