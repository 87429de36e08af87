//! Stands in where the page was built for the CPU only.

/// Why there is no GPU.
pub async fn try_out() -> Result<String, String> {
    Err("this page was built without WebGPU".into())
}
