//! The `CNI_*` variables (CNI specification 1.1.0, section 2, "Parameters"), checked as the reference implementation
//! checks them.

use std::{ffi::OsString, fs, os::unix::fs::MetadataExt as _};

use super::verb::Verb;
use crate::types::{CniError, Code, check_container_id, check_interface};

/// Looks a variable up. A function, so that tests need not change the process's own environment.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<OsString> + 'a>;

/// Where variables come from.
pub(super) struct Environment<'a> {
    get: Lookup<'a>,
    command: Option<String>,
}

/// The variables of one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variables {
    pub(super) container_id: String,
    pub(super) netns: String,
    pub(super) interface: String,
    pub(super) args: String,
    pub(super) path: String,
}

impl<'a> Environment<'a> {
    pub(super) fn new(get: impl Fn(&str) -> Option<OsString> + 'a) -> Self {
        let command =
            get("CNI_COMMAND").filter(|text| !text.is_empty()).map(|text| text.to_string_lossy().into_owned());
        Self { get: Box::new(get), command }
    }

    /// CNI_COMMAND; an empty one counts as missing, as does every other variable.
    pub(super) fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// CNI_NETNS_OVERRIDE, the reference implementation's way to allow a plugin in its own namespace.
    pub(super) fn may_share_namespace(&self) -> bool {
        (self.get)("CNI_NETNS_OVERRIDE").is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    }

    /// The variables that `verb` needs, all missing ones named in one error.
    pub(super) fn read(&self, verb: Verb) -> Result<Variables, CniError> {
        let missing: Vec<&str> = verb
            .required()
            .iter()
            .copied()
            .filter(|name| (self.get)(name).is_none_or(|text| text.is_empty()))
            .collect();
        if !missing.is_empty() {
            return Err(CniError::new(
                Code::InvalidEnvironment,
                format!("{} needs environment variables that are not set: {}", verb.as_str(), missing.join(", ")),
            ));
        }
        // GC and STATUS concern no container: what a careless caller left in the environment is not passed on.
        let of_container =
            |name| if matches!(verb, Verb::Gc | Verb::Status) { Ok(String::new()) } else { self.text(name) };
        let variables = Variables {
            container_id: of_container("CNI_CONTAINERID")?,
            netns: of_container("CNI_NETNS")?,
            interface: of_container("CNI_IFNAME")?,
            args: self.text("CNI_ARGS")?,
            path: self.text("CNI_PATH")?,
        };
        if !variables.container_id.is_empty() {
            check_container_id(&variables.container_id)?;
            check_interface(&variables.interface)?;
        }
        Ok(variables)
    }

    fn text(&self, name: &str) -> Result<String, CniError> {
        (self.get)(name).unwrap_or_default().into_string().map_err(|text| {
            CniError::new(Code::InvalidEnvironment, format!("{name} is no UTF-8 text: {}", text.to_string_lossy()))
        })
    }
}

/// Refuses a container whose namespace is this program's own: the host's routes are not a Pod's. A path that cannot
/// be looked at passes: the daemon says more about it.
pub(super) fn check_namespace(path: &str) -> Result<(), CniError> {
    let identity = |path: &str| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    match (identity(path), identity("/proc/self/ns/net")) {
        (Ok(container), Ok(own)) if container == own => Err(CniError::new(
            Code::InvalidNamespace,
            format!("CNI_NETNS {path:?} is the network namespace of the host, not of a container"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    const COMPLETE: [(&str, &str); 6] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "net1"),
        ("CNI_ARGS", "K8S_POD_NAME=web-0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];

    fn read(variables: &[(&str, &str)], verb: Verb) -> Result<Variables, CniError> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        Environment::new(get).read(verb)
    }

    #[test]
    fn each_verb_names_all_that_is_missing_at_once() {
        let table = [
            (
                Verb::Add,
                "ADD needs environment variables that are not set: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH",
            ),
            (
                Verb::Check,
                "CHECK needs environment variables that are not set: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH",
            ),
            (Verb::Del, "DEL needs environment variables that are not set: CNI_CONTAINERID, CNI_IFNAME, CNI_PATH"),
            (Verb::Gc, "GC needs environment variables that are not set: CNI_PATH"),
            (Verb::Status, "STATUS needs environment variables that are not set: CNI_PATH"),
        ];
        for (verb, message) in table {
            let error = read(&[("CNI_CONTAINERID", "")], verb).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (Code::InvalidEnvironment, message));
        }
    }

    #[test]
    fn each_missing_variable_is_named_alone() {
        for verb in [Verb::Add, Verb::Check, Verb::Del] {
            for gone in verb.required() {
                let rest: Vec<_> = COMPLETE.into_iter().filter(|(name, _)| name != gone).collect();
                let error = read(&rest, verb).unwrap_err();
                assert!(error.msg.ends_with(&format!("not set: {gone}")), "{error}");
            }
            assert!(read(&COMPLETE, verb).is_ok());
        }
    }

    #[test]
    fn del_needs_no_namespace_and_gc_passes_on_no_container() {
        let without: Vec<_> = COMPLETE.into_iter().filter(|(name, _)| *name != "CNI_NETNS").collect();
        assert_eq!(read(&without, Verb::Del).unwrap().netns, "");
        let gc = read(&COMPLETE, Verb::Gc).unwrap();
        assert_eq!((gc.container_id.as_str(), gc.interface.as_str(), gc.path.as_str()), ("", "", "/opt/cni/bin"));
    }

    #[test]
    fn bad_names_and_bad_text_are_refused() {
        for (name, value) in [("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "net1/../..")] {
            let variables = COMPLETE.map(|pair| if pair.0 == name { (name, value) } else { pair });
            let error = read(&variables, Verb::Del).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.starts_with(name), "{error}");
        }
        let get = |name: &str| (name == "CNI_PATH").then(|| OsString::from_vec(vec![0xff]));
        assert!(Environment::new(get).read(Verb::Status).unwrap_err().msg.starts_with("CNI_PATH is no UTF-8"));
    }

    #[test]
    fn the_own_namespace_is_refused() {
        assert_eq!(check_namespace("/proc/self/ns/net").unwrap_err().code, Code::InvalidNamespace);
        assert_eq!(check_namespace("/does/not/exist"), Ok(()));
        let get = |name: &str| (name == "CNI_NETNS_OVERRIDE").then(|| OsString::from("True"));
        assert!(Environment::new(get).may_share_namespace());
    }
}
