//! Where the daemon is. One file, `spidernet-cni.json`, beside the program; never the network configuration, which
//! tenants write.
//!
//! A file that others than root could have written is refused with code 7, and so is one that does not parse, for DEL
//! too: a tombstone in a folder that the daemon does not look into would be lost without a word.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Map, Value};

use crate::{
    trust,
    types::{CniError, Code, Reader},
};

/// The file's name.
pub(super) const FILE: &str = "spidernet-cni.json";
const KEYS: [&str; 3] = ["socket", "spool", "timeout"];
/// Seconds. A runtime gives up long before.
const LONGEST_TIMEOUT: f64 = 3600.0;

/// What a CNI program must know of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Key `socket`: the daemon's Unix socket.
    pub socket: PathBuf,
    /// Key `spool`: the folder of tombstones.
    pub spool: PathBuf,
    /// Key `timeout`, in seconds: for a whole call, waiting for the daemon included.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: "/var/run/spidernet/spiderpool.sock".into(),
            spool: "/var/lib/spidernet/spool".into(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Reads the file beside the running program.
    ///
    /// # Errors
    /// As [`Settings::in_folder`]; code 5 if the program does not know where it is.
    pub fn beside_program() -> Result<Self, CniError> {
        let program = env::current_exe()
            .map_err(|error| CniError::new(Code::Io, format!("cannot tell where this program is: {error}")))?;
        Self::in_folder(program.parent().unwrap_or(Path::new("/")))
    }

    /// Reads the file in `folder`; without a file the defaults hold.
    ///
    /// # Errors
    /// Code 7 if others than root may write the file or its folder, and for a key that is unknown or wrong; code 5 if
    /// the file cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Self, CniError> {
        let file = folder.join(FILE);
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CniError::new(Code::Io, format!("{}: {error}", file.display()))),
            Ok(text) => text,
        };
        for path in [folder, &file] {
            trust::check(path).map_err(|error| {
                CniError::new(
                    Code::InvalidConfiguration,
                    format!("the settings in {} are refused: {error}", file.display()),
                )
            })?;
        }
        Self::parse(&text).map_err(|error| CniError { msg: format!("{}: {}", file.display(), error.msg), ..error })
    }

    fn parse(text: &str) -> Result<Self, CniError> {
        let invalid = |msg| CniError::new(Code::InvalidConfiguration, msg);
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| invalid(format!("no JSON object: {error}")))?;
        let reader = Reader::root(&object);
        if let Some(key) = reader.keys().find(|key| !KEYS.contains(key)) {
            return Err(invalid(format!("key {key:?} is not known: write only {}", KEYS.join(", "))));
        }
        let path = |key, default: PathBuf| {
            let Some(text) = reader.string(key)? else { return Ok(default) };
            let path = PathBuf::from(text);
            if path.is_absolute() { Ok(path) } else { Err(reader.wrong(key, "an absolute path")) }
        };
        let default = Self::default();
        let timeout = match reader.get("timeout") {
            None => default.timeout,
            Some(value) => value
                .as_f64()
                .filter(|seconds| *seconds > 0.0 && *seconds <= LONGEST_TIMEOUT)
                .map(Duration::from_secs_f64)
                .ok_or_else(|| reader.wrong("timeout", "a number of seconds above 0, at most 3600"))?,
        };
        Ok(Self { socket: path("socket", default.socket)?, spool: path("spool", default.spool)?, timeout })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn defaults_hold_for_what_is_not_said() {
        assert_eq!(Settings::parse("{}").unwrap(), Settings::default());
        let settings = Settings::parse(r#"{"timeout": 0.5, "socket": "/a/b", "spool": null}"#).unwrap();
        assert_eq!((settings.socket, settings.timeout), ("/a/b".into(), Duration::from_millis(500)));
        assert_eq!(settings.spool, Settings::default().spool);
    }

    #[test]
    fn wrong_settings_are_named() {
        let table = [
            ("", "no JSON object"),
            ("[]", "no JSON object"),
            (r#"{"sockets": "/a"}"#, "\"sockets\" is not known: write only socket, spool, timeout"),
            (r#"{"socket": "a/b"}"#, "socket is \"a/b\": write an absolute path"),
            (r#"{"spool": 5}"#, "spool is 5: write a string"),
            (r#"{"timeout": "10"}"#, "timeout is \"10\": write a number of seconds"),
            (r#"{"timeout": 0}"#, "timeout is 0"),
            (r#"{"timeout": 1e9}"#, "timeout is 1000000000.0"),
        ];
        for (text, message) in table {
            let error = Settings::parse(text).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfiguration);
            assert!(error.msg.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(Settings::in_folder(folder.path()), Ok(Settings::default()), "absent");
        fs::write(&file, r#"{"timeout": 1}"#).unwrap();
        assert_eq!(Settings::in_folder(folder.path()).unwrap().timeout, Duration::from_secs(1));
        for (path, mode) in [(&file, 0o620), (&file, 0o602), (&folder.path().to_owned(), 0o777)] {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Settings::in_folder(folder.path()).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfiguration);
            assert!(error.msg.contains("writable by others than root"), "{error}");
            fs::set_permissions(path, before).unwrap();
        }
    }
}
