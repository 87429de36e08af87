//! Devices by name. The only file of the core that knows which backends were built in.

#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
mod browser;

#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
pub use browser::{Limits, acquire};

use crate::{Error, Result};
use burn::tensor::{Device, DeviceType};
use serde::Serialize;

/// A device that this build can train on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// As `--device` takes it: `cpu`, `vulkan:0`.
    pub name: String,
    /// The part's own name, where the backend tells it.
    pub description: String,
}

/// A backend: its name and how its devices are found. The best for training comes first.
struct Backend {
    name: &'static str,
    devices: Option<DeviceType>,
}

fn backends() -> Vec<Backend> {
    #[cfg(feature = "cuda")]
    let cuda = Some(DeviceType::Cuda);
    #[cfg(not(feature = "cuda"))]
    let cuda = None;
    #[cfg(feature = "metal")]
    let metal = Some(DeviceType::Metal);
    #[cfg(not(feature = "metal"))]
    let metal = None;
    #[cfg(feature = "vulkan")]
    let vulkan = Some(DeviceType::Vulkan);
    #[cfg(not(feature = "vulkan"))]
    let vulkan = None;
    #[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
    let webgpu = Some(DeviceType::WebGpu);
    // A native program has no browser: the same shaders, in WGSL, run on the system's own graphics interface.
    #[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
    let webgpu = Some(DeviceType::Wgpu);
    #[cfg(not(feature = "webgpu"))]
    let webgpu = None;
    vec![
        Backend { name: "cuda", devices: cuda },
        Backend { name: "metal", devices: metal },
        Backend { name: "vulkan", devices: vulkan },
        Backend { name: "webgpu", devices: webgpu },
        Backend { name: "cpu", devices: Some(DeviceType::Flex) },
    ]
}

/// The device called `name`: `auto` for the best there is, else a backend with an index where there are several.
///
/// # Errors
/// [`Error::Device`] for an unknown name, a backend that is not built in, or a device that is not there.
pub fn open(name: &str) -> Result<Device> {
    locate(name).map(|located| located.device)
}

/// The name, as [`list`] prints it, of the device that [`open`] would open.
///
/// # Errors
/// As [`open`].
pub fn resolve(name: &str) -> Result<String> {
    locate(name).map(|located| located.name)
}

struct Located {
    name: String,
    device: Device,
}

fn locate(name: &str) -> Result<Located> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, index.parse::<usize>().map_err(|_| unknown(name))?),
        None => (name, 0),
    };
    if kind == "auto" {
        let first = backends().into_iter().find_map(|backend| {
            let device = found(backend.devices?).into_iter().next()?;
            Some(Located { name: full_name(backend.name, 0), device })
        });
        return first.ok_or_else(|| unknown(name));
    }
    let backend = backends().into_iter().find(|backend| backend.name == kind).ok_or_else(|| unknown(name))?;
    let Some(devices) = backend.devices else {
        return Err(Error::Device {
            device: name.into(),
            problem: "this build has no such backend".into(),
            advice: format!("build with `--features {kind}`, or choose one of: {}", names()),
        });
    };
    let device = found(devices).into_iter().nth(index);
    device.map(|device| Located { name: full_name(kind, index), device }).ok_or_else(|| Error::Device {
        device: name.into(),
        problem: match kind {
            "vulkan" => "no such device on this machine; drivers that compute on the CPU do not count".into(),
            _ => "no such device on this machine".into(),
        },
        advice: format!("choose one of: {}", names()),
    })
}

/// Bytes that a program may use on the device of that name, where the platform bounds them.
pub fn memory_limit(name: &str) -> Option<u64> {
    // A 32-bit address space, whatever the machine has.
    (cfg!(target_arch = "wasm32") && name == "cpu").then_some(1 << 32)
}

/// Bytes of the largest tensor that a device takes, where it says so beforehand: a browser's GPU does.
#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
pub fn max_tensor_bytes(device: &Device) -> Option<u64> {
    browser::max_tensor_bytes(device)
}

