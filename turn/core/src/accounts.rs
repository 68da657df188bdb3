//! How much each user, each client address and all together have and may have. Shared by the workers of a server.
//!
//! The table is locked when an allocation comes and goes. Packets only touch counters that need no lock.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use veche_stun::household::household;

use crate::quotas::{Limits, Quotas, Usage, UserUsage};
use crate::refusals::Refusal;

const NANOS: u64 = 1_000_000_000;

/// What may be sent at once after a silence: a second of the rate, but never less than this.
const MIN_BURST_BYTES: u64 = 65_536;

/// How many accounts without allocations are kept because they have not made up for what they relayed. Those beyond are forgotten
/// early: somebody then has a second's worth too much.
const MAX_LEAVING: usize = 1 << 16;

/// How many of them are looked at by one sweep.
const SWEPT_AT_ONCE: usize = 1024;

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
    /// Accounts that had no allocations when they were put here, each once.
    leaving: VecDeque<Key>,
}

#[derive(Clone, Debug)]
enum Key {
    User(Arc<str>),
    Address(IpAddr),
}

/// What is counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Permission,
    Channel,
    Connection,
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

/// A port that is reserved, which counts as an allocation of whoever has had it reserved, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    accounts: Arc<Accounts>,
    /// Always there until the end.
    holder: Option<Holder>,
}

#[derive(Debug)]
struct Account {
    limits: Limits,
    epoch: Instant,
    /// Whether it is among those that are leaving. Only used under the table's lock.
    is_leaving: AtomicBool,
    allocations: AtomicU32,
    permissions: AtomicU32,
    channels: AtomicU32,
    connections: AtomicU32,
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
            .filter(|(_, account)| account.is_used())
            .map(|(user, account)| UserUsage { user: user.to_string(), usage: account.usage() })
            .collect();
        drop(table);
        users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        users
    }

    /// How many users have allocations now.
    pub fn user_count(&self) -> usize {
        self.table.lock().account_by_user.values().filter(|account| account.is_used()).count()
    }

    /// To be called about once a second: forgets who has no allocation and has made up for what was relayed.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut table = self.table.lock();
        for _ in 0..table.leaving.len().min(SWEPT_AT_ONCE) {
            let Some(key) = table.leaving.pop_front() else { return };
            let Some(account) = table.account(&key) else { continue };
            if !account.is_used() && account.is_even(now) {
                table.remove(&key);
            } else if account.is_used() {
                account.is_leaving.store(false, Relaxed);
            } else {
                table.leaving.push_back(key);
            }
        }
    }

    /// An allocation comes, unless somebody has as many as they may have.
    pub(crate) fn open(&self, user: &str, client: IpAddr) -> Result<Holder, Refusal> {
        let mut table = self.table.lock();
        let holder = self.find(&table, user, client);
        // Counted only then: others, who look at the same numbers, must not find too many for a moment.
        match holder.first(Account::is_full) {
            Some(reason) => Err(reason),
            None => Ok(table.enter(holder)),
        }
    }

    /// An allocation comes, although somebody may have more than they may have then: see [`Holder::excess`].
    pub(crate) fn open_beyond(&self, user: &str, client: IpAddr) -> Holder {
        let mut table = self.table.lock();
        let holder = self.find(&table, user, client);
        table.enter(holder)
    }

    fn find(&self, table: &Table, user: &str, client: IpAddr) -> Holder {
        let user: Arc<str> = user.into();
        let address = household(client);
        let accounts = [
            find(&table.account_by_user, &user, self.quotas.user, self.epoch),
            find(&table.account_by_address, &address, self.quotas.address, self.epoch),
            self.total.clone(),
        ];
        Holder { user, address, accounts }
    }

    /// An allocation goes, with these permissions and channels.
    pub(crate) fn close(&self, holder: Holder, permissions: usize, channels: usize) {
        holder.give_back(Resource::Permission, permissions);
        holder.give_back(Resource::Channel, channels);
        let Holder { user, address, accounts } = holder;
        let mut table = self.table.lock();
        for account in &accounts {
            account.allocations.fetch_sub(1, Relaxed);
        }
        let [of_user, of_address, _] = &accounts;
        table.let_go(of_user, Key::User(user));
        table.let_go(of_address, Key::Address(address));
    }
}

impl Table {
    /// Counts an allocation.
    fn enter(&mut self, holder: Holder) -> Holder {
        for account in &holder.accounts {
            account.allocations.fetch_add(1, Relaxed);
        }
        self.account_by_user.insert(holder.user.clone(), holder.accounts[0].clone());
        self.account_by_address.insert(holder.address, holder.accounts[1].clone());
        holder
    }

