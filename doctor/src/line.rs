//! A connection to a server: TCP, and TLS over it, each within a time.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// How long anything may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// TCP, or TLS over it.
pub(crate) type Line = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What comes within the time, or an error that says that nothing did.
pub(crate) async fn in_time<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(silence(PATIENCE)),
    }
}

/// That nothing came within a time.
pub(crate) fn silence(patience: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs_f32()))
}

/// A connection to an address.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = in_time(TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Speaks TLS with whoever is there, and gives the certificates that they show, their own first. Nobody is trusted by that.
pub(crate) async fn secure(
    stream: TcpStream,
    name: &ServerName<'static>,
    protocol: &[u8],
) -> io::Result<(Line, Vec<CertificateDer<'static>>)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let stream = in_time(connector.connect(name.clone(), stream)).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    Ok((Either::Right(Box::new(stream)), chain))
}

/// Takes any certificate: it is judged later, so that all that is wrong with it can be told, and the rest looked at too. What
/// is secret is not sent to who is not trusted.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
