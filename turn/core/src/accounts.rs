//! How much each user, each client address and all together have and may have. Shared by the workers of a server.
//!
//! The table is locked when an allocation comes and goes. Packets only touch counters that need no lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use crate::refusals::Refusal;

const NANOS: u64 = 1_000_000_000;

/// What may be sent at once after a silence: a second of the rate, but never less than this.
const MIN_BURST_BYTES: u64 = 65_536;

/// What somebody may have at most; 0 for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Allocations.
    pub allocations: u32,
    /// Permissions of all their allocations.
    pub permissions: u32,
    /// Channels of all their allocations.
    pub channels: u32,
    /// Bytes relayed in a second, both ways together.
    pub bytes_per_second: u64,
}

/// The limits for each user, for each client address and for all together. A client address of IPv6 is a network of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// For each user.
    pub user: Limits,
    /// For each client address.
    pub address: Limits,
    /// For all together.
    pub total: Limits,
}

/// What somebody has and has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocations now.
    pub allocations: u32,
    /// Permissions now.
    pub permissions: u32,
    /// Channels now.
    pub channels: u32,
    /// Packets from clients to peers.
    pub packets_to_peers: u64,
    /// Bytes of their data.
    pub bytes_to_peers: u64,
    /// Packets from peers to clients.
    pub packets_to_clients: u64,
    /// Bytes of their data.
    pub bytes_to_clients: u64,
}

/// What a user who has allocations now has, and has used since the first of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserUsage {
    /// Who: a static user, or what stands behind the time in a time-limited name.
    pub user: String,
    /// How much.
    pub usage: Usage,
}

/// Everybody who has an allocation.
#[derive(Debug)]
pub struct Accounts {
    quotas: Quotas,
    epoch: Instant,
    total: Arc<Account>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    account_by_user: HashMap<Arc<str>, Arc<Account>>,
    account_by_address: HashMap<IpAddr, Arc<Account>>,
}

/// What is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Permission,
    Channel,
}

/// Packets and bytes of one allocation that its accounts do not know yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) packets_to_peers: u64,
    pub(crate) bytes_to_peers: u64,
    pub(crate) packets_to_clients: u64,
    pub(crate) bytes_to_clients: u64,
}

/// The accounts of one allocation. They are given back with [`Accounts::close`].
#[derive(Debug)]
pub(crate) struct Holder {
    user: Arc<str>,
    address: IpAddr,
    accounts: [Arc<Account>; 3],
}

#[derive(Debug)]
struct Account {
    limits: Limits,
    epoch: Instant,
    allocations: AtomicU32,
    permissions: AtomicU32,
    channels: AtomicU32,
    /// When the account has made up for what it relayed, in nanoseconds after `epoch`.
    free_at: AtomicU64,
    packets_to_peers: AtomicU64,
    bytes_to_peers: AtomicU64,
    packets_to_clients: AtomicU64,
    bytes_to_clients: AtomicU64,
}

impl Accounts {
    /// Nobody yet. `epoch` is now or earlier.
    pub fn new(quotas: Quotas, epoch: Instant) -> Self {
        let total = Arc::new(Account::new(quotas.total, epoch));
        Self { quotas, epoch, total, table: Mutex::default() }
    }

    /// What all together have, and have used since the start.
    pub fn total(&self) -> Usage {
        self.total.usage()
    }

    /// Who has allocations now, in the order of their names.
    pub fn users(&self) -> Vec<UserUsage> {
        let table = self.table.lock();
        let users = table.account_by_user.iter();
        let mut users: Vec<_> = users
            .map(|(user, account)| UserUsage { user: user.to_string(), usage: account.usage() })
            .collect();
        drop(table);
        users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        users
    }

