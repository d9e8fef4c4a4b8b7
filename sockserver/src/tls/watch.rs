//! `tls(reload)`: whether the files of the certificates have changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use crate::{options::TlsOptions, primitives::Mutex};

/// Looks at the files now and then, when a handshake begins: no thread waits for that.
pub(super) struct Watch {
    interval: Duration,
    /// Empty where the hook names the certificates.
    files: Vec<&'static str>,
    last: Mutex<Look>,
}

struct Look {
    at: Instant,
    versions: Vec<Option<Version>>,
}

/// Another one: the file was written, or another file has taken its name.
#[derive(PartialEq, Eq)]
struct Version {
    inode: (u64, u64),
    modified: (i64, i64),
    length: u64,
}

impl Watch {
    /// To be called before the files are read: what is written meanwhile is a change.
    pub(super) fn new(options: &TlsOptions) -> Option<Watch> {
        let files: Vec<_> = [options.certificate, options.key, options.client_ca].into_iter().flatten().collect();
        let last = Mutex::new(Look { at: Instant::now(), versions: versions(&files) });
        options.reload.map(|interval| Watch { interval, files, last })
    }

    /// Whether it is time for another look, and a file has changed since the last one. Without files it has whenever it is
    /// time.
    pub(super) fn has_changed(&self) -> bool {
        let now = Instant::now();
        {
            let mut last = self.last.lock();
            if now.saturating_duration_since(last.at) < self.interval {
                return false;
            }
            last.at = now;
        }
        let versions = versions(&self.files);
        let mut last = self.last.lock();
        let has_changed = versions != last.versions || self.files.is_empty();
        last.versions = versions;
        has_changed
    }
}

fn versions(files: &[&str]) -> Vec<Option<Version>> {
    let version = |file: &&str| {
        let metadata = fs::metadata(file).ok()?;
        Some(Version {
            inode: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    };
    files.iter().map(version).collect()
}
