//! Full tuning: every weight of the model is trained.

use crate::config::settings;

settings! {
    /// Full tuning has no settings of its own.
    pub struct FullConfig in "method" {
    }
}
