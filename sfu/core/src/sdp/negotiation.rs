//! What an offer and its answer agreed on, in the engine's own terms.

use smallvec::SmallVec;

use crate::ids::{Mid, Rid, Ssrc};
use crate::media::{Codecs, ExtensionIds, MediaKind};

/// ICE user name fragment and password (RFC 8839).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 characters.
    pub ufrag: String,
    /// 22 to 256 characters.
    pub pwd: String,
}

/// The SHA-256 fingerprint of a certificate (RFC 8122).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Which side starts the DTLS handshake (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupRole {
    /// The server waits for the client's hello: the usual case.
    Passive,
    /// The server sends the hello, because the client offered `setup:passive`.
    Active,
}

/// Everything that an offer and its answer agreed on.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// The SDP answer to send.
    pub answer: String,
    /// Another browser session than that of the offer before: everything of the old one is gone.
    pub new_session: bool,
    /// The client restarted ICE: `local` and `remote` credentials are fresh.
    pub ice_restarted: bool,
    /// The server's credentials.
    pub ice_local: IceCredentials,
    /// The client's credentials.
    pub ice_remote: IceCredentials,
    /// The certificate that the client must present.
    pub fingerprint: Fingerprint,
    /// Our role in the DTLS handshake.
    pub setup: SetupRole,
    /// The ids of header extensions, the same in all sections.
    pub extensions: ExtensionIds,
    /// Those of them that the client takes in its slots; the others are only its own to send (RFC 8285 section 5).
    pub writable_extensions: ExtensionIds,
    /// The CNAME of all slots, also for the server's sender reports (RFC 3550 section 6.5.1).
    pub cname: String,
    /// All sections, in the order of the offer; stopped ones too.
    pub sections: Vec<Section>,
}

/// One media section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name; a recycled section has a new one.
    pub mid: Mid,
    /// What it is used for.
    pub usage: SectionUse,
}

/// What a media section is used for.
#[derive(Clone, Debug)]
pub enum SectionUse {
    /// Stopped or rejected: port 0.
    Stopped,
    /// The client sends.
    Published(PublishedSection),
    /// The client receives.
    Slot(SlotSection),
    /// SCTP.
    Data(DataSection),
}

/// A section in which the client sends a track.
#[derive(Clone, Debug)]
pub struct PublishedSection {
    /// Audio or video.
    pub kind: MediaKind,
    /// `false` for a direction of `inactive`: negotiated, but nothing is sent now.
    pub active: bool,
    /// The payload types that the client may send.
    pub codecs: Codecs,
    /// The streams: one without simulcast; with simulcast one per rid, in the order of the offer (by convention from
    /// the smallest to the largest picture).
    pub layers: SmallVec<[PublishedLayer; 3]>,
}

/// One stream of a published section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedLayer {
    /// Its rid; `None` without simulcast.
    pub rid: Option<Rid>,
    /// Its SSRC, where the offer says so; otherwise the first packet's header extensions do.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its repairs, from `a=ssrc-group:FID`.
    pub rtx_ssrc: Option<Ssrc>,
}

/// A section in which the client receives what the server chooses.
#[derive(Clone, Debug)]
pub struct SlotSection {
    /// Audio or video.
    pub kind: MediaKind,
    /// `false` for a direction of `inactive`.
    pub active: bool,
    /// The payload types that the server may send.
    pub codecs: Codecs,
    /// The fixed SSRC of the slot.
    pub ssrc: Ssrc,
    /// The fixed SSRC of its repairs; only of use for codecs with `rtx`.
    pub rtx_ssrc: Ssrc,
    /// The slot of the other kind that shares its msid stream.
    pub pair: Option<Mid>,
}

/// The SCTP section (RFC 8841).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSection {
    /// The client's SCTP port.
    pub remote_port: u16,
    /// The largest message that the client takes, in bytes.
    pub max_message_size: usize,
}

/// Why an offer cannot be used. Nothing of it has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SDP line {line}: {reason}")]
pub struct OfferError {
    /// The line of the offer, from 1; 0 when something is missing that no line could show.
    pub line: usize,
    /// What is wrong and what would be right.
    pub reason: String,
}
