//! A listening agent: one client at a time, over TLS, with a token.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{Connection, ServerConfig, ServerConnection};

use super::serve::{AgentOptions, serve};
use super::tls::{Pin, provider, shake};
use crate::error::{Error, Result};

/// What a client has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Certificate, key and token of a listening agent, made once and kept, so that the address that was printed stays right.
pub struct Secrets {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// What a client must know.
    pub token: String,
}

impl Secrets {
    /// Reads the secrets in `folder`, or makes them there, readable by this user alone.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Secrets`].
    pub fn open(folder: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Secrets { folder: folder.to_owned(), reason };
        let path = |name: &str| folder.join(name);
        let names = [path("certificate.der"), path("key.der"), path("token")];
        let [certificate, key, token] = &names;
        let read = |path: &Path| std::fs::read(path);
        if let (Ok(certificate), Ok(key), Ok(token)) = (read(certificate), read(key), read(token)) {
            let token = String::from_utf8_lossy(&token).trim().to_owned();
            let whole = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !whole || certificate.is_empty() || key.is_empty() {
                // An empty token would let everybody in.
                return Err(fail(
                    "a file of them is damaged; remove certificate.der, key.der and token there".into(),
                ));
            }
            return Ok(Self { certificate, key, token });
        }
        let made = rcgen::generate_simple_self_signed(vec!["masktas-agent".to_owned()])
            .map_err(|error| fail(error.to_string()))?;
        let mut random = [0; 16];
        provider()
            .secure_random
            .fill(&mut random)
            .map_err(|_| fail("the system gives no randomness".into()))?;
        let secrets = Self {
            certificate: made.cert.der().to_vec(),
            key: made.signing_key.serialize_der(),
            token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        private(certificate, &secrets.certificate)?;
        private(key, &secrets.key)?;
        private(token, secrets.token.as_bytes())?;
        Ok(secrets)
    }

    /// Hash of the certificate.
    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }
}

/// Writes a file that only this user may read: whole or not at all.
fn private(path: &Path, content: &[u8]) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    // A temporary file is its owner's alone.
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new("."))).map_err(io)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map(drop).map_err(|error| io(error.error))
}

/// Asks the system to find out when a client is gone without a word, as when its network is: within about a minute.
fn watch(client: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        let options = [
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 20),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
            // Milliseconds that something sent may stay unanswered.
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 60_000),
        ];
        for (level, name, value) in options {
            let value: libc::c_int = value;
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: the socket is open and the value is an int, as each of these options takes.
            unsafe { libc::setsockopt(client.as_raw_fd(), level, name, (&raw const value).cast(), size) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = client;
}

/// A bound socket and what it takes to serve on it.
pub struct Listener {
    socket: TcpListener,
    config: Arc<ServerConfig>,
    pin: Pin,
    token: String,
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// [`Error::Listen`] when the address is taken or not this machine's; [`Error::Secrets`].
    pub fn bind(address: SocketAddr, secrets: &Secrets, folder: &Path) -> Result<Self> {
        let fail = |reason: String| Error::Secrets { folder: folder.to_owned(), reason };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secrets.key.clone()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let chain = vec![CertificateDer::from(secrets.certificate.clone())];
                builder.with_no_client_auth().with_single_cert(chain, key)
            })
            .map_err(|error| fail(error.to_string()))?;
        let socket = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
        Ok(Self { socket, config: Arc::new(config), pin: secrets.pin(), token: secrets.token.clone() })
    }

    /// The address to connect to, with everything a client must know: `tcp://TOKEN@HOST:PORT#PIN`.
    pub fn address(&self) -> String {
        let at = self.socket.local_addr().map_or_else(|_| "?".into(), |at| at.to_string());
        format!("tcp://{}@{at}#{}", self.token, self.pin)
    }

    /// Serves clients, one after the other: two that measured at once would disturb each other. A client that fails ends its
    /// own conversation only; `tell` hears of each that comes and goes.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder for models cannot be made.
    pub fn serve(&self, options: &AgentOptions, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let options = AgentOptions { token: Some(self.token.clone()), ..options.clone() };
        for client in self.socket.incoming() {
            let Ok(client) = client else { continue };
            let who = client.peer_addr().map_or_else(|_| "somebody".into(), |at| at.to_string());
            tell(&format!("{who} connected"));
            match self.converse(client, &options) {
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => tell(&format!("{who}: {error}")),
                Ok(()) => tell(&format!("{who} left")),
            }
        }
        Ok(())
    }

    fn converse(&self, client: TcpStream, options: &AgentOptions) -> Result<()> {
        let garbled = |reason: String| Error::Garbled { reason };
        watch(&client);
        let connection =
            ServerConnection::new(Arc::clone(&self.config)).map_err(|e| garbled(e.to_string()))?;
        let (reader, writer) =
            shake(client, Connection::Server(connection), HANDSHAKE).map_err(|e| garbled(e.to_string()))?;
        serve(options, reader, writer)
    }
}
