//! The server, in this process, on loopback and on ports that the system chooses.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use veche_sfu::{Sfu, SfuConfig};
use veche_signaling::{Authority, Media, Settings, Signaling};

/// A running server. It stops with the test's runtime.
#[derive(Debug)]
pub struct Server {
    /// Where HTTP is served.
    pub address: SocketAddr,
    /// The media plane.
    pub sfu: Sfu,
}

impl Server {
    /// Starts media plane and signaling as the binary does.
    pub async fn start() -> Self {
        let settings = Settings::default();
        let config = SfuConfig {
            tcp: true,
            max_data_message: settings.max_data_message_bytes as usize,
            ..SfuConfig::on_loopback(1)
        };
        let sfu = veche_sfu::start(config).expect("the media plane starts");
        let (signaling, _) = Signaling::start(
            settings,
            Media::from(sfu.handle.clone()),
            sfu.events.clone(),
            Authority::open(),
        );
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(axum::serve(listener, signaling.router()).into_future());
        Self { address, sfu }
    }
}