    /// An allocation comes, unless somebody has as many as they may have.
    pub(crate) fn open(&self, user: &str, client: IpAddr) -> Result<Holder, Refusal> {
        let user: Arc<str> = user.into();
        let address = household(client);
        let mut table = self.table.lock();
        let reasons = [Refusal::UserQuota, Refusal::AddressQuota, Refusal::TotalQuota];
        let accounts = [
            find(&table.account_by_user, &user, self.quotas.user, self.epoch),
            find(&table.account_by_address, &address, self.quotas.address, self.epoch),
            self.total.clone(),
        ];
        let full = accounts.iter().position(|account| !account.has_room());
        if let Some(full) = full {
            return Err(reasons[full]);
        }
        for account in &accounts {
            account.allocations.fetch_add(1, Relaxed);
        }
        table.account_by_user.insert(user.clone(), accounts[0].clone());
        table.account_by_address.insert(address, accounts[1].clone());
        Ok(Holder { user, address, accounts })
    }

    /// An allocation goes, with these permissions and channels.
    pub(crate) fn close(&self, holder: Holder, permissions: usize, channels: usize) {
        holder.give_back(Resource::Permission, permissions);
        holder.give_back(Resource::Channel, channels);
        let mut table = self.table.lock();
        for account in &holder.accounts {
            account.allocations.fetch_sub(1, Relaxed);
        }
        if holder.accounts[0].allocations.load(Relaxed) == 0 {
            table.account_by_user.remove(&holder.user);
        }
        if holder.accounts[1].allocations.load(Relaxed) == 0 {
            table.account_by_address.remove(&holder.address);
        }
    }
}

fn find<K: Hash + Eq>(
    accounts: &HashMap<K, Arc<Account>>,
    key: &K,
    limits: Limits,
    epoch: Instant,
) -> Arc<Account> {
    accounts.get(key).cloned().unwrap_or_else(|| Arc::new(Account::new(limits, epoch)))
}

/// A household has an address of IPv4, or a network of 64 bits of IPv6.
fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Holder {
    /// One more of something, or `false` when somebody has as many as they may have.
    pub(crate) fn take(&self, resource: Resource) -> bool {
        let full = self.accounts.iter().position(|account| !account.take(resource));
        let Some(full) = full else { return true };
        for account in &self.accounts[..full] {
            account.counter(resource).0.fetch_sub(1, Relaxed);
        }
        false
    }

    /// So many less of something.
    pub(crate) fn give_back(&self, resource: Resource, count: usize) {
        for account in &self.accounts {
            account.counter(resource).0.fetch_sub(count as u32, Relaxed);
        }
    }

    /// Whether so much data may be relayed now.
    pub(crate) fn meter(&self, bytes: usize, now: Instant) -> bool {
        self.accounts.iter().all(|account| account.meter(bytes as u64, now))
    }

    /// Tells what was relayed.
    pub(crate) fn tell(&self, traffic: &Traffic) {
        for account in &self.accounts {
            account.packets_to_peers.fetch_add(traffic.packets_to_peers, Relaxed);
            account.bytes_to_peers.fetch_add(traffic.bytes_to_peers, Relaxed);
            account.packets_to_clients.fetch_add(traffic.packets_to_clients, Relaxed);
            account.bytes_to_clients.fetch_add(traffic.bytes_to_clients, Relaxed);
        }
    }
}

impl Account {
    fn new(limits: Limits, epoch: Instant) -> Self {
        Self {
            limits,
            epoch,
            allocations: AtomicU32::new(0),
            permissions: AtomicU32::new(0),
            channels: AtomicU32::new(0),
            free_at: AtomicU64::new(0),
            packets_to_peers: AtomicU64::new(0),
            bytes_to_peers: AtomicU64::new(0),
            packets_to_clients: AtomicU64::new(0),
            bytes_to_clients: AtomicU64::new(0),
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            allocations: self.allocations.load(Relaxed),
            permissions: self.permissions.load(Relaxed),
            channels: self.channels.load(Relaxed),
            packets_to_peers: self.packets_to_peers.load(Relaxed),
            bytes_to_peers: self.bytes_to_peers.load(Relaxed),
            packets_to_clients: self.packets_to_clients.load(Relaxed),
            bytes_to_clients: self.bytes_to_clients.load(Relaxed),
        }
    }

    /// Whether one more allocation may come. Only asked under the table's lock.
    fn has_room(&self) -> bool {
        self.limits.allocations == 0 || self.allocations.load(Relaxed) < self.limits.allocations
    }

