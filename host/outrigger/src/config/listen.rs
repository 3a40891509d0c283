//! Where the server listens, and who may ask there.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Deserializer};
use server::{SocketConfig, TlsFiles};

use super::{Said, at_home};

/// Where we listen unless told otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:8484";
/// Addresses and sockets: two families of loopback, a socket, and as many again.
const LISTEN_MAX: usize = 8;
/// What makes an address a Unix socket's path.
const UNIX: &str = "unix:";
/// Who may open a socket unless told otherwise: its owner.
const SOCKET_MODE_DEFAULT: u32 = 0o600;
/// Below this a stall is a step of a large model. It is a bound on typing errors, not a recommendation.
const STALL_SECONDS_MIN: u64 = 10;

/// Where the server listens, and who may ask there.
#[derive(Debug, Clone)]
pub(crate) struct ListenSettings {
    /// At least one.
    pub(crate) places: Vec<ListenPlace>,
    /// Where probes and metrics alone are answered.
    pub(crate) probes: Option<SocketAddr>,
    pub(crate) keys_file: Option<PathBuf>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) stall_max: Duration,
}

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenPlace {
    Address(SocketAddr),
    Socket(SocketConfig),
}

/// How a socket's file mode is written: octal digits in quotes, as TOML's numbers are decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(u32);

impl ListenSettings {
    pub(crate) fn from_said(said: &Said) -> anyhow::Result<Self> {
        let given = said.listen.clone().filter(|given| !given.is_empty());
        let given = given.unwrap_or_else(|| vec![LISTEN_DEFAULT.to_owned()]);
        if given.len() > LISTEN_MAX {
            bail!("`listen` has {} places; {LISTEN_MAX} is the most that is accepted", given.len());
        }
        let uids = said.allowed_uids.as_ref();
        let socket = |path: &str| SocketConfig {
            path: at_home(Path::new(path)),
            mode: said.socket_mode.map_or(SOCKET_MODE_DEFAULT, |mode| mode.0),
            uids: uids.map_or_else(own_uid_and_root, |uids| uids.iter().copied().collect()),
        };
        let place = |given: &String| match given.strip_prefix(UNIX) {
            Some("") => {
                bail!("`listen` is `{given}`, which names no file; write for example unix:/run/outrigger/api.sock")
            }
            Some(path) => Ok(ListenPlace::Socket(socket(path))),
            None => address("listen", given).map(ListenPlace::Address),
        };
        let settings = Self {
            places: given.iter().map(place).collect::<anyhow::Result<_>>()?,
            probes: said
                .probe_listen
                .as_deref()
                .filter(|it| !it.is_empty())
                .map(|it| address("probe_listen", it))
                .transpose()?,
            keys_file: path(said.api_keys_file.as_ref()),
            tls: tls(said)?,
            stall_max: stall_max(said.stall_seconds)?,
        };
        if !said.listen_insecure.unwrap_or(false) {
            settings.check_reach()?;
        }
        Ok(settings)
    }

    /// Other machines are let in only with TLS, and only who has a key or a certificate.
    fn check_reach(&self) -> anyhow::Result<()> {
        let Some(reached) = self.addresses().find(|address| !address.ip().to_canonical().is_loopback()) else {
            return Ok(());
        };
        let missing = match (self.knows_who_asks(), self.tls.is_some()) {
            (true, true) => return Ok(()),
            (false, true) => {
                "no key: write api_keys_file = \"/run/secrets/outrigger-keys\", or tls_client_ca_file for clients with certificates"
            }
            (true, false) => {
                "no TLS, so whoever is on the way reads keys and prompts: write tls_cert_file and tls_key_file"
            }
            (false, false) => "neither a key nor TLS: write api_keys_file, tls_cert_file and tls_key_file",
        };
        bail!(
            "`listen` is {reached}, which other machines reach, and there is {missing}; or listen on {LISTEN_DEFAULT}; or pass \
             --listen-insecure where the network itself keeps others out"
        )
    }

