//! The server's user, where the doctor runs as root: what root may do says nothing of what the server may.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Where systemd looks for the server's unit, in its order.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/veche.service",
    "/usr/local/lib/systemd/system/veche.service",
    "/usr/lib/systemd/system/veche.service",
];

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl User {
    /// Whose the server is, by its process where it runs, else by its systemd unit, else by whose the data folder is. `None` where
    /// that is root, or this process is not root, and cannot be somebody else.
    pub(super) fn of_server(server: Option<u32>, data_dir: &Path) -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (users, groups) = (read("/etc/passwd"), read("/etc/group"));
        let of_process = || of_process(&read(&format!("/proc/{}/status", server?)), &users);
        let of_unit = || {
            let unit = UNITS.iter().map(|path| read(path)).find(|text| !text.is_empty())?;
            by_name(&setting(&unit, "User")?, &users, &groups)
        };
        let of_folder = || by_id(data_dir.metadata().ok()?.uid(), &users, &groups);
        of_process().or_else(of_unit).or_else(of_folder).filter(|user| user.uid != 0)
    }

    /// Does something as this user, in a thread of its own: what is given up there cannot be had back.
    pub(super) fn act<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        let become_this = || -> io::Result<()> {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            Ok(())
        };
        let acted = thread::scope(|scope| scope.spawn(|| become_this().map(|()| act())).join());
        acted.unwrap_or_else(|_| Err(io::Error::other("it failed")))
    }
}

/// `Uid: REAL EFFECTIVE …`, `Gid:` alike, `Groups: …` (proc_pid_status(5)).
fn of_process(status: &str, users: &str) -> Option<User> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().map(|number| number.parse().ok()).collect()
    };
    let (uid, gid) = (*numbers("Uid")?.get(1)?, *numbers("Gid")?.get(1)?);
    let known = entries(users).find(|fields| fields.get(2) == Some(&&*uid.to_string()));
    let name = known.map_or_else(|| uid.to_string(), |fields| fields[0].to_owned());
    Some(User { name, uid, gid, groups: numbers("Groups")? })
}

/// A setting of a unit; the last one counts.
fn setting(unit: &str, name: &str) -> Option<String> {
    let mut values =
        unit.lines().filter_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('='));
    values.next_back().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn by_name(name: &str, users: &str, groups: &str) -> Option<User> {
    let fields = entries(users).find(|fields| fields[0] == name || fields.get(2) == Some(&name))?;
    let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
    let is_member = |group: &Vec<&str>| {
        group.get(3).is_some_and(|members| members.split(',').any(|one| one == fields[0]))
    };
    let more = entries(groups).filter(is_member).filter_map(|group| group.get(2)?.parse().ok());
    Some(User { name: fields[0].to_owned(), uid, gid, groups: more.collect() })
}

fn by_id(uid: u32, users: &str, groups: &str) -> Option<User> {
    by_name(&uid.to_string(), users, groups)
}

/// The lines of a file such as /etc/passwd, in their fields.
fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/bash\nveche:x:998:997::/var/lib/veche:/usr/sbin/nologin\n";
    const GROUPS: &str = "root:x:0:\nveche:x:997:\nssl-cert:x:110:ann,veche\n";

    #[test]
    fn the_servers_user_is_found_by_process_unit_and_folder() {
        let unit = "[Service]\nUser=ann\n# User=root\nUser = veche\nGroup=veche\n";
        let veche = User { name: "veche".into(), uid: 998, gid: 997, groups: vec![110] };
        assert_eq!(by_name(&setting(unit, "User").unwrap(), USERS, GROUPS).as_ref(), Some(&veche));
        assert_eq!(by_id(998, USERS, GROUPS).as_ref(), Some(&veche));
        let status = "Name:\tveche\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t110 \n";
        assert_eq!(of_process(status, USERS), Some(veche));
        assert_eq!(of_process(&status.replace("998", "1234"), USERS).unwrap().name, "1234");
        assert_eq!((setting("[Service]\n", "User"), by_id(5, USERS, GROUPS)), (None, None));
    }

    #[test]
    fn root_does_something_as_another_and_others_cannot() {
        let nobody = User { name: "nobody".into(), uid: 65_534, gid: 65_534, groups: Vec::new() };
        let acted = nobody.act(|| geteuid().as_raw());
        if geteuid().is_root() {
            assert_eq!((acted.unwrap(), geteuid().as_raw()), (65_534, 0));
        } else {
            assert_eq!(acted.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(User::of_server(None, Path::new("/")), None);
        }
    }
}