    fn counter(&self, resource: Resource) -> (&AtomicU32, u32) {
        match resource {
            Resource::Permission => (&self.permissions, self.limits.permissions),
            Resource::Channel => (&self.channels, self.limits.channels),
        }
    }

    fn take(&self, resource: Resource) -> bool {
        let (counter, most) = self.counter(resource);
        let more = |count: u32| (most == 0 || count < most).then_some(count + 1);
        counter.try_update(Relaxed, Relaxed, more).is_ok()
    }

    fn meter(&self, bytes: u64, now: Instant) -> bool {
        let rate = self.limits.bytes_per_second;
        if rate == 0 {
            return true;
        }
        let nanos = |bytes: u64| (u128::from(bytes) * u128::from(NANOS) / u128::from(rate)) as u64;
        let burst = nanos(rate.max(MIN_BURST_BYTES));
        let now = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        let next = |free_at: u64| Some(free_at.max(now) + nanos(bytes)).filter(|next| *next <= now + burst);
        self.free_at.try_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn quotas_are_of_the_user_the_address_and_all_together() {
        let limits = |allocations| Limits { allocations, ..Limits::default() };
        let quotas = Quotas { user: limits(2), address: limits(3), total: limits(4) };
        let accounts = Accounts::new(quotas, Instant::now());
        let first = accounts.open("ann", address(1)).unwrap();
        let second = accounts.open("ann", address(2)).unwrap();
        assert_eq!(accounts.open("ann", address(3)).unwrap_err(), Refusal::UserQuota);
        let third = accounts.open("bob", address(1)).unwrap();
        let fourth = accounts.open("cid", address(1)).unwrap();
        assert_eq!(accounts.open("dan", address(1)).unwrap_err(), Refusal::AddressQuota);
        assert_eq!(accounts.open("dan", address(4)).unwrap_err(), Refusal::TotalQuota);
        assert_eq!(
            accounts.users().iter().map(|user| &*user.user).collect::<Vec<_>>(),
            ["ann", "bob", "cid"]
        );
        assert_eq!(accounts.users()[0].usage.allocations, 2);
        for holder in [first, second, third, fourth] {
            accounts.close(holder, 0, 0);
        }
        assert_eq!((accounts.users(), accounts.total()), (vec![], Usage::default()));
        assert!(accounts.table.lock().account_by_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let quotas = Quotas { address: Limits { allocations: 1, ..Limits::default() }, ..Quotas::default() };
        let accounts = Accounts::new(quotas, Instant::now());
        let _held = accounts.open("ann", "2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(
            accounts.open("bob", "2001:db8::ffff:0:0:2".parse().unwrap()).unwrap_err(),
            Refusal::AddressQuota
        );
        assert!(accounts.open("bob", "2001:db8:0:1::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn what_finds_no_room_takes_nothing_elsewhere() {
        let permissions = |permissions| Limits { permissions, ..Limits::default() };
        let quotas = Quotas { user: permissions(5), address: permissions(2), ..Quotas::default() };
        let accounts = Accounts::new(quotas, Instant::now());
        let holder = accounts.open("ann", address(1)).unwrap();
        let taken = (0..9).filter(|_| holder.take(Resource::Permission)).count();
        assert_eq!((taken, accounts.users()[0].usage.permissions, accounts.total().permissions), (2, 2, 2));
        holder.give_back(Resource::Permission, 1);
        assert!(holder.take(Resource::Permission) && !holder.take(Resource::Permission));
        assert!(holder.take(Resource::Channel));
        accounts.close(holder, 2, 1);
        assert_eq!(accounts.total(), Usage::default());
    }

    #[test]
    fn bandwidth_is_a_rate_with_a_burst() {
        let epoch = Instant::now();
        let user = Limits { bytes_per_second: 100_000, ..Limits::default() };
        let accounts = Accounts::new(Quotas { user, ..Quotas::default() }, epoch);
        let holder = accounts.open("ann", address(1)).unwrap();
        let relayed = |now| (0..1000).take_while(|_| holder.meter(1000, now)).count();
        assert_eq!(relayed(epoch), 100);
        assert_eq!(relayed(epoch + Duration::from_millis(500)), 50);
        assert_eq!(relayed(epoch + Duration::from_secs(100)), 100);
    }
}