    fn knows_who_asks(&self) -> bool {
        self.keys_file.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some())
    }

    /// Whether it is fit to be reached by other machines.
    pub(crate) fn is_guarded(&self) -> bool {
        self.knows_who_asks() && self.tls.is_some()
    }

    /// The addresses of the API.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.places.iter().filter_map(|place| match place {
            ListenPlace::Address(address) => Some(*address),
            ListenPlace::Socket(_) => None,
        })
    }

    /// A line for people.
    pub(crate) fn describe(&self) -> String {
        self.places.iter().map(ListenPlace::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for ListenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(socket) => write!(f, "{UNIX}{}", socket.path.display()),
        }
    }
}

/// The address that the text of `key` stands for.
fn address(key: &str, given: &str) -> anyhow::Result<SocketAddr> {
    given
        .to_socket_addrs()
        .with_context(|| format!("`{key}` is `{given}`, which is no ADDRESS:PORT; write for example {LISTEN_DEFAULT}"))?
        .next()
        .with_context(|| format!("`{key}` is `{given}`, which resolves to no address"))
}

fn tls(said: &Said) -> anyhow::Result<Option<TlsFiles>> {
    let files =
        (path(said.tls_cert_file.as_ref()), path(said.tls_key_file.as_ref()), path(said.tls_client_ca_file.as_ref()));
    match files {
        (Some(certificates), Some(key), client_authorities) => {
            Ok(Some(TlsFiles { certificates, key, client_authorities }))
        }
        (None, None, None) => Ok(None),
        (None, None, Some(_)) => bail!("`tls_client_ca_file` is set, and TLS needs `tls_cert_file` and `tls_key_file`"),
        (Some(_), None, _) => bail!("`tls_cert_file` is set without `tls_key_file`; a certificate needs its key"),
        (None, Some(_), _) => bail!("`tls_key_file` is set without `tls_cert_file`; a key needs its certificate"),
    }
}

fn stall_max(said: Option<u64>) -> anyhow::Result<Duration> {
    if let Some(seconds) = said.filter(|&seconds| seconds < STALL_SECONDS_MIN) {
        bail!(
            "`stall_seconds` is {seconds}; a step of a model may take that long, so it must be at least {STALL_SECONDS_MIN}"
        );
    }
    Ok(super::checks::seconds("stall_seconds", said)?.unwrap_or(server::limits::STALL_MAX_DEFAULT))
}

fn path(said: Option<&PathBuf>) -> Option<PathBuf> {
    said.filter(|path| !path.as_os_str().is_empty()).map(|path| at_home(path))
}

fn own_uid_and_root() -> BTreeSet<u32> {
    [0, nix::unistd::geteuid().as_raw()].into()
}

impl std::str::FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or_else(|| format!("`{text}` is no file mode; write for example \"0660\""))
    }
}

