//! TLS with a pinned certificate: the client knows the hash of the one certificate it accepts, so nobody else has to be trusted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How long a client waits for the agent's side of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// A pin from its 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pin = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(pin))
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The cryptography in use.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let found = Pin::of(certificate);
        if found == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            let text = format!("its certificate is {found} and {} was expected", self.pin);
            Err(rustls::Error::General(text))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes a connection on `socket` to the agent whose certificate has this pin.
///
/// # Errors
/// [`Error::Refused`] when the certificate is another one; [`Error::Lost`].
pub fn connect(socket: TcpStream, pin: Pin, device: &str) -> Result<(TlsReader, TlsWriter)> {
    let lost = |reason: String| Error::Lost { device: device.to_owned(), reason };
    let provider = provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| lost(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider }))
        .with_no_client_auth();
    let name = ServerName::try_from("masktas-agent").map_err(|e| lost(e.to_string()))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|e| lost(e.to_string()))?;
    shake(socket, Connection::Client(connection), HANDSHAKE).map_err(|error| match error.get_ref() {
        _ if matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock) => {
            lost(format!(
                "the agent there did not answer within {} s; it serves one client at a time",
                HANDSHAKE.as_secs()
            ))
        }
        Some(source) if source.is::<rustls::Error>() => Error::Refused {
            device: device.to_owned(),
            reason: format!("{source}; connect with the address that the agent printed when it started"),
        },
        _ => lost(error.to_string()),
    })
}

/// Finishes the handshake in the given time and takes the connection apart into two ends that two threads may use.
pub(super) fn shake(
    mut socket: TcpStream,
    mut connection: Connection,
    patience: Duration,
) -> std::io::Result<(TlsReader, TlsWriter)> {
    let deadline = Instant::now() + patience;
    socket.set_nodelay(true)?;
    while connection.is_handshaking() {
        // A byte now and then must not make it last for ever.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        if connection.wants_write() {
            connection.write_tls(&mut socket)?;
        } else {
            if connection.read_tls(&mut socket)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = connection.process_new_packets() {
                // The other side is told why, if it still listens.
                let _ = connection.write_tls(&mut socket);
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
            }
        }
    }
    connection.complete_io_if_wanted(&mut socket)?;
    socket.set_read_timeout(None)?;
    let shared = Arc::new(Shared { connection: Mutex::new(connection), socket });
    Ok((
        TlsReader { shared: Arc::clone(&shared), raw: vec![0; 32 << 10], unread: 0..0 },
        TlsWriter { shared },
    ))
}

trait Flush {
    fn complete_io_if_wanted(&mut self, socket: &mut TcpStream) -> std::io::Result<()>;
}

impl Flush for Connection {
    fn complete_io_if_wanted(&mut self, socket: &mut TcpStream) -> std::io::Result<()> {
        while self.wants_write() {
            self.write_tls(socket)?;
        }
        Ok(())
    }
}

struct Shared {
    connection: Mutex<Connection>,
    socket: TcpStream,
}

impl Shared {
    fn lock(&self) -> std::io::Result<MutexGuard<'_, Connection>> {
        self.connection.lock().map_err(|_| std::io::Error::other("a thread on this connection panicked"))
    }

    fn flush(&self, connection: &mut Connection) -> std::io::Result<()> {
        connection.complete_io_if_wanted(&mut self.socket.try_clone()?)
    }
}

/// The end that reads. It waits for the network without holding the connection, so that the other end can write meanwhile.
pub struct TlsReader {
    shared: Arc<Shared>,
    /// Bytes from the network.
    raw: Vec<u8>,
    /// Those of them that the connection has not taken.
    unread: std::ops::Range<usize>,
}

impl Read for TlsReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.shared.lock()?.reader().read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.unread.is_empty() {
                let read = (&self.shared.socket).read(&mut self.raw)?;
                if read == 0 {
                    return Ok(0);
                }
                self.unread = 0..read;
            }
            // One bite at a time: a connection takes no more before what it has opened is read.
            let mut rest = self.raw.get(self.unread.clone()).unwrap_or_default();
            let mut connection = self.shared.lock()?;
            let taken = connection.read_tls(&mut rest)?;
            connection.process_new_packets().map_err(std::io::Error::other)?;
            self.unread.start += taken;
            self.shared.flush(&mut connection)?;
        }
    }
}

/// The end that writes. Closing it closes the connection.
pub struct TlsWriter {
    shared: Arc<Shared>,
}

impl Write for TlsWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let mut connection = self.shared.lock()?;
        let written = connection.writer().write(buffer)?;
        self.shared.flush(&mut connection)?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut connection = self.shared.lock()?;
        self.shared.flush(&mut connection)
    }
}

impl Drop for TlsWriter {
    fn drop(&mut self) {
        if let Ok(mut connection) = self.shared.lock() {
            connection.send_close_notify();
            let _ = self.shared.flush(&mut connection);
        }
        let _ = self.shared.socket.shutdown(std::net::Shutdown::Both);
    }
}
