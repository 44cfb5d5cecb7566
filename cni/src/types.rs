//! Typed forms of what runtimes and CNI programs exchange. Whatever parses is valid: each failure is a
//! [`CniError`] that names the field and what to write instead.

mod arguments;
mod configuration;
mod error;
mod name;
mod reader;
mod result;
mod version;

pub use arguments::Arguments;
pub use configuration::{
    CoordinatorConfiguration, DetectOptions, IpamConfiguration, MacPrefix, Mode, NetworkConfiguration, PolicyRoute,
    ValidAttachment,
};
pub use error::{CniError, Code};
pub use name::{check_container_id, check_interface, check_network_name};
pub(crate) use reader::Reader;
pub use result::{CniResult, Dns, Interface, IpConfiguration, Route};
pub use version::CniVersion;