/// One place, or a list of them.
pub(super) fn deserialize_places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text such as \"127.0.0.1:8484\", or a list of them")]
    enum Places {
        One(String),
        Several(Vec<String>),
    }
    Ok(Some(match Places::deserialize(deserializer)? {
        Places::One(place) => vec![place],
        Places::Several(places) => places,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(places: &[&str]) -> Said {
        Said { listen: Some(places.iter().map(|&place| place.to_owned()).collect()), ..Said::default() }
    }

    fn settings(said: &Said) -> Result<ListenSettings, String> {
        ListenSettings::from_said(said).map_err(|error| format!("{error:#}"))
    }

    fn refusal(said: &Said) -> String {
        settings(said).expect_err("settings that mean nothing")
    }

    #[test]
    fn loopback_is_where_we_listen() {
        for said in [Said::default(), listen(&[])] {
            let settings = settings(&said).expect("defaults");
            assert_eq!(settings.describe(), "127.0.0.1:8484");
            assert!(settings.probes.is_none() && settings.keys_file.is_none() && settings.tls.is_none());
        }
        assert_eq!(settings(&listen(&["[::1]:1", "unix:/a/b"])).expect("two").describe(), "[::1]:1, unix:/a/b");
    }

    #[test]
    fn other_machines_are_let_in_with_keys_and_tls_or_on_purpose() {
        let open = listen(&["127.0.0.1:80", "0.0.0.0:80"]);
        let insecure = Said { listen_insecure: Some(true), ..open.clone() };
        let keys = Said { api_keys_file: Some("/k".into()), ..open.clone() };
        let tls = Said { tls_cert_file: Some("/c".into()), tls_key_file: Some("/p".into()), ..open.clone() };
        let mutual = Said { tls_client_ca_file: Some("/a".into()), ..tls.clone() };
        let both = Said { api_keys_file: Some("/k".into()), ..tls.clone() };
        for said in [insecure, mutual, both] {
            assert!(settings(&said).is_ok(), "{said:?}");
        }
        let start = "`listen` is 0.0.0.0:80, which other machines reach, and there is ";
        let end = "; or listen on 127.0.0.1:8484; or pass --listen-insecure where the network itself keeps others out";
        for (said, missing) in [
            (open, "neither a key nor TLS: write api_keys_file, tls_cert_file and tls_key_file"),
            (keys, "no TLS, so whoever is on the way reads keys and prompts: write tls_cert_file and tls_key_file"),
            (
                tls,
                "no key: write api_keys_file = \"/run/secrets/outrigger-keys\", or tls_client_ca_file for clients with \
                 certificates",
            ),
        ] {
            assert_eq!(refusal(&said), format!("{start}{missing}{end}"));
        }
        assert!(refusal(&listen(&["[::ffff:10.0.0.1]:80"])).contains("other machines reach"));
        assert!(settings(&listen(&["[::ffff:127.0.0.1]:80"])).is_ok());
        // What tells no content may be reached by anybody.
        assert!(settings(&Said { probe_listen: Some("0.0.0.0:9090".to_owned()), ..Said::default() }).is_ok());
    }

    #[test]
    fn half_a_thing_is_refused_by_name() {
        let said = |cert: Option<&str>, key: Option<&str>, ca: Option<&str>| Said {
            tls_cert_file: cert.map(PathBuf::from),
            tls_key_file: key.map(PathBuf::from),
            tls_client_ca_file: ca.map(PathBuf::from),
            ..Said::default()
        };
        assert!(refusal(&said(Some("/c"), None, None)).contains("`tls_key_file`"));
        assert!(refusal(&said(None, Some("/p"), None)).contains("`tls_cert_file`"));
        assert!(refusal(&said(None, None, Some("/a"))).contains("`tls_cert_file` and `tls_key_file`"));
        assert!(refusal(&listen(&["unix:"])).contains("names no file"));
        assert!(refusal(&listen(&["here"])).contains("no ADDRESS:PORT"));
        assert!(refusal(&listen(&["127.0.0.1:1"; 9])).contains("8 is the most"));
        assert!(refusal(&Said { stall_seconds: Some(9), ..Said::default() }).contains("at least 10"));
    }

    #[test]
    fn a_mode_is_octal_digits() {
        let parse = |text: &str| text.parse::<FileMode>().map(|mode| mode.0);
        assert_eq!((parse("0660"), parse("600")), (Ok(0o660), Ok(0o600)));
        for text in ["", "0o660", "0888", "-600", "+660", "7777", "00660"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn who_owns_the_process_may_use_its_socket() {
        let uids = |said: &Said| match &settings(said).expect("a socket").places[0] {
            ListenPlace::Socket(socket) => socket.uids.clone(),
            ListenPlace::Address(_) => panic!("no socket"),
        };
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(uids(&listen(&["unix:/s"])), [0, own].into());
        assert_eq!(uids(&Said { allowed_uids: Some(vec![7, 7]), ..listen(&["unix:/s"]) }), [7].into());
    }
}
