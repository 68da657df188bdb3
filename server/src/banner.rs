//! What the server says when it has started.

use std::net::{IpAddr, SocketAddr};

use veche_access::{Authority, Door};

use crate::config::Config;
use crate::listeners::Addresses;
use crate::tls;

/// Says in plain words which addresses to open.
pub(crate) fn announce(config: &Config, addresses: Addresses, authority: &Authority) {
    println!("Veche is running.");
    println!("  On this machine, open   http://localhost:{}", addresses.http.port());
    if let Some(https) = addresses.https {
        for place in https_places(config, https) {
            println!("  From other machines:    https://{place}");
        }
        let is_self_signed = config.http.certificate_file.is_none() && config.acme.domains.is_empty();
        if is_self_signed {
            println!("  (Unless you gave it a certificate, the browser warns once: accept to go on.)");
        }
    }
    println!("  The HTTP API:           http://localhost:{}/docs", addresses.http.port());
    if let Some(metrics) = addresses.metrics {
        println!("  Metrics, for everybody: http://{metrics}/metrics");
    }
    warn_if_open(addresses, authority);
    println!("Veche is ready. Ctrl-C stops it.");
}

/// Whether everybody may do everything, and who everybody is.
fn warn_if_open(addresses: Addresses, authority: &Authority) {
    if !authority.is_open() {
        let asked = if authority.is_required(Door::WebSocket) && authority.is_required(Door::Sse) {
            "all"
        } else {
            "some"
        };
        println!("  Tokens are asked for at {asked} doors.");
        return;
    }
    let is_reached = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    if !is_reached(addresses.http) && !addresses.https.is_some_and(is_reached) {
        println!("  No tokens are asked for: whoever uses this machine may do everything.");
        return;
    }
    println!();
    println!("  !!  THIS SERVER IS OPEN. Whoever reaches it may join, read, send and delete everything.");
    println!("  !!  For more than trying out, set [access] in the configuration (docs/running.md).");
    println!();
    tracing::warn!("open to everybody who reaches it: no door asks for a token");
}

/// Names where there is a certificate for them, otherwise addresses.
fn https_places(config: &Config, https: SocketAddr) -> Vec<String> {
    if !config.acme.domains.is_empty() {
        return config.acme.domains.clone();
    }
    let addresses = if https.ip().is_unspecified() {
        let takes = |address: &IpAddr| !address.is_loopback() && (https.is_ipv6() || address.is_ipv4());
        tls::machine_addresses().into_iter().filter(takes).collect()
    } else {
        vec![https.ip()]
    };
    addresses.into_iter().map(|address| SocketAddr::new(address, https.port()).to_string()).collect()
}
