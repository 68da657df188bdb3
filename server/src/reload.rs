//! A new configuration for a running server, by SIGHUP.

use veche_access::Authority;
use veche_cameras::Cameras;
use veche_messaging::Messaging;
use veche_signaling::Signaling;

use crate::commands::Options;
use crate::config::Config;
use crate::config::changes::Changes;
use crate::log::Log;
use crate::parts::Parts;
use crate::tls::{Certificates, Tls};
use crate::turn;
use crate::webhooks::Couriers;
use crate::whereabouts::Whereabouts;

/// Reads the configuration again and gives the parts what they can take.
pub(crate) struct Reloader {
    options: Options,
    /// What is in force, as far as it could change.
    config: Config,
    log: Log,
    certificates: Option<Certificates>,
    webhooks: Option<Couriers>,
    authority: Option<Authority>,
    messaging: Option<Messaging>,
    signaling: Option<Signaling>,
    cameras: Option<Cameras>,
    turn: Option<veche_turn::Handle>,
    whereabouts: Option<Whereabouts>,
}

impl Reloader {
    /// What has been read from `options` is in force.
    pub(crate) fn new(options: Options, config: Config, log: Log) -> Self {
        Self {
            options,
            config,
            log,
            certificates: None,
            webhooks: None,
            authority: None,
            messaging: None,
            signaling: None,
            cameras: None,
            turn: None,
            whereabouts: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whom to give what has changed.
    pub(crate) fn manages(&mut self, parts: &Parts, tls: Option<&Tls>) {
        self.certificates = tls.map(|tls| tls.certificates.clone());
        self.webhooks = Some(parts.webhooks.clone());
        self.authority = Some(parts.authority.clone());
        self.messaging = Some(parts.messaging.clone());
        self.signaling = parts.calls.as_ref().map(|calls| calls.signaling.clone());
        self.cameras = parts.calls.as_ref().and_then(|calls| calls.cameras.clone());
        self.turn = parts.turn.as_ref().map(|turn| turn.handle.clone());
        self.whereabouts = Some(parts.whereabouts.clone());
    }

    /// Reads everything again. What cannot be used changes nothing; the log tells.
    pub(crate) async fn reload(&mut self) {
        let (new, notes) = match self.options.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(
                    "the configuration was read again and cannot be used; the one before is: {error}"
                );
                return;
            }
        };
        for note in notes {
            tracing::warn!("{note}");
        }
        let changes = Changes::between(&self.config, &new);
        if let Err(error) = self.apply(&new).await {
            tracing::error!(
                "the configuration was read again and cannot be used; the one before is: {error:#}"
            );
            return;
        }
        for name in &changes.at_restart {
            tracing::warn!("{name} has changed, which takes a restart");
        }
        tracing::info!(changed = changes.live.join(", "), "the configuration was read again");
        self.config = new;
    }

    /// What can fail comes first, so that all of it is in force, or nothing.
    async fn apply(&mut self, new: &Config) -> anyhow::Result<()> {
        let certificate = if self.certificates.is_some() { Certificates::read(new)? } else { None };
        let webhooks = self.webhooks.as_ref().filter(|_| new.webhooks != self.config.webhooks);
        let webhooks = webhooks.map(|webhooks| webhooks.prepare(&new.webhooks)).transpose()?;
        // Always, for the files of keys may have changed. It changes all of itself, or nothing.
        if let Some(authority) = &self.authority {
            authority.reload(&new.access)?;
        }
        // Whether it is a filter was looked at when it was read.
        self.log.set_filter(&new.log.filter)?;
        if let Some(webhooks) = webhooks {
            webhooks.start().await;
        }
        if let (Some(certificates), Some(certificate)) = (&self.certificates, certificate) {
            certificates.replace(certificate);
        }
        if let Some(messaging) = &self.messaging {
            messaging.reload(&new.messaging, &new.channels);
        }
        if let Some(signaling) = &self.signaling {
            signaling.reload(&new.signaling);
        }
        if let Some(cameras) = &self.cameras {
            cameras.reload(&new.cameras);
        }
        if let Some(handle) = &self.turn {
            handle.set_credentials(&new.turn.secrets, &turn::users(&new.turn));
        }
        // What tokens are asked for tells who may be a relay's client, too.
        if let Some(whereabouts) = &self.whereabouts {
            whereabouts.reload(self.reached(new));
        }
        Ok(())
    }

    /// What is in force, with those of the new settings of relays' peers that can change.
    fn reached(&self, new: &Config) -> Config {
        let mut config = self.config.clone();
        config.turn.relay_to = new.turn.relay_to;
        config.turn.allow.clone_from(&new.turn.allow);
        config.turn.deny.clone_from(&new.turn.deny);
        config
    }
}
