//! Model and adapter in, files for other programs out.

use super::{Emit, Place, load_model};
use crate::config::Run;
use crate::export::{ExportFormat, ExportReport, Origin, export_adapter, export_merged, write_model};
use crate::methods::MethodConfig;
use crate::models::{Adapter, CausalLm};
use crate::store::Store;
use crate::store::model_files::ModelFiles;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What is exported, and as what.
pub struct ExportWork<'a, 's, M: Store> {
    /// The base model and its tokenizer.
    pub origin: Origin<'a, 's, M>,
    /// The adapter; none for a model that was tuned in full, or not at all.
    pub adapter: Option<Adapter>,
    /// As what.
    pub format: ExportFormat,
    /// Device to compute on, by name.
    pub device: &'a str,
}

/// Loads the model, attaches the adapter, writes both in the form asked for into the empty folder `folder` of
/// `store`, and compares the logits of what was written with those before.
///
/// # Errors
/// What loading and writing report; an adapter asked for and none given; a folder that is not empty.
pub async fn export<M: Store, O: Store>(
    work: ExportWork<'_, '_, M>,
    store: &O,
    folder: &str,
    emit: Emit<'_>,
) -> Result<ExportReport> {
    let ExportWork { origin, adapter, format, device } = work;
    if format == ExportFormat::Adapter && adapter.is_none() {
        return Err(Error::input(
            "adapter",
            "not given",
            "the folder of the adapter to export, or format merged",
        ));
    }
    let model = load_model(Place::plain(device), origin.files, adapter, emit).await?;
    match format {
        ExportFormat::Adapter => export_adapter(model, &origin, store, folder).await,
        ExportFormat::Merged => {
            export_merged(model, &origin, store, folder, &mut |event| _ = emit(event)).await
        }
    }
}

/// The run with the method's settings of the adapter it continues from.
///
/// # Errors
/// The run states other settings of the method.
pub(super) fn continued(run: &Run, adapter: Option<&Adapter>) -> Result<Run> {
    let Some(adapter) = adapter else { return Ok(run.clone()) };
    let method = MethodConfig::Lora(adapter.config.clone());
    if run.method != method && run.method != MethodConfig::default() {
        let expected = "no settings of the method: those of the adapter are in force";
        return Err(Error::input("method", "differs from the adapter's", expected));
    }
    Ok(Run { method, ..run.clone() })
}

/// Saves what training changed into the run's folder: the adapter, or after full tuning the whole model.
pub(super) async fn save_result<O: Store>(
    model: &CausalLm,
    run: &Run,
    files: &ModelFiles<'_, impl Store>,
    tokenizer: &Tokenizer,
    store: &O,
    emit: Emit<'_>,
) -> Result<()> {
    match run.method {
        MethodConfig::Lora(_) => Adapter::of(model, &run.model).await?.save(store, "").await?,
        MethodConfig::Full(_) => {
            let origin = Origin { files, tokenizer, name: &run.model };
            write_model(model, &origin, store, "", &mut |event| _ = emit(event)).await?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::LoraConfig;

    #[test]
    fn a_run_takes_its_adapters_settings_and_contradicts_none() {
        let config = LoraConfig { rank: 3, ..LoraConfig::default() };
        let adapter = Adapter {
            config: config.clone(),
            base_model: None,
            fan_in_fan_out: false,
            tensors: Default::default(),
        };
        let run = Run::default();
        assert_eq!(continued(&run, None).unwrap(), run);
        let taken = continued(&run, Some(&adapter)).unwrap();
        assert_eq!(taken.method, MethodConfig::Lora(config));
        // A resumed run states what it took.
        assert_eq!(continued(&taken, Some(&adapter)).unwrap(), taken);
        let other =
            Run { method: MethodConfig::Lora(LoraConfig { rank: 4, ..LoraConfig::default() }), ..run };
        assert!(continued(&other, Some(&adapter)).unwrap_err().to_string().contains("method"));
    }
}
