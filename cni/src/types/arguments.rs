//! CNI_ARGS: what a Kubernetes runtime says of the Pod (CNI specification 1.1.0, section 2, "Parameters").

use super::{CniError, Code};

/// The Pod as the runtime names it. Each may be missing: other runtimes know no Pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// K8S_POD_NAMESPACE.
    pub pod_namespace: Option<String>,
    /// K8S_POD_NAME.
    pub pod_name: Option<String>,
    /// K8S_POD_UID.
    pub pod_uid: Option<String>,
    /// K8S_POD_INFRA_CONTAINER_ID: the sandbox, mostly the same as CNI_CONTAINERID.
    pub infra_container_id: Option<String>,
}

impl Arguments {
    /// Reads `KEY=VALUE` pairs joined by semicolons. Unknown keys pass, whatever IgnoreUnknown says; an empty value
    /// is as if missing; of a doubled key the last one holds.
    ///
    /// # Errors
    /// Code 4 for a part that is no pair.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let mut arguments = Self::default();
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part
                .split_once('=')
                .map(|(key, value)| (key.trim(), value))
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| {
                    CniError::new(Code::InvalidEnvironment, format!("CNI_ARGS: {part:?} is no KEY=VALUE pair"))
                        .with_details(
                            "write KEY=VALUE;KEY=VALUE, for example K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
                        )
                })?;
            let field = match key {
                "K8S_POD_NAMESPACE" => &mut arguments.pod_namespace,
                "K8S_POD_NAME" => &mut arguments.pod_name,
                "K8S_POD_UID" => &mut arguments.pod_uid,
                "K8S_POD_INFRA_CONTAINER_ID" => &mut arguments.infra_container_id,
                _ => continue,
            };
            *field = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_containerd_sends() {
        let arguments = Arguments::parse(
            "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2;IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
        )
        .unwrap();
        let expected = Arguments {
            pod_namespace: Some("default".to_owned()),
            pod_name: Some("web-0".to_owned()),
            pod_uid: Some("1-2".to_owned()),
            infra_container_id: Some("abc".to_owned()),
        };
        assert_eq!(arguments, expected);
    }

    #[test]
    fn unknown_keys_empty_values_and_nothing_pass() {
        for text in ["", ";", "FOO=bar", "K8S_POD_NAME=", "IP=10.1.1.1;MAC=a=b;"] {
            assert_eq!(Arguments::parse(text), Ok(Arguments::default()), "{text:?}");
        }
    }

    #[test]
    fn a_part_that_is_no_pair_is_named() {
        for text in ["K8S_POD_NAME", "A=1;oops;B=2", "=x"] {
            let error = Arguments::parse(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
        }
        assert!(Arguments::parse("A=1;oops;B=2").unwrap_err().msg.contains("\"oops\""));
    }
}