/// Bytes of the largest tensor that a device takes, where it says so beforehand: a browser's GPU does.
#[cfg(not(all(feature = "webgpu", target_arch = "wasm32")))]
pub fn max_tensor_bytes(_: &Device) -> Option<u64> {
    None
}

/// Whether the device of that name is an adapter that is a program on the CPU, as SwiftShader and llvmpipe are.
#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan", feature = "webgpu"))]
pub fn is_program(name: &str) -> bool {
    name != "cpu" && open(name).is_ok_and(|device| is_software(&device))
}

#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn is_software(device: &Device) -> bool {
    device.identity().is_some_and(|identity| identity.physical.is_none())
}

/// Whether the device of that name is an adapter that is a program on the CPU, as SwiftShader and llvmpipe are.
#[cfg(not(any(feature = "cuda", feature = "metal", feature = "vulkan", feature = "webgpu")))]
pub fn is_program(_: &str) -> bool {
    false
}

/// Every device of every backend in this build, the best first.
pub fn list() -> Vec<DeviceInfo> {
    let mut infos = Vec::new();
    for Backend { name, devices } in backends() {
        let Some(devices) = devices else { continue };
        for (index, device) in found(devices).iter().enumerate() {
            infos.push(DeviceInfo { name: full_name(name, index), description: description(device) });
        }
    }
    infos
}

/// There is only one CPU.
fn full_name(kind: &str, index: usize) -> String {
    if kind == "cpu" { kind.into() } else { format!("{kind}:{index}") }
}

#[cfg(not(all(feature = "webgpu", target_arch = "wasm32")))]
fn found(devices: DeviceType) -> Vec<Device> {
    Device::enumerate(devices.clone())
        .into_vec()
        .into_iter()
        .filter(|device| is_sound(&devices, device))
        .collect()
}

/// The SPIR-V that the Vulkan backend generates crashes in llvmpipe (Mesa 22.3 and 25.0) and gives wrong matrix
/// products in SwiftShader; the WGSL of `webgpu` runs in both.
#[cfg(feature = "vulkan")]
fn is_sound(devices: &DeviceType, device: &Device) -> bool {
    !(matches!(devices, DeviceType::Vulkan) && is_software(device))
}

#[cfg(not(any(feature = "vulkan", all(feature = "webgpu", target_arch = "wasm32"))))]
fn is_sound(_: &DeviceType, _: &Device) -> bool {
    true
}

/// A browser cannot list devices: there is the one that was acquired.
#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
fn found(devices: DeviceType) -> Vec<Device> {
    match devices {
        DeviceType::WebGpu => browser::acquired(),
        other => Device::enumerate(other).into_vec(),
    }
}

#[cfg(any(feature = "cuda", feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn description(device: &Device) -> String {
    device.identity().map_or_else(|| "CPU".into(), |identity| identity.name)
}

#[cfg(not(any(feature = "cuda", feature = "metal", feature = "vulkan", feature = "webgpu")))]
fn description(_: &Device) -> String {
    "CPU".into()
}

fn names() -> String {
    list().into_iter().map(|info| info.name).collect::<Vec<_>>().join(", ")
}

fn unknown(name: &str) -> Error {
    Error::Device {
        device: name.into(),
        problem: "no such device".into(),
        advice: format!("choose auto or one of: {}", names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there_and_listed_last() {
        assert_eq!(list().last().unwrap().name, "cpu");
        open("cpu").unwrap();
        open("auto").unwrap();
        assert_eq!(resolve("cpu").unwrap(), "cpu");
        assert_eq!(resolve("auto").unwrap(), list()[0].name, "the best there is");
    }

    #[test]
    fn other_names_are_refused_with_those_that_exist() {
        for name in ["gpu", "cpu:1", "cpu:x", ""] {
            let error = open(name).unwrap_err();
            assert!(error.to_string().contains("cpu"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