    /// Forgets an account that nobody uses, but not before it has made up for what it relayed: who comes back would have a second's
    /// worth afresh each time.
    fn let_go(&mut self, account: &Account, key: Key) {
        if account.is_used() || account.is_leaving.load(Relaxed) {
            return;
        }
        if account.limits.bytes_per_second == 0 || self.leaving.len() >= MAX_LEAVING {
            return self.remove(&key);
        }
        account.is_leaving.store(true, Relaxed);
        self.leaving.push_back(key);
    }

    fn account(&self, key: &Key) -> Option<&Arc<Account>> {
        match key {
            Key::User(user) => self.account_by_user.get(user),
            Key::Address(address) => self.account_by_address.get(address),
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::User(user) => drop(self.account_by_user.remove(user)),
            Key::Address(address) => drop(self.account_by_address.remove(address)),
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

impl Reservation {
    /// One for this user, unless somebody has as many allocations as they may have.
    pub(crate) fn open(accounts: &Arc<Accounts>, user: &str, client: IpAddr) -> Result<Self, Refusal> {
        let holder = accounts.open(user, client)?;
        Ok(Self { accounts: accounts.clone(), holder: Some(holder) })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(holder) = self.holder.take() {
            self.accounts.close(holder, 0, 0);
        }
    }
}

impl Holder {
    /// Who has more allocations than they may have.
    pub(crate) fn excess(&self) -> Option<Refusal> {
        self.first(Account::is_overfull)
    }

    /// The refusal that belongs to the first account of which this is true.
    fn first(&self, is_true: impl Fn(&Account) -> bool) -> Option<Refusal> {
        let reasons = [Refusal::UserQuota, Refusal::AddressQuota, Refusal::TotalQuota];
        self.accounts.iter().zip(reasons).find(|(account, _)| is_true(account)).map(|(_, reason)| reason)
    }

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

    /// Whether so much data may be relayed now. What may not is counted to nobody.
    pub(crate) fn meter(&self, bytes: usize, now: Instant) -> bool {
        let bytes = bytes as u64;
        let full = self.accounts.iter().position(|account| !account.meter(bytes, now));
        let Some(full) = full else { return true };
        for account in &self.accounts[..full] {
            account.give_back(bytes);
        }
        false
    }

    /// Whether more may be taken from a stream now: of that nothing can be dropped, so that it has to wait.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.accounts.iter().all(|account| account.is_ready(now))
    }

    /// So much was taken from a stream, whatever it should have been.
    pub(crate) fn charge(&self, bytes: usize, now: Instant) {
        for account in &self.accounts {
            account.charge(bytes as u64, now);
        }
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
            is_leaving: AtomicBool::new(false),
            allocations: AtomicU32::new(0),
            permissions: AtomicU32::new(0),
            channels: AtomicU32::new(0),
            connections: AtomicU32::new(0),
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
            connections: self.connections.load(Relaxed),
            packets_to_peers: self.packets_to_peers.load(Relaxed),
            bytes_to_peers: self.bytes_to_peers.load(Relaxed),
            packets_to_clients: self.packets_to_clients.load(Relaxed),
            bytes_to_clients: self.bytes_to_clients.load(Relaxed),
        }
    }

    fn is_used(&self) -> bool {
        self.allocations.load(Relaxed) > 0
    }

    fn is_full(&self) -> bool {
        self.limits.allocations > 0 && self.allocations.load(Relaxed) >= self.limits.allocations
    }

    fn is_overfull(&self) -> bool {
        self.limits.allocations > 0 && self.allocations.load(Relaxed) > self.limits.allocations
    }

    fn counter(&self, resource: Resource) -> (&AtomicU32, u32) {
        match resource {
            Resource::Permission => (&self.permissions, self.limits.permissions),
            Resource::Channel => (&self.channels, self.limits.channels),
            Resource::Connection => (&self.connections, self.limits.connections),
        }
    }

    fn take(&self, resource: Resource) -> bool {
        let (counter, most) = self.counter(resource);
        let more = |count: u32| (most == 0 || count < most).then_some(count + 1);
        counter.try_update(Relaxed, Relaxed, more).is_ok()
    }

    fn meter(&self, bytes: u64, now: Instant) -> bool {
        if self.limits.bytes_per_second == 0 {
            return true;
        }
        let burst = self.burst();
        let now = self.nanos_at(now);
        let cost = self.nanos(bytes);
        let next = |free_at: u64| Some(free_at.max(now) + cost).filter(|next| *next <= now + burst);
        self.free_at.try_update(Relaxed, Relaxed, next).is_ok()
    }

    /// What may be relayed at once after a silence, as a time.
    fn burst(&self) -> u64 {
        self.nanos(self.limits.bytes_per_second.max(MIN_BURST_BYTES))
    }

    fn is_ready(&self, now: Instant) -> bool {
        let is_limited = self.limits.bytes_per_second > 0;
        !is_limited || self.free_at.load(Relaxed) < self.nanos_at(now) + self.burst()
    }

    fn charge(&self, bytes: u64, now: Instant) {
        if self.limits.bytes_per_second > 0 {
            let (now, cost) = (self.nanos_at(now), self.nanos(bytes));
            let _ = self.free_at.update(Relaxed, Relaxed, |free_at| free_at.max(now) + cost);
        }
    }

    /// What was metered was not relayed.
    fn give_back(&self, bytes: u64) {
        let cost = self.nanos(bytes);
        let _ = self.free_at.update(Relaxed, Relaxed, |free_at| free_at.saturating_sub(cost));
    }

    /// Whether it has made up for what it relayed.
    fn is_even(&self, now: Instant) -> bool {
        self.free_at.load(Relaxed) <= self.nanos_at(now)
    }

    /// How long so many bytes take at the account's rate, where it has one.
    fn nanos(&self, bytes: u64) -> u64 {
        let rate = u128::from(self.limits.bytes_per_second.max(1));
        (u128::from(bytes) * u128::from(NANOS) / rate) as u64
    }

    fn nanos_at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_nanos() as u64
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
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
        assert_eq!((accounts.users()[0].usage.allocations, accounts.user_count()), (2, 3));
        for holder in [first, second, third, fourth] {
            accounts.close(holder, 0, 0);
        }
        assert_eq!(
            (accounts.users(), accounts.user_count(), accounts.total()),
            (vec![], 0, Usage::default())
        );
        assert!(accounts.table.lock().account_by_address.is_empty());
    }

