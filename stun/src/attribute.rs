//! The numbers of attributes that both ICE and TURN know (RFC 8489 section 18.3).

/// Who asks.
pub const USERNAME: u16 = 0x0006;
/// HMAC-SHA1 over what stands before it.
pub const MESSAGE_INTEGRITY: u16 = 0x0008;
/// Why a request is refused.
pub const ERROR_CODE: u16 = 0x0009;
/// Which attributes were not understood.
pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
/// For what the credential is.
pub const REALM: u16 = 0x0014;
/// What a request has to repeat.
pub const NONCE: u16 = 0x0015;
/// HMAC-SHA256 over what stands before it.
pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
/// How the client made its key from the password.
pub const PASSWORD_ALGORITHM: u16 = 0x001d;
/// Who asks, so that only the server can tell.
pub const USERHASH: u16 = 0x001e;
/// Where a request came from.
pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// How a key may be made from the password.
pub const PASSWORD_ALGORITHMS: u16 = 0x8002;
/// What the program is called.
pub const SOFTWARE: u16 = 0x8022;
/// Another server, to be asked instead.
pub const ALTERNATE_SERVER: u16 = 0x8023;
/// A check sum over what stands before it.
pub const FINGERPRINT: u16 = 0x8028;
/// From here on an attribute that is not understood may be ignored (RFC 8489 section 14).
pub const COMPREHENSION_OPTIONAL: u16 = 0x8000;
