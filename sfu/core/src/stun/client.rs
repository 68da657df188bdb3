//! Writes requests as a client does, for the tests of this crate.

use super::*;

/// What a test client puts into its request.
#[derive(Clone, Debug)]
pub(crate) struct TestRequest<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
    pub(crate) priority: u32,
    pub(crate) use_candidate: bool,
    pub(crate) role: IceRole,
    pub(crate) unknown: &'a [u16],
}

impl TestRequest<'_> {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::begin(BINDING_REQUEST, b"transactions", &mut out);
        let mut attribute = |kind, value: &[u8]| writer.attribute(kind, value);
        attribute(USERNAME, self.username.as_bytes());
        attribute(PRIORITY, &self.priority.to_be_bytes());
        match self.role {
            IceRole::Controlling(tie_breaker) => attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes()),
            IceRole::Controlled(tie_breaker) => attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes()),
        }
        if self.use_candidate {
            attribute(USE_CANDIDATE, &[]);
        }
        for &kind in self.unknown {
            attribute(kind, &[1, 2, 3, 4, 5]);
        }
        writer.integrity(&IntegrityKey::new(self.password));
        writer.fingerprint();
        out
    }
}

impl Default for TestRequest<'_> {
    fn default() -> Self {
        Self {
            username: "evtj:h6vY",
            password: "VOkJxbRl1RmTxUk/WvJxBt",
            priority: 0x6e00_01ff,
            use_candidate: false,
            role: IceRole::Controlling(7),
            unknown: &[],
        }
    }
}