    #[test]
    fn who_is_refused_is_at_no_time_too_many_for_others() {
        let user = Limits { allocations: 1, ..Limits::default() };
        let accounts = Accounts::new(Quotas { user, ..Quotas::default() }, Instant::now());
        let held = accounts.open("ann", address(1)).unwrap();
        std::thread::scope(|scope| {
            let refused = scope.spawn(|| (0..50_000).all(|_| accounts.open("ann", address(2)).is_err()));
            while !refused.is_finished() {
                assert_eq!(held.excess(), None);
            }
            assert!(refused.join().unwrap());
        });
        accounts.close(held, 0, 0);
        assert_eq!(accounts.total(), Usage::default());
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

    #[test]
    fn who_comes_back_has_no_burst_afresh() {
        let epoch = Instant::now();
        let user = Limits { bytes_per_second: 100_000, ..Limits::default() };
        let accounts = Accounts::new(Quotas { user, ..Quotas::default() }, epoch);
        let relayed = |now| {
            let holder = accounts.open("ann", address(1)).unwrap();
            let count = (0..1000).take_while(|_| holder.meter(1000, now)).count();
            accounts.close(holder, 0, 0);
            count
        };
        assert_eq!([relayed(epoch), relayed(epoch), relayed(epoch)], [100, 0, 0]);
        assert_eq!((accounts.users(), accounts.user_count()), (vec![], 0));
        let later = epoch + Duration::from_millis(500);
        accounts.sweep(later);
        assert_eq!(relayed(later), 50);
        accounts.sweep(later + Duration::from_millis(999));
        assert_eq!(accounts.table.lock().account_by_user.len(), 1);
        accounts.sweep(later + Duration::from_secs(1));
        let table = accounts.table.lock();
        assert!(table.account_by_user.is_empty() && table.leaving.is_empty());
    }

    #[test]
    fn what_an_address_may_not_relay_is_not_counted_to_the_user() {
        let epoch = Instant::now();
        let limits = |bytes_per_second| Limits { bytes_per_second, ..Limits::default() };
        let quotas = Quotas { user: limits(200_000), address: limits(100_000), ..Quotas::default() };
        let accounts = Accounts::new(quotas, epoch);
        let holders = [1, 2].map(|last| accounts.open("ann", address(last)).unwrap());
        let relayed = |holder: &Holder| (0..1000).filter(|_| holder.meter(1000, epoch)).count();
        assert_eq!([relayed(&holders[0]), relayed(&holders[1])], [100, 100]);
    }

    #[test]
    fn a_reserved_port_counts_as_an_allocation() {
        let user = Limits { allocations: 2, ..Limits::default() };
        let accounts = Arc::new(Accounts::new(Quotas { user, ..Quotas::default() }, Instant::now()));
        let first = accounts.open("ann", address(1)).unwrap();
        let reservation = Reservation::open(&accounts, "ann", address(1)).unwrap();
        assert_eq!(accounts.open("ann", address(1)).unwrap_err(), Refusal::UserQuota);
        let second = accounts.open_beyond("ann", address(1));
        assert_eq!(second.excess(), Some(Refusal::UserQuota));
        drop(reservation);
        assert_eq!(second.excess(), None, "it has taken the place of the reservation");
        accounts.close(first, 0, 0);
        accounts.close(second, 0, 0);
        assert_eq!(accounts.total(), Usage::default());
    }
}
