//! The values of a setting that has only a few, read off its type, so that a form lists what a file may say.

use super::{LossOn, OptimizerKind, Precision, SchedulerKind, Setting, Shape, WeightFormat};
use serde::de::value::Error;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

impl Setting {
    /// The words this setting takes; nothing where it takes numbers or free text.
    pub fn choices(&self) -> &'static [&'static str] {
        match self.kind {
            "Shape" => variants::<Shape>(),
            "LossOn" => variants::<LossOn>(),
            "SchedulerKind" => variants::<SchedulerKind>(),
            "OptimizerKind" => variants::<OptimizerKind>(),
            "Precision" => variants::<Precision>(),
            "WeightFormat" => variants::<WeightFormat>(),
            _ => &[],
        }
    }
}

/// The names under which serde reads an enum.
fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Listing the names ends the reading, so there is never a value.
    _ = T::deserialize(Listing { names: &mut names });
    names
}

struct Listing<'n> {
    names: &'n mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Listing<'_> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.names = variants;
        Err(de::Error::custom("listed"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("no enum"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{GenerateConfig, table};

    #[test]
    fn every_setting_that_is_neither_number_nor_text_lists_its_words() {
        let free = ["bool", "f64", "String", "u64", "usize", "TargetModules", "Vec<String>", "Columns"];
        for setting in table().chain(GenerateConfig::SETTINGS) {
            let kind = setting.kind.replace(' ', "");
            let kind = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>')).unwrap_or(&kind);
            assert_eq!(setting.choices().is_empty(), free.contains(&kind), "{}: {kind}", setting.key());
        }
        let optimizer = table().find(|setting| setting.name == "optimizer").expect("a setting");
        assert_eq!(optimizer.choices(), ["adamw", "adafactor", "lion", "muon", "sgd"]);
    }
}
